"""Storage of the entries of a CSR matrix, and how slices of it are read: memory, an HDF5 file, a zarr store."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

# Rows at most this many entries apart are read together: 64 KiB of extra data cost less than a second call
# (h5py 60 us, zarr 500 us a call).
LARGEST_GAP = 1 << 14

Pieces = tuple[list[np.ndarray], list[np.ndarray] | None]


class InMemory:
    """Entries of a scipy matrix. Its arrays are shared, never copied; workers that are spawned share one copy."""

    on_disk = False
    free_of_zeros = False  # known only after reading the values

    def __init__(self, shape: tuple[int, int], indptr: np.ndarray, indices: np.ndarray, data: np.ndarray) -> None:
        self.shape = shape
        self.indptr = checked_indptr(indptr, shape[0], len(indices))
        self._indices, self._data = indices, data
        self._shared: tuple[Any, Any] | None = None

    def pieces(self, first: np.ndarray, stop: np.ndarray, values: bool) -> Pieces:
        """Column indices, and values if requested, of the entries ``first[i]:stop[i]``, in arrays one after another."""
        if len(first) > 1 and (first[1:] == stop[:-1]).all():  # neighbours: one stretch
            first, stop = first[:1], stop[-1:]
        bounds = list(zip(first.tolist(), stop.tolist(), strict=True))
        indices = [self._indices[a:b] for a, b in bounds]
        return indices, [self._data[a:b] for a, b in bounds] if values else None

    def __getstate__(self) -> dict[str, Any]:
        from multiprocessing.context import get_spawning_popen

        state = self.__dict__ | {"_shared": None}
        if get_spawning_popen() is not None:
            # torch passes tensors to a spawned process through shared memory: one copy for all workers instead of one
            # each
            import torch

            if self._shared is None:
                self._shared = tuple(torch.from_numpy(a.copy()).share_memory_() for a in (self._indices, self._data))
            state["_indices"], state["_data"] = self._shared
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not isinstance(self._indices, np.ndarray):
            self._indices, self._data = self._indices.numpy(), self._data.numpy()


class OnDisk(ABC):
    """Entries of a CSR group on disk: row boundaries in memory, entries read on demand."""

    on_disk = True
    free_of_zeros = False

    def __init__(self, shape: tuple[int, int], group: Any) -> None:
        self.shape = shape
        self.indptr = checked_indptr(np.asarray(group["indptr"][...]), shape[0], group["indices"].shape[0])

    @abstractmethod
    def _arrays(self) -> tuple[Any, Any]:
        """The arrays ``indices`` and ``data``, open in this process."""

    def pieces(self, first: np.ndarray, stop: np.ndarray, values: bool) -> Pieces:
        """As :meth:`InMemory.pieces`: in the given order, although the file is read from front to back."""
        indices, data = self._arrays()
        pieces: list[list[np.ndarray]] = [[np.empty(0, a.dtype)] * len(first) for a in (indices, data)]
        filled = np.flatnonzero(stop > first)
        order = filled[np.argsort(first[filled], kind="stable")]
        if len(order):
            # a repeated row starts before the previous one stops: a negative gap
            breaks = np.flatnonzero(first[order][1:] - stop[order][:-1] > LARGEST_GAP) + 1
            for run in np.split(order, breaks):
                start = int(first[run[0]])
                end = int(stop[run[-1]])
                for array, out in zip((indices, data)[: 1 + values], pieces, strict=False):
                    block = np.asarray(array[start:end])
                    for i in run.tolist():
                        out[i] = block[first[i] - start : stop[i] - start]
        return pieces[0], pieces[1] if values else None


class Hdf5(OnDisk):
    """A CSR group of an ``.h5ad``. An HDF5 handle belongs to one process: each opens the file for itself."""

    def __init__(self, shape: tuple[int, int], group: Any) -> None:
        super().__init__(shape, group)
        self._path, self._name = os.path.abspath(group.file.filename), group.name
        self._group, self._pid = group, os.getpid()

    def _arrays(self) -> tuple[Any, Any]:
        # a group of a file that was closed is false
        if self._pid != os.getpid() or not self._group:
            import h5py

            try:
                self._group = h5py.File(self._path, "r")[self._name]
            except OSError as error:
                raise OSError(
                    f"cannot open {self._path} to read cells from it ({error}). If it was moved, open it again; "
                    'if it is open for writing, open it with backed="r" instead of "r+".'
                ) from error
            self._pid = os.getpid()
        return self._group["indices"], self._group["data"]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_group": None}


class Zarr(OnDisk):
    """A CSR group of a zarr store; the group itself can be sent to another process."""

    def __init__(self, shape: tuple[int, int], group: Any) -> None:
        super().__init__(shape, group)
        self._group = group

    def _arrays(self) -> tuple[Any, Any]:
        return self._group["indices"], self._group["data"]


def checked_indptr(indptr: np.ndarray, n_cells: int, n_entries: int) -> np.ndarray:
    """Row boundaries as int64, (n_cells + 1,). Raises ValueError where they do not describe such a matrix."""
    indptr = np.asarray(indptr).astype(np.int64)
    if len(indptr) != n_cells + 1 or indptr[0] != 0 or indptr[-1] > n_entries or (np.diff(indptr) < 0).any():
        raise ValueError(
            f"the row boundaries (indptr) do not describe {n_cells:,} cells with {n_entries:,} entries: "
            "the matrix is damaged or was written only in part. Write it again."
        )
    return indptr
