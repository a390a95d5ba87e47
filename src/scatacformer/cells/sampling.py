"""Random numbers that are a function of their arguments, and the entries of each cell with the lowest ones.

A random number is the 64 bits of a hash (splitmix64; Steele et al. 2014), as a fraction of 2^64 uniform in [0, 1).
Choices compare the integers themselves: each pass over the open bins of a minibatch counts."""

from __future__ import annotations

import numpy as np

HIGHEST = np.uint64(2**64 - 1)
_BIN, _CELL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1342543DE82EF95)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def uniform(bins, cells=0, epoch: int = 0, stream: int = 0, seed: int = 0) -> np.ndarray:
    """Numbers in [0, 1) that depend only on their arguments: the upper 53 bits of a hash.  float64."""
    with np.errstate(over="ignore"):
        draw = _mix(np.asarray(_cell_keys(cells, epoch, stream, seed) + bin_keys(bins)))
        return (draw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def bin_keys(bins) -> np.ndarray:
    """What a bin brings to its draws; several draws of the same bins share it.  uint64."""
    keys = np.array(bins).astype(np.uint64)
    keys *= _BIN
    return keys


def draws(
    keys: np.ndarray, cells: np.ndarray, lengths: np.ndarray, epoch: int = 0, stream: int = 0, seed: int = 0
) -> np.ndarray:
    """Draws of packed cells, ``lengths[i]`` entries of ``cells[i]``; ``keys`` from :func:`bin_keys`.  (n_open,)
    uint64."""
    with np.errstate(over="ignore"):
        draw = np.repeat(_cell_keys(cells, epoch, stream, seed), lengths)
    draw += keys
    return _mix(draw)


def bound(share: float) -> np.uint64:
    """The hash below which ``uniform`` is below ``share``, for 0 <= share < 1."""
    return np.uint64(int(np.ceil(share * 2.0**53)) << 11)


def lowest(
    draw: np.ndarray, indptr: np.ndarray, most: int, limit: np.ndarray | np.uint64 = HIGHEST
) -> tuple[np.ndarray, np.ndarray]:
    """The at most ``most`` entries with the lowest numbers in each row, among those of at most ``limit`` (n_rows,).

    Their places, ascending, and how many each row has: (n_chosen,) int64 and (n_rows,) int64.
    """
    lengths = np.diff(indptr)
    # the numbers are uniform, so enough of them are nearly always below this, and few need to be compared
    share = (most + 4 * most**0.5 + 8) / np.maximum(lengths, 1)
    near = np.minimum(np.where(share < 1, (share.clip(max=0.999) * 2.0**64).astype(np.uint64), HIGHEST), limit)
    places, counts = _up_to(draw, indptr, lengths, near)
    if (short := (counts < most) & (near < limit)).any():
        near = np.where(short, limit, near)
        places, counts = _up_to(draw, indptr, lengths, near)
    long = np.flatnonzero(counts > most)
    if not len(long):
        return places, counts
    near_draws, last = draw.take(places), np.full(len(counts), HIGHEST)
    shuffled, stops = near_draws.copy(), np.cumsum(counts)
    starts = stops - counts
    for row, start, stop in zip(long.tolist(), starts[long].tolist(), stops[long].tolist(), strict=True):
        part = shuffled[start:stop]
        part.partition(most - 1)
        last[row] = part[most - 1]
    chosen = near_draws <= np.repeat(last, counts)
    found, expected = places[np.flatnonzero(chosen)], np.minimum(counts, most)
    if len(found) > expected.sum():  # an entry that is listed twice draws the same: the first of them
        for row in long.tolist():
            part = near_draws[starts[row] : stops[row]]
            same = np.flatnonzero(part == last[row])
            chosen[starts[row] + same[most - np.count_nonzero(part < last[row]) :]] = False
        found = places[chosen]
    return found, expected


def counts_of(places: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Number of the ascending ``places`` in each row.  (n_rows,) int64."""
    return np.diff(np.searchsorted(places, indptr))


class Lookup:
    """``np.searchsorted(sums, share * sums[-1], side="right")`` of a long array, in a quarter of the time.

    A table brackets the position of a share, so that few sums need to be compared. Memory: 256 KB.
    """

    SIZE = 1 << 16

    def __init__(self, sums: np.ndarray) -> None:
        self.sums = sums
        self.table = np.searchsorted(sums, np.arange(self.SIZE + 1) / self.SIZE * sums[-1], side="right")

    def __call__(self, share: np.ndarray) -> np.ndarray:
        """Places of shares in [0, 1); at most the last."""
        value = share * self.sums[-1]
        part = (share * self.SIZE).astype(np.int64)
        low, high = self.table.take(part), self.table.take(part + 1)
        while (low < high).any():
            middle = (low + high) >> 1
            beyond = self.sums.take(middle, mode="clip") > value
            high = np.where(beyond, middle, high)
            low = np.where(beyond, low, np.minimum(middle + 1, high))
        return low.clip(max=len(self.sums) - 1)


def _up_to(draw, indptr, lengths, limit) -> tuple[np.ndarray, np.ndarray]:
    places = np.flatnonzero(draw <= np.repeat(limit, lengths))
    return places, counts_of(places, indptr)


def _cell_keys(cells, epoch: int, stream: int, seed: int) -> np.ndarray:
    key = _mix(np.array(np.uint64(seed * 2 + 1) + np.uint64(epoch) * _BIN))
    key = _mix(key + np.uint64(stream))
    return _mix(np.asarray(np.asarray(cells).astype(np.uint64) * _CELL + key))


def _mix(x):
    """In place for arrays: the only extra memory is one array."""
    x = np.asarray(x)
    shifted = np.empty_like(x)
    for bits, factor in ((np.uint64(30), _FIRST), (np.uint64(27), _SECOND)):
        x ^= np.right_shift(x, bits, out=shifted)
        x *= factor
    x ^= np.right_shift(x, np.uint64(31), out=shifted)
    return x
