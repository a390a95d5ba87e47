"""Evidence for links between bins and genes from their association across cells, in two channels.

*Residual*: association after regressing out the cell state. z_gb = sqrt(n) corr(y_g - P y_g, x_b - P x_b), with P the
projection on the embedding of chromatin and a constant: a partial correlation. It uses differences in a bin and in a
gene between cells of the same state.

*State*: association between states. With v_k the whitened dimensions of the state, s_gb = sum_k (v_k y_g) (v_k x_b), in
units of the same residual deviations: all dimensions have the same weight, so that the one or two that all genes and
bins follow do not dominate.

Each channel is compared with a background of pairs that are not in the window: the same genes with bins farther away or
on other chromosomes. Its weight is sqrt(max(V - 1, 0)), where V is the variance over pairs in the window relative to
the background: with a share of links of mean effect mu among noise of variance 1, the excess is proportional to mu^2,
and mu is the weight in the log-likelihood ratio. A channel without information has weight zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

GENES_AT_ONCE = 256
MAX_DENSE = 2**26  # cells x genes at a time: 512 MB; fewer genes for more than 262,144 cells
FAR_BINS = 2_000  # bins in the background
N_STRATA = 8  # of bins by their frequency, in the background
MIN_FAR = 10  # minimum number of background bins to estimate a gene's own mean and deviation
MAX_NULL = 20_000_000


class NoEvidence(ValueError):
    """There is nothing that links of genes and bins could be estimated from: too few cells, or no background."""


@dataclass(frozen=True)
class LinkEvidence:
    """Evidence for pairs of genes and bins, in the order given."""

    score: np.ndarray  # (n_pairs,) float32: both channels, weighted, in standard deviations of the background
    p: np.ndarray  # (n_pairs,) share of background pairs with at least this score
    partial: np.ndarray  # (n_pairs,) float32: the partial correlation given the state
    weight: tuple[float, float]  # weights of the residual and the state channel


def link_evidence(
    opened: sp.csr_matrix,
    values: sp.csr_matrix,
    state: np.ndarray,
    indptr: np.ndarray,
    bins: np.ndarray,
    covariates: np.ndarray | None = None,
    seed: int = 0,
) -> LinkEvidence:
    """Evidence that a gene follows a bin, for pairs within a window.

    Parameters
    ----------
    opened
        (n_cells, n_bins) CSR, 1 where a bin is open. Any of the bins can be used in the background.
    values
        (n_cells, n_genes) CSR, log-normalised expression.
    state
        (n_cells, k), the embedding of chromatin.
    indptr, bins
        The bins in the window of gene g are ``bins[indptr[g]:indptr[g + 1]]``, columns of ``opened``.
    covariates
        (n_cells, m), regressed out of both and used in neither channel, such as batches.
    seed
        Seed for sampling the background bins.

    Memory: n_cells x 256 numbers, and 20 million numbers for the background. Raises ValueError for fewer than 10 cells
    more than state dimensions, or if every open bin is in the window of every gene."""
    n, n_genes = values.shape
    if not len(bins):
        empty = np.zeros(0, np.float32)
        return LinkEvidence(empty, np.zeros(0), empty, (0.0, 0.0))
    if n < state.shape[1] + 10:
        raise NoEvidence(
            f"there are {n:,} cells for {state.shape[1]} dimensions of the state; expected at least 10 more cells than dimensions."
        )
    aside = np.ones((n, 1)) if covariates is None else np.column_stack([np.ones(n), covariates])
    basis = np.linalg.qr(np.column_stack([aside, state]))[0]  # (n_cells, m + k), orthonormal
    by_bin = opened.T.tocsr()  # (n_bins, n_cells)
    n_open = np.diff(by_bin.indptr)
    along = by_bin @ basis  # (n_bins, m + k)
    deviation = np.sqrt(np.maximum(n_open - (along**2).sum(1), 1e-6))
    along = (along[:, aside.shape[1] :] / deviation[:, None]).astype(np.float32)
    rng = np.random.default_rng(seed)
    candidates = np.flatnonzero(n_open > 0)
    n_far = min(FAR_BINS, len(candidates), max(MAX_NULL // max(n_genes, 1), 50))
    far = np.sort(rng.choice(candidates, n_far, replace=False))
    by_gene = values.tocsc()
    near = sp.csr_matrix((np.ones(len(bins), bool), bins, indptr), shape=(n_genes, len(n_open)))
    far_rows, far_near = by_bin[far], near[:, far]

    residual, states = np.zeros(len(bins), np.float32), np.zeros(len(bins), np.float32)
    null = np.full((2, n_far, n_genes), np.nan, np.float32)
    at_once = max(min(GENES_AT_ONCE, MAX_DENSE // max(n, 1)), 1)
    for first in range(0, n_genes, at_once):
        genes = np.arange(first, min(first + at_once, n_genes))
        y = by_gene[:, genes].toarray().astype(np.float64)  # (n_cells, at_once)
        coefficient = basis.T @ y
        y -= basis @ coefficient
        norm = np.sqrt((y**2).sum(0))
        # genes that are fully explained by the state, or not expressed, provide no evidence
        scale = np.where(norm > 1e-6, np.sqrt(n) / np.maximum(norm, 1e-12), 0.0)
        y = (y * scale).astype(np.float32)
        gene_along = (coefficient[aside.shape[1] :] * scale).astype(np.float32)  # (k, genes)
        null[0][:, genes] = (far_rows @ y) / deviation[far][:, None]
        null[1][:, genes] = along[far] @ gene_along
        null[:, :, genes] = np.where(far_near[genes].toarray().T, np.nan, null[:, :, genes])
        for column, gene in enumerate(genes):
            part = slice(indptr[gene], indptr[gene + 1])
            b = bins[part]
            residual[part] = (by_bin[b] @ y[:, column]) / deviation[b]
            states[part] = along[b] @ gene_along[:, column]
    if np.isnan(null[0]).all():
        raise NoEvidence(
            f"all {n_far:,} open bins are in the windows of all {n_genes:,} genes, so there are no background bins. "
            "Choose a smaller window."
        )
    weight, score, far_score = [], np.zeros(len(bins), np.float32), np.zeros((n_far, n_genes), np.float32)
    for channel, found in zip(null, (residual, states), strict=True):
        spread = float(np.nanstd(channel)) or 1.0
        w = float(np.sqrt(max(np.var(found / spread) - 1.0, 0.0)))
        score += w / spread * found
        far_score += w / spread * channel
        weight.append(w)
    if not any(weight):  # nothing beyond chance: only the partial correlation
        score, far_score, weight = residual, null[0], [1.0, 0.0]
    owner = np.repeat(np.arange(n_genes), np.diff(indptr))
    p = _far_p(score, owner, n_open[bins], far_score, n_open[far])
    spread = float(np.nanstd(far_score)) or 1.0
    return LinkEvidence(score / np.float32(spread), p, residual / np.float32(np.sqrt(n)), (weight[0], weight[1]))


def _far_p(
    score: np.ndarray, gene: np.ndarray, n_open: np.ndarray, far_score: np.ndarray, far_open: np.ndarray
) -> np.ndarray:
    """Share of background pairs with at least this score, standardised per gene, among bins of similar frequency.

    Pooled over genes, so that p can be small: (1 + number at least as high) / (1 + number). (n_pairs,) float64
    """
    mean, spread = np.full(far_score.shape[1], np.nanmean(far_score)), np.full(far_score.shape[1], np.nanstd(far_score))
    told = (~np.isnan(far_score)).sum(
        0
    ) >= MIN_FAR  # other genes have too few background bins: they use the mean over all genes
    mean[told], spread[told] = np.nanmean(far_score[:, told], 0), np.nanstd(far_score[:, told], 0)
    spread = np.maximum(spread, 1e-6)
    far = (far_score - mean) / spread
    z = (score - mean[gene]) / spread[gene]
    edges = np.unique(np.quantile(far_open, np.linspace(0, 1, N_STRATA + 1)[1:-1]))
    group, far_group = np.digitize(n_open, edges), np.digitize(far_open, edges)
    p = np.ones(len(score))
    for k in range(len(edges) + 1):
        mine = group == k
        if not mine.any():
            continue
        rows = far[far_group == k] if (far_group == k).any() else far
        null = np.sort(rows[~np.isnan(rows)])
        above = len(null) - np.searchsorted(null, z[mine], "left")
        p[mine] = (1 + above) / (1 + len(null))
    return p
