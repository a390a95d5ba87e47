from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

import scatacformer as sf


def cells(n: int = 120):
    import anndata as ad
    import pandas as pd

    rng = np.random.default_rng(0)
    kind = np.arange(n) % 2
    rate = np.full((2, 300), 0.08)
    rate[0, 20:60], rate[1, 150:190] = 0.5, 0.5
    x = sp.csr_matrix((rng.random((n, 300)) < rate[kind]).astype(np.float32))
    names = [f"chr1:{s}-{s + 5000}" for s in range(0, 1_500_000, 5000)]
    return ad.AnnData(x, obs=pd.DataFrame({"type": kind.astype(str)}), var=pd.DataFrame(index=names))


@pytest.fixture(scope="module")
def model():
    adata = cells()
    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata, d_model=16, n_layers=1, n_heads=2, d_embed=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train(max_epochs=8, batch_size=16, sentence_kwargs={"n_closed": 128, "max_tokens": 32}, accelerator="cpu",
                    enable_progress_bar=False)  # fmt: skip
    return model


def test_cells_that_get_the_bins_of_the_other_type_move_towards_it(model):
    adata, kind = model.adata, model.adata.obs["type"].to_numpy()
    names = adata.var_names
    before = adata.X.copy()
    rows = np.flatnonzero(kind == "0")
    found = sf.tl.perturb_bins(model, remove=names[20:60], add=names[150:190], indices=rows)
    z = model.get_latent_representation()
    assert found.shift.shape == (len(rows), z.shape[1])
    way = z[kind == "1"].mean(0) - z[kind == "0"].mean(0)
    along = found.shift @ way / (way @ way)
    assert np.median(along) > 0.5
    assert (adata.X != before).nnz == 0  # nothing of the user's changed
    # bins that were not touched follow the type
    assert list(found.regions.index) == list(names)
    np.testing.assert_allclose(found.regions["change"], found.regions["after"] - found.regions["before"])
    assert found.regions["change"].iloc[150:190].mean() > 0.1
    assert found.regions["change"].iloc[20:60].mean() < -0.1
    opened = np.asarray((before[rows] > 0).sum(1)).ravel()
    in_remove = np.asarray((before[rows][:, 20:60] > 0).sum(1)).ravel()
    in_add = np.asarray((before[rows][:, 150:190] > 0).sum(1)).ravel()
    np.testing.assert_array_equal(found.n_removed, in_remove)
    np.testing.assert_array_equal(found.n_added, 40 - in_add)
    assert (opened >= in_remove).all()


def test_what_changes_nothing_shifts_nothing(model):
    x = model.adata.X.tocsc()
    row = int(x.indices[0])
    column = model.adata.var_names[int(np.flatnonzero(np.diff(x.indptr))[0])]
    found = sf.tl.perturb_bins(model, add=[column], indices=[row])
    assert found.n_added.tolist() == [0]
    np.testing.assert_allclose(found.shift, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "remove and add are empty"),
        ({"remove": ["chr9:0-5000"]}, "1 of 1 regions are not in adata.var_names"),
        ({"remove": ["chr1:0-5000"], "add": ["chr1:0-5000"]}, "1 regions are in both remove and add"),
    ],
)
def test_what_cannot_be_changed_is_refused(model, wrong, message):
    with pytest.raises(ValueError, match=message):
        sf.tl.perturb_bins(model, **wrong)


def test_a_result_is_shown_in_a_few_lines(model):
    names = model.adata.var_names
    found = sf.tl.perturb_bins(model, remove=names[20:60], indices=np.arange(10))
    closed = f"{found.n_removed.mean():.3g} (mean)"
    assert repr(found).startswith("PerturbedBins: cells changed: ") and closed in repr(found)
    assert len(repr(found)) < 500
    assert closed in found._repr_html_() and "<table>" in found._repr_html_()
