"""Draws: the lowest of each cell whatever the draws are, shares as integers, and sums looked up by a table."""

from __future__ import annotations

import numpy as np
import pytest

from scatacformer.cells.sampling import HIGHEST, Lookup, bin_keys, bound, draws, lowest, uniform

INDPTR = np.array([0, 0, 1, 4, 4, 500, 3000, 3001])
LENGTHS = np.diff(INDPTR)


def draws_of(kind: str) -> np.ndarray:
    """Draws as they are, and draws so uneven that a guess at how many lie below a bound is wrong."""
    draw = draws(bin_keys(np.arange(INDPTR[-1])), np.arange(len(LENGTHS)), LENGTHS)
    twice = np.repeat(draw[: len(draw) // 2 + 1], 2)[: len(draw)]
    return {"even": draw, "low": draw >> np.uint64(40), "high": ~(draw >> np.uint64(40)), "twice": twice}[kind]


@pytest.mark.parametrize("kind", ["even", "low", "high", "twice"])
@pytest.mark.parametrize("most", [1, 7, 400, 2400, 9000])
def test_the_lowest_of_each_row_are_found(kind, most):
    draw = draws_of(kind)
    for limit in (HIGHEST, bound(0.3), np.where(np.arange(len(LENGTHS)) % 2, HIGHEST, bound(0.8))):
        places, counts = lowest(draw, INDPTR, most, limit)
        assert (np.diff(places) > 0).all()
        assert len(places) == counts.sum()
        limits = np.broadcast_to(limit, LENGTHS.shape)
        for row, found in enumerate(np.split(places, np.cumsum(counts)[:-1])):
            start, stop = INDPTR[row], INDPTR[row + 1]
            among = np.sort(draw[start:stop][draw[start:stop] <= limits[row]])
            assert ((found >= start) & (found < stop)).all()
            np.testing.assert_array_equal(np.sort(draw[found]), among[:most])


@pytest.mark.parametrize("share", [0.0, 1e-300, 0.1, 0.15, 1 / 3, 0.5, 0.9])
def test_a_share_is_the_same_in_integers(share):
    key, bins = np.array([3, 8]), np.arange(2000)
    draw = draws(bin_keys(bins), key, np.array([1200, 800]), epoch=2, stream=1, seed=4)
    number = uniform(bins, np.repeat(key, [1200, 800]), 2, 1, 4)
    np.testing.assert_array_equal(draw < bound(share), number < share)
    # at the bound itself, where a random draw never falls
    edge = np.array([int(bound(share)) + d for d in (-2048, -1, 0, 1, 2048) if int(bound(share)) + d >= 0], np.uint64)
    np.testing.assert_array_equal(edge < bound(share), (edge >> np.uint64(11)).astype(float) * 2.0**-53 < share)


@pytest.mark.parametrize("size", [1, 3, 200_000])
def test_sums_are_looked_up_as_by_search(size):
    rng = np.random.default_rng(0)
    frequency = rng.random(size) ** 20
    frequency[size // 4 : size // 2] = 0.0
    sums = np.cumsum(frequency)
    share = np.concatenate([rng.random(3000), [0.0, 1 - 2**-53], np.arange(64) / 64])
    share = np.concatenate([share, (sums[:: max(size // 500, 1)] / sums[-1]).clip(max=1 - 2**-53)])
    expected = np.searchsorted(sums, share * sums[-1], side="right").clip(max=size - 1)
    np.testing.assert_array_equal(Lookup(sums)(share), expected)
