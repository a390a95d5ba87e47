"""Bases of a genome, read on demand from an indexed FASTA file."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scatacformer._io import put_in_place, reading, scratch_folder
from scatacformer.genome import naming_hint

N_CODE = 4
"""Code of a base that is not A, C, G or T."""

_CODES = np.full(256, N_CODE, dtype=np.uint8)
for _code, _base in enumerate("ACGT"):
    _CODES[ord(_base)] = _CODES[ord(_base.lower())] = _code


class Fasta:
    """A FASTA file, plain or compressed by bgzip, of which any interval can be read.

    Nothing is kept in memory but the table of sequences. The index (``.fai``, and ``.gzi`` where the file is
    compressed) is created next to the file if it is missing or older than the file; where that folder cannot be written
    to, in a temporary folder that lasts as long as the object. The object can be pickled: each worker process opens
    the file for itself.

    Parameters
    ----------
    path
        FASTA file. Its lines may have any length that is the same within a sequence; lower case is read as upper case.

    Attributes
    ----------
    path
        The file.
    sizes
        Length in bp of each sequence, by name, in the order of the file.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ValueError
        It is not a FASTA file, cannot be indexed, or is compressed by gzip instead of bgzip.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _refuse_other_files(self.path)
        self._index: Path | None = None
        self._handle: Any = None
        self._process = -1
        self.sizes: dict[str, int] = {}
        file = self._file()
        self.sizes = dict(zip(file.references, map(int, file.lengths), strict=True))

    def codes(self, chrom: str, start: int, end: int, pad: bool = False) -> np.ndarray:
        """Bases of an interval as codes.

        Parameters
        ----------
        chrom
            Name of the sequence.
        start, end
            The interval in bp, 0-based, half open.
        pad
            Fill positions beyond the ends of the sequence with :data:`N_CODE`. Otherwise, an interval that extends
            beyond an end raises an error.

        Returns
        -------
        ``(end - start,)`` uint8: 0, 1, 2, 3 for A, C, G, T and 4 for everything else.

        Raises
        ------
        ValueError
            An unknown sequence, ``end`` before ``start``, or an interval beyond an end without ``pad``.
        """
        size = self.sizes.get(chrom)
        if size is None:
            raise ValueError(f"{self.path} has no sequence {chrom!r}. It has: {_some(self.sizes)}.")
        if end < start:
            raise ValueError(f"interval {chrom}:{start}-{end} ends before it starts.")
        inside = max(start, 0), min(end, size)
        if (start, end) != inside and not pad:
            raise ValueError(f"{chrom}:{start}-{end} reaches beyond {chrom}, which has {size:,} bp in {self.path}.")
        if inside[0] >= inside[1]:
            return np.full(end - start, N_CODE, dtype=np.uint8)
        file = self._file()
        with reading(self.path, "a FASTA file"):
            bases = np.frombuffer(file.fetch(chrom, *inside).encode("ascii"), dtype=np.uint8)
            if len(bases) != inside[1] - inside[0]:
                raise ValueError(f"{len(bases):,} bases of {chrom}:{inside[0]}-{inside[1]}.")
        codes = _CODES[bases]
        if (start, end) == inside:
            return codes
        return np.pad(codes, (inside[0] - start, end - inside[1]), constant_values=N_CODE)

    def sequence(self, chrom: str, start: int, end: int, pad: bool = False) -> str:
        """Bases of an interval as a string of A, C, G, T and N; parameters as in :meth:`codes`."""
        return letters(self.codes(chrom, start, end, pad))

    def check(self, ends: Mapping[str, int], what: str = "the regions") -> None:
        """Raise ValueError for a file of another assembly, before work starts.

        Parameters
        ----------
        ends
            The furthest position in bp that is needed of each chromosome, by name.
        what
            Name of what needs the file, for the message.

        Raises
        ------
        ValueError
            The file lacks a chromosome (both sets of names are in the message) or has one that is too short.
        """
        if missing := [chrom for chrom in ends if chrom not in self.sizes]:
            raise ValueError(
                f"the FASTA file {self.path} lacks {len(missing)} of the {len(ends)} chromosomes of {what}: "
                f"{_some(missing)}. The file has: {_some(self.sizes)}; {what} have: {_some(ends)}. "
                f"{naming_hint(missing, self.sizes)}Use the FASTA file of the whole assembly, or rename the chromosomes."
            )
        short = [chrom for chrom, end in ends.items() if end > self.sizes[chrom]]
        if short:
            raise ValueError(
                f"{what} reach beyond the end of {len(short)} chromosomes of the FASTA file {self.path} (first: "
                f"{short[0]} to {ends[short[0]]:,}, which has {self.sizes[short[0]]:,} bp). "
                "Use the FASTA file of their assembly."
            )

    def close(self) -> None:
        """Close the file; it is opened again when it is next read."""
        if self._handle is not None and self._process == os.getpid():
            self._handle.close()
        self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_process": -1, "_index": None}

    def __repr__(self) -> str:
        return f"Fasta({str(self.path)!r}: {len(self.sizes)} sequences, {sum(self.sizes.values()):,} bp)"

    def _file(self) -> Any:
        """The open file. A forked process must not share the file position of its parent: it opens the file again."""
        if self._handle is None or self._process != os.getpid():
            if self._index is None or not self._index.exists():
                self._index = _find_or_make_index(self.path, self)
            self._handle, self._process = _open(self.path, self._index), os.getpid()
        return self._handle


def letters(codes: np.ndarray) -> str:
    """A string of A, C, G, T and N from an array of codes 0 to 4."""
    return np.frombuffer(b"ACGTN", dtype=np.uint8)[np.asarray(codes, dtype=np.uint8)].tobytes().decode("ascii")


def codes_of(sequence: str) -> np.ndarray:
    """Codes (0 to 3 for A, C, G, T in either case, 4 for others) of a string, uint8."""
    return _CODES[np.frombuffer(sequence.encode("ascii", "replace"), dtype=np.uint8)]


def _refuse_other_files(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"the FASTA file {path} does not exist. Check the path.")
    with path.open("rb") as file:
        head = file.read(18)
    if head[:2] == b"\x1f\x8b":
        if head[12:14] != b"BC":  # the extra field of a bgzip block
            raise ValueError(
                f"{path} is compressed by gzip, of which no interval can be read. Unpack it, or compress it by bgzip: "
                f"gunzip -c {path.name} | bgzip > {path.stem}.bgz."
            )
    elif head[:1] != b">":
        raise ValueError(f"{path} begins with {head[:1]!r}; expected a FASTA file, which begins with '>'.")


def _find_or_make_index(path: Path, owner: object) -> Path:
    """The ``.fai`` file of a FASTA file; with a ``.gzi`` file next to it if the FASTA file is compressed."""
    index = Path(f"{path}.fai")
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    needed = [index, index.with_suffix(".gzi")] if compressed else [index]
    written = path.stat().st_mtime
    if all(part.exists() and part.stat().st_mtime >= written for part in needed):
        return index
    if os.access(path.parent, os.W_OK):
        with scratch_folder(path.parent, path.name) as folder:
            made = _make_index(path, folder)
            for part in made[::-1]:  # a .fai without its .gzi would be taken for whole
                put_in_place(part, path.parent / part.name)
        return index
    folder = Path(tempfile.mkdtemp(prefix="scatacformer-fasta-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return _make_index(path, folder)[0]


def _make_index(path: Path, folder: Path) -> list[Path]:
    """Write the index of ``path`` into ``folder``; the files that were made, ``.fai`` first."""
    pysam = _pysam()
    index, compressed = folder / f"{path.name}.fai", folder / f"{path.name}.gzi"
    try:
        pysam.faidx(str(path), "--fai-idx", str(index), "--gzi-idx", str(compressed))
    except pysam.SamtoolsError as error:
        raise ValueError(f"{path} cannot be indexed as a FASTA file: {str(error).strip()}") from None
    if not index.exists() or index.stat().st_size == 0:
        raise ValueError(f"{path} cannot be indexed as a FASTA file: it holds no sequence.")
    n_indexed = index.read_bytes().count(b"\n")
    if (n_sequences := _count_headers(path)) != n_indexed:  # the index silently keeps the first of a name
        raise ValueError(
            f"{path} has {n_sequences} sequences of {n_indexed} different names: some are there more than once. "
            "Keep one of each name."
        )
    return [part for part in (index, compressed) if part.exists()]


def _count_headers(path: Path) -> int:
    n_headers, last = 0, b"\n"
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if compressed else raw
        while block := file.read(1 << 24):
            n_headers += (last + block).count(b"\n>")
            last = block[-1:]
    return n_headers


def _open(path: Path, index: Path) -> Any:
    compressed = index.with_suffix(".gzi")
    try:
        return _pysam().FastaFile(
            str(path),
            filepath_index=str(index),
            filepath_index_compressed=str(compressed) if compressed.exists() else None,
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} or its index {index} is damaged: {error}. Delete the index, or copy the file again."
        ) from None


def _pysam() -> Any:
    try:
        import pysam
    except ImportError:
        raise ImportError("FASTA files are read with pysam, which is not installed: pip install pysam.") from None
    return pysam


def _some(names: Any) -> str:
    names = list(names)
    return ", ".join(map(str, names[:5])) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")
