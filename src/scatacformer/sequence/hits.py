"""The inner loops of the motif scan, compiled: thresholds by p-value, and the scores of the hits in each region.

Weights are integers in units of 1/100 bit, so that p-values are exact and hits are the same on every machine.
memelite's fimo is about twice as fast, but rounds scores only for its p-values: the consensus of a six-base motif, with
p = 2.4e-4, passes a threshold of 1e-4. It also returns hits as tables, which grow with the number of regions."""

from __future__ import annotations

import numba
import numpy as np

STEP = 0.01
"""Bits to which weights are rounded."""
K = 7
"""Positions whose weights are looked up at once: 4^7 sums of 2 bytes fit into the first cache of a core."""


def whole_weights(log_odds: np.ndarray) -> np.ndarray:
    """(width, 4) int32: weights in units of :data:`STEP`, for A, C, G, T at each position; at least -40 bits."""
    return np.ascontiguousarray(np.rint(np.maximum(log_odds.T, -40.0) / STEP), dtype=np.int32)


@numba.njit(cache=True)
def threshold_of(weights: np.ndarray, p_value: float) -> int:
    """The least score above 0 that a random sequence of equal bases reaches with a probability of at most ``p_value``.

    One more than the largest score where none is rare enough. By the distribution of all 4^width sequences.
    """
    width = weights.shape[0]
    least, most = 0, 0
    for position in range(width):
        least += weights[position].min()
        most += weights[position].max()
    chance = np.zeros(most - least + 1)
    after = np.zeros(most - least + 1)
    chance[0] = 1.0
    reach = 0  # scores above the least one, so far
    for position in range(width):
        low = weights[position].min()
        after[:] = 0.0
        for score in range(reach + 1):
            if chance[score] > 0:
                for base in range(4):
                    after[score + weights[position, base] - low] += 0.25 * chance[score]
        reach += weights[position].max() - low
        chance, after = after, chance
    tail = 0.0
    threshold = most + 1
    for score in range(most, 0, -1):
        if score < least:
            break
        tail += chance[score - least]
        # sums of powers of 1/4 in another order differ in the last digits
        if tail > p_value * (1 + 1e-9):
            break
        if chance[score - least] > 0:
            threshold = score
    return threshold


@numba.njit(cache=True)
def index_bases(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(number of the :data:`K` bases from each place on, uint16; place of the next N from each on, int64)."""
    n = len(codes)
    words = np.zeros(n, dtype=np.uint16)
    next_n = np.empty(n, dtype=np.int64)
    word = 0
    following = n
    for place in range(n - 1, -1, -1):
        code = codes[place]
        if code > 3:
            following = place
            code = 0
        # the first base counts least, so that one shift makes room for it
        word = ((word << 2) | code) & (4**K - 1)
        words[place] = word
        next_n[place] = following
    return words, next_n


@numba.njit(cache=True)
def _blocks(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first position, length) of pieces of at most K positions, the one that decides most first."""
    width = weights.shape[0]
    best, best_gap = 0, -1.0
    for first in range(max(width - K, 0) + 1):
        gap = 0.0
        for position in range(first, min(first + K, width)):
            gap += weights[position].max() - weights[position].sum() / 4
        if gap > best_gap:
            best, best_gap = first, gap
    firsts = np.empty(width // K + 2, dtype=np.int64)
    lengths = np.empty(width // K + 2, dtype=np.int64)
    firsts[0], lengths[0] = best, min(K, width)
    n = 1
    stop = best
    while stop > 0:
        firsts[n], lengths[n] = max(stop - K, 0), min(K, stop)
        stop -= lengths[n]
        n += 1
    first = best + lengths[0]
    while first < width:
        firsts[n], lengths[n] = first, min(K, width - first)
        first += lengths[n]
        n += 1
    return firsts[:n], lengths[:n]


@numba.njit(cache=True)
def _tables(weights: np.ndarray, firsts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sum of the weights of each piece for each word, int16; largest sum of the pieces after each)."""
    tables = np.zeros((len(firsts), 4**K), dtype=np.int16)
    rest = np.zeros(len(firsts), dtype=np.int64)
    for block in range(len(firsts)):
        for later in range(block + 1, len(firsts)):
            for position in range(firsts[later], firsts[later] + lengths[later]):
                rest[block] += weights[position].max()
        n_words = 1
        for offset in range(lengths[block]):  # the first base is the lowest digit
            for base in range(3, -1, -1):
                for word in range(n_words):
                    tables[block, base * n_words + word] = tables[block, word] + weights[firsts[block] + offset, base]
            n_words *= 4
        for word in range(n_words, 4**K):
            tables[block, word] = tables[block, word % n_words]
    return tables, rest


@numba.njit(cache=True)
def _scan_strand(
    weights: np.ndarray,
    threshold: int,
    words: np.ndarray,
    next_n: np.ndarray,
    bounds: np.ndarray,
    take_max: bool,
    out: np.ndarray,
) -> None:
    """Add the hits of one motif on one strand to ``out``, (n_regions,), in units of STEP."""
    width = weights.shape[0]
    firsts, lengths = _blocks(weights)
    tables, rest = _tables(weights, firsts, lengths)
    first_table, first_place, least = tables[0], firsts[0], threshold - rest[0]
    for region in range(len(bounds) - 1):
        for place in range(bounds[region], bounds[region + 1] - width + 1):
            score = np.int64(first_table[words[place + first_place]])
            if score < least:
                continue
            for block in range(1, len(firsts)):
                score += tables[block, words[place + firsts[block]]]
                if score < threshold - rest[block]:
                    break
            if score >= threshold and next_n[place] - place >= width:
                if take_max:
                    out[region] = max(out[region], score)
                else:
                    out[region] += score


@numba.njit(parallel=True, cache=True)
def scan_all(
    weights: np.ndarray,
    offsets: np.ndarray,
    thresholds: np.ndarray,
    words: np.ndarray,
    next_n: np.ndarray,
    bounds: np.ndarray,
    take_max: bool,
) -> np.ndarray:
    """Sum or maximum of the scores of the hits on both strands, (n_motifs, n_regions), int64, in units of STEP.

    Motif m has the rows ``offsets[m]:offsets[m + 1]`` of ``weights``, (total width, 4). Region r is
    ``bounds[r]:bounds[r + 1]`` of the indexed bases. A window that contains an N or leaves its region is not a hit.
    """
    n_motifs = len(offsets) - 1
    out = np.zeros((n_motifs, len(bounds) - 1), dtype=np.int64)
    for motif in numba.prange(n_motifs):
        forward = weights[offsets[motif] : offsets[motif + 1]]
        backward = np.ascontiguousarray(forward[::-1, ::-1])
        _scan_strand(forward, thresholds[motif], words, next_n, bounds, take_max, out[motif])
        _scan_strand(backward, thresholds[motif], words, next_n, bounds, take_max, out[motif])
    return out


@numba.njit(parallel=True, cache=True)
def all_thresholds(weights: np.ndarray, offsets: np.ndarray, p_value: float) -> np.ndarray:
    """:func:`threshold_of` each motif, (n_motifs,), int64."""
    out = np.empty(len(offsets) - 1, dtype=np.int64)
    for motif in numba.prange(len(offsets) - 1):
        out[motif] = threshold_of(weights[offsets[motif] : offsets[motif + 1]], p_value)
    return out
