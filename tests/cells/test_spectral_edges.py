"""The spectral start on new cells, shuffled labels, depth, cells with nothing in common, and very few cells."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from scatacformer.cells import RowSource, fit_spectral, nearest_cells
from scatacformer.cells.start.sampled import sampled_cells

N_CELLS, N_BINS = 120, 600


def planted(strength: float = 0.5, n_cells: int = N_CELLS, seed: int = 0) -> tuple[sp.csr_matrix, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 3
    rate = np.full((3, N_BINS), 0.08)
    for k in range(3):
        rate[k, k * 150 : k * 150 + 60] = max(strength, 0.08)
    depth = np.exp(rng.normal(0, 0.4, n_cells))
    x = rng.random((n_cells, N_BINS)) < (rate[kind] * depth[:, None]).clip(max=0.95)
    return sp.csr_matrix(x.astype(np.float32)), kind


def fit(matrix, cells=None, **options):
    cells = np.arange(matrix.shape[0]) if cells is None else cells
    return fit_spectral(RowSource.from_matrix(matrix), cells, **({"d_embed": 8} | options))


def pooled(start, matrix) -> np.ndarray:
    """The closed form, for any cells: nothing but their open bins is needed."""
    x = matrix.astype(np.float64)
    mass = x @ start.pool_weight.astype(np.float64)
    p = (x @ (start.pool_weight[:, None] * start.table.astype(np.float64))) / mass[:, None]
    d_1 = (mass / (x @ start.norm_weight.astype(np.float64)))[:, None]  # d / n + 1
    return p * d_1 / ((d_1 - 1) * start.eigenvalues + 1) * start.weight


def purity(vectors, kind) -> float:
    distance = ((vectors[:, None] - vectors[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    return float((kind[distance.argsort(1)[:, :10]] == kind[:, None]).mean())


def test_the_pooled_closed_form_is_the_embedding_of_the_fitted_cells():
    matrix, _ = planted()
    start = fit(matrix)
    assert start.n_dims >= 2
    np.testing.assert_allclose(pooled(start, matrix), start.vectors, atol=5e-3 * np.abs(start.vectors).max())


def test_cells_that_were_not_fitted_fall_among_their_type():
    matrix, kind = planted()
    start = fit(matrix, cells=np.arange(90))
    new, fitted = pooled(start, matrix[90:]), start.vectors
    near = ((new[:, None] - fitted[None]) ** 2).sum(-1).argsort(1)[:, :10]
    assert (kind[:90][near] == kind[90:, None]).mean() > 0.9


def test_types_are_found_and_shuffled_labels_are_not():
    matrix, kind = planted()
    vectors = fit(matrix).vectors
    assert purity(vectors, kind) > 0.95
    assert purity(vectors, np.random.default_rng(0).permutation(kind)) < 0.45


def test_depth_is_not_a_leading_dimension():
    matrix, _ = planted()
    depth = np.diff(matrix.indptr)
    vectors = fit(matrix).vectors
    for k in range(2):  # three types: two dimensions
        assert abs(spearmanr(vectors[:, k], depth)[0]) < 0.25


def test_cells_with_nothing_in_common_have_next_to_no_dimension_above_noise():
    types, none = fit(planted()[0]), fit(planted(strength=0.08)[0])
    assert types.eigenvalues[1] > 3 * types.noise
    assert none.eigenvalues[0] < 2 * none.noise
    assert np.linalg.norm(none.vectors) < 0.5 * np.linalg.norm(types.vectors)


@pytest.mark.parametrize("n_cells", [3, 4, 6])
def test_more_dimensions_than_cells(n_cells):
    start = fit(planted(n_cells=n_cells)[0], d_embed=32)
    assert start.table.shape == (N_BINS, 32)
    assert start.vectors.shape == (n_cells, 32)
    for values in (start.table, start.vectors, start.weight, start.eigenvalues, start.pool_weight):
        assert np.isfinite(values).all()
    assert np.abs(start.vectors).max() > 0


@pytest.mark.parametrize("n_cells", [0, 1, 2])
def test_fewer_than_three_cells_are_refused(n_cells):
    with pytest.raises(ValueError, match=f"there are {n_cells} cells; expected at least 3"):
        fit(planted()[0], cells=np.arange(n_cells))


def test_duplicate_cells_lie_together():
    matrix, _ = planted(n_cells=30)
    start = fit(sp.vstack([matrix, matrix], format="csr"))
    assert np.isfinite(start.vectors).all()
    np.testing.assert_allclose(start.vectors[:30], start.vectors[30:], atol=0.02 * np.abs(start.vectors).max())


def test_a_cell_of_no_bins_stays_finite():
    matrix, _ = planted()
    start = fit(sp.vstack([matrix, sp.csr_matrix((1, N_BINS), dtype=np.float32)], format="csr"))
    assert np.isfinite(start.vectors).all()
    assert np.isfinite(start.table).all()


def test_no_more_cells_than_asked_are_fitted():
    matrix, _ = planted()
    start, same, other = (fit(matrix, max_cells=50, seed=s) for s in (0, 0, 1))
    assert len(start.cells) == len(np.unique(start.cells)) == 50
    np.testing.assert_array_equal(start.cells, same.cells)
    np.testing.assert_array_equal(start.table, same.table)
    assert not np.array_equal(start.cells, other.cells)


def test_which_cells_are_fitted_does_not_depend_on_their_order():
    matrix, _ = planted()
    order = np.random.default_rng(1).permutation(N_CELLS)
    start, shuffled = fit(matrix, max_cells=50), fit(matrix[order], max_cells=50)
    np.testing.assert_array_equal(start.cells, np.sort(order[shuffled.cells]))
    assert not np.array_equal(start.cells, shuffled.cells)  # the row numbers themselves do differ
    np.testing.assert_allclose(
        np.abs(pooled(start, matrix)[order]),
        np.abs(pooled(shuffled, matrix[order])),
        atol=1e-2 * np.abs(start.vectors).max(),
    )


def test_sampled_cells_are_spread_over_the_types_and_come_from_those_offered():
    matrix, kind = planted(n_cells=3000)
    offered = np.flatnonzero(np.arange(3000) % 2 == 0)
    source = RowSource.from_matrix(matrix)
    found = sampled_cells(source, offered, 600, np.random.default_rng(0))
    assert len(found) == 600
    assert np.isin(found, offered).all()
    assert (np.diff(found) > 0).all()
    assert np.abs(np.bincount(kind[found]) - 200).max() < 50
    assert sampled_cells(source, offered, 1500, np.random.default_rng(0)) is offered


@pytest.mark.slow
def test_a_type_of_one_cell_in_a_thousand_is_found_though_a_fifth_of_the_cells_is_fitted():
    n_cells, n_bins, n_open, n_rare = 100_000, 10_000, 150, 100
    rng = np.random.default_rng(2)
    kind = rng.integers(0, 4, n_cells)
    kind[rng.choice(n_cells, n_rare, replace=False)] = 4
    common = rng.gamma(0.5, size=n_bins)
    rows = np.empty((n_cells, n_open), np.int32)
    for k in range(5):
        rate = common * np.where(rng.random(n_bins) < 0.1, 5.0, 1.0)
        cells = np.flatnonzero(kind == k)
        rows[cells] = rng.choice(n_bins, (len(cells), n_open), p=rate / rate.sum())
    matrix = sp.csr_matrix(
        (np.ones(rows.size, np.float32), rows.ravel(), np.arange(0, rows.size + 1, n_open)), shape=(n_cells, n_bins)
    )
    matrix.sum_duplicates()
    start = fit(matrix, max_cells=20_000, d_embed=32)
    assert (kind[start.cells] == 4).sum() < 40
    vectors = pooled(start, matrix)
    rare = vectors[kind == 4]
    distance = (rare**2).sum(1)[:, None] + (vectors**2).sum(1) - 2 * rare @ vectors.T
    near = np.argpartition(distance, 16, axis=1)[:, :16]  # the cell itself is among them
    assert ((kind[near] == 4).sum(1) - 1).mean() / 15 > 0.8


def test_neighbours_of_a_few_fitted_cells():
    matrix, _ = planted()
    start = fit(matrix, max_cells=50)
    allowed = start.cells[:20]
    near = nearest_cells(start, allowed, N_CELLS, n_neighbors=30)  # more than there are
    has = (near >= 0).all(1)
    np.testing.assert_array_equal(np.flatnonzero(has), np.sort(allowed))
    assert np.isin(near[has], allowed).all()
    assert (near[has] != np.flatnonzero(has)[:, None]).all()
    assert (nearest_cells(start, start.cells[:1], N_CELLS) == -1).all()
