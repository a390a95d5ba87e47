"""A model of pairs is saved and loaded to the bit; new cells keep what it knows, with RNA, without, of types never seen."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import scatacformer as sf
from scatacformer.metrics import foscttm

from ._cells import assert_same_bits, quiet, weights
from ._pairs import N_GENES, PAIRED, TRAINING, fresh, pairs_of, planted_pairs, subset, trained

SF = sf.ScAtacFormer
SHORT = {"max_epochs": 2, "link_window": None}
MODALITIES = ("joint", "expression", "accessibility")


@pytest.fixture(scope="module")
def mdata():
    return planted_pairs(400)


@pytest.fixture(scope="module")
def model(mdata):
    """Tests must not train it."""
    return trained(mdata, setup={"batch_key": "sample", "labels_key": "type"})


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / "model"
    model.save(folder)
    return folder


@pytest.fixture(scope="module")
def new_cells():
    """Cells that the model has never met; copy before writing."""
    return planted_pairs(203, seed=9)


# ── saving ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_saved_is_loaded_to_the_bit(model, saved, mdata):
    expected = {m: model.get_latent_representation(modality=m) for m in MODALITIES}
    genes = model.predict_expression()
    loaded = SF.load(saved, mdata)
    assert_same_bits(weights(loaded), weights(model))
    for modality, z in expected.items():
        np.testing.assert_array_equal(loaded.get_latent_representation(modality=modality), z)
    pd.testing.assert_frame_equal(loaded.get_gene_bin_links(100_000), model.get_gene_bin_links(100_000))
    np.testing.assert_array_equal(loaded.get_matching_logits([0, 1], [1, 2]), model.get_matching_logits([0, 1], [1, 2]))
    assert loaded.matching_ == model.matching_
    pd.testing.assert_frame_equal(loaded.history["paired_train"], model.history["paired_train"])
    with_atac = SF.load(saved, mdata["atac"].copy())
    without = SF.load(saved, adata=False)
    for found, data in ((with_atac, None), (without, mdata["atac"].copy())):
        np.testing.assert_array_equal(found.get_latent_representation(data), expected["accessibility"])
        pd.testing.assert_frame_equal(found.predict_expression(data), genes)
        with pytest.raises(ValueError, match="ATAC alone"):
            found.get_gene_bin_links()
    np.testing.assert_array_equal(without.get_latent_representation(mdata), expected["joint"])
    pd.testing.assert_frame_equal(without.chromatin_potential(mdata), model.chromatin_potential())


def test_a_model_without_data_asks_for_cells(saved):
    loaded = SF.load(saved, adata=False)
    for ask in (loaded.get_latent_representation, loaded.predict_expression, loaded.chromatin_potential,
                loaded.modality_distance):  # fmt: skip
        with pytest.raises(ValueError, match="the model has no cells.*Pass adata"):
            ask()


def test_what_was_loaded_can_be_trained_on_and_saved_again(saved, mdata, tmp_path):
    loaded = SF.load(saved, mdata)
    loaded.train_pairs(**SHORT, enable_progress_bar=False)
    assert loaded.paired.links is None
    loaded.save(tmp_path / "again", save_anndata=True)
    again = SF.load(tmp_path / "again")
    assert again.paired.links is None
    expected = loaded.get_latent_representation(modality="accessibility")
    np.testing.assert_array_equal(again.get_latent_representation(), expected)


def test_a_damaged_folder_is_refused(model, tmp_path, mdata):
    folder = tmp_path / "model"
    model.save(folder)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated or was altered"):
        SF.load(folder, mdata)
    (folder / "model.safetensors").write_bytes(content)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"class": "MULTIVI"}))
    with pytest.raises(ValueError, match="holds a MULTIVI, expected a ScAtacFormer"):
        SF.load(folder, mdata)


def test_loading_with_other_cells_takes_them_as_they_are(saved, model, new_cells):
    loaded = SF.load(saved, new_cells.copy())
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation(new_cells))


# ── queries ────────────────────────────────────────────────────────────────────────────────────────────────────────


def query_cells(n: int = 90, new_batch: bool = True):
    """Half of the cells from a batch that is new, in which 20 bins are open by and large."""
    query = planted_pairs(n, seed=21)
    if new_batch:
        late = np.arange(n) % 2 == 0
        obs = query["atac"].obs
        obs["sample"] = pd.Categorical(np.where(late, "new", obs["sample"].astype(str)))
        x = query["atac"].X.tolil()
        x[np.ix_(np.flatnonzero(late), np.arange(980, 1000))] = 1
        query["atac"].X = x.tocsr()
    return query


@pytest.mark.parametrize("source", ["model", "folder"])
def test_a_query_with_a_new_batch_keeps_what_the_reference_knows(model, saved, mdata, source):
    cells = query_cells()
    query = SF.load_query_data(cells, model if source == "model" else saved)
    assert foscttm(*pairs_of(query)) < 0.15
    before = weights(query)
    with quiet():
        query.train(**TRAINING | {"plan_kwargs": None, "max_epochs": 2})
    after = weights(query)
    assert_same_bits({k: v for k, v in after.items() if k.startswith("paired.")},
                     {k: v for k, v in weights(model).items() if k.startswith("paired.")})  # fmt: skip
    assert (after["decoder.bias.weight"][:, 2] != before["decoder.bias.weight"][:, 2]).any()
    for modality in MODALITIES:
        np.testing.assert_array_equal(
            query.get_latent_representation(mdata, modality=modality),
            model.get_latent_representation(modality=modality),
        )
    with pytest.raises(ValueError, match="this one is a query, whose weights are those of its reference"):
        query.train(**TRAINING, paired_kwargs=PAIRED)
    with pytest.raises(ValueError, match=r"keeps the pairs.* weights of its reference.*unfrozen=True"):
        query.train_pairs()


def test_a_query_may_lack_rna_altogether_or_for_some_cells(model):
    cells = query_cells()
    atac = SF.load_query_data(cells["atac"].copy(), model).get_latent_representation()
    query = SF.load_query_data(cells, model)
    np.testing.assert_array_equal(query.get_latent_representation(modality="accessibility"), atac)
    part = query_cells()
    part.mod["rna"] = part["rna"][:30].copy()
    some = SF.load_query_data(part, model)
    has = part["atac"].obs_names.isin(part["rna"].obs_names)
    joint = some.get_latent_representation()
    np.testing.assert_array_equal(joint[~has], atac[~has])
    np.testing.assert_allclose(joint[has], query.get_latent_representation()[has], atol=1e-6)
    with quiet():
        some.train(**TRAINING | {"plan_kwargs": None})  # the bias of its batch
    none = query_cells()
    del none.mod["rna"]
    without = SF.load_query_data(none, model)
    np.testing.assert_array_equal(without.get_latent_representation(), atac)
    with pytest.raises(ValueError, match="90 of 90 cells have no RNA"):
        without.get_latent_representation(modality="expression")


def test_a_type_never_seen_is_read_by_both_modalities_alike(new_cells):
    reference = planted_pairs(400)
    reference = subset(reference, np.flatnonzero(reference["atac"].obs["type"] != "t3"))
    found = trained(reference, setup={"labels_key": "type"}, paired={"link_window": None})
    unseen = subset(new_cells, np.flatnonzero(new_cells["atac"].obs["type"] == "t3"))
    query = SF.load_query_data(unseen, found)
    assert foscttm(*pairs_of(query)) < 0.35
    rna, atac = pairs_of(found, new_cells)
    kind = new_cells["atac"].obs["type"].to_numpy()
    # its RNA lies nearer to its ATAC than to that of any type that is known
    centre = {t: atac[kind == t].mean(0) for t in np.unique(kind)}
    closest = max(centre, key=lambda t: float(rna[kind == "t3"].mean(0) @ centre[t]) / np.linalg.norm(centre[t]))
    assert closest == "t3"


def test_genes_in_another_order_are_the_same_and_missing_ones_are_said(model, new_cells):
    expected = model.get_latent_representation(new_cells, modality="expression")
    other = new_cells.copy()
    other.mod["rna"] = other["rna"][:, np.random.default_rng(0).permutation(N_GENES)].copy()
    found = SF.load_query_data(other, model).get_latent_representation(modality="expression")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    less = new_cells.copy()
    less.mod["rna"] = less["rna"][:, 5:].copy()
    query = SF.load_query_data(less, model)
    with pytest.warns(UserWarning, match="5 of the model's 60 genes are missing in the RNA and count as not expressed"):
        found = query.get_latent_representation(modality="expression")
    assert (found * expected).sum(1).mean() > 0.8
    none = new_cells.copy()
    none["rna"].var_names = [f"ENSG{i:05d}" for i in range(N_GENES)]
    query = SF.load_query_data(none, model)
    with pytest.raises(
        ValueError, match="none of the 60 genes of the RNA is one of the model's 60.*ENSG00000 and gene0"
    ):
        query.get_latent_representation()
    assert np.isfinite(query.get_latent_representation(modality="accessibility")).all()


def test_an_unfrozen_query_trains_its_pairs(model):
    query = SF.load_query_data(query_cells(), model, unfrozen=True)
    before = weights(query)["paired.heads.rna_teacher.linear.weight"]
    with quiet():
        query.train(**TRAINING, paired_kwargs=PAIRED | SHORT)
    assert (
        weights(query)["paired.heads.rna_teacher.linear.weight"].shape != before.shape
        or (weights(query)["paired.heads.rna_teacher.linear.weight"] != before).any()
    )


def test_a_mudata_s_regions_are_not_changed_for_it(model):
    cells = query_cells()
    cells.mod["atac"] = cells["atac"][:, 10:].copy()
    with pytest.raises(ValueError, match="there are 990, the model has 1,000"):
        SF.load_query_data(cells, model)
    with pytest.raises(ValueError, match="inplace_subset_query_vars is set for a MuData"):
        SF.load_query_data(cells, model, inplace_subset_query_vars=True)


@pytest.mark.parametrize("source", ["model", "folder"])
def test_a_model_of_atac_becomes_one_of_pairs_and_keeps_its_bits(mdata, new_cells, tmp_path, source):
    atac = planted_pairs(200, seed=33)["atac"]
    atac.layers["counts"], atac.X = atac.X, atac.X * 0.5
    SF.setup_anndata(atac, layer="counts", batch_key="sample")
    reference = SF(atac, d_model=16, n_layers=1, n_heads=2, d_embed=12, max_tokens=32)
    with quiet():
        reference.train(**TRAINING)
    before, z = weights(reference), reference.get_latent_representation()
    if source == "folder":
        reference.save(tmp_path / "atac")
    paired = SF.from_atac_model(reference if source == "model" else tmp_path / "atac", mdata)
    assert not paired._trainable().frozen
    assert_same_bits(weights(paired), before)
    again = planted_pairs(200, seed=33)["atac"]
    np.testing.assert_array_equal(paired.get_latent_representation(again), z)
    paired.train_pairs(**PAIRED | {"link_window": None}, enable_progress_bar=False)
    after = weights(paired)
    assert_same_bits({k: after[k] for k in before}, before)
    assert foscttm(*pairs_of(paired, new_cells)) < 0.15
    paired.save(tmp_path / "paired")
    loaded = SF.load(tmp_path / "paired", mdata)
    np.testing.assert_array_equal(loaded.get_latent_representation(), paired.get_latent_representation())
    with pytest.raises(ValueError, match="RNA"):
        lonely = new_cells.copy()
        del lonely.mod["rna"]
        SF.from_atac_model(reference, lonely)


# ── labels ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_both_labels_of_pairs_are_read_wherever_they_are_and_go_with_the_model(tmp_path):
    mdata = planted_pairs(120)
    kind = mdata["atac"].obs["type"].reindex(mdata.obs_names)
    mdata.obs["organ"] = np.where(kind.isin(["t0", "t1"]), "left", "right")  # in neither modality
    setup = {"batch_key": "sample", "labels_key": "type", "organ_key": "organ", "unlabeled_category": "t3"}
    model = fresh(mdata, setup=setup, supervised=True)
    with quiet():
        model.train(**(TRAINING | {"paired_kwargs": {"max_epochs": 1, "link_window": None}}))
    assert set(model.predict()) <= {"t0", "t1", "t2"}
    organ = model.predict(task="organ")
    assert (organ == mdata.obs["organ"][mdata["atac"].obs_names]).mean() > 0.8
    model.save(tmp_path)
    loaded = SF.load(tmp_path, mdata.copy())
    np.testing.assert_array_equal(loaded.predict(task="organ"), organ)
    query = planted_pairs(60, seed=3)
    query.obs["organ"] = "unheard of"
    with pytest.raises(ValueError, match=r"obs\['organ'\] are unknown to the model \(first: 'unheard of'\)"):
        SF.load_query_data(query, tmp_path)
