"""Initial bin vectors from given vectors, for example those of another model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from scatacformer.cells.sampling import uniform

from .sampled import sampled_cells
from .spectral import MAX_FIT_CELLS, SpectralStart

if TYPE_CHECKING:
    from scatacformer.cells.source import RowSource


def start_from_vectors(
    source: RowSource,
    cells: np.ndarray,
    vectors: np.ndarray,
    d_embed: int = 32,
    max_cells: int = MAX_FIT_CELLS,
    seed: int = 0,
) -> SpectralStart:
    """The directions of ``vectors`` in which these cells differ, as an initialisation instead of :func:`fit_spectral`.

    A cell is the mean of its bins' vectors, weighted by idf. Two random halves of its bins share the signal of the cell
    but not the noise: the eigenvectors of the covariance between the halves are the dimensions, and its eigenvalues the
    variance of the cells along them. Eigenvalues no larger than the magnitude of the most negative one are noise and
    get weight zero. Columns of the table are scaled so that the variance of the cells in each is 1.

    Parameters
    ----------
    source
        The open bins of the cells.
    vectors
        (source.n_bins, d). Rows with NaN, and bins that no cell has open, are not compared.
    cells
        Row numbers; at most ``max_cells`` of them, sampled by the seed, are used.
    d_embed
        Maximum number of dimensions.
    max_cells
        Most cells to use.
    seed
        Of the cells that are used, and of the halves of their bins.

    Raises
    ------
    ValueError
        There is not one vector for each bin, vectors are infinite, or all open bins lack vectors; fewer than 3 cells.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(vectors) != source.n_bins or vectors.dtype.kind != "f":
        raise ValueError(
            f"the vectors have shape {vectors.shape} and dtype {vectors.dtype}; expected a vector of real numbers "
            f"for each of {source.n_bins:,} bins."
        )
    if len(cells) < 3:
        raise ValueError(f"there are {len(cells)} cells; expected at least 3 to initialise the embedding.")
    cells = sampled_cells(source, cells, max_cells, np.random.default_rng(seed))
    known = ~np.isnan(vectors).any(1)
    if np.isinf(vectors[known]).any():
        raise ValueError(
            "the vectors contain infinite values; expected finite numbers, or NaN for bins without a vector."
        )
    indptr, bins, _ = source.rows(cells)
    n_open = np.bincount(bins, minlength=source.n_bins)
    weight = np.log(len(cells) / (1 + n_open)).clip(min=1e-3) * (known & (n_open > 0))
    if not weight.any():
        raise ValueError(
            "none of the bins that are open in these cells has a vector. Check that the vectors are in the order of the bins."
        )
    vectors = np.where(weight[:, None] > 0, vectors, 0.0).astype(np.float32, copy=False)
    owner = np.repeat(np.arange(len(cells)), np.diff(indptr))
    first = uniform(bins, cells[owner], seed=seed) < 0.5
    half_a, has_a = _pooled(indptr, bins, weight, first, vectors)
    half_b, has_b = _pooled(indptr, bins, weight, ~first, vectors)
    pooled, has = _pooled(indptr, bins, weight, np.ones(len(bins), bool), vectors)
    both = has_a & has_b
    if both.sum() < 3:
        raise ValueError(f"only {both.sum()} cells have enough open bins with vectors; expected at least 3.")
    mean = pooled[has].mean(0)
    shared = (half_a[both] - mean).T @ (half_b[both] - mean) / both.sum()
    values, axes = np.linalg.eigh((shared + shared.T).astype(np.float64) / 2)  # ascending
    noise = max(-float(values[0]), 0.0)
    values, axes = values[::-1][:d_embed], axes[:, ::-1][:, :d_embed]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])  # signs are arbitrary: fix them
    keep = values > max(noise, 1e-9 * abs(float(values[0])))
    if not keep.any():
        keep[:2] = True  # nothing is above the noise: keep two dimensions, so that there is an embedding
    spread = np.sqrt(np.maximum(values, 1e-12))
    k = len(values)
    axes = (axes * np.where(keep, 1 / spread, 0.0)).astype(np.float32)
    table = np.zeros((source.n_bins, d_embed), np.float32)
    table[:, :k] = vectors @ axes - mean @ axes
    table[weight == 0] = 0.0
    dimension_weight = np.zeros(d_embed, np.float32)
    dimension_weight[:k] = np.where(keep, spread, 0.0)
    embedded = np.zeros((len(cells), d_embed), np.float32)
    embedded[has, :k] = ((pooled[has] - mean) @ axes) * dimension_weight[:k]
    return SpectralStart(
        table, weight.astype(np.float32), (weight**2).astype(np.float32), np.ones(d_embed, np.float32),
        dimension_weight, noise, np.asarray(cells), embedded,
    )  # fmt: skip


def _pooled(
    indptr: np.ndarray, bins: np.ndarray, weight: np.ndarray, among: np.ndarray, vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean over some of each cell's bins, (n_cells, d), and which cells have any with a weight, (n_cells,)."""
    values = (weight[bins] * among).astype(np.float32)
    opened = sp.csr_matrix((values, bins, indptr), shape=(len(indptr) - 1, len(vectors)))
    mass = np.asarray(opened.sum(1)).ravel()
    return (opened @ vectors) / np.maximum(mass, 1e-12)[:, None], mass > 0
