"""One pass over a fragments file that finds what is wrong with it before any work is done on it."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_BLOCK = 1 << 24  # bytes of text parsed at once: 16 MB, some 400,000 fragments
_WANTED = "chromosome, start, end, barcode, count, separated by tabs"


@dataclass
class FragmentScan:
    """What a fragments file holds."""

    n_fragments: int = 0
    n_columns: int = 0
    n_empty: int = 0  # fragments whose end is not after their start
    furthest_end: dict[str, int] = field(default_factory=dict)  # chromosome -> bp
    fragments_per_chrom: dict[str, int] = field(default_factory=dict)
    fragments_per_barcode: dict[str, int] = field(default_factory=dict)  # on the chromosomes that are counted
    barcodes_contiguous: bool = True  # each barcode's fragments follow one another
    unsorted_at: int | None = None  # number, from 1, of the first fragment that lies before the one above it


def scan_fragments(path: Path, counted: Mapping[str, int]) -> FragmentScan:
    """Read the whole file once and sum it up; only fragments on `counted` chromosomes count for their barcode.

    Takes 0.5 s per million fragments, a quarter of what counting them takes.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not gzip though named `.gz`; truncated or damaged gzip; no fragment; a line that is no fragment.
    """
    scan = FragmentScan()
    chroms, barcodes = _Runs(), _Runs()
    last_start = -1
    for first_line, block in _blocks(path):
        table = _parse(path, block, first_line, scan)
        if table is None:
            continue
        chrom_codes, chrom_names = table[0].cat.codes.to_numpy(), table[0].cat.categories
        barcode_codes, barcode_names = table[3].cat.codes.to_numpy(), table[3].cat.categories
        start, end = table[1].to_numpy(), table[2].to_numpy()
        valid = start < end
        scan.n_empty += int((~valid).sum())

        furthest = np.zeros(len(chrom_names), dtype=np.int64)
        np.maximum.at(furthest, chrom_codes, end)
        on_chrom = np.bincount(chrom_codes, minlength=len(chrom_names))
        for name, end_here, n_here in zip(chrom_names, furthest.tolist(), on_chrom.tolist(), strict=True):
            scan.furthest_end[name] = max(end_here, scan.furthest_end.get(name, 0))
            scan.fragments_per_chrom[name] = n_here + scan.fragments_per_chrom.get(name, 0)
        valid &= np.fromiter((name in counted for name in chrom_names), dtype=bool)[chrom_codes]
        per_barcode = np.bincount(barcode_codes[valid], minlength=len(barcode_names))
        for name, n_here in zip(barcode_names, per_barcode.tolist(), strict=True):
            scan.fragments_per_barcode[name] = n_here + scan.fragments_per_barcode.get(name, 0)

        if scan.barcodes_contiguous:
            scan.barcodes_contiguous = barcodes.broken_at(barcode_codes, barcode_names) is None
        if scan.unsorted_at is None:
            before = np.concatenate([[last_start if chrom_names[chrom_codes[0]] == chroms.last else -1], start[:-1]])
            before[1:][chrom_codes[1:] != chrom_codes[:-1]] = -1
            again = chroms.broken_at(chrom_codes, chrom_names)
            disorder = [*np.flatnonzero(start < before)[:1].tolist(), *([] if again is None else [again])]
            scan.unsorted_at = scan.n_fragments + min(disorder) + 1 if disorder else None
        last_start = int(start[-1])
        scan.n_fragments += len(table)
    if scan.n_fragments == 0:
        raise ValueError(f"{path} holds no fragments. Expected lines of {_WANTED}.")
    return scan


class _Runs:
    """Whether equal values follow one another, over blocks: a value that comes back has been interrupted."""

    def __init__(self) -> None:
        self.last: str | None = None
        self._seen: set[str] = set()

    def broken_at(self, codes: np.ndarray, names: pd.Index) -> int | None:
        """Row of the first value that was seen before and then interrupted; None if there is none."""
        starts = np.concatenate([[0], np.flatnonzero(codes[1:] != codes[:-1]) + 1])
        for row in starts.tolist():
            name = names[codes[row]]
            if name != self.last and name in self._seen:
                return row
            self._seen.add(name)
            self.last = name
        return None


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number of the first line, whole lines), with a progress bar over the bytes of the file."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no fragments file {path}.")
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic == b"\x28\xb5\x2f\xfd":
            raise ValueError(f"{path} is compressed with zstd. Recompress it: zstd -dc {path.name} | gzip > ….tsv.gz")
        is_gzip = magic[:2] == b"\x1f\x8b"
        if path.suffix in (".gz", ".bgz") and not is_gzip:
            raise ValueError(
                f"{path} is named {path.suffix} but is not gzip (it begins with {magic!r}). "
                "If it is plain text, rename it to .tsv, or compress it with gzip or bgzip; else copy it again."
            )
        text = gzip.GzipFile(fileobj=raw) if is_gzip else raw
        line = 1
        size = path.stat().st_size
        with tqdm(total=size, unit="B", unit_scale=True, desc="checking fragments", delay=1, disable=None) as bar:
            while True:
                try:
                    block = text.read(_BLOCK)
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


def _parse(path: Path, block: bytes, first_line: int, scan: FragmentScan) -> pd.DataFrame | None:
    """Chromosome, start, end and barcode of each line; None for a block of comments."""
    text = block
    if block.startswith(b"#") or b"\n#" in block:
        text = b"".join(line for line in block.splitlines(keepends=True) if not line.startswith(b"#"))
        if not text:
            return None
    if not scan.n_columns:
        scan.n_columns = len(text.split(b"\n", 1)[0].rstrip().split(b"\t"))
    try:
        table = pd.read_csv(
            io.BytesIO(text),
            sep="\t",
            header=None,
            usecols=[0, 1, 2, 3],
            dtype={0: "category", 1: np.int64, 2: np.int64, 3: "category"},
            keep_default_na=False,
            quoting=3,
            skip_blank_lines=False,
            engine="c",
        )
    except (ValueError, UnicodeDecodeError) as error:  # pandas' ParserError is a ValueError
        raise _bad_line(path, block, first_line, error) from None
    has_barcode = not table[3].isna().any() and "" not in table[3].cat.categories
    if not has_barcode or int(table[1].min()) < 0:
        raise _bad_line(path, block, first_line, "a line without barcode, or a negative start")
    return table


def _bad_line(path: Path, block: bytes, first_line: int, reason: object) -> ValueError:
    """The error that shows the first line that is no fragment."""
    for number, line in enumerate(block.splitlines(), first_line):
        columns = line.split(b"\t")
        if line.startswith(b"#"):
            continue
        if len(columns) < 5 and not (len(columns) == 4 and columns[3]):
            problem = f"has {len(columns)} column{'s' if len(columns) > 1 else ''}"
        elif not columns[1].isdigit() or not columns[2].strip().isdigit():
            problem = "has a start or an end that is no position in bp"
        elif not columns[3]:
            problem = "has no barcode"
        else:
            continue
        shown = line[:80].decode(errors="replace")
        header = " A header line must begin with '#'." if number == 1 and len(columns) > 3 else ""
        return ValueError(f"{path}, line {number:,}, {problem}: {shown!r}. Expected {_WANTED}.{header}")
    return ValueError(f"{path}, from line {first_line:,}, cannot be read as {_WANTED}: {reason}")
