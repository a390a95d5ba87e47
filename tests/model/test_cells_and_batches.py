"""Cells wherever they lie, in the order asked, in minibatches of any size; other data, other batches."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import scatacformer as sf
from scatacformer.model.scatacformer._start import put_spectral_start

from ._cells import N_BINS, assert_same_bits, fresh, planted, trained, weights

SF = sf.ScAtacFormer


@pytest.mark.parametrize("place", ["csr_array", "layer", "h5ad", "dense"])
def test_cells_embed_alike_wherever_they_lie(model, tmp_path, place):
    expected = model.get_latent_representation()
    adata = planted()
    if place == "csr_array":
        adata.X = sp.csr_array(adata.X)
    elif place == "layer":
        adata.layers["counts"] = adata.X.copy()
        adata.X = adata.X * 0.5
        own = trained(adata, setup={"layer": "counts", "batch_key": "sample", "labels_key": "type"})
        assert_same_bits(weights(own), weights(model))
        np.testing.assert_array_equal(own.get_latent_representation(), expected)
        return
    elif place == "h5ad":
        adata.write_h5ad(tmp_path / "cells.h5ad")
        adata = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    else:
        adata.X = adata.X.toarray()
    np.testing.assert_array_equal(model.get_latent_representation(adata), expected)


def test_training_from_a_file_and_rows_in_the_order_asked(tmp_path):
    planted().write_h5ad(tmp_path / "cells.h5ad")
    model = trained(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"), train={"max_epochs": 2})
    whole = model.get_latent_representation()
    order = [9, 2, 5, 88, 2, -1]
    np.testing.assert_allclose(model.get_latent_representation(indices=order), whole[order], atol=1e-5)
    assert not np.allclose(whole[9], whole[2])
    p = model.get_normalized_accessibility(return_numpy=True)
    frame = model.get_normalized_accessibility(indices=order)
    np.testing.assert_allclose(frame.to_numpy(), p[order], atol=1e-5)
    assert frame.index.tolist() == ["cell9", "cell2", "cell5", "cell88", "cell2", "cell89"]


def test_indices_are_numbers_or_a_mask(model):
    whole = model.get_latent_representation()
    mask = np.arange(90) % 7 == 0
    np.testing.assert_allclose(model.get_latent_representation(indices=mask), whole[mask], atol=1e-5)
    assert model.get_latent_representation(indices=[]).shape == (0, whole.shape[1])
    with pytest.raises(IndexError, match="adata has 90 cells"):
        model.get_latent_representation(indices=[90])
    with pytest.raises(IndexError, match=r"mask of shape \(5,\), expected \(90,\)"):
        model.get_latent_representation(indices=[True] * 5)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_the_batch_size_changes_nothing(model, batch_size):
    np.testing.assert_allclose(
        model.get_latent_representation(batch_size=batch_size), model.get_latent_representation(), atol=1e-5
    )
    np.testing.assert_allclose(
        model.get_normalized_accessibility(batch_size=batch_size, return_numpy=True),
        model.get_normalized_accessibility(return_numpy=True), atol=1e-5,
    )  # fmt: skip


def test_new_cells_are_set_up_by_themselves(model):
    new = planted(60, seed=5)
    z = model.get_latent_representation(new)
    assert z.shape == (60, model.get_latent_representation().shape[1])
    subset = planted()[[4, 8, 15]].copy()
    np.testing.assert_allclose(model.get_latent_representation(subset), model.get_latent_representation()[[4, 8, 15]],
                               atol=1e-5)  # fmt: skip
    assert subset.obs["_scvi_batch"].tolist() == planted().obs["sample"].cat.codes.iloc[[4, 8, 15]].tolist()


def test_reordered_categories_are_the_same_batches(model):
    adata = planted()
    adata.obs["sample"] = adata.obs["sample"].cat.reorder_categories(["b", "a"])
    np.testing.assert_array_equal(
        model.get_normalized_accessibility(adata, return_numpy=True),
        model.get_normalized_accessibility(return_numpy=True),
    )


def test_an_unknown_batch_is_refused(model):
    adata = planted(batches=("a", "c"))
    with pytest.raises(ValueError, match="[Cc]ategory.*c|batch.*c"):
        model.get_latent_representation(adata)


def test_an_empty_new_cell_warns_and_is_embedded(model):
    adata = planted(20)
    adata.X = sp.vstack([adata.X[:19], sp.csr_matrix((1, N_BINS), dtype=np.float32)], format="csr")
    with pytest.warns(UserWarning, match="1 of 20 cells have no open bin"):
        z = model.get_latent_representation(adata)
    assert np.isfinite(z).all()


def test_two_models_on_one_adata_do_not_disturb_each_other():
    adata = planted()
    one = trained(adata, train={"max_epochs": 2})
    expected = one.get_normalized_accessibility(return_numpy=True)
    trained(adata, seed=1, setup={"labels_key": "type"}, train={"max_epochs": 2})
    np.testing.assert_array_equal(one.get_normalized_accessibility(return_numpy=True), expected)


def test_the_order_of_a_cell_s_regions_does_not_matter(model):
    adata = planted()
    x = adata.X
    order = np.concatenate([np.random.default_rng(i).permutation(np.arange(*x.indptr[i : i + 2])) for i in range(90)])
    adata.X = sp.csr_matrix((x.data[order], x.indices[order], x.indptr), x.shape)
    np.testing.assert_allclose(model.get_latent_representation(adata), model.get_latent_representation(), atol=1e-5)


def test_the_counts_of_open_regions_do_not_matter(model):
    adata = planted()
    adata.X.data[:] = 1
    np.testing.assert_array_equal(model.get_latent_representation(adata), model.get_latent_representation())


def test_a_model_without_batches_or_labels():
    model = trained(planted(), setup={}, train={"max_epochs": 2})
    assert model.summary_stats.n_batch == 1
    assert model.get_normalized_accessibility(transform_batch=0, return_numpy=True).shape == (90, N_BINS)


def test_setting_other_data(model, saved):
    loaded = SF.load(saved, adata=planted())
    other = planted(30, seed=4)
    SF.setup_anndata(other, batch_key="sample", labels_key="type")
    loaded.adata = other
    np.testing.assert_array_equal(
        loaded.get_latent_representation(), model.get_latent_representation(planted(30, seed=4))
    )


def test_to_device_keeps_the_embedding(model, saved):
    loaded = SF.load(saved, adata=planted())
    loaded.to_device("cpu")
    assert loaded.device.type == "cpu"
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


def test_an_untrained_model_says_what_to_do():
    with pytest.raises(RuntimeError, match="untrained model. Please train the model first"):
        fresh(planted()).get_latent_representation()


def test_what_the_start_takes_out_of_a_batch_the_network_takes_out():
    adata = planted(300)
    rng, opened = np.random.default_rng(1), adata.X.toarray()
    of_b, kind = (adata.obs["sample"] == "b").to_numpy(), adata.obs["type"].to_numpy()
    for k in range(3):  # the batch opens other bins in each type
        own = np.flatnonzero(of_b & (kind == str(k)))
        opened[np.ix_(own, np.arange(60 + k * 120, 75 + k * 120))] += rng.random((len(own), 15)) < 0.4
    adata.X = sp.csr_matrix(opened)
    model = fresh(adata)
    codes = model._batch_codes(adata)
    start = put_spectral_start(model.module, model._source(adata), codes, np.arange(300), seed=0)
    model.is_trained_ = True
    assert model.module.local_shift[0].any() != model.module.local_shift[1].any()  # the largest batch stays
    expected = start.vectors / np.linalg.norm(start.vectors, axis=1, keepdims=True) ** 0.75
    assert start.n_dims >= 2  # three types
    # the dimensions of noise are not returned
    np.testing.assert_allclose(model.get_latent_representation(), expected[:, start.weight > 0], atol=1e-3)
