"""Cells of many data sets on disk as one matrix: flat arrays, one folder for each data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .storage import OnDisk, checked_indptr


class FlatArray:
    """A one-dimensional ``.npy`` file of which any stretch can be read; no file stays open, nothing is mapped.

    Opening the file for each stretch costs 20 us, and spares thousands of open files on a machine with many data sets
    and workers. Raises ValueError for what is no such file, FileNotFoundError.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = os.fspath(path)
        if not os.path.exists(self.path):
            raise FileNotFoundError(f"{self.path} is gone. Build it again.")
        with open(self.path, "rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, self.dtype = read(file)
            except ValueError as error:
                raise ValueError(f"{self.path} is damaged: it is no .npy file ({error}). Build it again.") from None
            self._first_byte = file.tell()
            n_bytes = os.fstat(file.fileno()).st_size - self._first_byte
        if len(shape) != 1 or self.dtype.hasobject or n_bytes != shape[0] * self.dtype.itemsize:
            raise ValueError(
                f"{self.path} is damaged: {n_bytes:,} bytes of data, expected {self.dtype} of shape {shape}. "
                "Build it again."
            )
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(len(self))
        n = max(stop - start, 0)
        found = np.fromfile(self.path, self.dtype, n, offset=self._first_byte + start * self.dtype.itemsize)
        if len(found) != n:
            raise OSError(f"{self.path} became shorter while it was read. Was the corpus built anew? Open it again.")
        return found


class Shards(OnDisk):
    """Entries of cells × bins in folders, each with ``bins.npy`` (int32) and ``indptr.npy`` (int64).

    A bin that is listed is open, and sorted within its cell; no counts are kept, and 1 is told for each. It is pickled
    as the places of its folders. Memory: 8 bytes per cell.
    """

    free_of_zeros = True

    def __init__(self, folders: Sequence[Path | str], n_bins: int) -> None:
        self._folders, self._n_bins = [os.path.abspath(folder) for folder in folders], n_bins
        self._open()

    def _open(self) -> None:
        self._bins = [FlatArray(os.path.join(folder, "bins.npy")) for folder in self._folders]
        boundaries = [FlatArray(os.path.join(folder, "indptr.npy")) for folder in self._folders]
        first_cell = np.cumsum([0] + [len(array) - 1 for array in boundaries])
        self._first_entry = np.cumsum([0] + [len(array) for array in self._bins])
        self.shape = (int(first_cell[-1]), self._n_bins)
        self.indptr = np.zeros(self.shape[0] + 1, np.int64)
        for number, (array, bins) in enumerate(zip(boundaries, self._bins, strict=True)):
            indptr = checked_indptr(array[:], len(array) - 1, len(bins))
            here = slice(first_cell[number] + 1, first_cell[number + 1] + 1)
            self.indptr[here] = indptr[1:] + self._first_entry[number]

    def _arrays(self) -> tuple[Any, Any]:
        return _Joined(self._bins, self._first_entry), _Ones()

    def __getstate__(self) -> dict[str, Any]:
        return {"_folders": self._folders, "_n_bins": self._n_bins}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class _Joined:
    """Several arrays as one, of which stretches are read."""

    def __init__(self, parts: list[FlatArray], first: np.ndarray) -> None:
        self.parts, self.first = parts, first
        self.dtype = np.dtype(np.int32)

    def __getitem__(self, part: slice) -> np.ndarray:
        if part.stop <= part.start:
            return np.empty(0, self.dtype)
        # the last of those that begin at or before the place: a data set without entries begins where the next does
        number = int(np.searchsorted(self.first, part.start, side="right")) - 1
        pieces = []
        while number < len(self.parts) and self.first[number] < part.stop:
            offset = self.first[number]
            pieces.append(self.parts[number][max(part.start - offset, 0) : part.stop - offset])
            number += 1
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class _Ones:
    """The counts of bins that are open and no more."""

    dtype = np.dtype(np.float32)

    def __getitem__(self, part: slice) -> np.ndarray:
        return np.ones(part.stop - part.start, self.dtype)
