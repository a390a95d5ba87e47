from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer.cells import RowSource

from ._matrices import PLACES, open_bins, place, random_csr

ORDERS = {
    "sorted": [0, 1, 2, 10, 11, 40],
    "unsorted": [9, 2, 5, 59, 0],
    "repeated": [7, 7, 3, 7, 3, 2],
    "empty cell": [3],
    "nobody": [],
}


def assert_reads(source, matrix, cells):
    rows = source.rows(np.array(cells, dtype=np.int64), counts=True)
    assert rows.indptr.dtype == np.int64
    assert rows.bins.dtype == np.int32
    assert rows.counts.dtype == np.float32
    assert len(rows.indptr) == len(cells) + 1
    assert rows.indptr[-1] == len(rows.bins) == len(rows.counts)
    for i, cell in enumerate(cells):
        part = slice(rows.indptr[i], rows.indptr[i + 1])
        bins, counts = open_bins(matrix, cell)
        np.testing.assert_array_equal(rows.bins[part], bins)
        np.testing.assert_array_equal(rows.counts[part], counts)


@pytest.fixture(scope="module")
def matrix():
    return random_csr()


@pytest.fixture(scope="module", params=PLACES)
def source(request, matrix, tmp_path_factory):
    return RowSource.from_matrix(place(matrix, request.param, tmp_path_factory.mktemp("cells")))


@pytest.fixture
def nothing_made_dense(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a sparse matrix was made dense")

    for kind in (sp.csr_matrix, sp.csr_array, sp.csc_matrix, sp.coo_matrix):
        monkeypatch.setattr(kind, "toarray", refuse)
        monkeypatch.setattr(kind, "todense", refuse)


@pytest.mark.usefixtures("nothing_made_dense")
@pytest.mark.parametrize("cells", ORDERS.values(), ids=ORDERS)
def test_cells_come_in_the_order_asked_for(source, matrix, cells):
    assert_reads(source, matrix, cells)


def test_counts_are_left_out_unless_asked_for_and_change_nothing_else(source):
    cells = np.array([5, 1, 8])
    without, with_counts = source.rows(cells), source.rows(cells, counts=True)
    assert without.counts is None
    np.testing.assert_array_equal(without.bins, with_counts.bins)
    np.testing.assert_array_equal(without.indptr, with_counts.indptr)


def test_rows_far_apart_on_disk_are_read_apart(tmp_path, monkeypatch):
    from scatacformer.cells import storage

    monkeypatch.setattr(storage, "LARGEST_GAP", 0)
    matrix = random_csr(seed=3)
    source = RowSource.from_matrix(place(matrix, "h5ad", tmp_path))
    asked = []
    arrays = source._storage._arrays()

    class Watched:
        dtype = arrays[0].dtype

        def __getitem__(self, part):
            asked.append((part.start, part.stop))
            return arrays[0][part]

    monkeypatch.setattr(source._storage, "_arrays", lambda: (Watched(), arrays[1]))
    assert_reads(source, matrix, [21, 40, 20, 3, 22])
    boundaries = matrix.indptr
    assert asked == [(boundaries[20], boundaries[23]), (boundaries[40], boundaries[41])]


def test_a_mask_means_its_rows(source, matrix):
    mask = np.zeros(source.n_cells, bool)
    mask[[4, 30]] = True
    np.testing.assert_array_equal(source.rows(mask).bins, source.rows(np.array([4, 30])).bins)
    with pytest.raises(IndexError, match="mask"):
        source.rows(mask[:-1])


@pytest.mark.parametrize("cell", [-1, 60])
def test_a_row_that_is_not_there_is_refused(source, cell):
    with pytest.raises(IndexError, match=f"no cell {cell}; expected row numbers from 0 to 59"):
        source.rows(np.array([0, cell]))


def test_row_numbers_are_integers(source):
    with pytest.raises(IndexError, match="list of row numbers"):
        source.rows(np.array([0.5]))


def test_chunks_cover_all_cells_once(source, matrix):
    starts, bins = [], []
    for start, rows in source.iter_chunks(chunk_cells=17):
        starts.append((start, len(rows.indptr) - 1))
        bins.append(rows.bins)
    assert starts == [(0, 17), (17, 17), (34, 17), (51, 9)]
    np.testing.assert_array_equal(np.concatenate(bins), np.concatenate([open_bins(matrix, i)[0] for i in range(60)]))


def test_open_bins_are_counted_without_explicit_zeros(source, matrix):
    is_open = matrix.toarray() != 0
    assert (matrix.data == 0).any()
    np.testing.assert_array_equal(source.n_open_per_bin(), is_open.sum(0))
    np.testing.assert_array_equal(source.n_open_per_cell(), is_open.sum(1))


def test_size_is_told(source, matrix):
    assert (source.n_cells, source.n_bins, source.nnz) == (60, 400, matrix.nnz)
    assert "60 cells x 400 bins" in repr(source)


@pytest.mark.parametrize("where", ["csr_matrix", "h5ad", "zarr"])
def test_values_on_disk_are_read_until_there_is_proof_of_no_zeros(where, tmp_path):
    for zeros in (0.0, 0.2):
        matrix = random_csr(zeros=zeros, seed=1)
        (tmp_path / str(zeros)).mkdir()
        source = RowSource.from_matrix(place(matrix, where, tmp_path / str(zeros)))
        before = source.rows(np.arange(60)).bins
        source.n_open_per_bin()  # a whole pass: from here on the values may be left alone
        np.testing.assert_array_equal(source.rows(np.arange(60)).bins, before)
        np.testing.assert_array_equal(before, np.concatenate([open_bins(matrix, i)[0] for i in range(60)]))
        assert_reads(source, matrix, [4, 2])


@pytest.mark.parametrize("where", PLACES)
def test_survives_pickling(where, matrix, tmp_path):
    source = RowSource.from_matrix(place(matrix, where, tmp_path))
    again = pickle.loads(pickle.dumps(source))
    if source.on_disk:
        assert len(pickle.dumps(source)) < 3_000  # the place of the file, not what is in it
    assert_reads(again, matrix, [9, 2, 2, 50])


def test_survives_the_user_closing_the_file(matrix, tmp_path):
    import anndata as ad

    place(matrix, "h5ad", tmp_path)
    adata = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    source = RowSource.from_matrix(adata.X)
    adata.file.close()
    assert_reads(source, matrix, [9, 2])
    (tmp_path / "cells.h5ad").unlink()
    moved = pickle.loads(pickle.dumps(source))
    with pytest.raises(OSError, match="If it was moved"):
        moved.rows(np.array([1]))


@pytest.mark.parametrize("where", ["csr_matrix", "h5ad", "zarr"])
def test_columns_are_read_in_the_models_vocabulary(where, matrix, tmp_path):
    rng = np.random.default_rng(5)
    columns = rng.permutation(1_000)[:400]
    columns[rng.random(400) < 0.3] = -1
    source = RowSource.from_matrix(place(matrix, where, tmp_path), columns=columns, n_bins=1_000)
    assert source.n_bins == 1_000
    rows = source.rows(np.array([8, 1, 8]), counts=True)
    expected_bins, expected_counts = [], []
    for cell in (8, 1, 8):
        bins, counts = open_bins(matrix, cell)
        ids = columns[bins]
        expected_bins.append(ids[ids >= 0])
        expected_counts.append(counts[ids >= 0])
    np.testing.assert_array_equal(np.diff(rows.indptr), [len(b) for b in expected_bins])
    np.testing.assert_array_equal(rows.bins, np.concatenate(expected_bins))
    np.testing.assert_array_equal(rows.counts, np.concatenate(expected_counts))
    assert source.n_open_per_bin().sum() == source.n_open_per_cell().sum() > 0
    # what was left out is no proof of anything: explicit zeros stay unread after a whole pass
    np.testing.assert_array_equal(source.rows(np.array([8, 1, 8])).bins, rows.bins)


@pytest.mark.parametrize(
    ("columns", "n_bins", "message"),
    [
        ([0, 1], 10, "shape \\(2,\\)"),
        ([0, 0, 1], 10, "more than one column to token id 0"),
        ([0, 1, 10], 10, "token id 10, beyond the 10 bins"),
        ([0, 1, 2], None, "needs `n_bins`"),
        (None, 4, "3 columns, expected 4"),
    ],
)
def test_columns_that_make_no_sense_are_refused(columns, n_bins, message):
    with pytest.raises(ValueError, match=message):
        RowSource.from_matrix(sp.csr_matrix((5, 3)), None if columns is None else np.array(columns), n_bins)


@pytest.mark.parametrize("convert", [sp.csc_matrix, sp.csc_array, sp.coo_matrix, sp.lil_matrix])
def test_what_is_not_csr_is_refused_with_a_remedy(convert, matrix):
    with pytest.raises(ValueError, match=r"adata\.X = adata\.X\.tocsr\(\)"):
        RowSource.from_matrix(convert(matrix))


@pytest.mark.parametrize("where", ["h5ad", "zarr"])
def test_csc_on_disk_is_refused_with_a_remedy(where, matrix, tmp_path):
    with pytest.raises(ValueError, match=r"by column.*adata\.X\.tocsr\(\)"):
        RowSource.from_matrix(place(matrix.tocsc(), where, tmp_path))


def test_dense_in_memory_is_converted_and_said(matrix):
    with pytest.warns(UserWarning, match="dense"):
        source = RowSource.from_matrix(matrix.toarray())
    for cell in (0, 3, 20):
        np.testing.assert_array_equal(source.rows(np.array([cell])).bins, np.sort(open_bins(matrix, cell)[0]))


def test_dense_on_disk_is_refused(matrix, tmp_path):
    import anndata as ad

    ad.AnnData(matrix.toarray()).write_h5ad(tmp_path / "dense.h5ad")
    with pytest.raises(TypeError, match="on disk is dense"):
        RowSource.from_matrix(ad.read_h5ad(tmp_path / "dense.h5ad", backed="r").X)


def test_what_is_no_matrix_is_refused(matrix):
    with pytest.raises(ValueError, match=r"adata\.X is None"):
        RowSource.from_matrix(None)
    with pytest.raises(TypeError, match="cannot read cells from builtins list"):
        RowSource.from_matrix([[1, 2]])
    with pytest.raises(TypeError, match="complex64"):
        RowSource.from_matrix(matrix.astype(np.complex64))


def test_row_boundaries_of_a_damaged_file_are_refused(matrix, tmp_path):
    import anndata as ad
    import h5py

    place(matrix, "h5ad", tmp_path)
    damaged = tmp_path / "damaged.h5ad"
    damaged.write_bytes((tmp_path / "cells.h5ad").read_bytes())
    with h5py.File(damaged, "r+") as file:
        file["X/indptr"][5] = 10**6
    with pytest.raises(ValueError, match="damaged"):
        RowSource.from_matrix(ad.read_h5ad(damaged, backed="r").X)


def test_what_is_read_never_changes_the_matrix():
    matrix = random_csr(zeros=0.0)
    kept = matrix.copy()
    source = RowSource.from_matrix(matrix)
    neighbours = (source.rows(np.array([1]), counts=True), next(source.iter_chunks(60, counts=True))[1])
    for rows in neighbours:  # the matrix's own entries: read, not copied
        assert np.shares_memory(rows.bins, matrix.indices)
        assert np.shares_memory(rows.counts, matrix.data)
        for array in (rows.bins, rows.counts):
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0
    apart = source.rows(np.array([3, 1, 1]), counts=True)
    apart.bins[:] = 0
    apart.counts[:] = 0
    np.testing.assert_array_equal(matrix.indices, kept.indices)
    np.testing.assert_array_equal(matrix.data, kept.data)
