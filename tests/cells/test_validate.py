from __future__ import annotations

import tracemalloc
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scatacformer.cells import RowSource, validate_anndata, validate_counts

from ._matrices import PLACES, place, random_csr


@pytest.fixture
def counts():
    """30 cells, none of them empty, bins in order."""
    rng = np.random.default_rng(0)
    dense = rng.integers(1, 4, (30, 50)) * (rng.random((30, 50)) < 0.3)
    dense[:, 7] = 1
    return sp.csr_matrix(dense.astype(np.float64))


def names(n):
    return [f"cell{i}" for i in range(n)]


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("chunk_cells", [7, 1000])
def test_good_counts_pass_and_are_summed_up(where, chunk_cells, tmp_path):
    matrix = random_csr()
    source = RowSource.from_matrix(place(matrix, where, tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = validate_counts(source, names(60), empty="ignore", chunk_cells=chunk_cells)
    is_open = matrix.toarray() != 0
    np.testing.assert_array_equal(summary.n_open_per_cell, is_open.sum(1))
    np.testing.assert_array_equal(summary.n_open_per_bin, is_open.sum(0))
    assert not summary.binary


def test_binary_counts_are_known(counts):
    counts.data[:] = 1
    assert validate_counts(RowSource.from_matrix(counts)).binary


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"2 counts are NaN or infinite in 2 of 30 cells \(first: nan in cell cell4\).*layer="),
        (np.inf, r"2 counts are NaN or infinite in 2 of 30 cells \(first: inf in cell cell4\)"),
        (-1, r"2 counts are negative in 2 of 30 cells \(first: -1 in cell cell4\).*layer="),
        (0.5, r"2 counts are not integer in 2 of 30 cells \(first: 0.5 in cell cell4\).*layer="),
    ],
)
@pytest.mark.parametrize("chunk_cells", [3, 1000])
def test_bad_counts_are_refused(counts, value, message, dtype, chunk_cells):
    counts = counts.astype(dtype)
    counts.data[counts.indptr[4] + 2] = value
    counts.data[counts.indptr[20]] = value
    with pytest.raises(ValueError, match=message):
        validate_counts(RowSource.from_matrix(counts), names(30), chunk_cells=chunk_cells)


def test_cells_without_names_are_called_by_their_number(counts):
    counts.data[counts.indptr[4]] = -2
    with pytest.raises(ValueError, match="first: -2 in cell number 4"):
        validate_counts(RowSource.from_matrix(counts))
    with pytest.raises(ValueError, match="obs_names has 29 names, expected one for each of 30 cells"):
        validate_counts(RowSource.from_matrix(counts), names(29))


def test_empty_cells_are_an_error_or_a_warning(counts):
    keep = np.ones(30)
    keep[[2, 5, 6, 29]] = 0
    source = RowSource.from_matrix(sp.csr_matrix(sp.diags(keep) @ counts))  # cells of nothing but explicit zeros
    message = (
        r"4 of 30 cells have no open bin \(cell2, cell5, cell6, \.\.\.\)\. .*adata\[adata\.X\.sum\(1\) > 0\]\.copy\(\)"
    )
    with pytest.raises(ValueError, match=message):
        validate_counts(source, names(30))
    with pytest.warns(UserWarning, match=message):
        summary = validate_counts(source, names(30), empty="warn")
    np.testing.assert_array_equal(np.flatnonzero(summary.n_open_per_cell == 0), [2, 5, 6, 29])


@pytest.mark.parametrize("empty", ["error", "warn", "ignore"])
def test_no_open_bin_at_all_is_an_error(empty):
    with pytest.raises(ValueError, match="no bin is open in any of 5 cells"):
        validate_counts(RowSource.from_matrix(sp.csr_matrix((5, 9))), empty=empty)


@pytest.mark.parametrize("chunk_cells", [1, 4, 1000])
def test_a_bin_stored_twice_is_an_error(chunk_cells):
    indptr, bins = np.array([0, 2, 2, 5, 8]), np.array([1, 3, 3, 0, 2, 7, 2, 7])
    # cell 0 ends with the bin that cell 2 begins with: no repeat. Cell 2 is out of order: no repeat. Cell 3 has one.
    matrix = sp.csr_matrix((np.ones(8), bins, indptr), shape=(4, 9))
    with pytest.raises(ValueError, match=r"1 bins are stored more than once in 1 of 4 cells \(first: 7 in cell d\)"):
        validate_counts(RowSource.from_matrix(matrix), list("abcd"), empty="ignore", chunk_cells=chunk_cells)
    matrix.sum_duplicates()
    assert validate_counts(RowSource.from_matrix(matrix), empty="ignore").n_open_per_cell.tolist() == [2, 0, 3, 2]


def test_a_column_beyond_the_matrix_is_an_error(counts):
    counts.indices[counts.indptr[6]] = 50
    with pytest.raises(ValueError, match=r"1 entries have a column number outside.*first: 50 in cell cell6"):
        validate_counts(RowSource.from_matrix(counts), names(30))


def test_a_view_is_refused(counts):
    adata = ad.AnnData(counts)
    validate_anndata(adata)
    with pytest.raises(ValueError, match=r"view.*adata = adata\.copy\(\)"):
        validate_anndata(adata[:10])
    validate_anndata(adata[:10].copy())


@pytest.mark.parametrize(("n", "message"), [(0, "found 0 cells, expected at least 2"), (1, "found 1 cell, expected")])
def test_too_few_cells_are_refused(counts, n, message):
    adata = ad.AnnData(counts)[:n].copy()
    with pytest.raises(ValueError, match=message):
        validate_anndata(adata)
    validate_anndata(adata, min_cells=n)


def test_repeated_names_are_refused(counts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's own warning of the same
        cells = ad.AnnData(counts, obs=pd.DataFrame(index=[*names(28), "cell0", "cell0"]))
        bins = ad.AnnData(counts, var=pd.DataFrame(index=[*(f"chr1:{i}-{i + 1}" for i in range(49)), "chr1:3-4"]))
    with pytest.raises(ValueError, match=r"2 of 30 cells .*\(first: cell0\).*obs_names_make_unique"):
        validate_anndata(cells)
    with pytest.raises(ValueError, match=r"1 of 50 bins .*\(first: chr1:3-4\).*var_names\.duplicated"):
        validate_anndata(bins)


def test_validation_reads_the_disk_once(tmp_path, monkeypatch):
    source = RowSource.from_matrix(place(random_csr(), "h5ad", tmp_path))
    arrays, read = source._storage._arrays(), []

    class Watched:
        def __init__(self, array):
            self.array, self.dtype = array, array.dtype

        def __getitem__(self, part):
            read.append(part.stop - part.start)
            return self.array[part]

    monkeypatch.setattr(source._storage, "_arrays", lambda: tuple(map(Watched, arrays)))
    validate_counts(source, empty="ignore", chunk_cells=13)
    assert sum(read) == 2 * source.nnz


def test_memory_grows_with_open_bins_not_with_columns():
    rng = np.random.default_rng(0)
    n, k, n_bins = 400, 2_000, 600_000
    bins = np.sort(rng.integers(0, n_bins - k, (n, k)), axis=1) + np.arange(k)
    matrix = sp.csr_matrix((np.ones(n * k, np.float32), bins.ravel(), np.arange(n + 1) * k), shape=(n, n_bins))
    tracemalloc.start()
    validate_counts(RowSource.from_matrix(matrix))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # 240 million zeros would take more
