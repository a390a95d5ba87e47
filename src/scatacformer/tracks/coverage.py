"""The signal of each track in output bins: from bigWig files, from fragments by group, from an array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scatacformer.cells.fragments import Misplaced, iter_fragments
from scatacformer.genome import BigWig, fitting_assemblies, naming_hint

if TYPE_CHECKING:
    import pandas as pd

    from .windows import SequenceWindows

REDUCTIONS = ("mean", "sum", "max", "median")
_BINS_AT_ONCE = 1 << 13  # a megabase of 128-bp bins


def bigwig_signal(files: Mapping[str, BigWig], bins: pd.DataFrame, bin_size: int, reduce: str = "mean") -> np.ndarray:
    """Value of each bin in each bigWig file.

    Parameters
    ----------
    files
        Open bigWig files by the name of their track.
    bins
        Sorted table with ``chrom`` (categorical) and ``start``, all of ``bin_size`` bp.
    bin_size
        Width of a bin in bp.
    reduce
        How the values of a bin's bases become one: ``"mean"``, ``"sum"``, ``"max"`` or ``"median"``; a base without
        value counts as 0.

    Returns
    -------
    ``(n_tracks, n_bins)`` float32. A megabase is in memory at a time; 100 Mb take about a second a track.
    """
    from scatacformer._io import tqdm

    _check_reduction(reduce, REDUCTIONS)
    out = np.empty((len(files), len(bins)), dtype=np.float32)
    stretches = list(_stretches(bins, bin_size))
    with tqdm(
        total=out.size * bin_size, unit="bp", unit_scale=True, desc="reading bigWig", delay=2, disable=None
    ) as bar:
        for row, file in enumerate(files.values()):
            for chrom, start, column, n in stretches:
                values = file.values(chrom, start, start + n * bin_size).reshape(n, bin_size)
                out[row, column : column + n] = getattr(np, reduce)(values, axis=1)
                bar.update(values.size)
    return out


def check_bigwig_sizes(files: Mapping[str, BigWig], sizes: Mapping[str, int]) -> list[str]:
    """Names of the chromosomes that the genome and all files have, in the order of ``sizes``.

    Raises ValueError where there are none (both sets of names are shown), and for a file in which the same name has
    another length: it is of another assembly.
    """
    for track, file in files.items():
        shared = [name for name in sizes if name in file.sizes]
        if not shared:
            raise ValueError(
                f"the bigWig file of track {track!r} ({file.path}) shares no chromosome with the FASTA file. It has: "
                f"{_some(file.sizes)}; the FASTA file has: {_some(sizes)}. {naming_hint(list(file.sizes), sizes)}"
                "Use files whose chromosomes have the same names."
            )
        if other := [name for name in shared if file.sizes[name] != sizes[name]]:
            fitting = fitting_assemblies({name: file.sizes[name] for name in shared})
            raise ValueError(
                f"the bigWig file of track {track!r} ({file.path}) is of another assembly than the FASTA file: "
                f"{other[0]} has {file.sizes[other[0]]:,} bp in it and {sizes[other[0]]:,} bp in the FASTA file"
                f"{' (it fits ' + ' or '.join(fitting) + ')' if fitting else ''}."
            )
    return [name for name in sizes if all(name in file.sizes for file in files.values())]


def insertion_signal(
    fragments: Mapping[str, str | Path],
    group_of: Mapping[str, Mapping[str, int]],
    n_groups: int,
    bins: pd.DataFrame,
    bin_size: int,
    sizes: Mapping[str, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Tn5 insertions of each group in each bin: both ends of each fragment count once.

    Parameters
    ----------
    fragments
        Fragments file of each sample; read once, 16 MB at a time.
    group_of
        Of each sample: barcode to number of its group. Other barcodes are not counted.
    n_groups
        Number of groups.
    bins
        As in :func:`bigwig_signal`.
    bin_size
        Width of a bin in bp.
    sizes
        Length in bp of each chromosome of the genome.

    Returns
    -------
    ``(n_groups, n_bins)`` float32, insertions in each bin, and ``(n_groups,)`` int64, insertions in the whole file.

    Raises
    ------
    ValueError
        The chromosomes of a file are named differently, or more than a few of its fragments reach beyond them
        (another assembly); no barcode of a sample is in its file.
    """
    counts = np.zeros((n_groups, len(bins)), dtype=np.float32)
    total = np.zeros(n_groups, dtype=np.int64)
    column_of = _columns(bins, bin_size, sizes)
    for sample, path in fragments.items():
        groups, n_found, seen, misplaced = group_of[sample], 0, set(), Misplaced()
        for block in iter_fragments(Path(path), f"reading {Path(path).name}"):
            group = np.array([groups.get(name, -1) for name in block.barcode_names], dtype=np.int64)[block.barcode]
            keep = (group >= 0) & (block.end > block.start) & misplaced.take(block, sizes)
            n_found += int(keep.sum())
            seen.update(block.chrom_names)
            for code in np.unique(block.chrom[keep]).tolist():
                name = block.chrom_names[code]
                if name not in sizes:
                    continue
                rows = np.flatnonzero(keep & (block.chrom == code))
                np.add.at(total, group[rows], 2)
                for position in (block.start[rows], block.end[rows] - 1):
                    column = column_of[name][position // bin_size] if name in column_of else np.full(len(rows), -1)
                    inside = column >= 0
                    np.add.at(counts, (group[rows][inside], column[inside]), 1)
        _refuse_another_assembly(path, misplaced, sizes)
        if not seen & set(sizes):
            raise ValueError(
                f"the fragments file {path} shares no chromosome with the FASTA file. It has: {_some(seen)}; the FASTA "
                f"file has: {_some(sizes)}. {naming_hint(sorted(seen), sizes)}"
            )
        if not n_found:
            raise ValueError(
                f"the fragments file {path} has no fragment of the {len(groups):,} cells of sample {sample!r} (first "
                f"cell: {next(iter(groups), None)!r}). Barcodes must be spelled as in the file."
            )
    return counts, total


def _refuse_another_assembly(path: str | Path, misplaced: Misplaced, sizes: Mapping[str, int]) -> None:
    """Warn of a few fragments beyond the chromosomes, which are not counted; raise ValueError for many."""
    try:
        misplaced.judge(Path(path), "the FASTA file", sizes, stacklevel=3)
    except ValueError as error:
        name, end = next(((name, end) for name, end in misplaced.reach.items() if end > sizes[name]), ("", 0))
        if not end:  # many start before 0
            raise
        raise ValueError(
            f"a fragment of {path} ends at {name}:{end:,}, beyond the {sizes[name]:,} bp of {name} in the FASTA file. "
            f"Use the FASTA file of the assembly to which the fragments were aligned. {error}"
        ) from None


def array_signal(values: np.ndarray, windows: SequenceWindows, bins: pd.DataFrame, first: np.ndarray) -> np.ndarray:
    """An array of measured windows as ``(n_tracks, n_bins)`` float32; bins that no window measures are NaN.

    ``values`` is ``(n_tracks, n_windows, n)`` with all bins of a window or those that the crop leaves. Of a bin in
    several windows the mean is taken.
    """
    n_outputs = windows.n_bins - 2 * windows.crop
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 3 or values.shape[1] != len(windows) or values.shape[2] not in (windows.n_bins, n_outputs):
        raise ValueError(
            f"an array of tracks must be (n_tracks, {len(windows)} windows, {windows.n_bins} bins, or {n_outputs} "
            f"without the crop); found {values.shape}."
        )
    margin = windows.crop if values.shape[2] != windows.n_bins else 0
    column = first[:, None] + margin + np.arange(values.shape[2])  # (n_windows, n)
    total = np.zeros((len(values), len(bins)), dtype=np.float32)
    known = np.zeros_like(total)
    for track in range(len(values)):
        there = ~np.isnan(values[track])
        np.add.at(total[track], column[there], values[track][there])
        np.add.at(known[track], column[there], 1)
    return np.where(known > 0, total / np.maximum(known, 1), np.nan).astype(np.float32)


def check_signal(signal: np.ndarray, names: Sequence[str]) -> None:
    """Raise ValueError for a track that is negative or infinite somewhere, or zero or missing everywhere."""
    for row, name in enumerate(names):
        values = signal[row]
        known = values[~np.isnan(values)]
        if not len(known):
            raise ValueError(f"track {name!r} has no value: all {len(values):,} bins are NaN. Leave it out.")
        if not np.isfinite(known).all() or float(known.min()) < 0:
            what = "negative" if float(known.min()) < 0 else "infinite"
            raise ValueError(
                f"track {name!r} has {what} values (smallest: {float(known.min()):g}). A track is a coverage: 0 or more. "
                "Use the coverage itself, not its logarithm or a difference."
            )
        if float(known.max()) == 0:
            raise ValueError(f"track {name!r} is zero in all {len(known):,} bins of the windows. Leave it out.")


def _stretches(bins: pd.DataFrame, bin_size: int) -> list[tuple[str, int, int, int]]:
    """(chromosome, start, first column, number of bins) of runs of bins side by side, a megabase at most."""
    chrom, start = bins["chrom"].cat.codes.to_numpy(), bins["start"].to_numpy()
    new = np.ones(len(bins), dtype=bool)
    new[1:] = (chrom[1:] != chrom[:-1]) | (start[1:] != start[:-1] + bin_size)
    edges = np.append(np.flatnonzero(new), len(bins))
    names = bins["chrom"].cat.categories
    return [
        (names[chrom[a]], int(start[a]), a, min(_BINS_AT_ONCE, stop - a))
        for begin, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        for a in range(begin, stop, _BINS_AT_ONCE)
    ]


def _columns(bins: pd.DataFrame, bin_size: int, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Of each chromosome: the column of each of its bins, int32; -1 outside all windows."""
    out = {}
    for chrom, start, column, n in _stretches(bins, bin_size):
        if chrom not in out:
            out[chrom] = np.full(sizes[chrom] // bin_size + 1, -1, dtype=np.int32)
        out[chrom][start // bin_size : start // bin_size + n] = np.arange(column, column + n)
    return out


def _check_reduction(reduce: str, known: Sequence[str]) -> None:
    if reduce not in known:
        raise ValueError(f"reduce is {reduce!r}; expected one of {', '.join(map(repr, known))}.")


def _some(names: Iterable[str]) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:5]) + (f", ... ({len(listed)} in all)" if len(listed) > 5 else "")
