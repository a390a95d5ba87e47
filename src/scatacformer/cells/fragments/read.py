"""Fragments files, block by block: chromosome, start, end and barcode of each line."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scatacformer._io import tqdm
from scatacformer.genome import read_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK = 1 << 24  # bytes of text parsed at once: 16 MB, some 400,000 fragments
# columns of Cell Ranger's tables that mark cells, and their values for cells
CALLS_CELLS, IS_CELL = re.compile(r"is_(_|\w+_)?cell(_barcode)?"), ("1", "1.0", "true", "yes")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WANTED = "chromosome, start, end, barcode, count, separated by tabs"


class FragmentBlock(NamedTuple):
    """Consecutive fragments of a file, each array (n_fragments,); without those that start before 0."""

    chrom: np.ndarray  # int32, index in chrom_names
    chrom_names: list[str]  # by first appearance
    start: np.ndarray  # int64, bp, not negative
    end: np.ndarray  # int64, bp; may be at or before the start
    barcode: np.ndarray  # int32, index in barcode_names
    barcode_names: list[str]
    n_columns: int  # of the file's first line
    has_counts: bool  # the fifth column, if there is one, holds whole numbers or "."
    is_plain: bool  # as written by Cell Ranger, readable by any other program
    n_negative: int  # fragments that start before 0 and are left out
    first_negative: str | None  # what is wrong with the line of the first of them


def iter_fragments(path: Path, what: str) -> Iterator[FragmentBlock]:
    """Read a fragments file once, 16 MB at a time.  0.4 s per million, gzip.

    Skipped are lines that begin with ``#``, a byte-order mark, and empty lines at the end.

    Parameters
    ----------
    path
        The file, plain, gzip or bgzip.
    what
        Text of the progress bar.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not gzip though named ``.gz``; truncated or damaged gzip; a line that is not a fragment; a BEDPE file; no
        fragment at all.
    """
    n_columns, empty_line = 0, 0
    for first_line, block in _blocks(path, what):
        text = block.rstrip(b"\r\n")
        if text and empty_line:
            raise _bad_line(path, b"\n", empty_line, "an empty line")
        if block.count(b"\n", len(text)) > 1 or not text:  # nothing may follow it
            empty_line = empty_line or first_line + text.count(b"\n") + bool(text)
        is_plain = not empty_line
        if first_line == 1 and text.startswith(_BYTE_ORDER_MARK):
            text, is_plain = text.removeprefix(_BYTE_ORDER_MARK), False
        if b"#" in text and (text.startswith(b"#") or b"\n#" in text):  # the second search takes 40 times as long
            text = b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))
        if text:
            n_columns = n_columns or len(text.split(b"\n", 1)[0].rstrip(b"\r").split(b"\t"))
            yield _parse(path, block, text + b"\n", first_line, n_columns, is_plain)
        elif n_columns and not is_plain:
            none = np.empty(0, dtype=np.int32)
            yield FragmentBlock(none, [], none, none, none, [], n_columns, True, False, 0, None)
    if not n_columns:
        raise ValueError(f"{path} holds no fragments. Expected lines of {_WANTED}.")


def read_barcodes(barcodes: str | Path | Iterable[str]) -> list[str]:
    """Barcodes without repeats, in their order: given one by one, or in the first column of a file (``.gz`` too).

    Of a table of Cell Ranger (``singlecell.csv``, ``per_barcode_metrics.csv``), those that it calls cells.

    Raises ValueError for none at all, for a table of several columns that call cells, and for truncated gzip;
    FileNotFoundError.
    """
    if isinstance(barcodes, str | Path):
        path = Path(barcodes)
        if not path.is_file():
            raise FileNotFoundError(f"There is no barcodes file {path}.")
        rows = [line.replace(",", "\t").split("\t") for line in read_content(path).decode().splitlines()]
        names = [row[0].strip() for row in _called_cells(path, rows)]
    else:
        names = [str(barcode) for barcode in barcodes]
    unique = list(dict.fromkeys(name for name in names if name))
    if not unique:
        raise ValueError("barcodes is empty; expected at least one. Leave it out to use the barcodes of the file.")
    return unique


def _called_cells(path: Path, rows: list[list[str]]) -> list[list[str]]:
    """The rows below the header, if there is one; of a table that calls cells, those of cells."""
    if not rows or rows[0][0].strip().lower() not in ("barcode", "barcodes", "cell", "cell_id"):
        return rows
    calls = [k for k, name in enumerate(rows[0]) if CALLS_CELLS.fullmatch(name.strip())]
    if len(calls) > 1:
        raise ValueError(
            f"{path} has several columns that mark cells: "
            f"{', '.join(rows[0][k].strip() for k in calls)}. List the cells of one species in a separate file."
        )
    return [row for row in rows[1:] if not calls or (len(row) > calls[0] and row[calls[0]].strip().lower() in IS_CELL)]


def _blocks(path: Path, what: str) -> Iterator[tuple[int, bytes]]:
    """(number of the first line, whole lines), with a progress bar over the bytes of the file."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no fragments file {path}.")
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic == b"\x28\xb5\x2f\xfd":
            raise ValueError(f"{path} is compressed with zstd. Recompress it: zstd -dc {path.name} | gzip > ….tsv.gz.")
        is_gzip = magic[:2] == b"\x1f\x8b"
        if path.suffix in (".gz", ".bgz") and not is_gzip:
            raise ValueError(
                f"{path} is named {path.suffix} but is not gzip (it begins with {magic!r}). "
                "If it is plain text, rename it to .tsv, or compress it with gzip or bgzip; else copy it again."
            )
        text = gzip.GzipFile(fileobj=raw) if is_gzip else raw
        line = 1
        size = path.stat().st_size
        with tqdm(total=size, unit="B", unit_scale=True, desc=what, delay=1, disable=None) as bar:
            while True:
                try:
                    block = text.read(BLOCK)
                    block += text.readline()
                except (EOFError, OSError, zlib.error) as error:
                    raise ValueError(
                        f"{path} is a truncated or damaged gzip file: reading stopped after line {line - 1:,} "
                        f"({error}). Copy or download it again; `gzip -t` tests it."
                    ) from None
                if not block:
                    return
                yield line, block
                line += block.count(b"\n")
                bar.update(raw.tell() - bar.n)


def _parse(path: Path, block: bytes, text: bytes, first_line: int, n_columns: int, is_plain: bool) -> FragmentBlock:
    """Chromosome, start, end and barcode of each line of ``text``, which is ``block`` without its comments."""
    import pyarrow as pa
    from pyarrow import csv

    name = pa.dictionary(pa.int32(), pa.binary())
    types = {"f0": name, "f1": pa.int64(), "f2": pa.int64(), "f3": name}
    if n_columns > 4:
        types["f4"] = name
    try:
        # 8 million lines a second, where pandas reads 2.7 million; on one thread, since a pool of threads that is
        # still at work when Python ends aborts the process, and unpacking gzip takes most of the time anyway
        table = csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(autogenerate_column_names=True, block_size=len(text) + 1, use_threads=False),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(include_columns=list(types), column_types=types, null_values=[]),
        )
        chrom, start, end, barcode, *counts = (column.combine_chunks() for column in table.columns)
        chrom_names, barcode_names = (
            [value.decode() for value in column.dictionary.to_pylist()] for column in (chrom, barcode)
        )
    except (ValueError, KeyError) as error:  # pyarrow's own errors are both
        raise _bad_line(path, block, first_line, error) from None
    if "" in barcode_names:
        raise _bad_line(path, block, first_line, "a line without barcode")
    if n_columns > 5 and set(barcode_names) <= set(chrom_names):
        raise ValueError(
            f"{path} is a BEDPE file: its fourth column names chromosomes, such as {barcode_names[0]!r}. Expected "
            f"{_WANTED}. Convert it; if the seventh column holds the barcodes: "
            f"zcat {path.name} | awk -v OFS='\\t' '{{print $1, $2, $6, $7, 1}}' | gzip > fragments.tsv.gz."
        )
    has_counts = all(value.isdigit() or value == b"." for column in counts for value in column.dictionary.to_pylist())
    columns = [chrom.indices.to_numpy(), start.to_numpy(), end.to_numpy(), barcode.indices.to_numpy()]
    n_negative, first_negative = 0, None
    if int(columns[1].min()) < 0:
        kept = columns[1] >= 0
        n_negative, first_negative = len(kept) - int(kept.sum()), str(_bad_line(path, block, first_line, ""))
        columns = [column[kept] for column in columns]
    chroms, starts, ends, barcodes = columns
    return FragmentBlock(
        chroms,
        chrom_names,
        starts,
        ends,
        barcodes,
        barcode_names,
        n_columns,
        has_counts,
        is_plain and has_counts and n_columns <= 5,
        n_negative,
        first_negative,
    )


def _bad_line(path: Path, block: bytes, first_line: int, reason: object) -> ValueError:
    """The error that shows the first line that is not a fragment."""
    for number, line in enumerate(block.splitlines(), first_line):
        columns = line.split(b"\t")
        if line.startswith(b"#"):
            continue
        if len(columns) < 5 and not (len(columns) == 4 and columns[3]):
            problem = f"has {len(columns)} column{'s' if len(columns) > 1 else ''}"
        elif not columns[1].isdigit() or not columns[2].strip().isdigit():
            problem = "has a start or an end that is not a position in bp"
        elif not columns[3]:
            problem = "has no barcode"
        else:
            continue
        shown = line[:80].decode(errors="replace")
        header = " A header line must begin with '#'." if number == 1 and len(columns) > 3 else ""
        return ValueError(f"{path}, line {number:,}, {problem}: {shown!r}. Expected {_WANTED}.{header}")
    return ValueError(f"{path}, from line {first_line:,}, cannot be read as {_WANTED}: {reason}")
