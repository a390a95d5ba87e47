"""The lines of a GTF file, and those of its genes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from scatacformer._io import open_unpacked, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

# what GENCODE, Ensembl and RefSeq call the name of a gene, in this order
_NAME = re.compile(rb'(?:^|;)\s*(gene_name|gene)[ =]"?([^";]+)')
_ID = re.compile(rb'(?:^|;)\s*gene_id[ =]"?([^";]+)')
WHAT = "a GTF file of GENCODE, Ensembl or RefSeq"
LAST_BASE = 2**31 - 1  # that a chromosome may have
_LONGEST_LINE = 1 << 26  # bytes; GENCODE's have less than a thousand


def read_gtf_genes(path: str | Path) -> pd.DataFrame:
    """Columns ``name``, ``id``, ``chrom``, ``strand``, ``tss`` (0-based) of the lines of type gene, in the order of the
    file.

    A gene without a name is called by its id. Reads block by block: memory grows with the genes, not with the file.
    Raises ValueError for a file that has no such line, and FileNotFoundError.
    """
    import pandas as pd

    rows: list[tuple[str, str, str, str, int]] = []
    with reading(path, WHAT):
        for line in gtf_lines(path):
            if b"\tgene\t" in line and not line.startswith(b"#"):  # most lines are exons: seen without splitting
                row = _parse(line)
                if row is not None:
                    rows.append(row)
    if not rows:
        raise ValueError(no_genes(path))
    return pd.DataFrame(rows, columns=["name", "id", "chrom", "strand", "tss"])


def read_gene_table(path: str | Path) -> pd.DataFrame:
    """Genes of a GTF file with both ends, for plots and for the genes near regions.

    Parameters
    ----------
    path
        GTF file of GENCODE, Ensembl or RefSeq, plain or ``.gz``.

    Returns
    -------
    pandas.DataFrame
        A row for each gene, in the order of the file: ``name``, ``chrom``, ``start``, ``end`` (bp, 0-based, half-open),
        ``strand`` (``"+"``, ``"-"`` or ``"."``) and ``tss`` (bp, 0-based).

    Raises
    ------
    ValueError
        The file has no line of a gene, or a line with positions that are not 1 <= start <= end.
    FileNotFoundError
        There is no such file.
    """
    import pandas as pd

    rows = []
    with reading(path, WHAT):
        for line in gtf_lines(path):
            if b"\tgene\t" not in line or line.startswith(b"#") or (row := _parse(line)) is None:
                continue
            name, _, chrom, strand, tss = row
            first, last = (int(text) if text.isdigit() else 0 for text in line.split(b"\t", 5)[3:5])
            if not 1 <= first <= last <= LAST_BASE:
                raise ValueError(
                    f"found the positions {first} to {last} in {_shown(line)}; expected 1 <= start <= end."
                )
            rows.append((name, chrom, first - 1, last, strand, tss))
    if not rows:
        raise ValueError(no_genes(path))
    return pd.DataFrame(rows, columns=["name", "chrom", "start", "end", "strand", "tss"])


def read_gtf_starts(path: str | Path) -> pd.DataFrame:
    """Where transcription starts: as :func:`read_gtf_genes`, with a row for each start of a transcript of a gene.

    Identical rows of a gene are listed once. A gene without a line of type transcript has the start of its own line.
    Raises ValueError for a file without a line of a gene, and FileNotFoundError.
    """
    import pandas as pd

    rows: dict[bytes, list[tuple[str, str, str, str, int]]] = {b"gene": [], b"transcript": []}
    with reading(path, WHAT):
        for line in gtf_lines(path):
            for kind, found in rows.items():
                here = b"\t" + kind + b"\t" in line and not line.startswith(b"#")
                if here and (row := _parse(line, kind)) is not None:
                    found.append(row)
    if not rows[b"gene"]:
        raise ValueError(no_genes(path))
    columns = ["name", "id", "chrom", "strand", "tss"]
    starts = pd.DataFrame(rows[b"transcript"], columns=columns).drop_duplicates()
    genes = pd.DataFrame(rows[b"gene"], columns=columns)
    has_transcripts = pd.MultiIndex.from_frame(genes[["id", "chrom"]]).isin(
        pd.MultiIndex.from_frame(starts[["id", "chrom"]])
    )
    alone = genes[~has_transcripts]
    # in the order of the genes in the file
    order = pd.Index(genes["id"].drop_duplicates())
    both = pd.concat([alone, starts])
    return both.iloc[order.get_indexer(pd.Index(both["id"])).argsort(kind="stable")].reset_index(drop=True)


def no_genes(path: str | Path) -> str:
    """The message for a file without genes."""
    return (
        f"{path} has no line of type 'gene' (third column) with a gene_id. Expected a GTF file of GENCODE, Ensembl "
        "or RefSeq; UCSC's tables hold transcripts alone."
    )


def gtf_lines(path: str | Path, block_size: int = 1 << 24) -> Iterator[bytes]:
    """The lines of a text file, plain or gzip, without their line breaks; a bar after a second of reading.

    Raises ValueError for a truncated or damaged gzip file, and FileNotFoundError.
    """
    from scatacformer._io import tqdm

    path = Path(path)
    rest = b""
    with (
        path.open("rb") as raw,
        open_unpacked(path, raw) as text,
        tqdm(
            total=path.stat().st_size, unit="B", unit_scale=True, desc=f"reading {path.name}", delay=1, disable=None
        ) as bar,
    ):
        while block := text.read(block_size):
            bar.update(raw.tell() - bar.n)
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
            if len(rest) > _LONGEST_LINE:
                raise ValueError(f"{path} has a line of more than {_LONGEST_LINE:,} bytes: it is not {WHAT}.")
    if rest:
        yield rest


def _parse(line: bytes, kind: bytes = b"gene") -> tuple[str, str, str, str, int] | None:
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) < 9 or fields[2] != kind:
        return None
    gene_id = _ID.search(fields[8])
    named = dict(reversed(_NAME.findall(fields[8])))  # the first of each counts
    name = named.get(b"gene_name") or named.get(b"gene") or (gene_id[1] if gene_id else None)
    if name is None:
        return None
    strand = fields[6].decode() if fields[6] in (b"+", b"-") else "."
    # 1-based closed: the last base of a gene on - is where it starts
    at = fields[4] if strand == "-" else fields[3]
    if not at.isdigit() or len(at) > 10 or not 1 <= int(at) <= LAST_BASE:
        raise ValueError(f"found the position {_shown(at)} in {_shown(line)}; expected 1 ... {LAST_BASE:,}.")
    try:
        return name.decode(), (gene_id[1] if gene_id else name).decode(), fields[0].decode(), strand, int(at) - 1
    except UnicodeDecodeError:
        raise ValueError(f"found {_shown(line)}; expected names in UTF-8.") from None


def _shown(text: bytes) -> str:
    return repr(text[:80].decode(errors="backslashreplace"))
