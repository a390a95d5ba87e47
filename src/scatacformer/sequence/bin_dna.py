"""The DNA of the bins of a vocabulary."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scatacformer._io import sha256
from scatacformer.genome import check_sizes, fitting_assemblies, match_chroms, naming_hint

from .fasta import Fasta

if TYPE_CHECKING:
    from scatacformer.genome import Vocabulary


class BinDna:
    """The DNA of each bin of a vocabulary: ``dna[bin]`` is a string of A, C, G, T and N, in capitals.

    It is read from disk on demand and not cached. A bin that ends beyond its chromosome has the bases
    that there are. ``sizes`` is the length in bp of each sequence in the file.

    Parameters
    ----------
    fasta
        FASTA file, plain or compressed by bgzip: see :class:`Fasta`.
    vocabulary
        The bins. Chromosomes of both are brought together whether or not they are called ``chr1``, ``1`` or
        ``NC_000001.11``.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ValueError
        It is not a FASTA file; a chromosome of the bins is missing or shorter than required; its chromosomes are
        not as long as those of the vocabulary's assembly.
    """

    def __init__(self, fasta: str | Path, vocabulary: Vocabulary) -> None:
        self.path, self.vocabulary = Path(fasta), vocabulary
        self._file = Fasta(self.path)
        self.sizes = self._file.sizes
        names = list(self.sizes)
        code = match_chroms(names, vocabulary, f"the FASTA file {self.path}")
        self._name_of = self._names_of_chroms(names, code)
        check_sizes(self.sizes, code, vocabulary, f"the FASTA file {self.path}")
        self._refuse_short()

    def __len__(self) -> int:
        return self.vocabulary.n_bins

    def __getitem__(self, bin: int) -> str:
        name = self._name_of[int(self.vocabulary.chrom[bin])]
        start, end = int(self.vocabulary.start[bin]), int(self.vocabulary.end[bin])
        return self._file.sequence(name, start, min(end, self.sizes[name]))

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the file: some 2 s for a human genome. Files that differ only in masking have the same size."""
        return sha256(self.path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _names_of_chroms(self, names: list[str], code: np.ndarray) -> list[str]:
        """The name of each chromosome of the vocabulary in the file."""
        called: dict[int, list[str]] = {}
        for name, number in zip(names, code.tolist(), strict=True):
            called.setdefault(number, []).append(name)
        chroms = self.vocabulary.chrom_names
        if missing := [name for number, name in enumerate(chroms) if number not in called]:
            n_bins = sum(len(self.vocabulary.bins_of_chrom(name)) for name in missing)
            raise ValueError(
                f"the FASTA file {self.path} lacks {len(missing)} of the {len(chroms)} chromosomes of the bins: "
                f"{', '.join(missing[:5])} ({n_bins:,} of {self.vocabulary.n_bins:,} bins). It has: "
                f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}. {naming_hint(missing, self.sizes)}"
                "Take the FASTA file of the whole assembly, or leave those bins out of the data."
            )
        for number, found in called.items():
            if number >= 0 and len(found) > 1:
                raise ValueError(
                    f"the FASTA file {self.path} has {chroms[number]} more than once: as {', '.join(found[:5])}. "
                    "Keep one of them."
                )
        return [called[number][0] for number in range(len(chroms))]

    def _refuse_short(self) -> None:
        """A last bin of full width is not a sign of another assembly; a bin that begins past the end is."""
        v = self.vocabulary
        size = np.array([self.sizes[name] for name in self._name_of], dtype=np.int64)[v.chrom]
        beyond = v.end > size
        if v.bin_size:
            beyond &= (v.start >= size) | (v.start % v.bin_size != 0)
        if not beyond.any():
            return
        first = int(np.argmax(beyond))
        furthest = np.zeros(v.n_chroms, dtype=np.int64)
        np.maximum.at(furthest, v.chrom, v.end)
        fitting = fitting_assemblies(dict(zip(v.chrom_names, furthest.tolist(), strict=True)))
        raise ValueError(
            f"{int(beyond.sum()):,} of {v.n_bins:,} bins end beyond their chromosome in the FASTA file {self.path} "
            f"(first: {v.names[first]}, where {self._name_of[int(v.chrom[first])]} has {size[first]:,} bp). "
            f"Take the FASTA file of the bins' assembly{': they fit ' + ' or '.join(fitting) if fitting else ''}."
        )
