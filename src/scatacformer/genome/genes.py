"""Where genes start: the name, chromosome, transcription start and strand of each."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .formats.gtf import read_gtf_genes, read_gtf_starts
from .intervals import find_columns, parse_region_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

_STRAND_COLUMNS = ("strand",)
_TSS_COLUMNS = ("tss",)
_STRANDS = {"+": "+", "1": "+", "+1": "+", "1.0": "+", "-": "-", "-1": "-", "-1.0": "-"}
_EXPECTED = (
    "Expected the columns chrom and tss (0-based, with strand), or chrom, chromStart, chromEnd, strand as scglue writes "
    "them, or chrom, start, end, strand, or interval ('chr1:29553-31109') as muon reads it"
)


class NoPositions(ValueError):
    """A table of genes does not say where they are."""


@dataclass(frozen=True, eq=False, repr=False)
class Genes:
    """Names of genes and where they start, in the order of the columns of cells × genes.

    Genes without a known position are kept, so that the order is that of the data; ``known`` marks those with a
    position.

    Parameters
    ----------
    names
        (n_genes,), each once.
    chrom_names
        Names of the chromosomes.
    chrom
        (n_genes,), index of each gene's chromosome in ``chrom_names``; -1 where the position is not known.
    tss
        (n_genes,), transcription start, bp, 0-based: the first base that is transcribed. Ignored where not known.
    strand
        (n_genes,), ``"+"``, ``"-"``, or ``"."`` where it is not known.

    Raises
    ------
    ValueError
        Lengths differ, a name occurs twice, a code or a position is out of range, or a strand is something else.
    """

    names: np.ndarray  # (n_genes,) object
    chrom_names: tuple[str, ...]
    chrom: np.ndarray  # (n_genes,) int32
    tss: np.ndarray  # (n_genes,) int64
    strand: np.ndarray  # (n_genes,) U1

    def __post_init__(self) -> None:
        import pandas as pd

        names = np.array([str(name) for name in self.names], dtype=object)
        chrom, tss = np.asarray(self.chrom, dtype=np.int32), np.asarray(self.tss, dtype=np.int64)
        strand = np.asarray(self.strand, dtype="U1")
        if not names.shape == chrom.shape == tss.shape == strand.shape:
            raise ValueError(
                "Genes need one name, chromosome, tss and strand each; found arrays of shape "
                f"{names.shape}, {chrom.shape}, {tss.shape} and {strand.shape}."
            )
        if (twice := pd.Index(names).duplicated()).any():
            raise ValueError(
                f"{int(twice.sum()):,} of {len(names):,} genes have a name that another has "
                f"(first: {names[int(twice.argmax())]}). Make them unique: mdata['rna'].var_names_make_unique()."
            )
        if chrom.size and (chrom.min() < -1 or chrom.max() >= len(self.chrom_names)):
            raise ValueError(
                f"chrom holds indices into {len(self.chrom_names)} chrom_names, or -1; found {chrom.max()}."
            )
        if (bad := (chrom >= 0) & ((tss < 0) | (tss > 2**31 - 1))).any():
            first = int(bad.argmax())
            raise ValueError(
                f"{int(bad.sum()):,} of {len(names):,} genes start outside 0 … 2^31 - 1 (first: {names[first]} at "
                f"{tss[first]:,}). Expected 0-based positions in bp."
            )
        if not set(np.unique(strand)) <= {"+", "-", "."}:
            raise ValueError(f"A strand is '+', '-' or '.'; found {sorted(set(np.unique(strand)))}.")
        tss = np.where(chrom >= 0, tss, -1)
        for name, array in (("names", names), ("chrom", chrom), ("tss", tss), ("strand", strand)):
            array = array.copy()
            array.flags.writeable = False  # shared by models and tables
            object.__setattr__(self, name, array)
        object.__setattr__(self, "chrom_names", tuple(str(name) for name in self.chrom_names))

    # ── made from ──────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def from_var(cls, var: pd.DataFrame) -> Genes:
        """The genes of an ``rna.var``, named by its index.

        The first of these that it has: the columns ``chrom`` and ``tss``; ``chrom``, ``chromStart``, ``chromEnd``
        (scglue) or ``start``, ``end``; ``interval`` (``"chr1:29553-31109"``, muon). All are 0-based, ends excluded;
        ``strand`` is read beside each. With a start and an end, a gene on + begins at the start and one on - at end -
        1; without a strand the middle is taken, which is never wrong by more than half of the length, and a warning
        says so. Genes whose position is missing are kept as not known.

        Raises
        ------
        NoPositions
            No such columns, or no gene with a position; a ValueError.
        ValueError
            A name twice, or a position beyond 2^31.

        Warns
        -----
        UserWarning
            Genes with a start and an end but no strand.
        """
        chrom, first, last, strand = _positions(var)
        strand_given = strand != "."
        known = ~np.isnan(first)
        middle = known & ~strand_given & (first != last)
        tss = np.where(strand == "-", last, first)
        tss = np.where(middle, np.floor((first + last) / 2), tss)
        if not known.any():
            raise NoPositions(f"None of {len(var):,} genes has a position. {_found(var)}")
        if middle.any():
            warnings.warn(
                f"{int(middle.sum()):,} of {len(var):,} genes have a start and an end but no strand: the middle is taken "
                "for the transcription start. Better: a column 'strand', or Genes.from_gtf(path, rna.var_names).",
                UserWarning,
                stacklevel=2,
            )
        return cls._from_columns(np.asarray(var.index), chrom, np.where(known, tss, -1), strand, known)

    @classmethod
    def from_gtf(cls, path: str | Path, names: Sequence[str] | None = None) -> Genes:
        """The genes of a GTF file of GENCODE, Ensembl or RefSeq, plain or ``.gz``; positions become 0-based.

        ``names`` (such as ``rna.var_names``) are looked up as gene names, then as gene ids, then as gene ids without
        their version; those that are not found stay as not known. None: all names of the file. Of a name that several
        genes have, the first in the file counts: chrX before chrY for those on both.

        Raises
        ------
        ValueError
            No line of a gene in the file, none of the names, or a name twice.
        FileNotFoundError
        """
        table = read_gtf_genes(path)
        by_name = table.drop_duplicates("name")
        if names is None:
            row = by_name.index.to_numpy()
            names = by_name["name"].tolist()
        else:
            names = [str(name) for name in names]
            row = _rows_of(names, table)
            if names and (row < 0).all():
                raise ValueError(
                    f"None of the {len(names):,} genes (first: {names[0]}) is in {path}, whose genes are called "
                    f"{table['name'].iloc[0]} or {table['id'].iloc[0]}. Is it another species, or another kind of id?"
                )
        known = row >= 0
        found = table.iloc[np.where(known, row, 0)]
        return cls._from_columns(
            np.asarray(names, dtype=object), found["chrom"], found["tss"].to_numpy(), found["strand"].to_numpy(), known
        )

    @classmethod
    def _from_columns(
        cls, names: np.ndarray, chrom: pd.Series, tss: np.ndarray, strand: np.ndarray, known: np.ndarray
    ) -> Genes:
        import pandas as pd

        codes, chrom_names = pd.factorize(chrom.astype(object).where(known, None))  # none: -1
        return cls(names, tuple(map(str, chrom_names)), codes, tss, np.where(known, strand, "."))

    # ── asked ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def n_genes(self) -> int:
        """Number of genes, with or without a position."""
        return len(self.names)

    @property
    def known(self) -> np.ndarray:
        """Whether each gene has a position, (n_genes,), bool."""
        return self.chrom >= 0

    def __len__(self) -> int:
        return self.n_genes

    def __repr__(self) -> str:
        return f"{self.n_genes:,} genes, {int(self.known.sum()):,} with a known start on {len(self.chrom_names)} chromosomes"


def gene_starts(
    path: str | Path, names: Sequence[str], *, tss: Literal["transcript", "gene"] = "transcript"
) -> pd.DataFrame:
    """All transcription starts of genes in a GTF file: a row each, with ``gene``, an index into ``names``.

    Genes are looked up as :meth:`Genes.from_gtf` does. The other columns are ``chrom``, ``strand`` and ``tss`` (bp,
    0-based). Genes that are not in the file have no row; rows are sorted by gene.

    Parameters
    ----------
    path
        GTF file of GENCODE, Ensembl or RefSeq, plain or ``.gz``.
    names
        Names or ids of genes.
    tss
        ``"transcript"``: a row for each start of a transcript; ``"gene"``: one row, the start of the gene's own line.

    Raises
    ------
    ValueError
        No line of a gene in the file, or another word for ``tss``.
    FileNotFoundError
    """
    import pandas as pd

    if tss not in ("transcript", "gene"):
        raise ValueError(f"tss is {tss!r}; expected 'transcript' or 'gene'.")
    table = read_gtf_starts(path) if tss == "transcript" else read_gtf_genes(path)
    genes = table.drop_duplicates(["id", "chrom"])  # of one id on X and on Y, the first counts
    row = _rows_of([str(name) for name in names], genes)
    chosen = genes.loc[row[row >= 0], ["id", "chrom"]].assign(gene=np.flatnonzero(row >= 0))
    starts = pd.merge(chosen, table, on=["id", "chrom"]).sort_values("gene", kind="stable")
    return starts[["gene", "chrom", "strand", "tss"]].reset_index(drop=True)


def _rows_of(names: list[str], table: pd.DataFrame) -> np.ndarray:
    """Label of the first row of each name among the names, the ids, the ids without version; -1 where there is none."""
    import pandas as pd

    row = np.full(len(names), -1)
    trimmed = table.assign(id=table["id"].str.replace(r"\.\d+$", "", regex=True))
    for some, column in ((table, "name"), (table, "id"), (trimmed, "id")):
        some = some.drop_duplicates(column)
        at = pd.Index(some[column]).get_indexer(pd.Index(names))
        row = np.where((row < 0) & (at >= 0), some.index.to_numpy()[at], row)
    return row


def _positions(var: pd.DataFrame) -> tuple[pd.Series, np.ndarray, np.ndarray, np.ndarray]:
    """(chromosome, first base, last base, strand) of each gene; the bases are NaN where the position is not known."""
    import pandas as pd

    (strand_column,) = find_columns(var, _STRAND_COLUMNS)
    text = pd.Series("", var.index) if strand_column is None else var[strand_column].astype(object)
    strand = text.map(lambda value: _STRANDS.get(str(value).strip(), ".")).to_numpy(dtype="U1")
    chrom_column, start_column, end_column = find_columns(var)
    (tss_column,) = find_columns(var, _TSS_COLUMNS)
    if chrom_column is not None and tss_column is not None:
        chrom, first = var[chrom_column], _numbers(var[tss_column])
        last = first
    elif chrom_column is not None and start_column is not None and end_column is not None:
        chrom, first, last = var[chrom_column], _numbers(var[start_column]), _numbers(var[end_column]) - 1
    elif "interval" in var:
        chrom, first, last = _of_intervals(var["interval"])
    else:
        raise NoPositions(f"rna.var does not contain the positions of the genes. {_found(var)}")
    nowhere = chrom.isna() | chrom.astype(str).str.strip().isin(["", "NA", "nan", "None", "."])
    bad = nowhere.to_numpy(dtype=bool) | ~(first >= 0) | ~(last >= first)  # also where either is NaN
    return chrom, np.where(bad, np.nan, first), np.where(bad, np.nan, last), strand


def _of_intervals(interval: pd.Series) -> tuple[pd.Series, np.ndarray, np.ndarray]:
    """(chromosome, first base, last base) of texts such as ``chr1:29553-31109``; what cannot be read is not known."""
    import pandas as pd

    readable = interval.astype(str).str.fullmatch(r"[^\s:]+:\d{1,10}-\d{1,10}").to_numpy(dtype=bool)
    chrom = pd.Series([None] * len(interval), interval.index, dtype=object)
    first, last = np.full((2, len(interval)), np.nan)
    if readable.any():
        names, first[readable], end = parse_region_names(interval[readable])
        chrom[readable] = names
        last[readable] = end - 1
    return chrom, first, last


def _numbers(column: pd.Series) -> np.ndarray:
    import pandas as pd

    return pd.to_numeric(column.astype(object), errors="coerce").to_numpy(dtype=np.float64)


def _found(var: pd.DataFrame) -> str:
    columns = [str(column) for column in var.columns]
    return (
        f"{_EXPECTED}; found the columns {columns[:12]}{', …' if len(columns) > 12 else ''}. "
        "Or read positions from an annotation: scatacformer.genome.Genes.from_gtf(path, rna.var_names)."
    )
