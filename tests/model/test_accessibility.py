"""Predicted accessibility in every form in which it can be had, and what annotate writes."""

from __future__ import annotations

import os

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scatacformer as sf

from ._cells import N_BINS, SIZES, planted

SF = sf.ScAtacFormer


def test_accessibility_is_a_frame_of_probabilities(model):
    frame = model.get_normalized_accessibility()
    assert frame.shape == (90, N_BINS)
    assert frame.index.tolist() == model.adata.obs_names.tolist()
    assert frame.columns.tolist() == model.adata.var_names.tolist()
    values = frame.to_numpy()
    assert values.dtype == np.float32
    assert ((values > 0) & (values < 1)).all()
    # about as much is open as is predicted
    assert values.sum() == pytest.approx(model.adata.X.nnz, rel=0.15)
    np.testing.assert_array_equal(model.get_accessibility_estimates().to_numpy(), values)


def test_regions_come_in_the_order_asked(model):
    names = model.adata.var_names[[300, 2, 250, 2]].tolist()
    frame = model.get_normalized_accessibility(region_list=names, indices=[3, 1])
    assert frame.columns.tolist() == names
    whole = model.get_normalized_accessibility(return_numpy=True)
    np.testing.assert_allclose(frame.to_numpy(), whole[[3, 1]][:, [300, 2, 250, 2]], atol=1e-6)
    with pytest.raises(ValueError, match=r"1 of 2 regions are not in adata.var_names \(first: chr9:0-5000\)"):
        model.get_normalized_accessibility(region_list=[names[0], "chr9:0-5000"])


@pytest.mark.parametrize("about", [0.0, 0.1, 0.4, 1.0])
def test_a_threshold_gives_the_dense_answer_without_the_small(model, about, monkeypatch):
    from scatacformer.model.scatacformer import _probability

    dense = model.get_normalized_accessibility(return_numpy=True)
    # in the widest gap nearby, so that rounding puts nothing on its other side
    near = np.unique(np.clip(dense[np.abs(dense - about) < 1e-3], 0, 1).tolist() + [about, about + 1e-3])
    threshold = near[:-1][np.diff(near).argmax()] / 2 + near[1:][np.diff(near).argmax()] / 2 if 0 < about < 1 else about
    monkeypatch.setattr(_probability, "REGIONS_AT_ONCE", 130)  # several blocks of regions
    sparse = model.get_normalized_accessibility(threshold=threshold, batch_size=40)
    assert sp.issparse(sparse)
    assert sparse.format == "csr"
    expected = np.where(dense >= threshold, dense, 0)
    assert (np.abs(dense - threshold) > 1e-6).all()
    np.testing.assert_allclose(sparse.toarray(), expected, atol=1e-6)
    assert sparse.nnz == (expected > 0).sum()


def test_a_threshold_is_a_probability(model):
    with pytest.raises(ValueError, match="threshold is 3; expected a probability, 0 to 1"):
        model.get_normalized_accessibility(threshold=3)


def test_cells_as_if_of_another_batch(model):
    own = model.get_normalized_accessibility(return_numpy=True)
    as_a = model.get_normalized_accessibility(transform_batch="a", return_numpy=True)
    as_b = model.get_normalized_accessibility(transform_batch=1, return_numpy=True)
    of_a = (model.adata.obs["sample"] == "a").to_numpy()
    np.testing.assert_array_equal(as_a[of_a], own[of_a])
    np.testing.assert_array_equal(as_b[~of_a], own[~of_a])
    assert np.abs(as_a - as_b).max() > 1e-3
    mean = model.get_normalized_accessibility(transform_batch=["a", "b"], return_numpy=True)
    np.testing.assert_allclose(mean, (as_a + as_b) / 2, atol=1e-6)
    for unknown in ("c", 2, -1, ["a", "c"]):
        with pytest.raises(ValueError, match=r"is not a batch of the model; its batches are \['a', 'b'\]"):
            model.get_normalized_accessibility(transform_batch=unknown)


def test_normalized_cells_are_of_one_depth(model):
    depth = np.asarray((model.adata.X > 0).sum(1)).ravel()
    own = model.get_normalized_accessibility(return_numpy=True).sum(1)
    same = model.get_normalized_accessibility(normalize_cells=True, return_numpy=True).sum(1)
    assert np.corrcoef(own, depth)[0, 1] > 0.9
    assert same.std() < 0.3 * own.std()


def test_too_large_a_dense_answer_is_refused_with_other_ways(model, monkeypatch):
    from scatacformer.model.scatacformer import _probability

    monkeypatch.setattr(_probability, "MAX_DENSE", 1000)
    with pytest.raises(ValueError, match="90 cells x 400 regions.*threshold=0.1.*store="):
        model.get_normalized_accessibility()
    assert model.get_normalized_accessibility(indices=[0], return_numpy=True).shape == (1, N_BINS)


def test_annotate_writes_the_embedding_and_a_layer(model):
    adata = planted()
    model.annotate(adata)
    np.testing.assert_array_equal(adata.obsm["X_scatacformer"], model.get_latent_representation())
    layer, threshold = adata.layers["scatacformer"], adata.uns["scatacformer"]["threshold"]
    dense = model.get_normalized_accessibility(return_numpy=True)
    np.testing.assert_allclose(layer.toarray(), np.where(dense >= threshold, dense, 0), atol=1e-6)
    assert 0.7 < layer.nnz / adata.X.nnz < 1.1
    n_open = np.asarray((adata.X > 0).sum(1)).ravel()
    np.testing.assert_array_equal(adata.obs["n_tokens"], n_open)
    np.testing.assert_array_equal(adata.obs["n_tokens_cut"], np.maximum(n_open - SIZES["max_tokens"], 0))
    assert adata.obs["n_tokens_cut"].max() > 0


def test_annotate_with_a_threshold_and_another_key(model):
    adata = planted()
    model.annotate(adata, threshold=0.3, key="mine")
    assert adata.layers["mine"].data.min() >= 0.3
    assert "X_mine" in adata.obsm
    assert "scatacformer" not in adata.layers


def test_annotate_with_regions_writes_a_frame(model):
    adata = planted()
    names = adata.var_names[[5, 1]].tolist()
    model.annotate(adata, region_list=names)
    expected = model.get_normalized_accessibility(region_list=names)
    pd.testing.assert_frame_equal(adata.obsm["scatacformer_accessibility"], expected, atol=1e-6)
    assert "scatacformer" not in adata.layers


def test_annotate_to_a_store_on_disk(model, tmp_path):
    import zarr

    adata = planted()
    model.annotate(adata, store=tmp_path / "open.zarr", batch_size=25)
    array = zarr.open(str(tmp_path / "open.zarr"), mode="r")
    np.testing.assert_allclose(array[:], model.get_normalized_accessibility(return_numpy=True), atol=1e-5)
    assert os.listdir(tmp_path) == ["open.zarr"]
    assert "scatacformer" not in adata.layers
    with pytest.raises(FileExistsError, match="exists. Choose another store"):
        model.annotate(adata, store=tmp_path / "open.zarr")


def test_annotate_with_the_embedding_alone_survives_a_file(model, tmp_path):
    adata = planted()
    model.annotate(adata, accessibility=False)
    assert "scatacformer" not in adata.layers
    adata.write_h5ad(tmp_path / "out.h5ad")
    back = ad.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(back.obsm["X_scatacformer"], model.get_latent_representation())


def test_annotate_writes_what_a_file_can_hold(model, tmp_path):
    adata = planted()
    model.annotate(adata)
    model.annotate(adata, region_list=adata.var_names[:2])
    adata.write_h5ad(tmp_path / "out.h5ad")
    back = ad.read_h5ad(tmp_path / "out.h5ad")
    assert (back.layers["scatacformer"] != adata.layers["scatacformer"]).nnz == 0
