"""The score test holds its level whatever the depths and batches, and finds what differs."""

from __future__ import annotations

import numpy as np
import pytest

from scatacformer.cells import benjamini_hochberg, score_test

N_STRATA, N_CELLS = 6, 60


def draw(rate, fold, seed=0, batch_fold=None):
    """Counts of regions of a rate (open cells among n by depth), the rate ``fold`` times as high in group 2.

    Group 2 is twice as deep: what is not corrected for depth differs everywhere.
    """
    rng = np.random.default_rng(seed)
    depth = np.geomspace(500, 4000, N_STRATA)[:, None] * [1.0, 2.0]
    n_cells = np.full((N_STRATA, 2), N_CELLS)
    r = (rate[None, None] * np.stack([np.ones_like(fold), fold])[None]) * depth[:, :, None]
    batch = np.arange(N_STRATA) % 2
    if batch_fold is not None:
        r = r * np.where(batch == 1, batch_fold, 1)[:, None, None]
    return rng.binomial(n_cells[:, :, None], -np.expm1(-r)).astype(np.float32), n_cells, depth, batch


@pytest.mark.parametrize("rate", [2e-6, 1e-5, 1e-4, 1e-3])  # from a handful of cells to nearly all
def test_the_level_is_held_though_one_group_is_twice_as_deep(rate):
    n_open, n_cells, depth, _ = draw(np.full(4000, rate), np.ones(4000))
    p = score_test(n_open, n_cells, depth)
    assert ((p >= 0) & (p <= 1)).all()
    assert (p < 0.05).mean() < 0.065
    assert (p < 0.001).mean() < 0.004
    if rate > 5e-6:  # a test of few cells is conservative, for counts are whole
        assert (p < 0.05).mean() > 0.02


def test_what_differs_is_found():
    n_open, n_cells, depth, _ = draw(np.full(1000, 1e-4), np.repeat([1.0, 2.0], 500))
    q = benjamini_hochberg(score_test(n_open, n_cells, depth))
    assert (q[500:] < 0.05).mean() > 0.9
    assert (q[:500] < 0.05).mean() < 0.06


@pytest.mark.parametrize("rate", [1e-5, 1e-4])
def test_within_batches_a_batch_effect_is_no_difference(rate):
    n_open, n_cells, depth, batch = draw(np.full(3000, rate), np.ones(3000), batch_fold=4.0)
    n_cells[batch == 1, 0] = 6  # the effect of the batch looks like one of the group
    n_open[batch == 1, 0] = np.random.default_rng(1).binomial(6, n_open[batch == 1, 0] / N_CELLS)
    within, across = score_test(n_open, n_cells, depth, batch), score_test(n_open, n_cells, depth)
    assert (within < 0.01).mean() < 0.02
    assert (across < 0.01).mean() > 2 * (within < 0.01).mean()


def test_a_region_that_all_or_none_have_open_says_nothing():
    n_cells, depth = np.full((2, 2), 50), np.array([[100.0, 100], [200, 200]])
    n_open = np.stack([np.zeros((2, 2)), np.full((2, 2), 50.0)], 2)
    np.testing.assert_allclose(score_test(n_open, n_cells, depth), 1.0)


def test_few_cells_of_one_depth_are_tested_by_fishers_exact_test():
    from scipy.stats import hypergeom

    n_cells, depth = np.array([[44, 44]]), np.full((1, 2), 100.0)
    n_open = np.array([[[6.0, 9, 0], [24, 1, 4]]])
    expected = []
    for one, two in ((6, 24), (9, 1), (0, 4)):
        law = hypergeom(88, 44, one + two)
        expected.append(min(1, 2 * min(law.cdf(two), law.sf(two - 1))))
    np.testing.assert_allclose(score_test(n_open, n_cells, depth), expected, rtol=1e-9)


def test_few_cells_of_other_depths_are_tested_by_the_noncentral_law():
    from scipy.stats import nchypergeom_fisher

    n_cells, depth = np.array([[40, 20]]), np.array([[100.0, 300]])
    n_open = np.array([[[3.0, 9], [12, 1]]])
    expected = []
    for one, two in ((3, 12), (9, 1)):
        low, high = 0.0, 1.0
        for _ in range(100):  # the rate at which as many cells are open as were seen
            rate = (low + high) / 2
            p = -np.expm1(-rate * depth[0])
            low, high = (rate, high) if (n_cells[0] * p).sum() < one + two else (low, rate)
        odds = p[1] / (1 - p[1]) * (1 - p[0]) / p[0]
        law = nchypergeom_fisher(60, 20, one + two, odds)
        expected.append(min(1, 2 * min(law.cdf(two), law.sf(two - 1))))
    np.testing.assert_allclose(score_test(n_open, n_cells, depth), expected, rtol=1e-6)


@pytest.mark.parametrize("p", [0.15, 0.3])
def test_the_level_is_used_in_small_groups(p):
    rng = np.random.default_rng(0)
    n_open = rng.binomial(44, p, (1, 2, 5000)).astype(float)
    size = (score_test(n_open, np.array([[44, 44]]), np.full((1, 2), 100.0)) < 0.05).mean()
    assert 0.008 < size < 0.06


def test_a_batch_with_cells_of_one_group_says_nothing():
    n_cells, depth = np.array([[40, 40], [30, 0]]), np.full((2, 2), 100.0)
    n_open = np.array([[[3.0], [9]], [[7], [0]]])
    alone = score_test(n_open[:1], n_cells[:1], depth[:1])
    np.testing.assert_allclose(score_test(n_open, n_cells, depth, np.array([0, 1])), alone, rtol=1e-9)
