from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scatacformer as sf


@pytest.fixture(scope="module")
def cells():
    return sf.datasets.simulated_cells(300, 4, genome="ce11", turnover=0.5, fragments=2000, seed=3)


@pytest.fixture(scope="module")
def mdata(cells):
    return sf.datasets.simulated_multiome(cells, 60, umis=800, seed=1)


def test_the_same_seed_gives_the_same_cells(cells, mdata):
    again = sf.datasets.simulated_multiome(cells, 60, umis=800, seed=1)
    assert (again["rna"].X != mdata["rna"].X).nnz == 0
    other = sf.datasets.simulated_multiome(cells, 60, umis=800, seed=2)
    assert (other["rna"].X != mdata["rna"].X).nnz > 0


def test_counts_have_the_depth_that_was_asked_for(cells, mdata):
    depth = np.asarray(mdata["rna"].X.sum(1)).ravel()
    assert 700 < np.median(depth) < 900
    assert mdata["rna"].obs_names.equals(cells.obs_names)
    assert (mdata["atac"].X != cells.X).nnz == 0


def test_linked_bins_are_near_and_follow_expression(cells, mdata):
    rna, links = mdata["rna"], mdata["rna"].uns["links"]
    assert links["region"].is_unique
    assert links["gene"].nunique() == 48  # four fifths
    bins = cells.var.loc[links["region"]]
    genes = rna.var.loc[links["gene"]]
    assert (bins["chrom"].astype(str).to_numpy() == genes["chrom"].astype(str).to_numpy()).all()
    assert (np.abs(bins["start"].to_numpy() - genes["tss"].to_numpy()) <= 105_000).all()
    assert bins["regulatory"].all()
    # over types, so that noise of single cells averages out
    kind = cells.obs["cell_type"].to_numpy()

    def by_type(adata):
        X = adata.X / np.asarray(adata.X.sum(1))
        return pd.DataFrame(np.asarray(X.todense() if hasattr(X, "todense") else X)).groupby(kind).mean().to_numpy()

    expression = np.log(by_type(rna[:, links["gene"].unique()]) + 1e-6)
    accessibility = np.log(by_type(cells[:, links["region"]]) + 1e-6).reshape(4, -1, 3).mean(2)
    found = [np.corrcoef(expression[:, g], accessibility[:, g])[0, 1] for g in range(expression.shape[1])]
    assert np.median(found) > 0.8


def test_what_cannot_be_simulated_is_refused(cells):
    with pytest.raises(ValueError, match="n_genes is 0"):
        sf.datasets.simulated_multiome(cells, 0)
    with pytest.raises(ValueError, match="genes have 40 free regulatory bins"):
        sf.datasets.simulated_multiome(cells, 500, n_links=40)
    with pytest.raises(ValueError, match=r"Take those of sf.datasets.simulated_cells"):
        sf.datasets.simulated_multiome(mdata_without_types(cells))


def mdata_without_types(cells):
    other = cells[:, :50].copy()
    del other.obs["cell_type"]
    return other
