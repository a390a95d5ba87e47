"""How many dimensions of the cells are found again in bins that they were not computed from (notation as in
``spectral``)."""

from __future__ import annotations

import numpy as np

from .open_bins import OpenBins
from .options import StartOptions
from .similarity import ROUGH, Similarity
from .spectrum import both_ends, participation

BLOCK = 10  # neighbouring bins mostly stay in one part of the genome, because a fragment can open two of them
N_PARTS = 4
N_BULK = 12  # number of further dimensions, which show what is found again of noise
MIN_CELLS = 40


def cross_validated(
    opened: OpenBins,
    bin_weight: np.ndarray,
    d_embed: int,
    rng: np.random.Generator,
    options: StartOptions,
    place: np.ndarray | None = None,
) -> np.ndarray | None:
    """By how many standard deviations the dimensions that are found again in other bins stand out from noise.

    Each part of the genome is left out in turn. The vectors u_k of the others are tested on it by u_k' L u_k, which is
    the same for all vectors of noise but for chance, because noise in different bins is independent, and larger for
    signal, also for signal that is too weak to stand out in the spectrum (cross-validated eigenvalues, Chen, Roch, Rohe
    & Yu 2021). Noise is what comes after the first ``d_embed`` vectors.

    ``place`` (n_bins,) ascending places of the bins along the genome, by default their numbers.

    Returns the values above ``options.sure``, one for each dimension, (n_dims,); None if there are too few cells or bins
    to say.
    """
    n = opened.shape[0]
    place = np.arange(opened.shape[1]) if place is None else place
    part = np.where(bin_weight > 0, place // BLOCK % N_PARTS, -1)
    if n < MIN_CELLS or len(np.unique(part[part >= 0])) < N_PARTS:
        return None
    d = min(d_embed + N_BULK, n - 2)
    least = options.least(n)
    results = []
    for left_out in range(N_PARTS):
        vectors = _vectors(opened, bin_weight, (part >= 0) & (part != left_out), d, least, rng)
        own = part == left_out
        results.append(_products(Similarity(opened.of_bins(own), bin_weight[own]), vectors))
    n_tested = min(map(len, results))
    if n_tested <= N_BULK:
        return None
    tested = np.stack([values[:n_tested] for values in results])
    candidates, bulk = tested[:, : n_tested - N_BULK][:, :d_embed], tested[:, -N_BULK:]
    level = float(np.median(bulk.mean(0)))
    deviation = float(np.sqrt(np.mean((bulk - np.median(bulk, axis=1, keepdims=True)) ** 2) / N_PARTS))
    z = (candidates.mean(0) - level) / max(deviation, 1e-30)
    return z[z > options.sure]


def _vectors(
    opened: OpenBins, bin_weight: np.ndarray, bins: np.ndarray, d: int, least: float, rng: np.random.Generator
) -> np.ndarray:
    """Up to ``d`` vectors of the cells by ``bins``, without those that a handful of cells support.  (n_cells, k)"""
    # bins of no weight, instead of a copy of the matrix without them
    similarity = Similarity(opened, np.where(bins, bin_weight, 0.0))
    found = both_ends(similarity.product, similarity.start(rng, bins), similarity.first, d, least, ROUGH)
    return found.vectors[:, participation(found.vectors) >= least]


def _products(similarity: Similarity, vectors: np.ndarray) -> np.ndarray:
    """For each column u, u' L u without its part along the first vector, and scaled to length 1.  (k,)"""
    u = vectors - np.outer(similarity.first, similarity.first @ vectors)
    u /= np.maximum(np.linalg.norm(u, axis=0), 1e-12)
    return similarity.forms(u)
