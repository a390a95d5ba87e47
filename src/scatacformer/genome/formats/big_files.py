"""Intervals of a bigBed file and means of a bigWig file over bins, through pybigtools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer._io import reading
from scatacformer.genome.classes.gene_classes import Intervals
from scatacformer.genome.match_chroms import check_sizes, match_chroms

from .bigwig import BigWig, open_big_file

if TYPE_CHECKING:
    from scatacformer.genome.vocabulary import Vocabulary

_MAGIC = {0x888FFC26: "bigWig", 0x8789F2EB: "bigBed"}
_SPAN = 1 << 24  # bp whose values are in memory at once: 64 MB, and twice that for their sums


def big_file_kind(path: str | Path) -> str | None:
    """``"bigWig"``, ``"bigBed"`` or None, by the first four bytes."""
    with Path(path).open("rb") as file:
        head = file.read(4)
    return _MAGIC.get(int.from_bytes(head, "little")) or _MAGIC.get(int.from_bytes(head, "big"))


def read_bigbed(path: str | Path, vocabulary: Vocabulary, what: str) -> Intervals:
    """Intervals on the chromosomes of the vocabulary, whose codes they have. ValueError for a damaged file."""
    parts: list[tuple[np.ndarray, ...]] = []
    with reading(path, "a bigBed file"):
        file: Any = open_big_file(Path(path))
        sizes = {name: int(size) for name, size in file.chroms().items()}
    for name, code in _chroms_with_bins(sizes, vocabulary, what):
        with reading(path, "a bigBed file"):
            rows = np.array([row[:2] for row in file.records(name)], dtype=np.int64).reshape(-1, 2)
            if len(rows) and not ((rows[:, 0] >= 0) & (rows[:, 0] <= rows[:, 1]) & (rows[:, 1] <= sizes[name])).all():
                raise ValueError(f"it has intervals that are not within {name}, which has {sizes[name]:,} bp.")
        parts.append((np.full(len(rows), code, dtype=np.int64), rows[:, 0], rows[:, 1]))
    return Intervals(*map(np.concatenate, zip(*parts, strict=True)))


def bigwig_means(path: str | Path, vocabulary: Vocabulary, what: str) -> np.ndarray:
    """Mean over all bases of each bin, (n_bins,), float64; bases without a value count as 0.

    From the value at each base: the file's own summaries spread what lies at the border of two bins over both.
    ValueError for a damaged file.
    """
    from scatacformer._io import tqdm

    file = BigWig(path)
    chroms = _chroms_with_bins(file.sizes, vocabulary, what)
    means = np.zeros(vocabulary.n_bins)
    for name, code in tqdm(chroms, unit="chromosome", desc=f"reading {Path(path).name}", delay=1, disable=None):
        bins = vocabulary.bins_of_chrom(code)
        start, end = vocabulary.start[bins].astype(np.int64), vocabulary.end[bins].astype(np.int64)
        first = 0
        while first < len(bins):
            stop = max(first + 1, int(np.searchsorted(start, start[first] + _SPAN)))
            low, high = start[first], int(end[first:stop].max())
            sums = np.concatenate([[0.0], np.cumsum(file.values(name, int(low), high), dtype=np.float64)])
            here = slice(first, stop)
            means[bins[here]] = (sums[end[here] - low] - sums[start[here] - low]) / (end[here] - start[here])
            first = stop
    return means


def _chroms_with_bins(sizes: dict[str, int], vocabulary: Vocabulary, what: str) -> list[tuple[str, int]]:
    """Name in the file and code in the vocabulary of each chromosome that has bins."""
    names = list(sizes)
    code = match_chroms(names, vocabulary, what)
    check_sizes(sizes, code, vocabulary, what)
    return [(name, int(number)) for name, number in zip(names, code, strict=True) if number >= 0]
