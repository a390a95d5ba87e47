"""Cells of many data sets on disk as one matrix: flat arrays, one folder for each data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from scatacformer._io import in_words

from .storage import OnDisk, checked_indptr


class FlatArray:
    """A one-dimensional ``.npy`` file of which any slice can be read; no file stays open, and nothing is memory-mapped.

    Opening the file for each stretch costs 20 us, and spares thousands of open files on a machine with many data sets
    and workers. What is read is of the very file that was opened first, and of what its reader expects.

    Parameters
    ----------
    path
        The file.
    dtype
        Expected dtype; default: that of its header.
    n
        How many they are; default: any.
    least, below
        The smallest that a number may be, and what each must be smaller than; checked where they are read.

    Raises
    ------
    ValueError
        It is not such a file, or, when it is read, has a number that is out of range.
    FileNotFoundError, OSError
        It is gone, or, when it is read, is another file than the one that was opened.
    """

    def __init__(
        self,
        path: Path | str,
        dtype: str | None = None,
        n: int | None = None,
        least: int | None = None,
        below: int | None = None,
    ) -> None:
        self.path, self._least, self._below = os.fspath(path), least, below
        if not os.path.exists(self.path):
            raise FileNotFoundError(f"{self.path} is gone. Build it again.")
        with open(self.path, "rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, self.dtype = read(file)
            except Exception as error:  # noqa: BLE001 NumPy reads the header as Python's own parser reads code
                problem = in_words(error)
                raise ValueError(
                    f"{self.path} is damaged: it is not a .npy file ({problem}). Build it again."
                ) from None
            self._first_byte = file.tell()
            self.stamp = _stamp(file)
            n_bytes = os.fstat(file.fileno()).st_size - self._first_byte
        if len(shape) != 1 or self.dtype.hasobject or n_bytes != shape[0] * self.dtype.itemsize:
            raise ValueError(
                f"{self.path} is damaged: {n_bytes:,} bytes of data, expected {self.dtype} of shape {shape}. "
                "Build it again."
            )
        if (dtype is not None and self.dtype != np.dtype(dtype)) or (n is not None and shape[0] != n):
            wanted = f"{np.dtype(dtype or self.dtype)} of shape ({shape[0] if n is None else n},)"
            raise ValueError(
                f"{self.path} is damaged: it has {self.dtype} of shape {shape}; expected {wanted}. Build it again."
            )
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(len(self))
        n = max(stop - start, 0)
        try:
            with open(self.path, "rb") as file:
                if _stamp(file) != self.stamp:
                    raise OSError(f"{self.path} was replaced while it was read. {_ANEW}")
                found = np.fromfile(file, self.dtype, n, offset=self._first_byte + start * self.dtype.itemsize)
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.path} is gone. {_ANEW}") from None
        if len(found) != n:
            raise OSError(f"{self.path} became shorter while it was read. {_ANEW}")
        if n and self._least is not None and (least := found.min()) < self._least:
            raise ValueError(
                f"{self.path} is damaged: it holds {least}, expected {self._least} or more. Build it again."
            )
        if n and self._below is not None and (most := found.max()) >= self._below:
            raise ValueError(
                f"{self.path} is damaged: it holds {most}, expected less than {self._below}. Build it again."
            )
        return found


_ANEW = "Was the corpus rebuilt? Open it again."


def _stamp(file: BinaryIO) -> tuple[int, int, int]:
    """Which file this is: a number that is used again for a later one, its size, and when it was written (ns)."""
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


class Shards(OnDisk):
    """Entries of cells × bins in folders, each with ``bins.npy`` (int32) and ``indptr.npy`` (int64).

    The listed bins are open, and sorted within each cell; no counts are stored, and 1 is returned for each. It is
    pickled as the places of its folders; a process that opens it finds the same files, or an OSError. Memory: 8 bytes
    per cell.

    Parameters
    ----------
    folders
        One for each data set.
    n_bins
        Columns: each bin is smaller.
    sizes
        (cells, open bins) expected in each folder; default: from its files.
    """

    free_of_zeros = True

    def __init__(
        self, folders: Sequence[Path | str], n_bins: int, sizes: Sequence[tuple[int, int]] | None = None
    ) -> None:
        self._folders, self._n_bins = [os.path.abspath(folder) for folder in folders], n_bins
        self._sizes = sizes
        self._open()

    def _open(self) -> None:
        sizes: Sequence[tuple[int | None, int | None]] = self._sizes or [(None, None)] * len(self._folders)
        self._bins, boundaries = [], []
        for folder, (n_cells, n_tokens) in zip(self._folders, sizes, strict=True):
            self._bins.append(FlatArray(os.path.join(folder, "bins.npy"), "<i4", n_tokens, 0, self._n_bins))
            n = None if n_cells is None else n_cells + 1
            boundaries.append(FlatArray(os.path.join(folder, "indptr.npy"), "<i8", n))
        self._stamps = [array.stamp for array in (*self._bins, *boundaries)]
        first_cell = np.cumsum([0] + [len(array) - 1 for array in boundaries])
        self._first_entry = np.cumsum([0] + [len(array) for array in self._bins])
        self.shape = (int(first_cell[-1]), self._n_bins)
        self.indptr = np.zeros(self.shape[0] + 1, np.int64)
        for number, (array, bins) in enumerate(zip(boundaries, self._bins, strict=True)):
            try:
                indptr = checked_indptr(array[:], len(array) - 1, len(bins))
            except ValueError as error:
                raise ValueError(f"{array.path}: {error}") from None
            here = slice(first_cell[number] + 1, first_cell[number + 1] + 1)
            self.indptr[here] = indptr[1:] + self._first_entry[number]

    def _arrays(self) -> tuple[Any, Any]:
        return _Joined(self._bins, self._first_entry), _Ones()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("_folders", "_n_bins", "_sizes", "_stamps")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()
        if self._stamps != state["_stamps"]:
            raise OSError(f"{self._folders[0]}, or another data set, was replaced since it was opened. {_ANEW}")


class _Joined:
    """Several arrays as one, of which slices are read."""

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
