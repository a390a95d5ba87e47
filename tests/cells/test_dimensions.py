"""As many dimensions as there are differences between cells that are found again in other bins, and no noise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer.cells import RowSource, StartOptions, fit_spectral
from scatacformer.cells.start.dimensions import MIN_CELLS, N_BULK, cross_validated
from scatacformer.cells.start.open_bins import OpenBins
from scatacformer.cells.start.similarity import Comparison
from scatacformer.cells.start.spectral import _dimension_weight


def cells(n: int, n_types: int, n_bins: int = 4000, share: float = 0.15, seed: int = 0, effect: float = 4.0):
    """Cells of types that have ``share`` of the bins more open, spread over the genome."""
    rng = np.random.default_rng(seed)
    rate = np.exp(rng.normal(-3.5, 0.7, n_bins))[None] * np.where(rng.random((n_types, n_bins)) < share, effect, 1.0)
    depth = np.exp(rng.normal(0, 0.4, n))
    x = rng.random((n, n_bins)) < (rate[np.arange(n) % n_types] * depth[:, None]).clip(max=0.9)
    return sp.csr_matrix(x.astype(np.float32))


def count(x: sp.csr_matrix, d_embed: int = 16, seed: int = 0, **options) -> int | None:
    opened = OpenBins(x.indptr, x.indices, x.shape[1])
    weight = np.log(x.shape[0] / (1 + opened.open_cells())).clip(min=1e-3)
    found = cross_validated(opened, weight, d_embed, np.random.default_rng(seed), StartOptions(**options))
    return None if found is None else len(found)


@pytest.mark.parametrize(("n", "n_types"), [(120, 3), (400, 5), (800, 8)])
def test_n_types_are_one_dimension_less(n, n_types):
    assert count(cells(n, n_types)) == n_types - 1


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("n", [60, 300, 1000])
def test_cells_that_differ_by_chance_alone_have_none(n, seed):
    assert count(cells(n, 1, seed=seed)) == 0


def test_a_weak_difference_counts_that_hardly_stands_out_in_the_spectrum():
    weak = cells(400, 2, effect=1.6, seed=1)
    assert count(weak) == 1
    start = fit_spectral(RowSource.from_matrix(weak), np.arange(400), d_embed=16)
    assert start.eigenvalues[0] < 1.12 * start.eigenvalues[1]
    assert abs(np.corrcoef(start.vectors[:, 0], np.arange(400) % 2)[0, 1]) > 0.4


def test_bins_that_are_left_out_beforehand_change_nothing_if_the_places_of_the_others_are_given():
    x, used = cells(300, 4), np.arange(4000) % 7 > 1
    weight = np.where(used, 1.0, 0.0)
    opened = OpenBins(x.indptr, x.indices, x.shape[1])

    def found(*of: object) -> np.ndarray:
        return cross_validated(*of[:2], 16, np.random.default_rng(0), StartOptions(), *of[2:])

    all_bins = found(opened, weight)
    np.testing.assert_array_equal(all_bins, found(opened.of_bins(used), weight[used], np.flatnonzero(used)))
    assert len(all_bins) == 3
    assert not np.array_equal(all_bins, found(opened.of_bins(used), weight[used]))  # other parts of the genome


def test_at_most_what_is_asked_for_is_counted():
    assert count(cells(400, 6), d_embed=3) == 3


def test_the_order_of_cells_does_not_matter_and_a_seed_repeats_itself():
    x = cells(300, 4)
    order = np.random.default_rng(0).permutation(300)
    mixed = x[order].tocsr()
    mixed.sort_indices()
    assert count(x) == count(mixed) == count(x, seed=5)


def test_the_surer_the_fewer():
    x = cells(300, 6, effect=1.5)
    found = [count(x, sure=sure) for sure in (0.5, 4.0, 40.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


def test_too_few_cells_or_bins_are_not_judged():
    assert count(cells(MIN_CELLS - 1, 2)) is None
    assert count(cells(100, 2, n_bins=20)) is None
    few = cells(N_BULK + 2, 2)
    assert fit_spectral(RowSource.from_matrix(few), np.arange(N_BULK + 2), d_embed=8).n_dims >= 1


def test_a_dimension_of_a_handful_of_cells_takes_no_place_among_those_that_are_kept():
    above = np.array([0.5, 0.4, 0.3, 0.2, 0.1], np.float32)
    signal = above * [1, 0, 1, 1, 1]
    fit = Comparison(above, np.zeros((9, 5)), 0.05, above, signal, np.zeros(5))
    np.testing.assert_array_equal(_dimension_weight(fit, 3), signal * [1, 1, 1, 1, 0])
    np.testing.assert_array_equal(_dimension_weight(fit, None), signal)
    assert (_dimension_weight(fit, 0) > 0).sum() == 2  # the strongest, so that there is an embedding
