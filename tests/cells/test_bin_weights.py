"""What bins are worth: nothing is made of noise, and the law is that by which most is found again in other bins."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer.cells import RowSource, StartOptions, fit_spectral
from scatacformer.cells.start.bin_weights import _trend, _worth, bin_weights
from scatacformer.cells.start.open_bins import OpenBins


def drawn(rate: np.ndarray, seed: int = 0) -> sp.csr_matrix:
    x = sp.csr_matrix((np.random.default_rng(seed).random(rate.shape) < rate).astype(np.float32))
    x.sort_indices()
    return x


def opened(x: sp.csr_matrix) -> OpenBins:
    return OpenBins(x.indptr, x.indices, x.shape[1])


def weigh(x: sp.csr_matrix, min_cells: int = 3, max_bins: int = 50_000) -> np.ndarray:
    return bin_weights(opened(x), min_cells, max_bins, 8, np.random.default_rng(0), StartOptions())


def idf(x: sp.csr_matrix) -> np.ndarray:
    n_open = np.bincount(x.indices, minlength=x.shape[1])
    return np.log(x.shape[0] / (1 + n_open)).clip(min=1e-3) * (n_open >= 3)


def informative_by_frequency(often: float, seldom: float) -> sp.csr_matrix:
    """240 cells of 3 types; two thirds of 6,000 bins are open in one cell of 20, the others in one of 5.

    By how much (a factor, up and down) a type differs in either.
    """
    kind = np.arange(240) % 3
    rate = np.full((3, 6000), 0.05)
    rate[:, ::3] = 0.2
    up = (np.arange(3)[:, None] + np.arange(6000) // 7) % 3 - 1  # -1, 0, 1: every block of 7 bins another type's
    strength = np.where(np.arange(6000) % 3 == 0, often, seldom)
    return drawn(((rate * strength**up)[kind]).clip(max=0.9))


def test_of_noise_nothing_is_made():
    rng = np.random.default_rng(1)
    rate = rng.choice([0.03, 0.1, 0.3], 4000)[None] * np.exp(rng.normal(0, 0.4, (150, 1)))
    x = drawn(rate.clip(max=0.9), seed=2)
    found = weigh(x)
    power, rest = np.polyfit(np.log(idf(x)[found > 0]), np.log(found[found > 0]), 1)
    assert any(power == pytest.approx(law[0]) for law in StartOptions().laws)
    assert rest == pytest.approx(0, abs=1e-5)  # F is 1 for all


def test_bins_that_are_the_same_everywhere_are_worth_nothing_however_deep_the_cells_are(monkeypatch):
    """A bin is open in deep cells above all: chance must be taken from the cells that have it open, not from all."""
    rng = np.random.default_rng(3)
    kind = np.arange(300) % 3
    rate = np.full((3, 6000), 0.02)
    rate[:, 1::2] = 0.12 * 2.0 ** ((np.arange(3)[:, None] + np.arange(3000) // 7) % 3 - 1)
    x = drawn((rate[kind] * np.exp(rng.normal(0, 1.0, (300, 1)))).clip(max=0.9))
    n_open = np.bincount(x.indices, minlength=6000)
    halves = [np.arange(6000) // 100 % 2 == half for half in (0, 1)]
    seen = []
    monkeypatch.setattr("scatacformer.cells.start.bin_weights._trend", lambda variance, n_open: seen.append(variance))
    _worth(opened(x), n_open, idf(x), halves, 8, np.random.default_rng(0), StartOptions())
    assert seen[0][1::2].mean() > 0.1
    assert abs(seen[0][0::2][n_open[0::2] >= 2].mean()) < 0.02


@pytest.mark.parametrize(("often", "seldom", "expected"), [(1.0, 2.5, 0), (1.0, 1.4, 1), (1.4, 1.1, 2)])
def test_the_law_is_the_one_by_which_most_is_found_again_in_other_bins(often, seldom, expected):
    x = informative_by_frequency(often, seldom)
    n_open = np.bincount(x.indices, minlength=6000)
    halves = [np.arange(6000) // 100 % 2 == half for half in (0, 1)]
    worth = _worth(opened(x), n_open, idf(x), halves, 8, np.random.default_rng(0), StartOptions())
    power, share = StartOptions().laws[expected]
    np.testing.assert_allclose(weigh(x), idf(x) ** power * worth**share, rtol=1e-4)


def test_bins_too_rare_to_measure_are_worth_no_more_than_the_rarest_that_are_not():
    n_open = np.repeat([3, 6, 12, 14, 20, 40], 30)
    falling = np.log(np.maximum(n_open, 12) / 11.0)
    found = _trend(falling, n_open)
    assert found[0] == 0
    assert 0 <= found[30] < found[60] < found[120] < found[150] == 1
    assert _trend(1 / n_open, n_open)[0] == _trend(1 / n_open, n_open)[60]


def test_the_embedding_is_that_of_the_dense_matrix_in_which_deep_cells_count_for_more():
    rng = np.random.default_rng(4)
    kind = np.arange(90) % 3
    rate = np.full((3, 900), 0.05)
    for t in range(3):
        rate[t, t * 60 : t * 60 + 60] = 0.3
    x = drawn((rate[kind] * np.exp(rng.normal(0, 0.5, (90, 1)))).clip(max=0.9))
    start = fit_spectral(RowSource.from_matrix(x), np.arange(90), d_embed=4)
    weighted = x.toarray() * np.sqrt(start.norm_weight.astype(np.float64))
    n = np.linalg.norm(weighted, axis=1)
    similarity = (weighted / n[:, None]) @ (weighted / n[:, None]).T - np.eye(90)
    d = similarity @ n
    scale = np.sqrt(n / d)
    values, vectors = np.linalg.eigh(scale[:, None] * similarity * scale)
    np.testing.assert_allclose(start.eigenvalues, values[::-1][1:5], rtol=1e-3)
    assert values[-1] == pytest.approx(1)
    spread = 1 / (vectors**4).sum(0) >= 9  # a vector that lives on fewer cells is not the edge of the noise
    centre = values[:-3].mean()  # of the noise: three types are two dimensions
    assert start.noise == pytest.approx(1.3 * (centre - values[spread][0]), rel=0.02)
    u = vectors[:, ::-1][:, 1:3] / np.sqrt(n * d / (n * d).sum())[:, None]
    ours = start.vectors[:, :2] / start.weight[:2]
    np.testing.assert_allclose(np.abs(ours), np.abs(u), atol=5e-3 * np.abs(u).max())


def test_two_deep_cells_do_not_hide_a_type():
    kind = np.arange(120) % 4
    rate = np.full((4, 3000), 0.02)
    for t in range(4):
        rate[t, t * 150 : t * 150 + 150] = 0.1
    depth = np.ones(120)
    depth[:2] = 25  # most bins are open in them, and what they differ in is theirs alone
    x = drawn((rate[kind] * depth[:, None]).clip(max=0.9))
    assert fit_spectral(RowSource.from_matrix(x), np.arange(120), d_embed=8).n_dims == 3  # of 4 types
