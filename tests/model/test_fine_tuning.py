"""From a pretrained model to other cells: what is carried over is exact, and what must not change does not."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scatacformer as sf
from scatacformer.genome.transfer import carry_matrix

from ._cells import GENOME, N_BINS, TRAINING, assert_same_bits, planted, quiet, trained, weights

SF = sf.ScAtacFormer
TUNING = TRAINING | {"plan_kwargs": {"n_decoder_epochs": 1}}


@pytest.fixture(scope="module")
def pretrained():
    """Its <cls> and <eos> say something: everything has been trained."""
    return trained(planted(), setup={"batch_key": "sample", "labels_key": "type"})


def new_cells(n_cells: int = 60) -> ad.AnnData:
    return planted(n_cells, seed=5, batches=("c", "d", "e"))


def halves(adata: ad.AnnData) -> ad.AnnData:
    """The same cells over bins of 2,500 bp: both halves of an open bin are open."""
    x = sp.csr_matrix(sp.kron(adata.X, np.ones((1, 2), np.float32)))
    names = [f"{c}:{s}-{s + 2500}" for c, n in GENOME.items() for s in range(0, n, 2500)]
    return ad.AnnData(x, obs=adata.obs.copy(), var=pd.DataFrame(index=names))


def registered(adata: ad.AnnData, **kwargs) -> ad.AnnData:
    SF.setup_anndata(adata, batch_key="sample", **kwargs)
    return adata


def tune(model, **changes):
    with quiet():
        model.train(**(TUNING | changes))
    return model


def test_on_its_own_regions_the_model_begins_as_the_pretrained_one(pretrained):
    model = SF.for_fine_tuning(registered(new_cells()), pretrained)
    reference = new_cells()
    reference.obs["sample"] = pd.Categorical(["a"] * reference.n_obs)
    expected = pretrained.get_latent_representation(reference)
    shift = pretrained.module.batch_shift[0]
    np.testing.assert_array_equal(shift, np.zeros_like(shift))  # the largest batch stays where it is
    np.testing.assert_allclose(model.get_latent_representation(), expected, atol=1e-6)
    assert model.is_trained and model.config_.n_batch == 3
    frequency = np.asarray(new_cells().X.astype(bool).mean(0)).ravel()
    bias = model.module.decoder.bias.weight.detach().numpy().mean(1)
    assert np.corrcoef(np.log(frequency.clip(0.01)), bias)[0, 1] > 0.9


def test_new_regions_start_from_the_mean_of_those_that_overlap_them(pretrained):
    rng = np.random.default_rng(0)
    order = rng.permutation(N_BINS)
    adata = new_cells()[:, order].copy()
    # another region over bins 0 and 1, one within bin 7, one that the pretrained model has none of
    other = pd.DataFrame(index=["chr1:2500-7500", "chr1:36000-37000", "chr7:0-5000"])
    x = sp.csr_matrix(np.tile([1.0, 1.0, 1.0], (adata.n_obs, 1)).astype(np.float32))
    adata = ad.AnnData(
        sp.csr_matrix(sp.hstack([adata.X, x])),
        obs=adata.obs,
        var=pd.concat([pd.DataFrame(index=adata.var_names), other]),
    )
    with pytest.warns(UserWarning, match=r"1 of the 403 regions .* start without a vector \(first: chr7:0-5000\)"):
        model = SF.for_fine_tuning(registered(adata), pretrained)
    old, new = weights(pretrained), weights(model)
    for name in ("embedding.table.weight", "embedding.pool_weight", "embedding.norm_weight"):
        np.testing.assert_array_equal(new[name][:N_BINS], old[name][order], err_msg=name)
        np.testing.assert_allclose(new[name][N_BINS], old[name][:2].mean(0), rtol=1e-6, err_msg=name)
        np.testing.assert_array_equal(new[name][N_BINS + 1], old[name][7], err_msg=name)
        assert not new[name][N_BINS + 2].any(), name
    # chromosomes keep their <eos> by name; the new one starts from the mean
    names = list(model.vocabulary.chrom_names)
    for i, name in enumerate(pretrained.vocabulary.chrom_names):
        np.testing.assert_array_equal(new["embedding.eos"][names.index(name)], old["embedding.eos"][i])
    np.testing.assert_allclose(new["embedding.eos"][names.index("chr7")], old["embedding.eos"].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(new["encoder.blocks.0.qkv.weight"], old["encoder.blocks.0.qkv.weight"])


def test_a_finer_vocabulary_gives_the_same_pool(pretrained):
    """Every bin in two halves: twice the bins, the same mean."""
    model = SF.for_fine_tuning(registered(halves(new_cells())), pretrained)
    pooled = [
        m.module.embedding.table(bins).mean(0).detach()
        for m, bins in ((pretrained, _open_of(new_cells(), 0)), (model, _open_of(halves(new_cells()), 0)))
    ]
    np.testing.assert_allclose(pooled[0], pooled[1], atol=1e-6)
    tune(model)
    assert np.isfinite(model.get_latent_representation()).all()


def test_training_goes_on_and_keeps_the_regions_vectors_by_default(pretrained):
    reference = weights(pretrained)
    model = SF.for_fine_tuning(registered(new_cells()), pretrained)
    before = weights(model)
    tune(model, max_epochs=6)
    after = weights(model)
    np.testing.assert_array_equal(after["embedding.table.weight"], before["embedding.table.weight"])
    assert (after["encoder.blocks.0.qkv.weight"] != before["encoder.blocks.0.qkv.weight"]).any()
    losses = model.history["validation_loss"]["validation_loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert_same_bits(weights(pretrained), reference)


def test_lora_changes_the_encoder_by_low_rank_and_nothing_else_but_the_biases(pretrained, tmp_path):
    reference = weights(pretrained)
    model = SF.for_fine_tuning(registered(new_cells()), pretrained, tune="lora", lora_kwargs={"r": 2})
    before = weights(model)
    tune(model, max_epochs=4, lr=1e-2)
    after = weights(model)
    assert after.keys() == before.keys()
    changed = {name for name in before if (before[name] != after[name]).any()}
    linear = {f"encoder.blocks.0.{name}.weight" for name in ("qkv", "out", "up", "down")}
    assert changed == linear | {"decoder.bias.weight"}
    for name in linear:
        singular = np.linalg.svd((after[name] - before[name]).astype(np.float64), compute_uv=False)
        assert singular[2] < 1e-5 * singular[0], name
    z = model.get_latent_representation()
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(SF.load(tmp_path / "model", registered(new_cells())).get_latent_representation(), z)
    assert_same_bits(weights(pretrained), reference)


def test_lora_is_seeded_and_resumed_to_the_bit(pretrained, tmp_path):

    def model():
        return SF.for_fine_tuning(registered(new_cells()), pretrained, tune="lora")

    whole = weights(tune(model(), max_epochs=4, checkpoint_dir=tmp_path / "whole"))
    assert_same_bits(weights(tune(model(), max_epochs=4)), whole)

    class Stop(Exception):
        pass

    import lightning.pytorch as pl

    class Killer(pl.Callback):
        def on_train_epoch_start(self, trainer, plan):
            if trainer.current_epoch == 2:
                raise Stop

    killed = model()
    with pytest.raises(Stop):
        tune(killed, max_epochs=4, checkpoint_dir=tmp_path / "killed", callbacks=[Killer()])
    assert not any("lora" in name for name in weights(killed))  # merged, whatever ended the training
    resumed = tune(model(), max_epochs=4, checkpoint_dir=tmp_path / "killed", resume=True)
    assert_same_bits(weights(resumed), whole)


def test_heads_alone_leave_the_embedding_to_the_bit(pretrained):
    adata = new_cells()
    adata.obs["fate"] = adata.obs["type"].map({"0": "blood", "1": "skin", "2": "Unknown"})
    model = SF.for_fine_tuning(registered(adata, labels_key="fate"), pretrained, tune="heads")
    before = weights(model)
    # what cannot act is refused
    with pytest.raises(
        ValueError,
        match="max_epochs, accelerator, batch_size, sentence_kwargs, plan_kwargs, .* have no effect with tune='heads'",
    ):
        tune(model)
    assert_same_bits(weights(model), before)
    with quiet():
        model.train(labels_kwargs={"max_epochs": 30})
    after = weights(model)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed
    assert all(name.startswith("heads.labels.") for name in changed)
    known = (adata.obs["fate"] != "Unknown").to_numpy()
    assert (model.predict()[known] == adata.obs["fate"].to_numpy()[known]).mean() > 0.9


def test_heads_of_the_same_labels_are_kept():
    pretrained = trained(planted(), setup={"batch_key": "sample", "labels_key": "type"}, supervised=True)
    model = SF.for_fine_tuning(registered(new_cells(), labels_key="type"), pretrained)
    np.testing.assert_array_equal(
        model.predict(soft=False), pretrained.predict(registered_as(pretrained, new_cells()), soft=False)
    )


def test_carry_matrix_has_rows_that_sum_to_one_or_nothing():
    known = sf.Vocabulary.from_chrom_sizes({"chr1": 20_000, "chr2": 10_000}, bin_size=5000)
    to = sf.Vocabulary.from_chrom_sizes({"chr2": 10_000, "chr3": 9_000}, bin_size=4000)
    found = carry_matrix(to, known).toarray()
    assert set(found.sum(1).round(6)) == {0.0, 1.0}
    # chr2:4000-8000 lies on two bins; chr2:0-4000 on one
    np.testing.assert_allclose(found[1, known.bins_of_chrom("chr2")], [0.5, 0.5])
    np.testing.assert_allclose(found[0, known.bins_of_chrom("chr2")], [1.0, 0.0])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"tune": "head"}, "tune is .*; expected one of"),
        ({"lora_kwargs": {"r": 4}}, "lora_kwargs is given with tune="),
        ({"tune": "lora", "lora_kwargs": {"r": 0}}, "r of at least 1"),
        ({"tune": "lora", "lora_kwargs": {"rank": 4}}, "lora_kwargs has no 'rank'; there are r, lora_alpha"),
        (
            {"tune": "lora", "lora_kwargs": {"target_modules": ["query"]}},
            "target_modules is \\['query'\\]; expected among",
        ),
        ({"tune": "heads", "supervised": False}, "supervised is False with tune='heads'"),
        ({"tune": "heads"}, "supervised=True is set, but no labels are registered"),
    ],
)
def test_bad_arguments(pretrained, kwargs, message):
    with pytest.raises(ValueError, match=message):
        SF.for_fine_tuning(registered(new_cells()), pretrained, **kwargs)


def test_regions_of_another_genome_are_refused(pretrained):
    adata = new_cells()
    adata.var_names = [name.replace("chr", "scaffold") for name in adata.var_names]
    with pytest.raises(
        ValueError, match=r"none of the 400 regions of adata overlaps .* Check that the assemblies are the same"
    ):
        SF.for_fine_tuning(registered(adata), pretrained)


def test_an_untrained_model_is_refused(pretrained):
    adata = registered(new_cells())
    with pytest.raises(ValueError, match="not trained"):
        SF.for_fine_tuning(adata, SF(adata))


def _open_of(adata: ad.AnnData, cell: int):
    import torch

    return torch.from_numpy(adata.X[cell].indices.astype(np.int64))


def registered_as(model, adata: ad.AnnData) -> ad.AnnData:
    adata.obs["sample"] = pd.Categorical(["a"] * adata.n_obs)
    return adata
