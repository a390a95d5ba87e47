"""New cells on a trained model: what the reference has learned stays to the bit; their regions are brought to its."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scatacformer as sf

from ._cells import N_BINS, TRAINING, assert_same_bits, planted, quiet, trained, weights

SF = sf.ScAtacFormer


def query_cells(n_cells: int = 40, batches=("b", "new"), bias: bool = True) -> ad.AnnData:
    """Cells of known types from a known and a new batch; in the new one bins 380 ... 399 are open in most cells."""
    adata = planted(n_cells, seed=7, batches=batches)
    if bias:
        x = adata.X.tolil()
        new = np.flatnonzero((adata.obs["sample"] == "new").to_numpy())
        x[np.ix_(new, np.arange(380, 400))] = 1
        adata.X = x.tocsr()
    return adata


def train(model, **changes):
    with quiet():
        model.train(**(TRAINING | {"plan_kwargs": None} | changes))


@pytest.mark.parametrize("source", ["model", "folder"])
def test_a_query_with_a_new_batch_changes_nothing_of_the_reference(model, saved, source):
    reference = planted()
    expected_z, expected_w = model.get_latent_representation(), weights(model)
    expected_p = model.get_normalized_accessibility(return_numpy=True)
    query = SF.load_query_data(query_cells(), model if source == "model" else saved)
    assert query.is_trained
    before = weights(query)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a warning is for what the user can mend
        train(query, max_epochs=4)
    after = weights(query)
    assert_same_bits(weights(model), expected_w)
    bias = "decoder.bias.weight"
    assert after[bias].shape == (N_BINS, 3)
    np.testing.assert_array_equal(after[bias][:, :2], expected_w[bias])
    assert (after[bias][:, 2] != before[bias][:, 2]).any()
    for shift in ("batch_shift", "local_shift"):
        np.testing.assert_array_equal(after[shift][:2], expected_w[shift])
        assert not after[shift][2].any()
    grown = (bias, "batch_shift", "local_shift")
    same = {k: v for k, v in after.items() if k not in grown}
    assert_same_bits(same, {k: v for k, v in expected_w.items() if k not in grown})
    np.testing.assert_array_equal(query.get_latent_representation(reference), expected_z)
    found_p = query.get_normalized_accessibility(reference, return_numpy=True)
    np.testing.assert_array_equal(found_p, expected_p)


def test_a_query_embeds_before_it_is_trained(model):
    query = SF.load_query_data(query_cells(bias=False), model)
    z, kind = query.get_latent_representation(), query.adata.obs["type"].to_numpy()
    reference, known = model.get_latent_representation(), model.adata.obs["type"].to_numpy()
    near = ((z[:, None] - reference[None]) ** 2).sum(-1).argsort(1)[:, :5]
    assert (known[near] == kind[:, None]).mean() > 0.8


def test_the_new_batch_is_learned(model):
    query = SF.load_query_data(query_cells(60), model)
    train(query, max_epochs=5)
    p = {
        b: query.get_normalized_accessibility(transform_batch=b, return_numpy=True)[:, 380:].mean()
        for b in ("a", "new")
    }
    assert p["new"] > p["a"] + 0.2
    assert len(query.history["train_loss"]) >= 1


def test_an_unfrozen_query_trains_everything(model):
    query = SF.load_query_data(query_cells(), model, unfrozen=True)
    before = weights(query)
    train(query, max_epochs=2, plan_kwargs={"n_decoder_epochs": 0, "embedding_lr": 1e-3})
    after = weights(query)
    for name in ("embedding.table.weight", "encoder.blocks.0.qkv.weight", "decoder.bias.weight"):
        assert (after[name] != before[name]).any()


def test_a_frozen_query_without_a_new_batch_has_nothing_to_train(model):
    query = SF.load_query_data(query_cells(batches=("a", "b"), bias=False), model)
    with pytest.raises(ValueError, match="nothing to train.*unfrozen=True"):
        train(query)
    assert np.isfinite(query.get_latent_representation()).all()


def test_labels_that_are_new_do_not_stop_a_query(model):
    cells = query_cells()
    cells.obs["type"] = "a type of its own"
    assert SF.load_query_data(cells, model).get_latent_representation().shape[0] == 40


def test_cells_without_labels_are_embedded_all_the_same(model, tmp_path):
    cells, expected = query_cells(), SF.load_query_data(query_cells(), model).get_latent_representation()
    del cells.obs["type"]
    query = SF.load_query_data(cells, model)
    train(query, max_epochs=1)
    np.testing.assert_array_equal(query.get_latent_representation(), expected)
    query.save(tmp_path / "query", save_anndata=True)
    np.testing.assert_array_equal(SF.load(tmp_path / "query").get_latent_representation(), expected)
    known = planted()
    del known.obs["type"]
    np.testing.assert_array_equal(model.get_latent_representation(known), model.get_latent_representation())
    with pytest.raises(KeyError, match="type not found in adata.obs"):
        SF.setup_anndata(known, labels_key="type")


def test_a_query_is_saved_and_loaded_with_its_batches(model, tmp_path):
    query = SF.load_query_data(query_cells(), model)
    train(query, max_epochs=2)
    query.save(tmp_path / "query")
    loaded = SF.load(tmp_path / "query", adata=query_cells())
    assert_same_bits(weights(loaded), weights(query))
    np.testing.assert_array_equal(
        loaded.get_normalized_accessibility(transform_batch="new", return_numpy=True),
        query.get_normalized_accessibility(transform_batch="new", return_numpy=True),
    )
    again = SF.load_query_data(planted(30, seed=3, batches=("new", "newer")), loaded)
    assert weights(again)["decoder.bias.weight"].shape == (N_BINS, 4)


def test_an_untrained_reference_is_refused():
    adata = planted()
    SF.setup_anndata(adata, batch_key="sample")
    with pytest.raises(ValueError, match="reference model is not trained. Call its train"):
        SF.load_query_data(query_cells(), SF(adata))


def test_other_regions_must_be_prepared_first(model):
    cells = query_cells()[:, 50:].copy()
    with pytest.raises(ValueError, match="there are 350, the model has 400.*prepare_query_anndata"):
        SF.load_query_data(cells, model)
    query = SF.load_query_data(cells, model, inplace_subset_query_vars=True)
    assert cells.n_vars == N_BINS
    assert np.isfinite(query.get_latent_representation()).all()


# ── prepare_query_anndata ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("source", ["model", "folder"])
def test_regions_are_put_in_order_left_out_and_filled_up(model, saved, source):
    cells = query_cells()
    cells.layers["twice"] = cells.X * 2
    cells.obsm["X_other"] = np.arange(80.0).reshape(40, 2)
    cells.var["note"] = np.arange(N_BINS)
    order = np.random.default_rng(0).permutation(N_BINS)[:350]
    extra = ad.AnnData(sp.csr_matrix(np.ones((40, 2), np.float32)), obs=cells.obs,
                       var=pd.DataFrame({"note": -1}, index=["chr1:990000000-990005000", "chr8:0-5000"]))  # fmt: skip
    shuffled = ad.concat([cells[:, order], extra], axis=1, merge="first")
    shuffled.layers["twice"] = shuffled.X * 2
    shuffled.obs["kept"] = "yes"
    with pytest.warns(UserWarning, match=r"2 of 352 regions of adata are not in the model.*chr1:990000000"):
        prepared = SF.prepare_query_anndata(shuffled, model if source == "model" else saved, inplace=False)
    assert shuffled.n_vars == 352
    assert prepared.var_names.tolist() == model.adata.var_names.tolist()
    expected = cells.X.toarray()
    expected[:, np.setdiff1d(np.arange(N_BINS), order)] = 0
    np.testing.assert_array_equal(prepared.X.toarray(), expected)
    np.testing.assert_array_equal(prepared.layers["twice"].toarray(), 2 * expected)
    np.testing.assert_array_equal(prepared.obsm["X_other"], cells.obsm["X_other"])
    assert prepared.obs["kept"].eq("yes").all()
    note = prepared.var["note"].to_numpy()
    np.testing.assert_array_equal(note[order], order)
    assert np.isnan(np.delete(note, order)).all()


def test_preparing_in_place_changes_the_object_itself(model):
    cells = query_cells()
    expected = cells.X.toarray()
    backwards = cells[:, ::-1].copy()
    assert SF.prepare_query_anndata(backwards, model) is None
    np.testing.assert_array_equal(backwards.X.toarray(), expected)
    np.testing.assert_array_equal(
        SF.load_query_data(backwards, model).get_latent_representation(),
        SF.load_query_data(cells, model).get_latent_representation(),
    )


def test_preparing_can_name_the_regions_alone(model):
    cells = query_cells()[:, :10].copy()
    names = SF.prepare_query_anndata(cells, model, return_reference_var_names=True)
    assert names.tolist() == model.adata.var_names.tolist()
    assert cells.n_vars == 10


def test_no_region_of_the_model_s_is_an_error(model):
    cells = query_cells()
    cells.var_names = [f"chr{i % 3 + 1}:{i * 777}-{i * 777 + 500}" for i in range(N_BINS)]
    with pytest.raises(ValueError, match=r"none of the 400 regions.*same assembly and bin size.*match_vocabulary"):
        SF.prepare_query_anndata(cells, model)


def test_another_assembly_is_an_error():
    adata = planted()
    adata.uns["assembly"] = "hg38"
    model = trained(adata, train={"max_epochs": 1})
    other = planted()
    other.uns["assembly"] = "mm10"
    with pytest.raises(ValueError, match="trained on hg38.*mm10"):
        model.get_latent_representation(other)
