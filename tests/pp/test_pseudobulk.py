from __future__ import annotations

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scatacformer.pp import pseudobulk

pytestmark = pytest.mark.filterwarnings("ignore:From 0.4 .update:FutureWarning")


def cells_of(n_cells=300, n_regions=40, seed=0):
    rng = np.random.default_rng(seed)
    X = sparse.csr_matrix(rng.poisson(0.5, (n_cells, n_regions)).astype(np.float32))
    types = pd.Categorical(
        rng.choice(["b", "mono", "t"], n_cells, p=[0.3, 0.1, 0.6]), categories=["t", "b", "mono", "nk"]
    )
    obs = pd.DataFrame({"type": types, "sample": rng.choice(["1", "2"], n_cells)}, [f"c{i}" for i in range(n_cells)])
    start = np.arange(n_regions) * 1000
    var = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 500})
    var.index = [f"chr1:{a}-{a + 500}" for a in start]
    adata = anndata.AnnData(X, obs=obs, var=var)
    adata.varm["motif"] = rng.random((n_regions, 3)).astype(np.float32)
    adata.uns["motif"] = {"names": np.array(["x", "y", "z"], dtype=object)}
    adata.uns["assembly"] = "hg38"
    return adata


def genes_of(cells, n_genes=20, seed=1):
    rng = np.random.default_rng(seed)
    X = sparse.csr_matrix(rng.poisson(2.0, (cells.n_obs, n_genes)).astype(np.float32))
    return anndata.AnnData(X, obs=cells.obs.copy(), var=pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)]))


@pytest.mark.filterwarnings("ignore:.*groups are left out")
@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "backed"])
def test_counts_are_sums_and_acpm_is_the_formula(kind, tmp_path):
    cells = cells_of()
    dense = cells.X.toarray()
    if kind == "backed":
        cells.write_h5ad(tmp_path / "cells.h5ad")
        cells = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    elif kind != "csr":
        cells.X = dense if kind == "dense" else sparse.csc_matrix(cells.X)
    out = pseudobulk(cells, "type", min_cells=20, min_fragments=1)
    assert out.obs_names.tolist() == ["t", "b", "mono"]
    for row, name in enumerate(out.obs_names):
        expected = dense[(cells.obs["type"] == name).to_numpy()].sum(0)
        np.testing.assert_array_equal(out.layers["counts"][row], expected)
        log = np.log10(expected / expected.sum() * 1e5 + 1)
        np.testing.assert_allclose(out.layers["acpm"][row], log / log.max(), rtol=1e-6)
        assert out.obs["n_cells"].iloc[row] == (cells.obs["type"] == name).sum()
        assert out.obs["n_fragments"].iloc[row] == expected.sum()
    assert out.layers["acpm"].dtype == np.float32
    assert out.uns["assembly"] == "hg38"
    assert np.array_equal(out.varm["motif"], cells.varm["motif"])
    assert out.uns["motif"]["names"].tolist() == ["x", "y", "z"]


def test_groups_that_are_left_out_are_named():
    cells = cells_of()
    n_mono = int((cells.obs["type"] == "mono").sum())
    with pytest.warns(UserWarning, match=rf"2 of 4 groups are left out.*'mono' \({n_mono} cells.*'nk' \(0 cells, 0 f"):
        out = pseudobulk(cells, "type", min_cells=n_mono + 1, min_fragments=1)
    assert out.obs_names.tolist() == ["t", "b"]
    with pytest.warns(UserWarning, match="2 of 4 groups are left out"):
        least = pseudobulk(cells, "type", min_cells=1, min_fragments=float(out.obs["n_fragments"].min()))
    assert least.obs_names.tolist() == ["t", "b"]
    with pytest.raises(ValueError, match=r"No group has at least 100 cells and 1,000,000 fragments: 't' \("):
        pseudobulk(cells, "type")


@pytest.mark.filterwarnings("ignore:.*groups are left out")
def test_cells_without_a_label_are_left_out():
    cells = cells_of()
    cells.obs["type"] = cells.obs["type"].astype(object).where(np.arange(300) >= 30, None)
    with pytest.warns(UserWarning, match="30 cells without a label are left out"):
        out = pseudobulk(cells, "type", min_cells=5, min_fragments=1)
    assert out.obs["n_cells"].sum() == 270
    assert out.X.sum() == cells.X[30:].sum()


@pytest.mark.filterwarnings("ignore:.*groups are left out")
def test_combinations_of_several_columns():
    cells = cells_of()
    out = pseudobulk(cells, ["type", "sample"], min_cells=1, min_fragments=1)
    assert "t | 2" in out.obs_names
    row = out["t | 2"]
    here = ((cells.obs["type"] == "t") & (cells.obs["sample"] == "2")).to_numpy()
    np.testing.assert_array_equal(row.X.ravel(), np.asarray(cells.X[here].sum(0)).ravel())
    assert row.obs["type"].iloc[0] == "t"
    assert row.obs["sample"].iloc[0] == "2"
    with pytest.raises(ValueError, match="has no column 'tissue'. Columns: type, sample"):
        pseudobulk(cells, "tissue")


@pytest.mark.filterwarnings("ignore:.*groups are left out")
def test_rna_lies_beside_it_by_name_of_the_cell():
    cells = cells_of()
    genes = genes_of(cells)
    shuffled = genes[np.random.default_rng(3).permutation(300)[:250]].copy()
    for data in (
        mudata.MuData({"atac": cells, "rna": shuffled}),
        mudata.MuData({"atac": cells, "rna": anndata.AnnData(shuffled.X, obs=shuffled.obs[[]], var=shuffled.var)}),
    ):
        if "type" not in data.mod["rna"].obs:
            data.obs["type"] = cells.obs["type"].reindex(data.obs_names)
        out = pseudobulk(data, "type", min_cells=5, min_fragments=1)
        assert out.mod["rna"].obs_names.tolist() == out.mod["atac"].obs_names.tolist() == ["t", "b", "mono"]
        labels = cells.obs["type"].reindex(shuffled.obs_names)
        for row, name in enumerate(out.mod["rna"].obs_names):
            expected = np.asarray(shuffled.X[(labels == name).to_numpy()].sum(0)).ravel()
            np.testing.assert_array_equal(out.mod["rna"].layers["counts"][row], expected)
            np.testing.assert_allclose(
                out.mod["rna"].layers["log_tpm"][row], np.log10(expected / expected.sum() * 1e6 + 1), rtol=1e-6
            )
            assert out.mod["rna"].obs["n_cells"].iloc[row] == (labels == name).sum()


@pytest.mark.filterwarnings("ignore:.*groups are left out")
def test_a_group_without_rna_is_refused():
    cells = cells_of()
    genes = genes_of(cells)[(cells.obs["type"] != "b").to_numpy()].copy()
    with pytest.raises(ValueError, match=r"1 of 3 groups have cells with regions and none with RNA \(first: 'b'\)"):
        pseudobulk(mudata.MuData({"atac": cells, "rna": genes}), "type", min_cells=5, min_fragments=1)
    with pytest.raises(ValueError, match="no modality 'rna'. It has: atac"):
        pseudobulk(mudata.MuData({"atac": cells}), "type")


@pytest.mark.parametrize(
    ("value", "message"), [(0.5, "Counts are whole numbers; found 0.5"), (-1, "found -1"), (np.nan, "found nan")]
)
def test_what_are_no_counts_is_refused(value, message):
    cells = cells_of()
    cells.X.data[7] = value
    with pytest.raises(ValueError, match=message):
        pseudobulk(cells, "type", min_cells=1, min_fragments=1)


def test_regions_without_a_place_are_refused():
    cells = cells_of()
    cells.var = pd.DataFrame(index=[f"peak{i}" for i in range(cells.n_vars)])
    with pytest.raises(ValueError, match="does not contain the positions of the regions"):
        pseudobulk(cells, "type", min_cells=1, min_fragments=1)
