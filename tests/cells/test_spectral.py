"""The closed form: what the network pools is it, it finds types and not depth, and most of the noise is left out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.stats import spearmanr

from scatacformer.cells import ReadSentences, RowSource, SentenceLoader, fit_spectral, nearest_cells
from scatacformer.nn import NetworkConfig, ScAtacNetwork


def cells(n: int = 150, n_bins: int = 800, n_types: int = 3, strength: float = 6.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    rate = np.full((n_types, n_bins), 0.04)
    for t in range(n_types):
        rate[t, t * 60 : (t + 1) * 60] *= strength
    kind = np.arange(n) % n_types
    depth = np.exp(rng.normal(0, 0.5, n))
    x = rng.random((n, n_bins)) < (rate[kind] * depth[:, None]).clip(max=0.9)
    x[np.arange(n), rng.integers(0, n_bins, n)] = True
    return RowSource.from_matrix(sp.csr_matrix(x.astype(np.float32))), kind


def test_the_pool_of_a_network_that_starts_from_it_is_the_closed_form():
    source, _ = cells()
    start = fit_spectral(source, np.arange(150), d_embed=8)
    net = ScAtacNetwork(NetworkConfig(800, 1, d_model=8, n_heads=2, d_embed=8), torch.zeros(800))
    with torch.no_grad():
        net.embedding.table.weight.copy_(torch.from_numpy(start.table))
        for buffer, value in (
            (net.embedding.pool_weight, start.pool_weight),
            (net.embedding.norm_weight, start.norm_weight),
            (net.embedding.eigenvalue, start.eigenvalues),
            (net.latent_weight, start.weight),
        ):
            buffer.copy_(torch.from_numpy(value))
        collate = ReadSentences(np.zeros(150, int), 10_000)
        z = torch.cat(
            [net.encode(b, decoder_only=True).z for b in SentenceLoader(source, batch_size=64, collate=collate)]
        )
    assert start.n_dims >= 2
    np.testing.assert_allclose(z.numpy(), start.vectors, atol=2e-3 * np.abs(start.vectors).max())


def test_types_are_found_depth_is_not():
    source, kind = cells()
    start = fit_spectral(source, np.arange(150), d_embed=16)
    near = nearest_cells(start, np.arange(150), 150, 10)
    assert (kind[near] == kind[:, None]).mean() > 0.9
    depth = source.n_open_per_cell()
    used = start.vectors[:, start.weight > 0]
    assert max(abs(spearmanr(v, depth)[0]) for v in used.T) < 0.4


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_cells_with_nothing_in_common_have_few_dimensions_above_the_noise(seed):
    source, _ = cells(strength=1.0, seed=seed)
    assert fit_spectral(source, np.arange(150), d_embed=16).n_dims < 10  # of 16


def test_the_table_is_written_to_the_array_that_is_given():
    source, _ = cells()
    out = np.full((800, 8), 7, np.float32)
    start = fit_spectral(source, np.arange(150), d_embed=8, out=out)
    assert np.shares_memory(start.table, out)
    np.testing.assert_array_equal(out, fit_spectral(source, np.arange(150), d_embed=8).table)


def test_the_same_seed_gives_the_same_bits():
    source, _ = cells()
    a, b = (fit_spectral(source, np.arange(150), d_embed=8, seed=3) for _ in range(2))
    np.testing.assert_array_equal(a.table, b.table)
    np.testing.assert_array_equal(a.vectors, b.vectors)


def test_neighbours_are_training_cells_and_never_oneself():
    source, _ = cells(n=60)
    start = fit_spectral(source, np.arange(60), d_embed=4)
    train = np.arange(0, 60, 2)
    near = nearest_cells(start, train, 60, 5)
    assert (near[1::2] == -1).all()
    assert np.isin(near[::2], train).all()
    assert (near[::2] != train[:, None]).all()


@pytest.mark.parametrize("n", [3, 5])
def test_a_handful_of_cells_gives_finite_vectors(n):
    source, _ = cells(n=n, n_bins=200)
    start = fit_spectral(source, np.arange(n), d_embed=32)
    assert np.isfinite(start.table).all()
    assert np.isfinite(start.vectors).all()
    assert start.n_dims >= 1


def test_copies_of_one_cell_do_not_break_it():
    source, _ = cells(n=40)
    rows = source.rows(np.repeat(np.arange(4), 10))
    copies = RowSource.from_matrix(
        sp.csr_matrix((np.ones(len(rows.bins), np.float32), rows.bins, rows.indptr), (40, 800))
    )
    start = fit_spectral(copies, np.arange(40), d_embed=8)
    assert np.isfinite(start.vectors).all()
    near = nearest_cells(start, np.arange(40), 40, 5)
    assert (near // 10 == (np.arange(40) // 10)[:, None]).mean() > 0.9


def test_two_cells_are_too_few():
    source, _ = cells(n=2)
    with pytest.raises(ValueError, match="there are 2 cells; expected at least 3"):
        fit_spectral(source, np.arange(2))


def test_bins_that_follow_the_cells_are_worth_more_than_those_that_are_the_same_everywhere():
    rng = np.random.default_rng(0)
    kind = np.arange(240) % 3
    rate = np.full((3, 4000), 0.06)
    rate[:, 1::2] *= np.array([0.2, 0.6, 2.2])[(np.arange(3)[:, None] + np.arange(2000) // 7) % 3]  # mean 0.06
    rate[:, 0::4] = 0.25  # open more often, and the same everywhere
    x = rng.random((240, 4000)) < rate[kind]
    start = fit_spectral(RowSource.from_matrix(sp.csr_matrix(x.astype(np.float32))), np.arange(240), d_embed=8)
    n_open = x.sum(0)
    idf = np.log(240 / (1 + n_open))
    worth = np.sqrt(start.norm_weight) / idf  # F^1/4
    assert worth.max() <= 1.001
    often, seldom = worth[0::4][n_open[0::4] > 45], worth[1::2][n_open[1::2] < 30]
    assert often.mean() < 0.7 * seldom.mean()
