"""One data set of a corpus on disk: flat arrays that grow while they are written, and a JSON file that describes
them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from scatacformer._io import writing
from scatacformer.cells import FlatArray

COLUMNS = ("batch", "organ", "label")
DTYPES = {"bins": "<i4", "indptr": "<i8", "barcodes": "u1", "barcodes_indptr": "<i8"} | dict.fromkeys(COLUMNS, "<i4")


def open_array(folder: Path, name: str, data_set: dict[str, Any], n_bins: int) -> FlatArray:
    """One of the arrays of a data set, which ``data_set`` describes: type, size and range are what they must be.

    Raises ValueError for another, FileNotFoundError.
    """
    n_cells, n_tokens = data_set["n_cells"], data_set["n_tokens"]
    n, least, below = {
        "bins": (n_tokens, 0, n_bins),
        "indptr": (n_cells + 1, 0, n_tokens + 1),
        "barcodes": (None, None, None),
        "barcodes_indptr": (n_cells + 1, 0, None),
        **{column: (n_cells, -1, len(data_set["names"][column])) for column in COLUMNS},
    }[name]
    return FlatArray(folder / f"{name}.npy", DTYPES[name], n, least, below)


class NpyWriter:
    """A one-dimensional ``.npy`` file to which values are appended; its header is completed at the end.

    ``shown``: its later name, which an error says.
    """

    def __init__(self, path: Path, dtype: str, shown: Path) -> None:
        self.dtype = np.dtype(dtype)
        self.n, self._shown = 0, shown
        self._digest = hashlib.sha256()
        with writing(shown, _KEPT):
            self._file = path.open("wb")
            self._header()

    def append(self, values: np.ndarray) -> None:
        """Write values at the end."""
        values = np.ascontiguousarray(values, self.dtype)
        if values.size:
            with writing(self._shown, _KEPT):
                self._file.write(values.data)
            self._digest.update(values.data)
            self.n += values.size

    def close(self) -> str:
        """Complete the file, wait until it is on the disk, and return the SHA-256 of its values."""
        with writing(self._shown, _KEPT):
            self._file.seek(0)
            self._header()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """Close the file, whatever is in it; what cannot be written of it any more is not missed."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _header(self) -> None:
        # numpy leaves room for the length to grow, so that the header stays as long as it was
        described = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.n,)}
        np.lib.format.write_array_header_1_0(self._file, described)


_KEPT = "The data sets before it are kept: build again, with the same sources"


class Codes:
    """Texts of a column as numbers, in the order in which they first come; -1 for none."""

    def __init__(self) -> None:
        self.number_of: dict[str, int] = {}

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(n,) int32 of (n,) texts or None."""
        import pandas as pd

        codes, names = pd.factorize(values)
        numbers = [self.number_of.setdefault(name, len(self.number_of)) for name in names]
        return np.array([*numbers, -1], np.int32)[codes]


class ShardWriter:
    """Writes a data set, cells at a time, into a folder that exists; ``shown`` is its later name, which errors say."""

    def __init__(self, folder: Path, shown: Path) -> None:
        self.folder = folder
        self.n_cells = self.n_tokens = 0
        self._files = {
            name: NpyWriter(folder / f"{name}.npy", dtype, shown / f"{name}.npy") for name, dtype in DTYPES.items()
        }
        self._codes = {name: Codes() for name in COLUMNS}
        self._names = Distinct()
        for name in ("indptr", "barcodes_indptr"):
            self._files[name].append(np.zeros(1, np.int64))

    def append(
        self, indptr: np.ndarray, bins: np.ndarray, barcodes: np.ndarray, columns: dict[str, np.ndarray]
    ) -> None:
        """Some cells: their bins, packed; their barcodes; batch, organ and label, each a text or None."""
        encoded = [str(name).encode() for name in barcodes]
        n_bytes = np.cumsum([len(name) for name in encoded], dtype=np.int64)
        self._files["barcodes_indptr"].append(self._files["barcodes"].n + n_bytes)
        self._files["barcodes"].append(np.frombuffer(b"".join(encoded), np.uint8))
        self._names.add(encoded)
        self._files["indptr"].append(self.n_tokens + indptr[1:])
        self._files["bins"].append(bins)
        for name in COLUMNS:
            self._files[name].append(self._codes[name](columns[name]))
        self.n_cells += len(indptr) - 1
        self.n_tokens += len(bins)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():  # where :meth:`close` was not reached
            file.abandon()

    def close(self, what: str) -> dict[str, Any]:
        """Complete all files; what is to be known of them. Raises ValueError for a barcode that comes twice."""
        checksums = {f"{name}.npy": file.close() for name, file in self._files.items()}
        self._names.check(self.folder, what)
        per_cell = np.diff(np.load(self.folder / "indptr.npy", mmap_mode="r"))
        return {
            "n_cells": self.n_cells,
            "n_tokens": self.n_tokens,
            "open_bins": {} if not self.n_cells else _quartiles(per_cell),
            "names": {name: list(codes.number_of) for name, codes in self._codes.items()},
            "checksums": checksums,
        }


class Distinct:
    """Whether texts come twice, at 8 bytes each: their hashes are compared, and only where two agree the texts."""

    def __init__(self) -> None:
        self._hashes: list[np.ndarray] = []

    def add(self, texts: list[bytes]) -> None:
        digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
        self._hashes.append(np.frombuffer(digests, np.uint64))

    def check(self, folder: Path, what: str) -> None:
        if not self._hashes:
            return
        hashes = np.concatenate(self._hashes)
        order = np.argsort(hashes, kind="stable")
        twice = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        names = BarcodeFile(folder)
        for at in twice.tolist():
            first, second = names[int(order[at])], names[int(order[at + 1])]
            if first == second:
                raise ValueError(
                    f"{what}: the barcode {first} comes twice ({len(twice):,} such). Barcodes of a data set must "
                    "differ: split it into one data set for each sample, or make them unique "
                    "(adata.obs_names_make_unique())."
                )


class BarcodeFile:
    """The barcodes of a data set on disk."""

    def __init__(self, folder: Path) -> None:
        self._text = FlatArray(folder / "barcodes.npy", DTYPES["barcodes"])
        self._ends = FlatArray(folder / "barcodes_indptr.npy", DTYPES["barcodes_indptr"])

    @property
    def n(self) -> int:
        """Number of barcodes."""
        return len(self._ends) - 1

    def __getitem__(self, cell: int) -> str:
        return self.stretch(cell, cell + 1)[0].decode(errors="replace")

    def stretch(self, start: int, stop: int) -> list[bytes]:
        """Barcodes of neighbouring cells."""
        ends = self._ends[start : stop + 1]
        if ends[0] < 0 or ends[-1] > len(self._text) or (np.diff(ends) < 0).any():
            raise ValueError(
                f"{self._ends.path} does not fit {self._text.path}: one of them is damaged. Build it again."
            )
        text = self._text[int(ends[0]) : int(ends[-1])].tobytes()
        ends = ends - ends[0]
        return [text[a:b] for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]


def _quartiles(per_cell: np.ndarray) -> dict[str, float]:
    names = ("min", "25%", "median", "75%", "max")
    return dict(zip(names, np.quantile(per_cell, [0, 0.25, 0.5, 0.75, 1]).tolist(), strict=True))
