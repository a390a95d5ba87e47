"""``eos="region_class"``: an ``<eos>`` for each class of genomic region, from annotation to query."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import scatacformer as sf
from scatacformer.genome import RegionClasses, Vocabulary

from ._cells import (
    GENOME,
    N_BINS,
    SENTENCES,
    TRAINING,
    assert_same_bits,
    assert_types_are_told_apart,
    fresh,
    planted,
    quiet,
    trained,
    weights,
)
from ._pairs import PAIRED, planted_pairs
from ._pairs import TRAINING as PAIRS_TRAINING

SF = sf.ScAtacFormer
ALL_CLOSED = {"sentence_kwargs": SENTENCES | {"n_closed": "all"}}
OPTIONS = [
    ({"decoder": "bilinear"}, {}),
    ({"decoder": "cross_attention"}, {}),
    ({"decoder": "mlp"}, {}),
    ({"decoder": "mlp", "embedding": "full", "decoder_input": "full"}, {}),
    ({"decoder": "bilinear", "cls_token": False, "removed_share": 0.0}, ALL_CLOSED),
]


@pytest.fixture(scope="module")
def beds(tmp_path_factory):
    """promoter: the first type's own bins and the second's; enhancer: the second's and the third's; else intergenic."""
    folder, names = tmp_path_factory.mktemp("beds"), planted(3).var_names
    of_class = {"promoter": [*range(10, 50), *range(130, 170)], "enhancer": [*range(130, 170), *range(250, 290)]}
    for name, bins in of_class.items():
        (folder / name).write_text("".join(names[b].replace(":", "\t").replace("-", "\t") + "\n" for b in bins))
    return {name: folder / name for name in of_class}


@pytest.fixture
def annotate(beds):
    def annotate(adata):
        sf.pp.annotate_bins(adata, bed=beds)
        return adata

    return annotate


def by_chromosome(adata):
    """Classes that are the chromosomes under other names."""
    chrom = Vocabulary.from_var(adata.var).chrom
    return RegionClasses(tuple("abc"), np.eye(3, dtype=bool)[chrom])


@pytest.fixture(params=OPTIONS, ids=str)
def options(request):
    return request.param


def test_it_learns_is_saved_loaded_and_queried(options, annotate, tmp_path):
    changes, train = options
    setup = {"batch_key": "sample", "labels_key": "type"}
    if changes["decoder"] == "mlp":  # it starts from nothing
        train = {"max_epochs": 8, "lr": 6e-3, "plan_kwargs": {"n_decoder_epochs": 3}}
    train = {"max_epochs": 6} | train
    model = trained(
        annotate(planted()), eos="region_class", setup=setup, supervised=True, **changes, train=train
    )  # fmt: skip
    assert model.eos_names_ == ["intergenic", "promoter", "enhancer"]
    loss = model.history["validation_loss"]["validation_loss"]
    assert loss.min() < loss.iloc[0]
    assert_types_are_told_apart(model)

    model.save(tmp_path)
    cells = planted()  # that nobody has annotated
    loaded = SF.load(tmp_path, adata=cells)
    assert_same_bits(weights(loaded), weights(model))
    assert loaded.config_ == model.config_
    assert loaded.eos_names_ == model.eos_names_
    assert (loaded.region_classes.matrix != model.region_classes.matrix).nnz == 0
    for f in ("get_latent_representation", "predict", "get_normalized_accessibility"):
        np.testing.assert_array_equal(getattr(loaded, f)(), getattr(model, f)(), err_msg=f)
    bare = SF.load(tmp_path, adata=False)
    np.testing.assert_array_equal(
        bare.get_normalized_accessibility(cells), model.get_normalized_accessibility(return_numpy=True)
    )

    for reference in (tmp_path, model):
        query = SF.load_query_data(planted(30, seed=4, batches=("c",)), reference)
        assert query.eos_names_ == model.eos_names_
        before = weights(query)
        with quiet():
            query.train(**(TRAINING | {"max_epochs": 1}))
        changed = {name for name, value in weights(query).items() if (value != before[name]).any()}
        assert changed == {"decoder.bias.weight"}


@pytest.mark.parametrize("decoder", ["bilinear", "mlp", "cross_attention"])
@pytest.mark.parametrize("n_closed", [128, "all"])
def test_classes_that_are_the_chromosomes_change_nothing_to_the_bit(decoder, n_closed):
    models = []
    for classes in (None, by_chromosome(planted(3))):
        eos = {} if classes is None else {"eos": "region_class", "region_classes": classes}
        models.append(
            trained(
                planted(),
                decoder=decoder,
                train={"max_epochs": 2, "sentence_kwargs": SENTENCES | {"n_closed": n_closed}},
                **eos,
            )
        )
    chromosome, classes = models
    found = {k: v for k, v in weights(classes).items() if k not in ("group", "decoder.readers")}
    assert_same_bits(found, weights(chromosome))
    pd.testing.assert_frame_equal(chromosome.history["validation_loss"], classes.history["validation_loss"])
    np.testing.assert_array_equal(
        chromosome.get_normalized_accessibility(return_numpy=True),
        classes.get_normalized_accessibility(return_numpy=True),
    )


@pytest.mark.parametrize("decoder", ["bilinear", "mlp"])
def test_a_bin_in_two_classes_lies_between_them(decoder, annotate):
    """On the scale of the logits, and without what the bin itself adds, to the middle."""
    model = trained(annotate(planted()), eos="region_class", decoder=decoder, train={"lr": 1e-2})
    module, both = model.module, 140
    with torch.inference_mode():
        cells, batch = next(model._reader(model.adata).encoded(np.arange(model.adata.n_obs), 90))
        context = module.context(cells, batch["depth"], batch["batch"])
        logits = {"both": torch.logit(module.accessibility(context, torch.tensor([both])))}
        for name, like in (("promoter", 20), ("enhancer", 260)):  # bins that are in one class alone
            module.group[both] = module.group[like]
            logits[name] = torch.logit(module.accessibility(context, torch.tensor([both])))
    assert (logits["promoter"] - logits["enhancer"]).abs().max() > 1e-3
    middle = (logits["promoter"] + logits["enhancer"]) / 2
    torch.testing.assert_close(logits["both"], middle, atol=1e-4, rtol=1e-4)


def test_all_that_reads_the_decoder_works(annotate, tmp_path):
    model = trained(annotate(planted()), eos="region_class", decoder="mlp")
    whole = model.get_normalized_accessibility()
    names = [model.adata.var_names[i] for i in (300, 5, 140, 20)]
    np.testing.assert_allclose(
        model.get_normalized_accessibility(region_list=names), whole[names], rtol=1e-5, atol=1e-6
    )
    sparse = model.get_normalized_accessibility(threshold=0.2)
    np.testing.assert_allclose(sparse.toarray(), whole.where(whole >= 0.2, 0.0), rtol=1e-5, atol=1e-6)
    mean = model.get_mean_accessibility(normalize_cells=False)
    np.testing.assert_allclose(mean, whole.mean(), rtol=1e-4)
    table = model.differential_accessibility(groupby="type", group1="0", silent=True)
    assert table["is_da_fdr"].to_numpy()[10:50].mean() > table["is_da_fdr"].to_numpy()[170:250].mean()
    change = sf.tl.perturb_bins(model, remove=names).regions["change"]
    assert np.isfinite(change).all() and (change != 0).any()
    model.annotate(store=tmp_path / "a.zarr")
    with torch.inference_mode():
        cells, batch = next(model._reader(model.adata).encoded(np.arange(model.adata.n_obs), 90))
        states = model.module.states(model.module.context(cells, batch["depth"], batch["batch"]), torch.arange(N_BINS))
    torch.testing.assert_close(states.sum(-1), torch.ones(90, N_BINS))
    np.testing.assert_allclose(states[..., 1:].sum(-1), whole, atol=1e-5)
    assert "400 regions on 3 chromosomes, in 3 classes" in repr(model)


def test_a_saved_models_classes_are_its_own(annotate, tmp_path):
    model = trained(annotate(planted()), eos="region_class")
    model.save(tmp_path)
    other = planted()
    chromosomes = by_chromosome(other)
    other.varm["region_classes"] = chromosomes.matrix
    other.uns["scatacformer"] = {"region_classes": {"names": np.array(chromosomes.names)}}
    loaded = SF.load(tmp_path, adata=other)
    np.testing.assert_array_equal(loaded.get_normalized_accessibility(), model.get_normalized_accessibility())
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[content.index(b'"group"') + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated or was altered"):
        SF.load(tmp_path, adata=False)


def test_a_mudata_is_annotated_in_its_atac_and_a_model_of_atac_alone_is_taken_over(tmp_path):
    mdata = planted_pairs(120)
    atac = mdata["atac"].copy()
    (tmp_path / "enhancer.bed").write_text("chr1\t100000\t900000\nchr3\t0\t500000\n")
    (tmp_path / "promoter.bed").write_text("chr1\t800000\t1500000\n")
    bed = {name: tmp_path / f"{name}.bed" for name in ("enhancer", "promoter")}
    SF.setup_mudata(mdata)
    with pytest.raises(ValueError, match="sf.pp.annotate_bins"):
        SF(mdata, d_model=16, n_layers=1, n_heads=2, d_embed=12, eos="region_class")
    sf.pp.annotate_bins(atac, bed=bed)
    SF.setup_anndata(atac)
    alone = SF(atac, seed=0, d_model=16, n_layers=1, n_heads=2, d_embed=12, eos="region_class")
    with quiet():
        alone.train(**PAIRS_TRAINING)
    taken = SF.from_atac_model(alone, mdata)
    np.testing.assert_array_equal(taken.get_normalized_accessibility(), alone.get_normalized_accessibility())
    sf.pp.annotate_bins(mdata["atac"], bed=bed)
    model = SF(mdata, seed=0, d_model=16, n_layers=1, n_heads=2, d_embed=12, eos="region_class")
    assert model.eos_names_ == alone.eos_names_
    with quiet():
        model.train(**PAIRS_TRAINING, paired_kwargs=PAIRED | {"max_epochs": 1})
    model.save(tmp_path / "model")
    loaded = SF.load(tmp_path / "model", adata=planted_pairs(120))
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


def test_fine_tuning_keeps_the_classes_of_the_same_regions_and_reads_those_of_others(annotate, beds):
    pretrained = trained(annotate(planted()), eos="region_class")
    cells = planted(40, seed=5)
    SF.setup_anndata(cells, batch_key="sample")
    same = SF.for_fine_tuning(cells, pretrained)
    assert_same_bits(*({k: weights(m)[k] for k in ("group", "embedding.eos")} for m in (same, pretrained)))
    peaks = planted(40, seed=5)[:, ::-1].copy()
    SF.setup_anndata(peaks, batch_key="sample")
    with pytest.raises(ValueError, match="sf.pp.annotate_bins"):
        SF.for_fine_tuning(peaks, pretrained)
    sf.pp.annotate_bins(peaks, bed={"enhancer": beds["enhancer"], "repeat": beds["promoter"]})
    other = SF.for_fine_tuning(peaks, pretrained)
    assert other.eos_names_ == ["intergenic", "enhancer", "repeat"]
    eos, known = (weights(m)["embedding.eos"] for m in (other, pretrained))
    np.testing.assert_array_equal(eos[:2], known[[0, 2]])
    np.testing.assert_allclose(eos[2], known.mean(0), rtol=1e-5, atol=1e-7)
    # each region is still read by the <eos> of its own classes
    np.testing.assert_array_equal(
        other.region_classes.matrix[::-1].toarray(), same.region_classes.matrix[:, [0, 2, 1]].toarray()
    )
    with quiet():
        other.train(**TRAINING)


def test_regions_without_classes_are_refused(annotate):
    with pytest.raises(ValueError, match=r"no region classes in varm\['region_classes'\].*sf.pp.annotate_bins"):
        fresh(planted(), eos="region_class")
    with pytest.raises(ValueError, match=r"eos is 'class'; expected one of \('chromosome', 'region_class'\)"):
        fresh(planted(), eos="class")
    few = annotate(planted())[:, :100].copy()
    with pytest.raises(ValueError, match="The class 'enhancer' has none of the 100 bins.*Leave it out"):
        fresh(few, eos="region_class")
    classes = by_chromosome(planted(3))
    with pytest.raises(ValueError, match="region_classes are for 400 regions, but adata has 100.*annotate_bins"):
        fresh(few, eos="region_class", region_classes=classes)
    with pytest.raises(ValueError, match="given with eos='chromosome'; expected eos='region_class'"):
        fresh(planted(), region_classes=classes)
    with pytest.raises(
        ValueError, match="region_classes are missing. Without adata, a model with eos='region_class' needs them"
    ):
        model = fresh(planted())
        SF(registry=model.registry, vocabulary=model.vocabulary, eos="region_class")
    assert fresh(planted()).region_classes is None
    assert fresh(planted()).eos_names_ == list(GENOME)


def test_another_key_is_handed_over(beds):
    adata = planted()
    classes = sf.pp.annotate_bins(adata, bed=beds, key_added="mine")
    model = fresh(adata, eos="region_class", region_classes=RegionClasses.from_anndata(adata, "mine"))
    assert model.eos_names_ == list(classes.names)
    assert "region_classes" not in model.init_params_["non_kwargs"]
