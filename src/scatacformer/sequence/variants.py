"""Variants of a VCF file or a table, and the DNA of both of their alleles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from scatacformer._io import whole_file
from scatacformer.genome import fitting_assemblies, naming_hint

from .fasta import Fasta, codes_of

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = {
    "chrom": ("chrom", "#chrom", "chr", "chromosome"),
    "pos": ("pos", "position"),
    "ref": ("ref", "reference", "ref_allele"),
    "alt": ("alt", "alternative", "alt_allele"),
}


class Variant(NamedTuple):
    """One alternative allele."""

    chrom: str
    start: int  # bp, 0-based, of the first base of ref
    ref: str
    alt: str
    id: str

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start + 1} {self.ref}>{self.alt}"


@dataclass
class VariantReader:
    """Iterates over the variants of a VCF, BCF or gzipped VCF file, or of a table, checked against a genome.

    A record with several alternative alleles gives one variant for each. Alleles that are not written in letters
    (``<DEL>``, ``*``, breakends) are skipped and counted.

    Parameters
    ----------
    source
        Path, or a table with columns ``chrom``, ``pos`` (1-based, as in VCF), ``ref``, ``alt`` and, if there is one,
        ``id``.
    fasta
        The genome whose bases the reference alleles must have.
    mismatch
        How to treat a reference allele that differs from the genome: ``"raise"`` or ``"skip"`` and count.

    Attributes
    ----------
    skipped
        How many alleles were skipped in the last pass, by reason.
    """

    source: Any
    fasta: Fasta
    mismatch: Literal["raise", "skip"] = "raise"
    skipped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mismatch not in ("raise", "skip"):
            raise ValueError(f"mismatch is {self.mismatch!r}; expected 'raise' or 'skip'.")
        if isinstance(self.source, str | Path) and not Path(self.source).is_file():
            raise FileNotFoundError(f"the file of variants {self.source} does not exist. Check the path.")
        if hasattr(self.source, "columns"):
            _columns_of(self.source)
        self.check_first()

    def check_first(self, n: int = 1000) -> None:
        """Look at the first variants before work starts: an assembly that is not that of the genome shows at once.

        Raises ValueError where none of their chromosomes is in the FASTA file, or more than a tenth of their reference
        alleles differ from it; and for the first that differs unless such are skipped.
        """
        n_read, wrong, names = 0, [], set()
        for variant in _records(self.source, {}):
            n_read += 1
            names.add(variant.chrom)
            if variant.chrom in self.fasta.sizes and (found := self._found(variant)) != variant.ref:
                wrong.append((variant, found))
            if n_read == n:
                break
        if not n_read:
            raise ValueError(f"{_name(self.source)} holds no variant.")
        if not names & set(self.fasta.sizes):
            raise ValueError(
                f"no chromosome of {_name(self.source)} is in the FASTA file {self.fasta.path}. It has: "
                f"{', '.join(sorted(names)[:5])}; the FASTA file has: {', '.join(list(self.fasta.sizes)[:5])}. "
                f"{naming_hint(sorted(names), self.fasta.sizes)}"
            )
        if len(wrong) > max(1, n_read // 10):
            fitting = fitting_assemblies(self.fasta.sizes)
            variant, found = wrong[0]
            raise ValueError(
                f"{len(wrong):,} of the first {n_read:,} variants have a reference allele that the FASTA file does not "
                f"have (first: {variant}, where it has {found}). The variants are of another assembly"
                f"{' than ' + ' or '.join(fitting) if fitting else ''}: lift them, or use their FASTA file."
            )
        if wrong and self.mismatch == "raise":
            self._refuse(*wrong[0])

    def __iter__(self) -> Iterator[Variant]:
        self.skipped.clear()
        for variant in _records(self.source, self.skipped):
            if variant.chrom not in self.fasta.sizes:
                self._skip("chromosome not in the FASTA file")
            elif (found := self._found(variant)) == variant.ref:
                yield variant
            elif self.mismatch == "raise":
                self._refuse(variant, found)
            else:
                self._skip("reference allele differs from the FASTA file")

    def _skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def _found(self, variant: Variant) -> str:
        return self.fasta.sequence(variant.chrom, variant.start, variant.start + len(variant.ref), pad=True)

    def _refuse(self, variant: Variant, found: str) -> None:
        raise ValueError(
            f"the reference allele of {variant} is {variant.ref}, and the FASTA file {self.fasta.path} has {found} there. "
            "Use the FASTA file of the assembly of the variants, or mismatch='skip' to leave such variants out."
        )


def allele_codes(fasta: Fasta, variant: Variant, length: int, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """DNA around the reference and the alternative allele, each allele in the middle of its window.

    The flanks of the shorter allele reach further into the genome on both sides, so that both windows have ``length``
    bp. Positions beyond the ends of the chromosome are N.

    Parameters
    ----------
    fasta
        The genome.
    variant
        An allele of at most ``length`` bp.
    length
        Length of a window in bp.
    shift
        Offset of the window to the right, in bp.

    Returns
    -------
    ``(length,)`` uint8 codes of the reference and of the alternative.
    """
    if max(len(variant.ref), len(variant.alt)) > length:
        raise ValueError(f"an allele of {variant} is longer than the window of {length:,} bp.")
    out = []
    for allele in (variant.ref, variant.alt):
        first, last = flanks(variant, len(allele), length, shift)
        middle = variant.start + len(variant.ref)
        sequence = np.concatenate(
            [
                fasta.codes(variant.chrom, first, max(first, variant.start), pad=True),
                codes_of(allele),
                fasta.codes(variant.chrom, middle, max(middle, last), pad=True),
            ]
        )
        out.append(sequence[:length])
    return out[0], out[1]


def flanks(variant: Variant, n: int, length: int, shift: int = 0) -> tuple[int, int]:
    """Where the window of an allele of ``n`` bp begins and ends in the genome, 0-based and half open."""
    left = (length - n) // 2 - shift
    first = variant.start - left
    last = variant.start + len(variant.ref) + (length - n - left)
    return first, last


def write_vcf(path: str | Path, scores: pd.DataFrame, sizes: Mapping[str, int]) -> None:
    """Write scores of variants as a VCF file, a record for each allele; whole or not at all.

    Parameters
    ----------
    path
        ``.vcf``, ``.vcf.gz`` (bgzip) or ``.bcf``.
    scores
        Table with columns ``chrom``, ``pos``, ``id``, ``ref``, ``alt``, ``track`` and figures: each figure becomes an
        INFO field with a value for each track, in the order of the header line ``##tracks``.
    sizes
        Length in bp of each chromosome, for the header.
    """
    import pysam

    figures = [name for name in scores.columns if name not in ("chrom", "pos", "id", "ref", "alt", "track")]
    tracks = list(dict.fromkeys(scores["track"].astype(str)))
    header = pysam.VariantHeader()
    header.add_line(f"##tracks={','.join(tracks)}")
    for name, size in sizes.items():
        header.contigs.add(name, length=size)
    for name in figures:
        header.add_line(
            f'##INFO=<ID={name},Number={len(tracks)},Type=Float,Description="{name.replace("_", " ")} of each track">'
        )
    keys = ["chrom", "pos", "id", "ref", "alt"]
    order = {name: number for number, name in enumerate(sizes)}
    rows = sorted(scores.groupby(keys, sort=False), key=lambda row: (order[str(row[0][0])], row[0][1]))
    suffix = "".join(Path(path).suffixes[-2:]) if str(path).endswith(".gz") else Path(path).suffix
    with whole_file(Path(path)) as partial:
        target = partial.with_name(partial.name + suffix)  # the format goes by the suffix
        try:
            with pysam.VariantFile(str(target), "w", header=header) as file:
                for (chrom, pos, name, ref, alt), table in rows:
                    values = table.set_index(table["track"].astype(str)).reindex(tracks)
                    record = file.new_record(
                        contig=str(chrom), start=int(pos) - 1, alleles=(ref, alt), id=None if name == "." else str(name)
                    )
                    for figure in figures:
                        record.info[figure] = tuple(float(value) for value in values[figure])
                    file.write(record)
            target.replace(partial)
        finally:
            target.unlink(missing_ok=True)


def _records(source: Any, skipped: dict[str, int]) -> Iterator[Variant]:
    """The variants of a file or a table as they are written, one for each alternative allele in letters."""
    rows = _rows_of_table(source) if hasattr(source, "columns") else _rows_of_file(Path(source))
    for chrom, start, ref, alts, name in rows:
        for alt in alts:
            ref, alt = ref.upper(), alt.upper()
            if not ref or not alt or set(ref + alt) - set("ACGTN"):
                skipped["allele not in letters"] = skipped.get("allele not in letters", 0) + 1
                continue
            yield Variant(chrom, start, ref, alt, name)


def _rows_of_table(table: pd.DataFrame) -> Iterator[tuple[str, int, str, tuple[str, ...], str]]:
    found = _columns_of(table)
    names = table["id"] if "id" in table.columns else ["."] * len(table)
    columns = (table[found[key]] for key in ("chrom", "pos", "ref", "alt"))
    for chrom, pos, ref, alt, name in zip(*columns, names, strict=True):
        yield str(chrom), int(pos) - 1, str(ref), tuple(str(alt).split(",")), str(name)


def _columns_of(table: pd.DataFrame) -> dict[str, str]:
    lower = {str(column).lower(): column for column in reversed(table.columns)}
    found = {key: next((lower[n] for n in names if n in lower), None) for key, names in _COLUMNS.items()}
    if missing := [key for key, column in found.items() if column is None]:
        raise ValueError(
            f"a table of variants needs columns chrom, pos (1-based), ref and alt; {', '.join(missing)} not found among "
            f"{', '.join(map(str, table.columns))}."
        )
    return {key: str(column) for key, column in found.items()}


def _rows_of_file(path: Path) -> Iterator[tuple[str, int, str, tuple[str, ...], str]]:
    import pysam

    verbosity = pysam.set_verbosity(0)  # a missing index is not an error here
    try:
        with pysam.VariantFile(str(path)) as file:
            for record in file:
                yield record.chrom, record.start, record.ref or "", tuple(record.alts or ()), record.id or "."
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as a VCF file: {error}. It must begin with ##fileformat=VCF."
        ) from None
    finally:
        pysam.set_verbosity(verbosity)


def _name(source: Any) -> str:
    return "the table" if hasattr(source, "columns") else str(source)
