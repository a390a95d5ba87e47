"""Windows of DNA over a genome, and the output bins that they cover."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scatacformer.genome import OverlapIndex, as_positions, intervals_of_var, parse_region_names, read_bed
from scatacformer.sequence import N_CODE

if TYPE_CHECKING:
    import pandas as pd

    from scatacformer.sequence import Fasta


@dataclass(frozen=True, eq=False)
class SequenceWindows:
    """Windows of DNA of one length, on the grid of the output bins, sorted by chromosome and start.

    Parameters
    ----------
    chrom_names
        Names of the chromosomes, in the order of the FASTA file.
    chrom
        ``(n_windows,)`` int64, index in ``chrom_names``.
    start
        ``(n_windows,)`` int64, bp, a multiple of ``bin_size``.
    seq_len
        Length of a window in bp.
    bin_size
        Width of an output bin in bp.
    crop
        Bins on each side of a window that are read and not predicted.
    dropped
        How many windows were left out, by reason.
    """

    chrom_names: tuple[str, ...]
    chrom: np.ndarray
    start: np.ndarray
    seq_len: int
    bin_size: int
    crop: int
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def n_bins(self) -> int:
        """Bins of a window, those of the crop included."""
        return self.seq_len // self.bin_size

    @property
    def names(self) -> np.ndarray:
        """Name of the chromosome of each window, ``(n_windows,)``."""
        return np.array(self.chrom_names, dtype=object)[self.chrom]

    def ends(self) -> dict[str, int]:
        """Furthest position in bp that is read of each chromosome."""
        return {
            self.chrom_names[code]: int(self.start[self.chrom == code].max()) + self.seq_len
            for code in np.unique(self.chrom).tolist()
        }


def place_windows(
    fasta: Fasta,
    *,
    seq_len: int,
    bin_size: int,
    crop: int,
    chromosomes: Collection[str],
    regions: str | Path | Sequence[str] | pd.DataFrame | None = None,
    blacklist: str | Path | None = None,
) -> SequenceWindows:
    """Windows that tile the genome, or that are centred on regions.

    Tiled windows follow each other so that their predicted parts touch. A region gets no window of its own if its
    centre is in the predicted part of the previous one. Windows with an N, with a base of the blacklist, or that reach
    beyond an end of their chromosome are dropped and counted.

    Parameters
    ----------
    fasta
        The genome.
    seq_len, bin_size, crop
        See :class:`SequenceWindows`.
    chromosomes
        Names of the chromosomes that have windows.
    regions
        BED file, names such as ``"chr1:0-5000"``, or a table with columns ``chrom``, ``start``, ``end``; None: tile.
    blacklist
        BED file of regions that must not be in a window.

    Raises
    ------
    ValueError
        No window is left; what was dropped is in the message.
    """
    names = tuple(name for name in fasta.sizes if name in set(chromosomes))
    dropped = {"short chromosome": 0, "beyond an end": 0, "N": 0, "blacklist": 0, "region already covered": 0}
    if regions is None:
        chrom, start = _tiled(fasta, names, seq_len, seq_len - 2 * crop * bin_size, dropped)
    else:
        chrom, start = _around(fasta, names, _read_regions(regions), seq_len, bin_size, crop, dropped)
    keep = _clean(fasta, names, chrom, start, seq_len, dropped)
    if blacklist is not None:
        keep &= _off_the_blacklist(blacklist, names, chrom, start, seq_len, keep, dropped)
    dropped = {reason: count for reason, count in dropped.items() if count}
    if not keep.any():
        longest = max((fasta.sizes[name] for name in names), default=0)
        why = ", ".join(f"{count:,} for {reason}" for reason, count in dropped.items())
        raise ValueError(
            f"no window of {seq_len:,} bp is left (dropped: {why or 'none'}). The longest of the {len(names)} chromosomes "
            f"has {longest:,} bp; take a smaller seq_len, other regions, or another FASTA file."
        )
    return SequenceWindows(names, chrom[keep], start[keep], seq_len, bin_size, crop, dropped)


def windows_at(
    fasta: Fasta, regions: str | Path | Sequence[str] | pd.DataFrame, *, seq_len: int, bin_size: int, crop: int
) -> SequenceWindows:
    """Only the given windows, in their order: each must be ``seq_len`` long and aligned to the grid of the bins.

    Raises ValueError for one that does not, with its position.
    """
    chrom_of, start, end = _read_regions(regions)
    names = tuple(dict.fromkeys(chrom_of.tolist()))
    wrong = (end - start != seq_len) | (start % bin_size != 0)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"{int(wrong.sum()):,} of {len(start):,} windows are not {seq_len:,} bp from a multiple of {bin_size} bp "
            f"(first: {chrom_of[first]}:{start[first]}-{end[first]})."
        )
    code = {name: number for number, name in enumerate(names)}
    chrom = np.array([code[name] for name in chrom_of], dtype=np.int64)
    windows = SequenceWindows(names, chrom, start, seq_len, bin_size, crop, {})
    fasta.check(windows.ends(), "the windows")
    return windows


def bins_of_windows(windows: SequenceWindows) -> tuple[pd.DataFrame, np.ndarray]:
    """The bins that the windows cover, each once, and where each window begins among them.

    Returns
    -------
    A table of the bins with columns ``chrom``, ``start``, ``end``, sorted and named ``chr1:0-128``, and
    ``(n_windows,)`` int64: the row of the first bin of each window, whose others follow.
    """
    import pandas as pd

    first = np.empty(len(windows), dtype=np.int64)
    parts, n_before = [], 0
    for code in range(len(windows.chrom_names)):
        of_chrom = np.flatnonzero(windows.chrom == code)
        if not len(of_chrom):
            continue
        begin = windows.start[of_chrom] // windows.bin_size
        depth = np.zeros(int(begin.max()) + windows.n_bins + 1, dtype=np.int32)
        np.add.at(depth, begin, 1)
        np.add.at(depth, begin + windows.n_bins, -1)
        covered = np.flatnonzero(np.cumsum(depth) > 0)
        first[of_chrom] = n_before + np.searchsorted(covered, begin)
        parts.append((np.full(len(covered), code), covered * windows.bin_size))
        n_before += len(covered)
    chrom, start = (np.concatenate(part) for part in zip(*parts, strict=True))
    names = pd.Categorical.from_codes(chrom, categories=list(windows.chrom_names))
    table = pd.DataFrame({"chrom": names, "start": start, "end": start + windows.bin_size})
    text = np.array(windows.chrom_names, dtype=object)[chrom]
    table.index = pd.Index(
        [f"{name}:{a}-{b}" for name, a, b in zip(text, start.tolist(), table["end"].tolist(), strict=True)]
    )
    return table, first


def _tiled(
    fasta: Fasta, names: tuple[str, ...], seq_len: int, step: int, dropped: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    chroms, starts = [], []
    for code, name in enumerate(names):
        size = fasta.sizes[name]
        if size < seq_len:
            dropped["short chromosome"] += 1
            continue
        begin = np.arange(0, size - seq_len + 1, step, dtype=np.int64)
        dropped["beyond an end"] += int(begin[-1] + seq_len < size)
        starts.append(begin)
        chroms.append(np.full(len(begin), code, dtype=np.int64))
    if not starts:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return np.concatenate(chroms), np.concatenate(starts)


def _around(
    fasta: Fasta,
    names: tuple[str, ...],
    regions: tuple[np.ndarray, np.ndarray, np.ndarray],
    seq_len: int,
    bin_size: int,
    crop: int,
    dropped: dict[str, int],
) -> tuple[np.ndarray, np.ndarray]:
    code_of = {name: number for number, name in enumerate(names)}
    code = np.array([code_of.get(name, -1) for name in regions[0]], dtype=np.int64)
    if (code < 0).any():
        unknown = sorted(set(regions[0][code < 0].tolist()))
        raise ValueError(
            f"{int((code < 0).sum()):,} of {len(code):,} regions lie on chromosomes without DNA or signal: "
            f"{', '.join(unknown[:5])}. Those that have both: {', '.join(names[:5])}."
        )
    centre = (regions[1] + regions[2]) // 2
    start = (centre - seq_len // 2) // bin_size * bin_size
    size = np.array([fasta.sizes[name] for name in names], dtype=np.int64)[code]
    inside = (start >= 0) & (start + seq_len <= size)
    dropped["beyond an end"] += int((~inside).sum())
    order = np.flatnonzero(inside)[np.lexsort((start[inside], code[inside]))]
    kept: list[int] = []
    reach = (-1, -1)
    for row in order.tolist():
        if code[row] == reach[0] and centre[row] < reach[1]:
            dropped["region already covered"] += 1
            continue
        kept.append(row)
        reach = int(code[row]), int(start[row]) + seq_len - crop * bin_size
    return code[kept], start[kept]


def _read_regions(
    regions: str | Path | Sequence[str] | pd.DataFrame,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if isinstance(regions, str | Path):
        chrom, start, end, _ = read_bed(regions)
    elif hasattr(regions, "columns"):
        chrom, start, end = intervals_of_var(regions)
    else:
        chrom, start, end = parse_region_names(regions)
    return np.asarray(chrom, dtype=object), as_positions(start, "start"), as_positions(end, "end")


def _clean(
    fasta: Fasta, names: tuple[str, ...], chrom: np.ndarray, start: np.ndarray, seq_len: int, dropped: dict[str, int]
) -> np.ndarray:
    """Which windows have no N, ``(n_windows,)`` bool."""
    from scatacformer._io import tqdm

    keep = np.ones(len(start), dtype=bool)
    rows = zip(chrom.tolist(), start.tolist(), strict=True)
    for row, (code, begin) in enumerate(tqdm(rows, total=len(start), desc="looking for N", delay=2, disable=None)):
        keep[row] = int(fasta.codes(names[code], begin, begin + seq_len).max()) < N_CODE
    dropped["N"] += int((~keep).sum())
    return keep


def _off_the_blacklist(
    blacklist: str | Path,
    names: tuple[str, ...],
    chrom: np.ndarray,
    start: np.ndarray,
    seq_len: int,
    counted: np.ndarray,
    dropped: dict[str, int],
) -> np.ndarray:
    black_chrom, black_start, black_end, _ = read_bed(blacklist)
    code_of = {name: number for number, name in enumerate(names)}
    code = np.array([code_of.get(name, -1) for name in black_chrom], dtype=np.int64)
    if (code < 0).all():
        raise ValueError(
            f"no interval of the blacklist {blacklist} is on a chromosome of the windows. Its chromosomes are "
            f"{', '.join(dict.fromkeys(map(str, black_chrom)))[:80]}; the windows: {', '.join(names[:5])}."
        )
    known = code >= 0
    _, window = OverlapIndex(chrom, start, start + seq_len).hits(code[known], black_start[known], black_end[known])
    keep = np.ones(len(start), dtype=bool)
    keep[window] = False
    dropped["blacklist"] += int((~keep & counted).sum())
    return keep
