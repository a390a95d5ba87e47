"""The bin vocabulary: the genomic interval of each token id."""

from __future__ import annotations

import hashlib
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .check_assembly import check_assembly
from .chrom_sizes import DEFAULT_EXCLUDED, assembly_name, chrom_sizes
from .formats.bed_problem import bed_problem
from .intervals import as_positions, intervals_of_var, read_bed, read_content, write_bed
from .var_problem import DuplicateRegions, var_problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Vocabulary:
    """Intervals of the genome, in the order of the columns of cells × bins, and the special tokens after them.

    Token ids: bin = its column (0 … n_bins - 1), ``<cls>`` = n_bins, ``<pad>`` = n_bins + 1, ``<eos>`` of chromosome
    code c = n_bins + 2 + c. The bins keep the order they are given in; it need not be that of the genome.

    Parameters
    ----------
    chrom_names
        Names of the chromosomes.
    chrom
        (n_bins,), index of each bin's chromosome in ``chrom_names``. Codes are renumbered by first appearance and names
        without a bin are dropped, so that a vocabulary and the one read back from its BED file are the same.
    start, end
        (n_bins,), bp, 0-based, half-open.
    assembly
        Name of the assembly, such as ``"hg38"`` (``"GRCh38"`` becomes ``"hg38"``), or None.

    Raises
    ------
    ValueError
        Lengths differ, no bin at all, positions that are not integers in 0 … 2^31 - 1, start >= end, duplicates.

    Warns
    -----
    UserWarning
        Bins overlap one another.
    """

    chrom_names: tuple[str, ...]
    chrom: np.ndarray  # (n_bins,) int16
    start: np.ndarray  # (n_bins,) int32
    end: np.ndarray  # (n_bins,) int32
    assembly: str | None = None

    def __post_init__(self) -> None:
        names, codes = _first_appearance(self.chrom_names, np.asarray(self.chrom))
        start, end = as_positions(self.start, "start"), as_positions(self.end, "end")
        if not codes.shape == start.shape == end.shape or codes.ndim != 1 or not codes.size:
            raise ValueError(
                "A vocabulary needs one chromosome, start and end for each of at least one bin; found arrays of shape "
                f"{codes.shape}, {start.shape} and {end.shape}."
            )
        if not all(name.strip() for name in names):
            raise ValueError("A chromosome of the regions has no name.")
        if as_number := next((name for name in names if re.fullmatch(r"\d+\.0", name)), None):
            raise ValueError(
                f"A chromosome is named {as_number!r}: a number that was read as a fraction. Expected names such as "
                f"{as_number.removesuffix('.0')!r}: read the column as text (dtype=str), or convert it: "
                "adata.var['chrom'] = adata.var['chrom'].astype(str).str.removesuffix('.0')."
            )
        if (start >= end).any():
            first = int(np.argmax(start >= end))
            raise ValueError(
                f"{int((start >= end).sum()):,} of {start.size:,} regions end at or before their start "
                f"(first: {names[codes[first]]}:{start[first]}-{end[first]}). Expected 0-based half-open intervals; "
                "for 1-based closed ones subtract 1 from the start."
            )
        for name, array in (("chrom", codes.astype(np.int16)), ("start", start), ("end", end)):
            array = np.ascontiguousarray(array, dtype=np.int16 if name == "chrom" else np.int32)
            array.flags.writeable = False  # shared by data sets, models and workers
            object.__setattr__(self, name, array)
        object.__setattr__(self, "chrom_names", names)
        object.__setattr__(self, "assembly", assembly_name(self.assembly) or self.assembly)
        self._refuse_duplicates()

    # ── made from ──────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def from_chrom_sizes(
        cls,
        genome: str | Path | Mapping[str, int],
        bin_size: int = 5000,
        *,
        exclude: Collection[str] = DEFAULT_EXCLUDED,
    ) -> Vocabulary:
        """Bins of ``bin_size`` bp side by side over the standard chromosomes; the last of each may be shorter.

        ``genome`` is read by :func:`chrom_sizes`; ``exclude`` names chromosomes without bins (mitochondria,
        plastids and chrY by default). Raises ValueError for an unknown genome or a bin size below 1.
        """
        if bin_size != int(bin_size) or bin_size < 1:
            raise ValueError(f"bin_size is {bin_size!r}; expected a positive number of bp.")
        sizes = chrom_sizes(genome, exclude=exclude, standard_only=True)
        lengths = np.fromiter(sizes.values(), dtype=np.int64)
        n_bins = -(-lengths // int(bin_size))  # (n_chroms,), rounded up
        chrom = np.repeat(np.arange(len(sizes)), n_bins)
        start = (np.arange(n_bins.sum()) - np.repeat(np.cumsum(n_bins) - n_bins, n_bins)) * int(bin_size)
        end = np.minimum(start + int(bin_size), lengths[chrom])
        return cls(tuple(sizes), chrom, start, end, assembly_name(genome))

    @classmethod
    def from_bed(cls, path: str | Path, assembly: str | None = None) -> Vocabulary:
        """The intervals of a BED file (``.gz`` too), in the order of its lines.

        The assembly is taken from a first line ``#assembly=hg38``, as :meth:`to_bed` writes it, where not given.
        """
        names, start, end, written = read_bed(path)
        try:
            return cls._from_names(names, start, end, assembly or written)
        except ValueError as error:
            raise ValueError(f"{path}: {bed_problem(read_content(path)) or str(error).rstrip('.')}.") from None

    @classmethod
    def from_var(cls, var: pd.DataFrame, assembly: str | None = None) -> Vocabulary:
        """The regions of an ``adata.var``, in its order.

        From the columns ``chrom``, ``start``, ``end`` (or chromosome/chr/seqnames, chromStart/chr_start, …), else from
        names such as ``chr1:0-5000``, ``chr1-0-5000`` or ``chr1_0_5000``. Positions are 0-based and half-open.
        """
        try:
            names, start, end = intervals_of_var(var)
            return cls._from_names(names, start, end, assembly)
        except ValueError as error:
            raise ValueError(var_problem(var, error)) from None

    @classmethod
    def _from_names(cls, names: np.ndarray, start: np.ndarray, end: np.ndarray, assembly: str | None) -> Vocabulary:
        import pandas as pd

        codes, chrom_names = pd.factorize(names)  # by first appearance
        return cls(tuple(map(str, chrom_names)), codes, start, end, assembly)

    # ── sizes and ids ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        return len(self.start)

    @property
    def n_chroms(self) -> int:
        """Number of chromosomes that have a bin, and of ``<eos>`` tokens."""
        return len(self.chrom_names)

    @property
    def n_tokens(self) -> int:
        """Number of token ids: bins, ``<cls>``, ``<pad>`` and one ``<eos>`` per chromosome."""
        return self.n_bins + 2 + self.n_chroms

    @property
    def cls_id(self) -> int:
        """Token id of ``<cls>``."""
        return self.n_bins

    @property
    def pad_id(self) -> int:
        """Token id of ``<pad>``."""
        return self.n_bins + 1

    @property
    def eos_ids(self) -> np.ndarray:
        """Token ids of ``<eos>``, (n_chroms,), int64, in the order of ``chrom_names``."""
        return np.arange(self.n_bins + 2, self.n_tokens, dtype=np.int64)

    @cached_property
    def bin_size(self) -> int | None:
        """Width in bp if all bins share it, but for a shorter last one of each chromosome; else None."""
        width = self.end - self.start
        size = int(width.max())
        narrow = width != size
        last_end = np.zeros(self.n_chroms, dtype=np.int32)
        np.maximum.at(last_end, self.chrom, self.end)
        return size if (self.end[narrow] == last_end[self.chrom[narrow]]).all() else None

    @cached_property
    def names(self) -> np.ndarray:
        """Names of the bins, ``chr1:0-5000``, (n_bins,), object."""
        prefixes = [f"{name}:" for name in self.chrom_names]
        rows = zip(self.chrom.tolist(), self.start.tolist(), self.end.tolist(), strict=True)
        names = np.array([f"{prefixes[chrom]}{start}-{end}" for chrom, start, end in rows], dtype=object)
        names.flags.writeable = False
        return names

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the intervals and their order, as 64 hexadecimal digits; the same on every platform."""
        digest = hashlib.sha256("\t".join(self.chrom_names).encode() + b"\n")
        for array, dtype in ((self.chrom, "<i2"), (self.start, "<i4"), (self.end, "<i4")):
            digest.update(array.astype(dtype, copy=False).tobytes())
        return digest.hexdigest()

    # ── bins of a chromosome, and in the order of the genome ───────────────────────────────────────────────────────

    @cached_property
    def chrom_order(self) -> np.ndarray:
        """All bins, chromosome after chromosome, in column order within each, (n_bins,), int64.

        Those of chromosome code c are ``chrom_order[chrom_offsets[c] : chrom_offsets[c + 1]]``.
        """
        return np.argsort(self.chrom, kind="stable")

    @cached_property
    def chrom_offsets(self) -> np.ndarray:
        """Where each chromosome begins in ``chrom_order``, (n_chroms + 1,), int64."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.chrom, minlength=self.n_chroms))])

    def bins_of_chrom(self, chrom: int | str) -> np.ndarray:
        """Token ids of the bins of one chromosome (its code or its name), ascending, int64."""
        if isinstance(chrom, str):
            if chrom not in self.chrom_names:
                raise ValueError(f"No bin is on {chrom!r}. The chromosomes are {', '.join(self.chrom_names[:30])}.")
            chrom = self.chrom_names.index(chrom)
        return self.chrom_order[self.chrom_offsets[chrom] : self.chrom_offsets[chrom + 1]]

    @cached_property
    def genome_order(self) -> np.ndarray:
        """All bins by chromosome code, start and end, (n_bins,), int64."""
        return np.lexsort((self.end, (self.chrom.astype(np.int64) << 32) | self.start))

    # ── compared with others ───────────────────────────────────────────────────────────────────────────────────────

    def lookup(self, other: Vocabulary) -> np.ndarray:
        """Token id in this vocabulary of each bin of ``other`` with the very same interval; -1 where there is none.

        (other.n_bins,), int64. For regions that only overlap see :func:`overlap_matrix`.
        """
        if self == other:
            return np.arange(self.n_bins, dtype=np.int64)
        # Sorted search in two steps, since chromosome, start and end do not fit into one int64.
        order = self.genome_order
        place = ((self.chrom.astype(np.int64) << 32) | self.start)[order]
        is_new = np.concatenate([[True], place[1:] != place[:-1]])
        places = place[is_new]
        key = (np.cumsum(is_new) - 1) << 32 | self.end[order]
        other_place = (self.codes_of(other)[other.chrom] << 32) | other.start  # negative: chromosome unknown here
        rank = np.minimum(np.searchsorted(places, other_place), len(places) - 1)
        other_key = np.where(places[rank] == other_place, rank << 32 | other.end, -1)
        at = np.minimum(np.searchsorted(key, other_key), len(key) - 1)
        return np.where(key[at] == other_key, order[at], -1)

    def codes_of(self, other: Vocabulary) -> np.ndarray:
        """Chromosome code in this vocabulary of each of ``other``'s chromosomes, (other.n_chroms,), int64; else -1."""
        code = {name: number for number, name in enumerate(self.chrom_names)}
        return np.array([code.get(name, -1) for name in other.chrom_names], dtype=np.int64)

    def validate_assembly(self, genome: str | Path | Mapping[str, int] | None = None) -> None:
        """Check that the bins are within the chromosomes of ``genome`` (default: the vocabulary's assembly).

        Raises ValueError where a chromosome is unknown or more than a few bins end beyond theirs; the message names an
        assembly that does fit, if one of those known does. Warns of a few bins beyond an end.
        """
        if genome is None and (genome := assembly_name(self.assembly)) is None:
            raise ValueError(f"Unknown assembly {self.assembly!r}: pass a known name, a file or a dict of sizes.")
        check_assembly(self.chrom_names, self.chrom, self.start, self.end, self.bin_size, genome)

    # ── written to ─────────────────────────────────────────────────────────────────────────────────────────────────

    def to_frame(self) -> pd.DataFrame:
        """Table with the columns ``chrom`` (categorical), ``start``, ``end`` (bp), indexed by name: an
        ``adata.var``."""
        import pandas as pd

        chrom = pd.Categorical.from_codes(self.chrom, categories=list(self.chrom_names))
        columns = {"chrom": chrom, "start": self.start.astype(np.int64), "end": self.end.astype(np.int64)}
        return pd.DataFrame(columns, index=pd.Index(self.names, dtype=object))

    def to_bed(self, path: str | Path, packed: bool | None = None) -> None:
        """Write chromosome, start, end, one line per bin in token order.

        The same vocabulary gives the same bytes, and an interrupted call leaves no half-written file behind.

        Parameters
        ----------
        path
            The file.
        packed
            Whether as gzip; default: if the name ends in ``.gz``.
        """
        write_bed(path, self.chrom_names, self.chrom, self.start, self.end, self.assembly, packed)

    # ── as an object ───────────────────────────────────────────────────────────────────────────────────────────────

    def __len__(self) -> int:
        return self.n_bins

    def __eq__(self, other: object) -> bool:
        """Same intervals in the same order; the name of the assembly does not matter."""
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return self is other or (
            self.chrom_names == other.chrom_names
            and np.array_equal(self.chrom, other.chrom)
            and np.array_equal(self.start, other.start)
            and np.array_equal(self.end, other.end)
        )

    def __hash__(self) -> int:
        return hash(self.checksum)

    def __repr__(self) -> str:
        width = f"{self.bin_size:,} bp" if self.bin_size else f"{int(np.median(self.end - self.start)):,} bp (median)"
        chroms = f"{self.n_chroms} chromosome{'s' if self.n_chroms > 1 else ''}"
        return f"Vocabulary of {self.n_bins:,} bins of {width} on {chroms}, assembly {self.assembly or 'not named'}"

    def __getstate__(self) -> dict[str, Any]:
        # without the cached names: 600,000 strings would travel to every worker
        return {field: getattr(self, field) for field in ("chrom_names", "chrom", "start", "end", "assembly")}

    def _refuse_duplicates(self) -> None:
        order = self.genome_order
        place = ((self.chrom.astype(np.int64) << 32) | self.start)[order]
        end = self.end[order]
        same = (place[1:] == place[:-1]) & (end[1:] == end[:-1])
        if same.any():
            raise DuplicateRegions(
                f"{int(same.sum()):,} of {self.n_bins:,} regions are duplicates of another "
                f"(first: {self._name(order[1:][same].min())}). Keep one of each."
            )
        # The end furthest right so far on the chromosome, so that a region within an earlier wide one is seen too.
        furthest = np.maximum.accumulate((self.chrom[order].astype(np.int64) << 32) | end)
        overlaps = place[1:] < furthest[:-1]
        if overlaps.any():
            warnings.warn(
                f"{int(overlaps.sum()):,} of {self.n_bins:,} regions overlap another "
                f"(first: {self._name(order[1:][overlaps][0])}). They stay as they are; what is open on the "
                "overlap counts in both.",
                UserWarning,
                stacklevel=4,
            )

    def _name(self, token: int) -> str:
        return f"{self.chrom_names[self.chrom[token]]}:{self.start[token]}-{self.end[token]}"


@contextmanager
def overlaps_allowed() -> Iterator[None]:
    """Vocabularies made in this block do not warn of regions that overlap one another."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* regions overlap another", category=UserWarning)
        yield


def _first_appearance(chrom_names: tuple[str, ...], codes: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and codes renumbered so that code 0 is the chromosome of the first bin, and no name is without bins."""
    if len(set(chrom_names)) != len(chrom_names):
        raise ValueError("chrom_names holds a name twice.")
    if codes.size and (codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() >= len(chrom_names)):
        raise ValueError(
            f"chrom must hold indices into the {len(chrom_names)} chrom_names; found {codes.dtype} values from "
            f"{codes.min()} to {codes.max()}."
        )
    if len(chrom_names) > np.iinfo(np.int16).max:
        raise ValueError(
            f"{len(chrom_names):,} chromosomes; at most {np.iinfo(np.int16).max:,} are supported. Leave scaffolds out."
        )
    first = np.full(len(chrom_names), codes.size, dtype=np.int64)
    np.minimum.at(first, codes.ravel(), np.arange(codes.size))
    order = np.argsort(first, kind="stable")
    order = order[first[order] < codes.size]
    new_code = np.full(len(chrom_names), -1, dtype=np.int64)
    new_code[order] = np.arange(len(order))
    return tuple(str(chrom_names[old]) for old in order), new_code[codes] if codes.size else codes
