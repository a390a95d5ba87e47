"""Initial bin vectors from the data: leave-self-out spectral embedding in closed form.

Cells are compared by the cosine of their weighted open bins. The diagonal, the comparison of a cell with itself,
contains its noise; without the diagonal, the eigenvalues of noise dimensions are around zero, half of them below it. A
deep cell is more informative than a shallow one, so cells are weighted by the length of their row::

    w_i = x_i g / n_i,   n_i = |x_i g|     g_b: weight of a bin, see below; x binary
    K   = W W' - I,   d_i = sum_j K_ij n_j
    L   = (N/D)^1/2 K (N/D)^1/2 = U diag(lambda) U'
    u_k = U_k / U_0                        division by the first vector removes the depth
    v_b = sum_i x_ib u_i / n_open_b,       a_b = g_b^2 n_open_b

The mean of the rows v_b of a cell's open bins, weighted by a_b, is p_ik = (d_i lambda_k + n_i) u_ik / (d_i + n_i),
where n_i comes from the comparison of the cell with itself. So u_ik = p_ik (d_i + n_i) / (d_i lambda_k + n_i), and (d_i
+ n_i) / n_i = sum_b a_b / sum_b g_b^2 over the cell's bins: only the bins of a cell are needed, also for new cells
(Nystroem), and a shallow cell (small d / n) is shrunk towards the centre in dimensions for which it has little
evidence. The cell-by-cell matrix is never computed: a product with K is two sparse products with W (Lanczos).

The noise level is estimated from the spectrum: the lowest eigenvalue shows how far the noise extends below its centre c
(the lowest whose vector is supported by more than a handful of cells, because two deep cells that differ have one of
their own). The centre follows from the sum of all eigenvalues, which is zero like the diagonal: what lies above the
noise is balanced by a shift of the noise below zero. The shift is negligible for thousands of sparse cells, and decides
for a few hundred dense ones. A dimension has weight ((lambda - c)^2 - h^2)^1/2, h how far the noise extends below c.

The number of dimensions is found by cross-validation: the genome is divided into four parts, the vectors of three parts
are tested on the fourth, and dimensions are kept that stand out there (``dimensions``). Above its centre, noise extends
further than below, by an amount that depends on the data, and signals that are weaker than that are common. The
spectrum alone can distinguish neither from the other.

The weights of the bins are estimated. Two cells are distinguished best if g_b^2, the weight of a bin in K, is
proportional to the variance of its relative accessibility over cells, F_b. idf approximates it (the rarer the better),
but fails for rare bins, which are mostly background, and if all types share most bins. F_b is estimated across two
halves of the genome: cells are embedded with the ``max_bins`` most frequently open bins of one half, and for each bin
of the other half, the mean of u_ik u_jk over pairs of cells in which it is open is summed over the dimensions, each
weighted by its share of signal (by the law of Marchenko and Pastur, whose edge is strict: dimensions below it hold weak
signals, but none from which F could be measured). A single bin provides too little evidence, so F is the trend over
log n_open. Then g_b = idf_b F_b^1/4, which combines both. A bin whose F is zero is not compared. If idf^3/2 F^1/8,
idf^1/2 F^1/2 or idf alone gives more that is found again in the cross-validation, this formula is used: the sum over
dimensions of the logarithm of the standard deviations by which they stand out, relative to the minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .bin_weights import bin_weights
from .dimensions import cross_validated
from .open_bins import OpenBins
from .options import StartOptions
from .sampled import sampled_cells
from .similarity import Comparison, compare

if TYPE_CHECKING:
    from scatacformer.cells.source import RowSource

MAX_FIT_CELLS = 20_000
MAX_BINS = 50_000


@dataclass(frozen=True)
class SpectralStart:
    """Result of :func:`fit_spectral`.

    ``table`` (n_bins, d_embed) rows v_b, zero for dimensions that are noise, shrunk to zero for bins that are not
    compared; ``pool_weight`` and ``norm_weight`` (n_bins,) a_b and g_b^2, zero for these; ``eigenvalues`` (d_embed,)
    lambda; ``weight`` (d_embed,) of each dimension in the embedding, zero where dropped; ``noise`` how far noise often
    extends above its centre; ``cells`` the
    fitted cells, ``vectors`` (len(cells), d_embed) their embedding, weight_k u_ik.
    """

    table: np.ndarray
    pool_weight: np.ndarray
    norm_weight: np.ndarray
    eigenvalues: np.ndarray
    weight: np.ndarray
    noise: float
    cells: np.ndarray
    vectors: np.ndarray

    @property
    def n_dims(self) -> int:
        """Number of dimensions above the noise."""
        return int((self.weight > 0).sum())


def fit_spectral(
    source: RowSource,
    cells: np.ndarray,
    d_embed: int = 32,
    min_cells: int = 3,
    max_cells: int = MAX_FIT_CELLS,
    max_bins: int = MAX_BINS,
    seed: int = 0,
    options: StartOptions | None = None,
    out: np.ndarray | None = None,
) -> SpectralStart:
    """Leave-self-out spectral vectors of the bins, fitted on ``cells`` (at most ``max_cells``, sampled by the seed and
    by their bins, whatever their order).

    Time and memory are proportional to the number of open bins of the fitted cells, not to cells x bins. Bins that are
    open in fewer than ``min_cells`` are not compared; bin weights are estimated with the ``max_bins`` bins that are
    open in most cells (including ties). ``options``: constants, by default those of :class:`StartOptions`.
    ``out``: (n_bins, d_embed) float32 to write the table to, once everything else is known. Raises ValueError for fewer
    than 3 cells."""
    if len(cells) < 3:
        raise ValueError(f"there are {len(cells)} cells; expected at least 3 for the spectral initialisation.")
    rng, options = np.random.default_rng(seed), options or StartOptions()
    cells = sampled_cells(source, cells, max_cells, rng)
    indptr, bins, _ = source.rows(cells)
    opened = OpenBins(indptr, bins, source.n_bins)
    n_open = opened.open_cells()
    weight = bin_weights(opened, min(min_cells, max(len(cells) - 1, 1)), max_bins, d_embed, rng, options)
    fit = compare(opened, weight, d_embed, rng, options)
    found = cross_validated(opened, weight, d_embed, rng, options)
    dimension_weight = _dimension_weight(fit, None if found is None else len(found))
    pull = np.where(weight > 0, 0.0, 10.0)  # as if a bin that is not compared were open in 10 more cells
    n_pulled = np.maximum(n_open + pull, 1).astype(np.float32)
    table = np.empty((source.n_bins, d_embed), np.float32) if out is None else out
    table.fill(0.0)
    kept = np.flatnonzero(dimension_weight > 0)
    for columns, total in opened.columns_over_cells(fit.u[:, kept]):
        for dimension, column in zip(kept[columns], total.T, strict=True):  # one at a time: the table is large
            np.divide(column, n_pulled, out=table[:, dimension])
    k = len(fit.values)
    norm_weight = (weight**2).astype(np.float32)
    pool_weight = (weight**2 * n_open).astype(np.float32)
    vectors = np.zeros((len(cells), d_embed), np.float32)
    vectors[:, :k] = fit.u * dimension_weight
    return SpectralStart(
        table, pool_weight, norm_weight, _padded(fit.values, d_embed), _padded(dimension_weight, d_embed), fit.noise,
        np.asarray(cells), vectors,
    )  # fmt: skip


def _dimension_weight(fit: Comparison, n_dims: int | None) -> np.ndarray:
    """Weight of the first ``n_dims`` dimensions, by default of those above the noise; at least of one.  (k,)

    Dimensions that a handful of cells support have no weight, and do not count.
    """
    valid = fit.signal > 0
    kept = fit.above > fit.noise if n_dims is None else np.cumsum(valid) <= n_dims
    weight = np.where(kept & valid, fit.signal, 0.0)
    if not weight.any():  # nothing is above the noise: keep the two strongest, so that there is an embedding
        weight[:2] = np.maximum(fit.above[:2], 1e-3)
    return weight


def _padded(x: np.ndarray, size: int) -> np.ndarray:
    out = np.zeros(size, np.float32)
    out[: len(x)] = x
    return out


def nearest_cells(start: SpectralStart, cells: np.ndarray, n_cells: int, n_neighbors: int = 10) -> np.ndarray:
    """Nearest neighbours in the spectral embedding, only among fitted ``cells``.

    Returns (n_cells, n_neighbors) row numbers, -1 for cells that are not in ``cells`` or were not fitted; never the
    cell itself. Held-out cells must not be in ``cells``, because as targets they would leak into training.
    """
    from sklearn.neighbors import NearestNeighbors

    inside = np.isin(start.cells, cells)
    rows, vectors = start.cells[inside], start.vectors[inside]
    k = min(n_neighbors, len(rows) - 1)
    out = np.full((n_cells, n_neighbors), -1, np.int64)
    if k < 1:
        return out
    # without an argument, kneighbors excludes the cell itself, also among identical cells
    near = NearestNeighbors(n_neighbors=k).fit(vectors).kneighbors(return_distance=False)
    out[rows] = rows[near[:, np.arange(n_neighbors) % k]]
    return out
