"""Values of a bigWig file at every base, and how one is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scatacformer._io import reading, whole_file

from .big_problem import big_problem

_WHAT = "a bigWig file"


class BigWig:
    """A bigWig file of which any interval can be read, through pybigtools.

    The object can be pickled: each worker process opens the file for itself.

    Parameters
    ----------
    path
        A bigWig file.

    Attributes
    ----------
    path
        The file.
    sizes
        Length in bp of each chromosome, by name.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ValueError
        It is not a bigWig file, or it is damaged.
    ImportError
        pybigtools is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._reader: Any = None
        self._process = -1
        with reading(self.path, _WHAT):
            self.sizes: dict[str, int] = {name: int(size) for name, size in self._file().chroms().items()}

    def values(self, chrom: str, start: int, end: int) -> np.ndarray:
        """Value of each base, ``(end - start,)`` float32; 0 where the file has none, or NaN, or beyond the ends.

        A chromosome that the file does not have is 0 throughout.
        """
        if chrom not in self.sizes or start >= self.sizes[chrom] or end <= 0:
            return np.zeros(end - start, dtype=np.float32)
        low, high = max(start, 0), min(end, self.sizes[chrom])
        with reading(self.path, _WHAT):
            # uncovered bases are NaN in pybigtools by default
            inside = np.asarray(self._file().values(chrom, low, high, fillna=0.0), dtype=np.float32)
        return inside if (low, high) == (start, end) else np.pad(inside, (low - start, end - high))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None, "_process": -1}

    def _file(self) -> Any:
        """The open file; a forked process must not share the file position of its parent."""
        if self._reader is None or self._process != os.getpid():
            self._reader, self._process = _open(self.path), os.getpid()
        return self._reader


def write_bigwig(path: str | Path, sizes: Mapping[str, int], values: Iterable[tuple[str, int, int, float]]) -> None:
    """Write a bigWig file, whole or not at all.

    Parameters
    ----------
    path
        The file; one that is there is replaced.
    sizes
        Length in bp of each chromosome.
    values
        (chromosome, start, end, value), sorted by chromosome in the order of ``sizes`` and by start, without overlaps.
        They are read one by one.
    """
    pybigtools = _pybigtools()
    with whole_file(Path(path)) as partial:
        writer = pybigtools.open(str(partial.with_suffix(".bw")), "w")  # it goes by the suffix
        try:
            writer.write(dict(sizes), iter(values))
            os.replace(partial.with_suffix(".bw"), partial)
        finally:
            partial.with_suffix(".bw").unlink(missing_ok=True)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"the bigWig file {path} does not exist. Check the path.")
    with path.open("rb") as file:
        head = file.read(4)
    if b"\x26\xfc\x8f\x88" not in (head, head[::-1]):
        raise ValueError(f"{path} is not a bigWig file: it begins with {head!r}.")
    with reading(path, _WHAT):
        return open_big_file(path)


def open_big_file(path: Path) -> Any:
    """Pybigtools' reader of a bigWig or bigBed file. ValueError for a damaged structure, ImportError if pybigtools is not
    installed, and its own errors."""
    if (problem := big_problem(path)) is not None:
        raise ValueError(f"{problem}.")
    # it goes by the suffix of a path, and reads file objects of any name, more slowly
    known = path.suffix.lower() in (".bw", ".bigwig", ".bb", ".bigbed")
    return _pybigtools().open(str(path) if known else path.open("rb"))


def _pybigtools() -> Any:
    try:
        import pybigtools
    except ImportError:
        raise ImportError(
            "bigWig and bigBed files are read with pybigtools, which is not installed: pip install "
            "'scatacformer[bigwig]'."
        ) from None
    return pybigtools
