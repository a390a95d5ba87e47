"""Chain files: which stretches of one assembly are which of another."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scatacformer.genome.intervals import read_content

LAST_BASE = 2**31 - 1  # that a sequence may have
_WHAT = "a chain file of UCSC, such as hg19ToHg38.over.chain.gz"


@dataclass(frozen=True)
class Chains:
    """Ungapped blocks of alignment, each within one chain.

    Positions are 0-based; those of the other assembly count on the strand of the chain, as the file has them.
    """

    sizes: dict[str, int]  # chromosomes that are lifted from, bp
    target_sizes: dict[str, int]  # and to
    chrom_names: list[str]  # of `sizes`
    target_names: list[str]
    # each chain
    score: np.ndarray  # (n_chains,) int64
    chrom: np.ndarray  # (n_chains,) int64, index in chrom_names
    target_chrom: np.ndarray  # (n_chains,) int64, index in target_names
    is_reverse: np.ndarray  # (n_chains,) bool
    # each block
    chain: np.ndarray  # (n_blocks,) int64
    start: np.ndarray  # (n_blocks,) int64, bp
    end: np.ndarray  # (n_blocks,) int64, bp
    target_start: np.ndarray  # (n_blocks,) int64, bp


def read_chains(path: str | Path) -> Chains:
    """Read a chain file, plain or gzip: https://genome.ucsc.edu/goldenPath/help/chain.html.

    Two million blocks a second.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Truncated; blocks do not add up to what their header says; not a chain file; a chromosome with two sizes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The chain file {path} does not exist. Check the path.")
    content = read_content(path)
    text = np.frombuffer(content + b"\n", dtype=np.uint8).copy()
    line_end = np.flatnonzero(text == ord("\n"))
    line_start = np.concatenate([[0], line_end[:-1] + 1])
    first = text[line_start]
    is_blank = np.isin(first, np.frombuffer(b"\n\r ", dtype=np.uint8))
    is_header = first == ord("c")
    is_block = ~is_blank & ~is_header & (first != ord("#"))
    headers = [
        _Header.parse(path, int(line) + 1, content[line_start[line] : line_end[line]])
        for line in np.flatnonzero(is_header)
    ]
    if not headers or is_block[: np.argmax(is_header)].any():
        shown = content[:60].decode(errors="replace")
        raise ValueError(f"{path} is not {_WHAT}: it begins with {shown!r}.")
    chain = (np.cumsum(is_header) - 1)[is_block]  # of each block
    for line in np.flatnonzero(~is_block & ~is_blank):
        text[line_start[line] : line_end[line]] = ord(" ")
    numbers = _numbers(text)

    n_blocks = np.bincount(chain, minlength=len(headers))
    last = np.zeros(len(chain), dtype=bool)
    last[np.cumsum(n_blocks)[n_blocks > 0] - 1] = True
    at = np.concatenate([[0], np.cumsum(np.where(last, 1, 3))])  # size, gap, gap of the other; of the last size only
    if not n_blocks.all() or at[-1] != len(numbers) or (np.abs(numbers) > LAST_BASE).any():
        raise _damaged(path, headers, content, n_blocks)
    size = numbers[at[:-1]]
    gap, target_gap = (np.where(last, 0, numbers[np.minimum(at[:-1] + n, len(numbers) - 1)]) for n in (1, 2))
    begin = np.concatenate([[0], np.cumsum(n_blocks)[:-1]])
    place, target_place = _within(size + gap, begin, n_blocks), _within(size + target_gap, begin, n_blocks)
    start = place + np.array([header.start for header in headers])[chain]
    target_start = target_place + np.array([header.target_start for header in headers])[chain]
    ends = np.array([(header.end, header.target_end) for header in headers])
    reached = np.column_stack([start + size, target_start + size])[last]
    if (reached != ends).any() or size.min() < 0 or gap.min() < 0 or target_gap.min() < 0:
        raise _damaged(path, headers, content, n_blocks, int(np.argmax((reached != ends).any(axis=1))))
    sizes, chrom_names, chrom = _chromosomes(path, [(header.chrom, header.size) for header in headers])
    target_sizes, target_names, target = _chromosomes(path, [(h.target_chrom, h.target_size) for h in headers])
    return Chains(
        sizes,
        target_sizes,
        chrom_names,
        target_names,
        score=np.array([header.score for header in headers]),
        chrom=chrom,
        target_chrom=target,
        is_reverse=np.array([header.is_reverse for header in headers]),
        chain=chain,
        start=start,
        end=start + size,
        target_start=target_start,
    )


@dataclass(frozen=True)
class _Header:
    line: int
    score: int
    chrom: str
    size: int
    start: int
    end: int
    target_chrom: str
    target_size: int
    is_reverse: bool
    target_start: int
    target_end: int

    @classmethod
    def parse(cls, path: Path, line: int, content: bytes) -> _Header:
        """``chain score tName tSize + tStart tEnd qName qSize strand qStart qEnd id``."""
        shown = content.decode(errors="replace").strip()
        n = r"(\d+)"
        match = re.fullmatch(
            rf"chain\s+(-?\d+)(?:\.\d+)?\s+(\S+)\s+{n}\s+\+\s+{n}\s+{n}\s+(\S+)\s+{n}\s+([+-])\s+{n}\s+{n}(?:\s+\S+)?",
            shown,
        )
        if match is None:
            raise ValueError(
                f"{path}, line {line:,}, is not the header of a chain: {shown[:100]!r}. Expected {_WHAT}; if the line stops "
                "short, copy the file again."
            )
        score, chrom, size, start, end, target, target_size, strand, target_start, target_end = match.groups()
        if len(score) > 19 or not (
            int(start) < int(end) <= int(size) <= LAST_BASE
            and int(target_start) < int(target_end) <= int(target_size) <= LAST_BASE
        ):
            raise ValueError(
                f"{path}, line {line:,}: a chain extends beyond the end of its sequence: {shown[:100]!r}. Download it again."
            )
        return cls(
            line,
            int(score),
            chrom,
            int(size),
            int(start),
            int(end),
            target,
            int(target_size),
            strand == "-",
            int(target_start),
            int(target_end),
        )


def _numbers(text: np.ndarray) -> np.ndarray:
    """All integers of a text, int64; those before the first thing that is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of text that is none; the caller counts
        try:
            return np.fromstring(text.tobytes().decode("latin-1"), dtype=np.int64, sep=" ")
        except ValueError:
            return np.zeros(0, dtype=np.int64)


def _within(steps: np.ndarray, begin: np.ndarray, n_blocks: np.ndarray) -> np.ndarray:
    """Sum of the steps before each block in its chain, (n_blocks,)."""
    before = np.cumsum(steps) - steps
    return before - np.repeat(before[begin], n_blocks)


def _chromosomes(path: Path, found: list[tuple[str, int]]) -> tuple[dict[str, int], list[str], np.ndarray]:
    """Size of each chromosome, the names, and the index of each chain's in them."""
    sizes: dict[str, int] = {}
    for name, size in found:
        if sizes.setdefault(name, size) != size:
            raise ValueError(f"{path} gives {name} two sizes: {sizes[name]:,} and {size:,} bp. Two files in one?")
    names = list(sizes)
    code = {name: number for number, name in enumerate(names)}
    return sizes, names, np.array([code[name] for name, _ in found], dtype=np.int64)


def _damaged(
    path: Path, headers: list[_Header], content: bytes, n_blocks: np.ndarray, number: int | None = None
) -> ValueError:
    """The error that names the chain whose blocks do not add up."""
    if number is None:
        number = len(headers) - 1
        if n_blocks.all():  # a line with more or fewer numbers than expected
            lines = content.splitlines()
            for at, header in enumerate(headers):
                blocks = [line.split() for line in lines[header.line :][: int(n_blocks[at])]]
                lengths = [len(block) for block in blocks if block]
                if any(n != 3 for n in lengths[:-1]) or lengths[-1:] != [1]:
                    number = at
                    break
        else:
            number = int(np.argmin(n_blocks))
    header = headers[number]
    return ValueError(
        f"{path} is truncated or damaged: the blocks of chain {number + 1:,} of {len(headers):,} (line {header.line:,}) "
        f"do not add up to {header.chrom}:{header.start}-{header.end}, the interval in its header. Download it again."
    )
