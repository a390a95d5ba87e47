from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from scatacformer.cells import RowSource, start_from_vectors

N_BINS, N_CELLS = 300, 90


def cells(seed=0, contrast=4.0):
    """Three types; each has a third of the bins more often open."""
    rng = np.random.default_rng(seed)
    rate = np.where(np.arange(N_BINS)[None] % 3 == np.arange(N_CELLS)[:, None] % 3, contrast, 1.0)
    rate *= 0.08 * np.exp(rng.normal(0, 0.4, (N_CELLS, 1)))
    return RowSource.from_matrix(csr_matrix((rng.random(rate.shape) < rate).astype(np.float32)))


def vectors(seed=0, d=20):
    """Two numbers of a bin go with the types in which it is open; eighteen larger ones do not."""
    rng = np.random.default_rng(seed)
    out = rng.normal(0, 3.0, (N_BINS, d)).astype(np.float32)
    corners = np.array([[1, 0], [-0.5, 0.9], [-0.5, -0.9]])
    out[:, :2] = 4 * corners[np.arange(N_BINS) % 3] + 100  # a mean that says nothing
    return out


def separation(z):
    kind = np.arange(len(z)) % 3
    means = np.array([z[kind == k].mean(0) for k in range(3)])
    return means.var(0).sum() / ((z - means[kind]) ** 2).mean(0).sum()


def pooled(source, start):
    """What the network makes of the start: the weighted mean of the rows of a cell's bins."""
    rows = source.rows(np.arange(source.n_cells))
    out = []
    for first, stop in zip(rows.indptr[:-1], rows.indptr[1:], strict=True):
        bins = rows.bins[first:stop]
        w = start.pool_weight[bins]
        out.append((w[:, None] * start.table[bins]).sum(0) / w.sum())
    return np.array(out)


def test_directions_in_which_cells_differ_are_found():
    source = cells()
    start = start_from_vectors(source, np.arange(N_CELLS), vectors(), d_embed=8)
    assert start.table.shape == (N_BINS, 8) and start.vectors.shape == (N_CELLS, 8)
    assert separation(start.vectors) > 8
    # the two of the types come first, and weigh more than those of noise
    assert start.weight[1] > 1.2 * start.weight[2]
    np.testing.assert_allclose(pooled(source, start) * start.weight, start.vectors, atol=1e-4)
    shuffled = np.random.default_rng(0).permutation(vectors())
    assert separation(start_from_vectors(source, np.arange(N_CELLS), shuffled, d_embed=8).vectors) < 3


def test_dimensions_of_noise_weigh_nothing():
    source = cells(contrast=1.0)
    start = start_from_vectors(source, np.arange(N_CELLS), vectors(), d_embed=20)
    assert (start.weight > 0).sum() < 12 and start.noise > 0
    assert not start.table[:, start.weight == 0].any()


def test_bins_without_a_vector_do_not_count():
    source, known = cells(), vectors()
    known[::7] = np.nan
    start = start_from_vectors(source, np.arange(N_CELLS), known, d_embed=8)
    assert np.isfinite(start.table).all() and not start.table[::7].any() and not start.pool_weight[::7].any()
    assert separation(start.vectors) > 8


def test_fewer_numbers_than_dimensions_and_cells_that_were_left_out():
    source = cells()
    some = np.arange(0, N_CELLS, 2)
    start = start_from_vectors(source, some, vectors(d=3), d_embed=8)
    np.testing.assert_array_equal(start.cells, some)
    assert start.weight.shape == (8,) and not start.weight[3:].any()
    capped = start_from_vectors(source, np.arange(N_CELLS), vectors(), d_embed=8, max_cells=40, seed=1)
    again = start_from_vectors(source, np.arange(N_CELLS), vectors(), d_embed=8, max_cells=40, seed=1)
    assert len(capped.cells) == 40
    np.testing.assert_array_equal(capped.table, again.table)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (
            np.ones((N_BINS - 1, 4), np.float32),
            "shape .299, 4. and dtype float32; expected a vector of real numbers for each of 300 bins",
        ),
        (np.ones(N_BINS, np.float32), "for each of 300 bins"),
        (np.ones((N_BINS, 4), int), "type int64"),
        (np.full((N_BINS, 4), np.nan), "none of the bins .* has a vector"),
        (np.full((N_BINS, 4), np.inf), "infinite"),
    ],
)
def test_vectors_must_be_of_the_bins(bad, match):
    with pytest.raises(ValueError, match=match):
        start_from_vectors(cells(), np.arange(N_CELLS), bad)


def test_too_few_cells():
    with pytest.raises(ValueError, match="there are 2 cells; expected at least 3"):
        start_from_vectors(cells(), np.arange(2), vectors())
