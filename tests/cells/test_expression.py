"""Log-normalisation, components and canonical correlations are what their formulas say, and sparse throughout."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer.cells import canonical_start, fit_components, log_normalised


def counts(n: int = 80, n_genes: int = 30, seed: int = 0) -> sp.csr_matrix:
    """Two programmes; gene 28 in one cell alone, gene 29 in none."""
    rng = np.random.default_rng(seed)
    eta = rng.normal(size=(n, 2)) @ rng.normal(size=(2, n_genes)) * 0.6
    x = rng.poisson(np.exp(eta + 0.5)).astype(np.float32)
    x[:, 28:] = 0
    x[3, 28] = 1
    return sp.csr_matrix(x)


def test_every_cell_is_brought_to_the_same_depth():
    x = counts()
    dense = x.toarray()
    expected = np.log1p(dense / dense.sum(1, keepdims=True) * 1e4)
    np.testing.assert_allclose(log_normalised(x).toarray(), expected, rtol=1e-5)
    np.testing.assert_allclose(log_normalised(x, 100.0).toarray(), np.log1p(np.expm1(expected) / 100), rtol=1e-5)
    np.testing.assert_allclose(log_normalised(x * 3).toarray(), expected, rtol=1e-5)


def test_a_cell_without_counts_stays_at_zero_and_the_input_stays_as_it_is():
    x = counts().astype(np.int64)
    x[5] = 0
    x.eliminate_zeros()
    before = x.copy()
    out = log_normalised(x)
    assert np.isfinite(out.data).all()
    assert out[5].nnz == 0
    assert (x != before).nnz == 0
    assert out.dtype == np.float32


def test_components_are_the_principal_ones():
    x = counts()
    found = fit_components(x, 5)
    assert found.target == np.median(x.toarray().sum(1))
    values = log_normalised(x, found.target)
    dense = values.toarray()[:, :28].astype(np.float64)  # genes 28 and 29 are seen in too few cells
    _, s, vt = np.linalg.svd(dense - dense.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(vt[:5] @ found.loadings[:28]), np.eye(5), atol=1e-4)
    assert not found.loadings[28:].any()
    scores = found.scores(values)
    np.testing.assert_allclose(scores.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose((scores**2).mean(), 1, atol=0.02)
    # one scale for all: their sizes to each other are those of the components
    np.testing.assert_allclose(scores.std(0) / scores.std(0)[0], s[:5] / s[0], rtol=1e-3)


def test_the_same_seed_gives_the_same_bits():
    first, again = fit_components(counts(), 5, seed=3), fit_components(counts(), 5, seed=3)
    np.testing.assert_array_equal(first.loadings, again.loadings)


def test_components_do_not_outnumber_genes_or_cells():
    assert fit_components(counts(), 99).loadings.shape == (30, 27)
    assert fit_components(counts(n=10), 99).loadings.shape[1] == 9


def test_too_few_cells_or_genes_are_refused():
    with pytest.raises(ValueError, match="2 cells have RNA counts; expected at least 3"):
        fit_components(counts()[:2])
    x = counts().tolil()
    x[:, 1:] = 0
    with pytest.raises(ValueError, match="1 of 30 genes are detected in at least 5 cells"):
        fit_components(x.tocsr())


def test_canonical_directions_find_what_two_sets_share():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(4000, 2))
    x = np.concatenate([shared, rng.normal(size=(4000, 3)) * 4], 1) @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
    y = np.concatenate([rng.normal(size=(4000, 2)) * 4, shared + rng.normal(size=(4000, 2))], 1)
    a, b, correlation = canonical_start(x - x.mean(0), y - y.mean(0), 3)
    assert a.shape == (5, 3) and b.shape == (4, 3)
    np.testing.assert_allclose(correlation, [0.71, 0.71, 0], atol=0.08)
    u, v = (x - x.mean(0)) @ a, (y - y.mean(0)) @ b
    # each dimension counts by its correlation, and the two sides of it go together
    np.testing.assert_allclose(u.std(0), correlation, atol=0.02)
    assert min(np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(2)) > 0.65
    assert abs(np.corrcoef(u[:, 0], v[:, 1])[0, 1]) < 0.05


def test_what_shares_nothing_gets_no_weight():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4000, 3)), rng.normal(size=(4000, 3))
    a, _, correlation = canonical_start(x, y, 3)
    assert correlation.max() < 0.1
    assert (x @ a).std(0).max() < 0.1


def test_a_feature_that_does_not_vary_is_harmless():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
    x[:, 1] = 0
    a, b, correlation = canonical_start(x, y, 5)
    assert a.shape == (3, 2)
    assert np.isfinite(a).all() and np.isfinite(b).all() and (correlation <= 1).all()
