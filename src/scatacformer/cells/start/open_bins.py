"""The open bins of cells as a matrix of ones whose entries are not stored, and its products on several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import scipy.sparse as sp

from scatacformer._settings import torch_threads_kept

PART = 500_000  # least number of entries that are worth a thread,
MAX_PARTS = 4  # each of which needs a result of its own,
PER_BIN = 3  # so that it should have a few times as many entries as there are bins
COLUMNS = 8  # float32, side by side in a cache line: half of one


class OpenBins:
    """Matrix of ones, (n_cells, n_bins), where a bin is open in a cell: a row is a stretch of ``indices``.

    A product is the sum over a fixed number of parts of the cells, in a fixed order, so that it does not depend on the
    number of threads. At most ``numba.get_num_threads()`` are used.
    """

    def __init__(self, indptr: np.ndarray, indices: np.ndarray, n_bins: int) -> None:
        self.indptr = np.ascontiguousarray(indptr, dtype=np.int64)
        # unsigned: a signed index may be negative, which costs a comparison for each entry
        self.indices = np.ascontiguousarray(indices, dtype=np.int32).view(np.uint32)
        self.shape = (len(indptr) - 1, int(n_bins))
        n_parts = int(np.clip(self.nnz // max(PART, PER_BIN * self.shape[1]), 1, MAX_PARTS))
        # parts of about as many entries; each starts at a cell
        edges = np.searchsorted(self.indptr, np.linspace(0, self.nnz, n_parts + 1)[1:-1].astype(np.int64))
        edges = np.unique(np.concatenate([[0], edges, [self.shape[0]]]))
        self.parts = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))

    @property
    def nnz(self) -> int:
        """Number of entries."""
        return int(self.indptr[-1])

    def sums_over_bins(self, z: np.ndarray) -> np.ndarray:
        """Sum of z (n_bins,) over the open bins of each cell.  (n_cells,) float32"""
        out = np.zeros(self.shape[0], np.float32)
        z = np.ascontiguousarray(z, dtype=np.float32)
        self._on_threads(lambda _, first, stop: _gather(self.indptr, self.indices, z, out, first, stop))
        return out

    def sums_over_cells(self, y: np.ndarray) -> np.ndarray:
        """Sum of y (n_cells,) over the cells in which each bin is open.  (n_bins,) float32"""
        out = np.zeros((len(self.parts), self.shape[1]), np.float32)
        y = np.ascontiguousarray(y, dtype=np.float32)
        self._on_threads(lambda part, first, stop: _scatter(self.indptr, self.indices, y, out[part], first, stop))
        return out[0] if len(out) == 1 else out.sum(0)

    def columns_over_cells(self, u: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Sum of u (n_cells, k) over the cells in which each bin is open, in chunks of columns: the column slice, and
        (n_bins, columns) float32."""
        chunks = [slice(start, min(start + COLUMNS, u.shape[1])) for start in range(0, u.shape[1], COLUMNS)]

        def total_of(columns: slice) -> np.ndarray:
            y = np.zeros((len(u), COLUMNS), np.float32)
            y[:, : columns.stop - columns.start] = u[:, columns]
            total = np.zeros((self.shape[1], COLUMNS), np.float32)
            _scatter_columns(self.indptr, self.indices, y, total)
            return total[:, : columns.stop - columns.start]

        at_once = _n_threads()  # no more, because each is as large as COLUMNS vectors of the bins
        with ThreadPoolExecutor(at_once) as pool:
            for first in range(0, len(chunks), at_once):
                some = chunks[first : first + at_once]
                yield from zip(some, pool.map(total_of, some), strict=True)

    def open_cells(self) -> np.ndarray:
        """Number of cells in which each bin is open.  (n_bins,) int64"""
        total = np.zeros(self.shape[1], np.int64)
        _count(self.indices, total)
        return total

    def of_cells(self, cells: np.ndarray) -> OpenBins:
        """The rows ``cells``, in this order."""
        indptr = np.concatenate([[0], np.cumsum(np.diff(self.indptr)[cells])])
        indices = np.empty(indptr[-1], np.int32)
        for i, cell in enumerate(cells):  # no array of the entries' positions, which would be twice as large
            indices[indptr[i] : indptr[i + 1]] = self.indices[self.indptr[cell] : self.indptr[cell + 1]].view(np.int32)
        return OpenBins(indptr, indices, self.shape[1])

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Row numbers of ``n`` cells at random, sorted. Whether a cell is among them depends on its bins and not on the
        order of the cells."""
        keys = bin_sums(self.indptr, self.indices, rng.integers(0, 2**64, self.shape[1], dtype=np.uint64))
        return np.sort(np.argsort(keys, kind="stable")[:n])

    def of_bins(self, used: np.ndarray) -> OpenBins:
        """The columns in the mask ``used`` (n_bins,)."""
        column = np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)
        indptr = np.zeros(self.shape[0] + 1, np.int64)
        _count_used(self.indptr, self.indices, column, indptr)
        indptr = np.cumsum(indptr)
        indices = np.empty(indptr[-1], np.int32)
        _take_used(self.indices, column, indices)
        return OpenBins(indptr, indices, int(used.sum()))

    def to_scipy(self) -> sp.csr_matrix:
        """The matrix with its ones, float32."""
        ones = np.ones(self.nnz, np.float32)
        return sp.csr_matrix((ones, self.indices.view(np.int32), self.indptr), shape=self.shape)

    def _on_threads(self, work: Callable[[int, int, int], None]) -> None:
        threads = min(len(self.parts), _n_threads())
        if threads == 1:
            for part, (first, stop) in enumerate(self.parts):
                work(part, first, stop)
            return
        with ThreadPoolExecutor(threads) as pool:
            jobs = [pool.submit(work, part, first, stop) for part, (first, stop) in enumerate(self.parts)]
        for job in jobs:
            job.result()


def _n_threads() -> int:
    with torch_threads_kept():  # asking starts numba's threads
        return numba.get_num_threads()


def bin_sums(indptr: np.ndarray, indices: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Sum of ``number`` (n_bins,) uint64 over the open bins of each cell, modulo 2^64.  (n_cells,) uint64"""
    total = np.zeros(len(indptr) - 1, np.uint64)
    _add_keys(np.asarray(indptr, np.int64), np.ascontiguousarray(indices).view(np.uint32), number, total)
    return total


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def _gather(indptr: np.ndarray, indices: np.ndarray, z: np.ndarray, out: np.ndarray, first: int, stop: int) -> None:
    for cell in range(first, stop):
        total = np.float32(0.0)
        for column in indices[indptr[cell] : indptr[cell + 1]]:
            total += z[column]
        out[cell] = total


@numba.njit(nogil=True, cache=True)
def _scatter(indptr: np.ndarray, indices: np.ndarray, y: np.ndarray, out: np.ndarray, first: int, stop: int) -> None:
    for cell in range(first, stop):
        value = y[cell]
        for column in indices[indptr[cell] : indptr[cell + 1]]:
            out[column] += value


@numba.njit(nogil=True, cache=True)
def _scatter_columns(indptr: np.ndarray, indices: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    for cell in range(len(indptr) - 1):
        for column in indices[indptr[cell] : indptr[cell + 1]]:
            for k in range(COLUMNS):
                out[column, k] += y[cell, k]


@numba.njit(nogil=True, cache=True)
def _add_keys(indptr: np.ndarray, indices: np.ndarray, key: np.ndarray, total: np.ndarray) -> None:
    for cell in range(len(total)):
        for column in indices[indptr[cell] : indptr[cell + 1]]:
            total[cell] += key[column]  # modulo 2^64


@numba.njit(nogil=True, cache=True)
def _count(indices: np.ndarray, total: np.ndarray) -> None:
    for column in indices:
        total[column] += 1


@numba.njit(nogil=True, cache=True)
def _count_used(indptr: np.ndarray, indices: np.ndarray, column: np.ndarray, n_used: np.ndarray) -> None:
    for cell in range(len(indptr) - 1):
        n = 0
        for old in indices[indptr[cell] : indptr[cell + 1]]:
            n += column[old] >= 0
        n_used[cell + 1] = n


@numba.njit(nogil=True, cache=True)
def _take_used(indices: np.ndarray, column: np.ndarray, out: np.ndarray) -> None:
    n = 0
    for old in indices:
        if column[old] >= 0:
            out[n] = column[old]
            n += 1
