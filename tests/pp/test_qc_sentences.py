from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scatacformer.genome import Vocabulary
from scatacformer.pp import qc_sentences

N_OPEN = np.array([0, 3, 10, 25, 60])


@pytest.fixture
def adata():
    bins = Vocabulary.from_chrom_sizes({"chr1": 40_000, "chr2": 40_000}, 1_000)
    rng = np.random.default_rng(0)
    counts = np.zeros((len(N_OPEN), bins.n_bins), dtype=np.float32)
    for row, n in enumerate(N_OPEN):
        counts[row, rng.choice(bins.n_bins, n, replace=False)] = rng.integers(1, 9, n)
    return ad.AnnData(sparse.csr_matrix(counts), var=bins.to_frame())


def quiet(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return qc_sentences(*args, **kwargs)


def test_counts_and_limits(adata):
    shape = adata.shape
    report = quiet(adata, min_tokens=5, max_tokens=20)
    assert adata.obs["n_tokens"].tolist() == N_OPEN.tolist()
    assert adata.obs["n_tokens_cut"].tolist() == [0, 0, 0, 5, 40]
    assert adata.shape == shape  # nothing is dropped
    assert report["n_cells"] == 5
    assert report["n_cells_empty"] == 1
    assert report["n_cells_short"] == 2
    assert report["n_cells_long"] == 2
    assert report["n_tokens_cut"] == 45
    assert report["share_tokens_cut"] == pytest.approx(45 / 98)
    assert (report["tokens_min"], report["tokens_median"], report["tokens_max"]) == (0, 10, 60)
    assert adata.uns["scatacformer"]["qc_sentences"]["n_tokens_cut"] == 45


def test_a_cell_at_the_limit_is_neither_short_nor_long(adata):
    report = quiet(adata, min_tokens=10, max_tokens=60)
    assert report["n_cells_short"] == 2
    assert report["n_cells_long"] == 0


def test_explicit_zeros_are_no_tokens(adata):
    adata.X.data[:4] = 0
    n_tokens = (adata.X.toarray() > 0).sum(1)
    quiet(adata)
    assert adata.obs["n_tokens"].tolist() == n_tokens.tolist()
    assert (adata.X.data == 0).sum() == 4  # the caller's matrix is not tidied


@pytest.mark.parametrize("as_array", [sparse.csr_array, sparse.csc_matrix, lambda X: X.toarray()])
def test_any_kind_of_matrix(adata, as_array):
    adata.layers["counts"] = as_array(adata.X)
    adata.X = None
    quiet(adata, layer="counts")
    assert adata.obs["n_tokens"].tolist() == N_OPEN.tolist()


def test_backed_is_read_in_pieces(adata, tmp_path):
    ad.concat([adata] * 500, index_unique="-", merge="same").write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    report = quiet(backed)
    assert report["n_cells_empty"] == 500
    assert backed.obs["n_tokens"].tolist() == N_OPEN.tolist() * 500


def test_bins_outside_the_vocabulary_are_no_tokens(adata):
    chr1 = Vocabulary.from_chrom_sizes({"chr1": 40_000}, 1_000)
    adata = adata[1:].copy()
    with pytest.warns(UserWarning, match="50.0% of the bins.*sf.pp.match_vocabulary"):
        report = qc_sentences(adata, vocabulary=chr1)
    n_inside = adata.X[:, :40].getnnz(axis=1)
    assert adata.obs["n_tokens"].tolist() == n_inside.tolist()
    assert report["share_bins_outside"] == 0.5
    assert report["share_open_outside"] == pytest.approx(1 - n_inside.sum() / N_OPEN.sum())


def test_not_in_place_changes_nothing(adata):
    report = quiet(adata[2:], inplace=False)
    assert isinstance(report, pd.Series)
    assert report["n_cells"] == 3
    quiet(adata, inplace=False)
    assert adata.obs.empty
    assert not adata.uns


def test_empty_cells_are_warned_of_with_the_remedy(adata):
    with pytest.warns(UserWarning, match=r"1 of 5 cells have no open bin.*adata\.obs\['n_tokens'\] > 0"):
        qc_sentences(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qc_sentences(adata[1:].copy())


def test_bad_requests(adata):
    with pytest.raises(ValueError, match="view"):
        qc_sentences(adata[1:])
    with pytest.raises(ValueError, match="min_tokens <= max_tokens"):
        qc_sentences(adata, min_tokens=10, max_tokens=5)
    with pytest.raises(ValueError, match="no cells"):
        qc_sentences(adata[:0].copy())


def test_report_can_be_written(adata, tmp_path):
    quiet(adata)
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert ad.read_h5ad(tmp_path / "a.h5ad").uns["scatacformer"]["qc_sentences"]["n_cells"] == 5
