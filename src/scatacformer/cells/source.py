"""The open bins of any cells, straight from CSR storage in memory or on disk. Nothing is made dense."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .shards import Shards
from .storage import Hdf5, InMemory, Zarr

if TYPE_CHECKING:
    from pathlib import Path

    from .storage import OnDisk

TO_CSR = "Convert it once: adata.X = adata.X.tocsr()"


class Rows(NamedTuple):
    """Cells with their open bins, packed: those of cell i are ``bins[indptr[i]:indptr[i + 1]]``."""

    indptr: np.ndarray  # (n_cells + 1,) int64
    bins: np.ndarray  # (n_open,) int32
    counts: np.ndarray | None  # (n_open,) float32


class RowSource:
    """Reads the open bins of cells from a CSR matrix in memory, in an ``.h5ad``, in a zarr store or in a corpus.

    Make one with :meth:`from_matrix`. It can be pickled: a matrix on disk travels as the place of its file.
    Memory on disk-backed data: 8 bytes per cell, and the entries of one call.
    """

    def __init__(
        self, storage: InMemory | OnDisk, columns: np.ndarray | None = None, n_bins: int | None = None
    ) -> None:
        self._storage = storage
        self._columns, self.n_bins = _checked_columns(columns, n_bins, storage.shape[1])
        # True once a pass over all cells found no explicit zeros: then open bins are known without reading the values
        self._free_of_zeros = storage.free_of_zeros

    @classmethod
    def from_matrix(cls, X: Any, columns: np.ndarray | None = None, n_bins: int | None = None) -> RowSource:
        """Reader of ``X``: csr_matrix, csr_array, or what ``adata.X`` is when the AnnData is backed (HDF5 or zarr).

        ``columns`` (X.shape[1],) gives the token id of each column of X, -1 to leave it out, for a matrix whose columns
        are not the model's bins; ``n_bins`` is then the size of the model's vocabulary.

        Raises ValueError for a sparse matrix that is not CSR and for columns that share a token id, TypeError for what
        is not a matrix. A dense array in memory is converted, with a warning.
        """
        return cls(_storage(X), columns, n_bins)

    @classmethod
    def from_shards(
        cls, folders: Sequence[str | Path], n_bins: int, sizes: Sequence[tuple[int, int]] | None = None
    ) -> RowSource:
        """Reader of the cells in all ``folders``, one after another, as :class:`scatacformer.Corpus` writes them.

        Each holds ``bins.npy``, the sorted token ids of the open bins of cell after cell, and ``indptr.npy``; ``sizes``
        gives the numbers of cells and open bins (default: from the files). Raises ValueError for files that are damaged
        or of another size, FileNotFoundError; and OSError where files are read that were replaced since."""
        return cls(Shards(folders, n_bins, sizes))

    @property
    def n_cells(self) -> int:
        """Rows of the matrix."""
        return self._storage.shape[0]

    @property
    def nnz(self) -> int:
        """Stored entries: explicit zeros and left-out columns count."""
        return int(self._storage.indptr[-1])

    @property
    def on_disk(self) -> bool:
        """Whether the entries are read from a file on demand."""
        return self._storage.on_disk

    @property
    def stored_per_cell(self) -> np.ndarray:
        """Stored entries of each cell, at least as many as its open bins; costs nothing.  (n_cells,) int64."""
        return np.diff(self._storage.indptr)

    def rows(self, cells: np.ndarray, counts: bool = False) -> Rows:
        """Open bins of ``cells``, in the given order; cells may be repeated.

        ``cells`` are row numbers, or a mask of all cells. A cell's bins come in the order in which they are stored.
        ``counts=False`` leaves the counts out (None). Arrays of neighbouring cells in memory are those of the matrix,
        which cannot be written to. Raises IndexError for a row number that is not there."""
        cells = self.row_numbers(cells)
        first, stop = self._storage.indptr[cells], self._storage.indptr[cells + 1]
        indptr = np.zeros(len(cells) + 1, np.int64)
        np.cumsum(stop - first, out=indptr[1:])
        return self._read(indptr, first, stop, counts)

    def iter_chunks(self, chunk_cells: int = 1024, counts: bool = False) -> Iterator[tuple[int, Rows]]:
        """All cells from first to last, ``chunk_cells`` at a time: (row number of the first, :class:`Rows`)."""
        boundaries = self._storage.indptr
        free_of_zeros = True
        for start in range(0, self.n_cells, chunk_cells):
            here = boundaries[start : start + chunk_cells + 1]
            rows = self._read(here - here[0], here[:1], here[-1:], counts)
            free_of_zeros &= len(rows.bins) == here[-1] - here[0]
            yield start, rows
        self._free_of_zeros |= free_of_zeros

    def n_open_per_bin(self) -> np.ndarray:
        """Number of cells in which each bin is open; streamed.  (n_bins,) int64."""
        total = np.zeros(self.n_bins, np.int64)
        for _, rows in self.iter_chunks():
            total += np.bincount(rows.bins, minlength=self.n_bins)
        return total

    def n_open_per_cell(self) -> np.ndarray:
        """Open bins of each cell; streamed, without explicit zeros and left-out columns.  (n_cells,) int64."""
        return np.concatenate([np.empty(0, np.int64), *(np.diff(rows.indptr) for _, rows in self.iter_chunks())])

    def row_numbers(self, cells: np.ndarray) -> np.ndarray:
        """``cells`` as int64 row numbers. Raises IndexError where one is not in 0 ... n_cells - 1."""
        cells = np.asarray(cells)
        if cells.dtype == bool:
            if cells.shape != (self.n_cells,):
                raise IndexError(f"the mask of cells has shape {cells.shape}; expected ({self.n_cells},).")
            return np.flatnonzero(cells)
        if cells.ndim != 1 or (len(cells) and not np.issubdtype(cells.dtype, np.integer)):
            raise IndexError(f"cells must be a list of row numbers, found {cells.dtype} of shape {cells.shape}.")
        cells = cells.astype(np.int64)
        if len(cells) and (cells.min() < 0 or cells.max() >= self.n_cells):
            wrong = cells[(cells < 0) | (cells >= self.n_cells)]
            raise IndexError(f"there is no cell {wrong[0]}; expected row numbers from 0 to {self.n_cells - 1}.")
        return cells

    def __repr__(self) -> str:
        where = "on disk" if self.on_disk else "in memory"
        return f"RowSource({self.n_cells:,} cells x {self.n_bins:,} bins, {self.nnz:,} entries, {where})"

    def _read(self, indptr: np.ndarray, first: np.ndarray, stop: np.ndarray, counts: bool) -> Rows:
        values_wanted = counts or not (self.on_disk and self._free_of_zeros)
        index_pieces, value_pieces = self._storage.pieces(first, stop, values_wanted)
        bins = _joined(index_pieces, np.int32)
        values = None
        is_open: np.ndarray | None = None
        if value_pieces is not None:
            values = _joined(value_pieces, np.float32 if counts else None)
            if np.count_nonzero(values) < len(values):
                is_open = values != 0
        if self._columns is not None:
            bins = self._columns[bins]
            known = bins >= 0
            is_open = known if is_open is None else is_open & known
        if is_open is not None and not is_open.all():
            indptr = np.concatenate([[0], np.cumsum(is_open)])[indptr]
            bins = bins[is_open]
            values = values[is_open] if values is not None and counts else None
        return Rows(indptr, bins, values if counts else None)


def _storage(X: Any) -> InMemory | OnDisk:
    kind = f"{type(X).__module__.split('.')[0]} {type(X).__name__}"
    if X is None:
        raise ValueError(
            "adata.X is None: there are no counts. Put the counts into adata.X, or pass the name of their layer."
        )
    if isinstance(X, np.ndarray):
        return _from_dense(X)
    form = getattr(X, "format", None)
    if hasattr(X, "group") and form in ("csr", "csc"):  # anndata's CSRDataset and CSCDataset
        if form == "csc":
            raise ValueError(
                f"the matrix on disk is stored by column (CSC, {X.shape[0]:,} x {X.shape[1]:,}); cells are read by row "
                "(CSR). Convert it once: adata = adata.to_memory(); adata.X = adata.X.tocsr(); adata.write_h5ad(...)."
            )
        shape = (int(X.shape[0]), int(X.shape[1]))
        return (Zarr if X.backend == "zarr" else Hdf5)(shape, X.group)
    if isinstance(form, str):  # scipy sparse
        if form != "csr":
            raise ValueError(
                f"the matrix is stored as {form.upper()} ({kind}, {X.shape[0]:,} x {X.shape[1]:,}), and cells are read "
                f"by row (CSR). {TO_CSR}."
            )
        _check_dtype(X.dtype)
        return InMemory((int(X.shape[0]), int(X.shape[1])), X.indptr, X.indices, X.data)
    if kind.startswith("dask"):
        raise TypeError(
            "adata.X is a lazy dask array, which is not supported. Open the file with anndata.read_h5ad(path, backed='r'), or set "
            "adata.X = anndata.io.sparse_dataset(zarr.open(path)['X'])."
        )
    if kind.startswith("h5py") or kind.startswith("zarr"):
        raise TypeError(
            f"the matrix on disk is dense ({kind}); cells are read from sparse rows (CSR). Convert it once: "
            "adata = adata.to_memory(); adata.X = scipy.sparse.csr_matrix(adata.X); adata.write_h5ad(...)."
        )
    raise TypeError(f"cannot read cells from {kind}: expected a scipy CSR matrix or a backed AnnData's X.")


def _from_dense(X: np.ndarray) -> InMemory:
    from scipy.sparse import csr_matrix

    if X.ndim != 2:
        raise ValueError(f"expected a matrix of cells x bins, found an array of shape {X.shape}.")
    _check_dtype(X.dtype)
    sparse = csr_matrix(X)
    share = sparse.nnz / max(X.size, 1)
    warnings.warn(
        f"the matrix is dense ({X.shape[0]:,} x {X.shape[1]:,}, {share:.1%} not zero); a sparse copy of it was made. "
        "Spare the memory: adata.X = scipy.sparse.csr_matrix(adata.X)",
        UserWarning,
        stacklevel=4,
    )
    return InMemory(X.shape, sparse.indptr, sparse.indices, sparse.data)


def _check_dtype(dtype: np.dtype) -> None:
    if dtype.kind not in "biuf":
        raise TypeError(
            f"counts are numbers, found values of type {dtype}. Convert them: adata.X = adata.X.astype('float32')."
        )


def _checked_columns(columns: np.ndarray | None, n_bins: int | None, width: int) -> tuple[np.ndarray | None, int]:
    if columns is None:
        if n_bins is not None and n_bins != width:
            raise ValueError(
                f"the matrix has {width:,} columns, expected {n_bins:,}; `columns` can map the ones on the others."
            )
        return None, width
    columns = np.asarray(columns)
    if columns.shape != (width,) or columns.dtype.kind not in "iu":
        raise ValueError(
            f"`columns` has shape {columns.shape} and type {columns.dtype}, "
            f"expected the token id of each of {width:,} columns."
        )
    if n_bins is None:
        raise ValueError("`columns` needs `n_bins`, the number of bins of the vocabulary that its token ids are from.")
    ids = np.sort(columns[columns >= 0])
    if len(ids) and ids[-1] >= n_bins:
        raise ValueError(f"`columns` names token id {ids[-1]}, beyond the {n_bins:,} bins of the vocabulary.")
    if (twice := np.flatnonzero(np.diff(ids) == 0)).size:
        raise ValueError(
            f"`columns` maps more than one column to token id {ids[twice[0]]} ({len(twice):,} such): "
            "add the columns up first, a bin is open once."
        )
    return columns.astype(np.int32), int(n_bins)


def _joined(pieces: list[np.ndarray], dtype: type | None) -> np.ndarray:
    """One array of all pieces. A single piece is not copied; it cannot be written to, for it may be the user's
    matrix."""
    if len(pieces) == 1 and dtype in (None, pieces[0].dtype):
        whole = pieces[0].view()
        whole.flags.writeable = False
        return whole
    return np.concatenate(pieces, dtype=dtype, casting="unsafe") if pieces else np.empty(0, dtype or np.float32)
