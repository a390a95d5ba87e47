"""Weights of bins in the comparison of cells, measured across two halves of the genome (notation as in
``spectral``)."""

from __future__ import annotations

import numpy as np

from .dimensions import cross_validated
from .open_bins import OpenBins
from .options import StartOptions
from .similarity import ROUGH, compare

BLOCK = 100  # neighbouring bins stay in one half of the genome, because a fragment can open two of them
MIN_OPEN = 10  # minimum number of cells in which a bin is open to be used in the estimate
SURE = 4.0  # F is used only if some value is this many standard errors above zero
MAX_ENTRIES = 3_000_000  # maximum number of open bins of the cells used to compare the formulas
MIN_CELLS = 1_000  # minimum number of these cells, if available


def bin_weights(
    opened: OpenBins, min_cells: int, max_bins: int, d_embed: int, rng: np.random.Generator, options: StartOptions
) -> np.ndarray:
    """Weight g of each bin, zero for those that are open in fewer than ``min_cells``.  (n_bins,)

    The estimate uses the ``max_bins`` bins that are open in most cells (including ties).
    """
    n_cells, n_bins = opened.shape
    n_open = opened.open_cells()
    idf = np.log(n_cells / (1 + n_open)).clip(min=1e-3) * (n_open >= min_cells)
    most_open = n_open >= max(_least_open(n_open, min_cells, max_bins), 1)
    first = np.arange(n_bins) // BLOCK % 2 == 0
    halves = [most_open & first, most_open & ~first]
    if n_cells < 4 * MIN_OPEN or not all((idf * half).any() for half in halves):  # too few for an estimate
        return idf
    worth = _worth(opened, n_open, idf, halves, d_embed, rng, options)
    n_some = max(int(n_cells * MAX_ENTRIES / max(n_open[most_open].sum(), 1)), MIN_CELLS)
    some = (opened.of_cells(opened.sample(n_some, rng)) if n_some < n_cells else opened).of_bins(most_open)
    place = np.flatnonzero(most_open)

    def weight(law: tuple[float, float], bins: np.ndarray | slice = slice(None)) -> np.ndarray:
        return idf[bins] ** law[0] * worth[bins] ** law[1]

    evidence = [_evidence(some, weight(law, place), place, d_embed, rng, options) for law in options.laws]
    best = int(np.argmax(evidence))
    return weight(options.laws[best if evidence[best] > options.better * evidence[0] else 0])


def _evidence(
    opened: OpenBins,
    weight: np.ndarray,
    place: np.ndarray,
    d_embed: int,
    rng: np.random.Generator,
    options: StartOptions,
) -> float:
    """How much is found again in bins that it was not computed from: the sum over dimensions of the logarithm of the
    standard deviations by which they stand out, relative to the minimum; 0 if there is too little to say."""
    found = cross_validated(opened, weight, d_embed, rng, options, place) if weight.any() else None
    return 0.0 if found is None else float(np.log(found / options.sure).sum())


def _worth(
    opened: OpenBins,
    n_open: np.ndarray,
    idf: np.ndarray,
    halves: list[np.ndarray],
    d_embed: int,
    rng: np.random.Generator,
    options: StartOptions,
) -> np.ndarray:
    """F of each bin from the trend over n_open, scaled to a maximum of 1.  (n_bins,)"""
    variance = np.zeros(len(n_open))
    elsewhere = np.arange(len(n_open)) // BLOCK % 2 == 1
    for half, other in zip(halves, (elsewhere, ~elsewhere), strict=True):
        fit = compare(opened.of_bins(half), idf[half], d_embed, rng, options, ROUGH)
        signal = fit.share
        # sum of u_i u_j over pairs of cells in which the bin is open: the squared sum minus its expectation by chance
        told = np.flatnonzero(signal)
        # over all bins, because those of the other half would have to be copied
        pairs = -opened.sums_over_cells(fit.u[:, told] ** 2 @ signal[told])
        for columns, total in opened.columns_over_cells(fit.u[:, told]):
            pairs += np.square(total, out=total) @ signal[told[columns]]
        variance[other] = pairs[other] / np.maximum(n_open[other] * (n_open[other] - 1.0), 1.0)
    return _trend(variance, n_open)


def _trend(variance: np.ndarray, n_open: np.ndarray, n_groups: int = 20, min_bins: int = 20) -> np.ndarray:
    """Mean of ``variance`` among bins open in about as many cells, between groups by log n_open; at least 0, at most 1.

    Bins that are too rare are extrapolated by the line through the two rarest groups, up to the value of the rarest.
    """
    log_n = np.log(np.maximum(n_open, 1))
    edges = np.linspace(np.log(MIN_OPEN), max(log_n.max(), np.log(MIN_OPEN)) + 1e-6, n_groups + 1)
    group = np.digitize(log_n, edges) - 1  # -1: too rare
    inside = (group >= 0) & (group < n_groups)
    count = np.bincount(group[inside], minlength=n_groups)
    told = count >= min_bins
    if not told.any():
        return np.ones(len(n_open))
    x = np.bincount(group[inside], log_n[inside], n_groups)[told] / count[told]
    y = np.bincount(group[inside], variance[inside], n_groups)[told] / count[told]
    spread = np.bincount(group[inside], variance[inside] ** 2, n_groups)[told] / count[told] - y**2
    if not (y > SURE * np.sqrt(np.maximum(spread, 0.0) / count[told])).any():  # only noise
        return np.ones(len(n_open))
    if len(x) > 1:
        slope = max((y[1] - y[0]) / (x[1] - x[0]), 0.0)
        x, y = np.append(0.0, x), np.append(y[0] - slope * x[0], y)
    return np.interp(log_n, x, y / y.max()).clip(min=0.0)


def _least_open(n_open: np.ndarray, min_cells: int, max_bins: int) -> int:
    """Minimum number of cells in which a bin must be open to be compared."""
    if len(n_open) <= max_bins:
        return min_cells
    return max(min_cells, int(np.partition(n_open, len(n_open) - max_bins)[len(n_open) - max_bins]))
