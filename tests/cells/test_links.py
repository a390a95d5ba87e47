"""Evidence for links: the planted pairs stand out, permuted cells and batches do not, and nothing is ever NaN."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer.cells import benjamini_hochberg, link_evidence

N_CELLS, N_GENES, N_BINS, WIDTH = 500, 40, 400, 20


def planted(seed: int = 0, effect: float = 1.0, batch: float = 0.0):
    """Opened bins, expression, state, windows, the linked bin of each gene, batch.

    The window of gene g are the bins 10 g - 5 ... 10 g + 14; it follows bin 10 g. All of them follow three states.
    """
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(N_CELLS, 3))
    own = np.zeros((N_CELLS, N_BINS))
    linked = 10 * np.arange(N_GENES)
    own[:, linked] = rng.normal(size=(N_CELLS, N_GENES)) * 1.5
    codes = rng.integers(0, 2, N_CELLS)
    shift = np.zeros(N_BINS)
    shift[linked + 3] = batch  # a neighbour that only the batch opens
    logit = state @ rng.normal(size=(3, N_BINS)) * 0.6 + own - 1.2 + codes[:, None] * shift
    opened = rng.random((N_CELLS, N_BINS)) < 1 / (1 + np.exp(-logit))
    y = state @ rng.normal(size=(3, N_GENES)) * 0.6 + effect * own[:, linked] + rng.normal(size=(N_CELLS, N_GENES))
    y += batch * codes[:, None]
    first = np.clip(linked - 5, 0, N_BINS - WIDTH)
    bins = (first[:, None] + np.arange(WIDTH)).ravel()
    indptr = np.arange(0, len(bins) + 1, WIDTH)
    return (
        sp.csr_matrix(opened.astype(np.float32)),
        sp.csr_matrix(np.maximum(y + 3, 0)),
        state,
        indptr,
        bins,
        linked,
        codes,
    )


def truth(indptr, bins, linked) -> np.ndarray:
    return bins == np.repeat(linked, np.diff(indptr))


def auroc(true: np.ndarray, score: np.ndarray) -> float:
    positive, negative = score[true], score[~true]
    return float((positive[:, None] > negative[None]).mean() + 0.5 * (positive[:, None] == negative[None]).mean())


def test_planted_links_stand_out_and_far_pairs_do_not():
    opened, y, state, indptr, bins, linked, _ = planted()
    evidence, true = link_evidence(opened, y, state, indptr, bins), truth(indptr, bins, linked)
    assert auroc(true, evidence.score) > 0.97
    q = benjamini_hochberg(evidence.p)
    assert true[q < 0.1].mean() >= 0.8
    assert (q < 0.1)[true].mean() > 0.7
    assert evidence.partial[true].mean() > 0.3
    assert abs(evidence.partial[~true].mean()) < 0.05
    assert evidence.weight[0] > 0.5


def test_the_partial_correlation_is_that_of_the_residuals():
    opened, y, state, indptr, bins, *_ = planted()
    evidence = link_evidence(opened, y, state, indptr, bins)
    design = np.column_stack([np.ones(N_CELLS), state])

    def residual(v):
        return v - design @ np.linalg.lstsq(design, v, rcond=None)[0]

    for gene, k in ((0, 3), (7, 11), (39, 0)):
        x, z = opened[:, bins[indptr[gene] + k]].toarray().ravel(), y[:, gene].toarray().ravel()
        expected = np.corrcoef(residual(x), residual(z))[0, 1]
        assert evidence.partial[indptr[gene] + k] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_of_permuted_cells_nothing_is_found_and_p_is_uniform(seed):
    opened, y, state, indptr, bins, linked, _ = planted(seed)
    y = y[np.random.default_rng(seed).permutation(N_CELLS)]
    evidence, true = link_evidence(opened, y, state, indptr, bins), truth(indptr, bins, linked)
    assert 0.4 < auroc(true, evidence.score) < 0.6  # 40 links: a standard deviation is .045
    assert (benjamini_hochberg(evidence.p) < 0.05).mean() <= 0.01
    for level in (0.05, 0.25, 0.5):
        assert (evidence.p < level).mean() == pytest.approx(level, abs=0.05)


def test_a_batch_that_opens_a_bin_and_raises_a_gene_is_no_link_once_it_is_taken_off():
    opened, y, state, indptr, bins, linked, codes = planted(batch=3.0)
    of_batch = truth(indptr, bins, linked + 3)
    naive = link_evidence(opened, y, state, indptr, bins)
    aware = link_evidence(opened, y, state, indptr, bins, covariates=codes[:, None].astype(float))
    assert naive.partial[of_batch].mean() > 0.3
    assert abs(aware.partial[of_batch].mean()) < 0.05
    assert aware.p[of_batch].mean() > 0.3
    true = truth(indptr, bins, linked)
    assert auroc(true, aware.score) > auroc(true, naive.score)
    assert auroc(true, aware.score) > 0.97


def test_the_seed_draws_the_bins_far_away_and_the_order_of_cells_does_not_matter():
    opened, y, state, indptr, bins, *_ = planted()
    first, again = (link_evidence(opened, y, state, indptr, bins, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.score, again.score)
    np.testing.assert_array_equal(first.p, again.p)
    order = np.random.default_rng(0).permutation(N_CELLS)
    mixed = link_evidence(opened[order], y[order], state[order], indptr, bins, seed=4)
    np.testing.assert_allclose(mixed.score, first.score, atol=1e-3)


def test_the_scale_of_a_gene_does_not_matter():
    opened, y, state, indptr, bins, *_ = planted()
    first = link_evidence(opened, y, state, indptr, bins)
    scaled = link_evidence(opened, y @ sp.diags(np.linspace(0.1, 9, N_GENES)).tocsr(), state, indptr, bins)
    np.testing.assert_allclose(scaled.score, first.score, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_constant_genes_and_bins_give_no_evidence_and_no_nan(value):
    opened, y, state, indptr, bins, linked, _ = planted()
    y, opened = y.tolil(), opened.tolil()
    y[:, [3, 9]] = value
    opened[:, 17] = 1.0  # everywhere
    opened[:, 18] = 0.0  # nowhere
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evidence = link_evidence(opened.tocsr(), y.tocsr(), state, indptr, bins)
    for found in (evidence.score, evidence.p, evidence.partial):
        assert np.isfinite(found).all()
    for gene in (3, 9):
        part = slice(indptr[gene], indptr[gene + 1])
        assert not evidence.partial[part].any()
        assert evidence.p[part].min() > 0.05
    never = np.isin(bins, [17, 18])
    assert np.abs(evidence.partial[never]).max() < 0.05
    others = truth(indptr, bins, linked) & ~np.isin(np.repeat(np.arange(N_GENES), WIDTH), [3, 9])
    assert evidence.partial[others].mean() > 0.3


def test_a_gene_whose_window_holds_every_bin_gets_an_honest_p():
    opened, y, state, *_ = planted()
    first = np.clip(10 * np.arange(N_GENES) - 5, 0, N_BINS - WIDTH)
    windows = [f + np.arange(WIDTH) for f in first]
    windows[20] = np.arange(N_BINS)
    indptr = np.concatenate([[0], np.cumsum([len(w) for w in windows])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evidence = link_evidence(opened, y, state, indptr, np.concatenate(windows))
    part = slice(indptr[20], indptr[21])
    assert np.isfinite(evidence.score).all()
    assert 0.3 < np.median(evidence.p[part]) < 0.7
    assert evidence.p[part][200] < 0.01  # its own link


def test_where_no_bin_is_far_from_any_gene_there_is_nothing_to_compare_with():
    opened, y, state, *_ = planted()
    bins, indptr = np.tile(np.arange(N_BINS), 2), np.array([0, N_BINS, 2 * N_BINS])
    with pytest.raises(ValueError, match="all 400 open bins are in the windows of all 2 genes.*smaller window"):
        link_evidence(opened, y[:, :2], state, indptr, bins)


def test_no_pairs_give_no_evidence():
    opened, y, state, *_ = planted()
    evidence = link_evidence(opened, y, state, np.zeros(N_GENES + 1, int), np.zeros(0, int))
    assert len(evidence.score) == len(evidence.p) == len(evidence.partial) == 0


def test_too_few_cells_are_refused():
    opened, y, state, indptr, bins, *_ = planted()
    with pytest.raises(ValueError, match="there are 12 cells for 3 dimensions of the state; expected at least 10 more"):
        link_evidence(opened[:12], y[:12], state[:12], indptr, bins)
