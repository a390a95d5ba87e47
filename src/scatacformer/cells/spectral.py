"""The first bin vectors, from the cells themselves: leave-self-out spectral embedding in closed form.

Cells are compared by the cosine of their weighted open bins. On the diagonal a cell meets itself, its own noise;
without the diagonal the noise dimensions fall to eigenvalues around zero, half of them below it::

    w_i = x_i g / |x_i g|                  g_b: weight of a bin, see below; x binary
    K   = W W' - I,   d_i = sum_j K_ij,    L = D^-1/2 K D^-1/2 = U diag(lambda) U'
    u_k = U_k / U_0                        division by the first vector takes depth out
    v_b = sum_i W_ib u_i / s_b,            s_b = sum_i W_ib,    a_b = g_b s_b

The mean of the rows v_b of a cell's open bins, weighted by a_b, is p_ik = (d_i lambda_k + 1) u_ik / (d_i + 1): the 1
is the cell meeting itself. So u_ik = p_ik (d_i + 1) / (d_i lambda_k + 1), and d_i + 1 = sum_b a_b / sqrt(sum_b g_b^2)
over the cell's bins: nothing but the bins of a cell is needed, for new cells as well (Nystroem), and a shallow cell
(small d) is drawn to the centre in dimensions that it has little evidence for.
The cell-by-cell matrix is never made: a product with K is two sparse products with W (Lanczos).

The spectrum measures its own noise: without the diagonal it is symmetric for cells with nothing in common, so the
lowest eigenvalue -e says how far noise reaches. Dimensions with lambda <= e are dropped, the others have weight
sqrt(lambda^2 - e^2).

What a bin is worth is measured. Two cells are told apart best if g_b^2, a bin's weight in K, goes with the variance over
cells of its relative accessibility, F_b; idf is a guess of it (the rarer the better), that fails for rare bins, which
are mostly background, and for sets of cells in which all types share most bins. F_b is estimated across two halves of
the genome: cells are embedded by the ``max_bins`` bins of one half that most have open, and for each bin of the other
half the squared mean of u_k over the cells that have it open, less what chance gives (1 / n_open_b), is summed over the
dimensions above the noise. A bin alone says too little; F is the trend over log n_open. Then g_b = idf_b F_b^1/4: half
the guess, half the measure. A bin whose F is zero is not compared.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from .source import RowSource

MAX_FIT_CELLS = 20_000
MAX_BINS = 50_000
BLOCK = 100  # neighbouring bins that stay in one half of the genome: a fragment opens two of them
MIN_OPEN = 10  # cells in which a bin must be open to say what bins like it are worth


@dataclass(frozen=True)
class SpectralStart:
    """What :func:`fit_spectral` found.

    ``table`` (n_bins, d_embed) rows v_b, zero for dimensions that are noise, drawn to zero for bins that are not
    compared; ``pool_weight`` and ``norm_weight`` (n_bins,) a_b and g_b^2, zero for these; ``eigenvalues`` (d_embed,)
    lambda; ``weight`` (d_embed,) of each dimension in the embedding, zero where dropped; ``noise`` e; ``cells`` the
    cells that were fitted, ``vectors`` (len(cells), d_embed) their embedding, weight_k u_ik.
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
) -> SpectralStart:
    """Leave-self-out spectral vectors of the bins, fitted on ``cells`` (at most ``max_cells`` of them, drawn by seed).

    Time and memory grow with the open bins of the fitted cells, not with cells x bins. Bins that are open in fewer than
    ``min_cells`` are not compared; what bins are worth is measured with the ``max_bins`` that are open in most cells (all
    of equal rank at the edge). Raises ValueError for fewer than 3 cells.
    """
    if len(cells) < 3:
        raise ValueError(f"a spectral start needs at least 3 cells, found {len(cells)}")
    rng = np.random.default_rng(seed)
    if len(cells) > max_cells:
        cells = np.sort(rng.choice(cells, max_cells, replace=False))
    indptr, bins, _ = source.rows(cells)
    opened = sp.csr_matrix((np.ones(len(bins), np.float32), bins, indptr), shape=(len(cells), source.n_bins))
    n_open = np.bincount(bins, minlength=source.n_bins)
    min_cells = min(min_cells, max(len(cells) - 1, 1))
    weight = np.log(len(cells) / (1 + n_open)).clip(min=1e-3) * (n_open >= min_cells)
    most_open = weight * (n_open >= _least_open(n_open, min_cells, max_bins))
    weight *= _worth(opened, n_open, most_open, d_embed, rng) ** 0.25
    fit = _fit(opened, weight, d_embed, rng)
    keep, k = fit.weight > 0, len(fit.values)
    table = np.zeros((source.n_bins, d_embed), np.float32)
    table[:, :k] = _mean_vectors(opened, np.where(keep, fit.u, 0.0), fit.norm, n_open)
    table[fit.used, :k] = np.where(keep, (fit.w.T @ fit.u) / np.maximum(fit.s, 1e-12)[:, None], 0.0)
    pool_weight, norm_weight = np.zeros((2, source.n_bins), np.float32)
    pool_weight[fit.used], norm_weight[fit.used] = weight[fit.used] * fit.s, weight[fit.used] ** 2
    vectors = np.zeros((len(cells), d_embed), np.float32)
    vectors[:, :k] = fit.u * fit.weight
    return SpectralStart(
        table, pool_weight, norm_weight, _padded(fit.values, d_embed), _padded(fit.weight, d_embed), fit.noise,
        np.asarray(cells), vectors,
    )  # fmt: skip


class _Fit(NamedTuple):
    """Cells compared by some bins; names as in the module's docstring."""

    used: np.ndarray  # the bins
    w: sp.csr_matrix  # (n_cells, len(used))
    s: np.ndarray  # (len(used),)
    norm: np.ndarray  # (n_cells,) |x_i g|
    values: np.ndarray  # (k,) lambda
    u: np.ndarray  # (n_cells, k)
    noise: float  # e
    weight: np.ndarray  # (k,) zero for dimensions that are dropped


def _fit(opened: sp.csr_matrix, bin_weight: np.ndarray, d_embed: int, rng: np.random.Generator) -> _Fit:
    used = np.flatnonzero(bin_weight)
    w, norm = _unit_rows(opened.indptr, opened.indices, used, bin_weight[used].astype(np.float32), opened.shape[1])
    self_similarity = np.asarray(w.multiply(w).sum(1), dtype=np.float32).ravel()  # 1, or 0 for an empty row
    s = np.asarray(w.sum(0), dtype=np.float32).ravel()
    degree = np.maximum(w @ s - self_similarity, 1e-6)
    values, u, noise = _spectrum(w, degree, self_similarity, d_embed, rng)
    weight = np.sqrt(np.maximum(values**2 - noise**2, 0.0))
    # a vector that lives on a handful of cells says nothing of the others
    weight[_participation(u, degree) < min(10.0, len(u) / 10)] = 0.0
    if not weight.any():  # nothing above the noise: keep the two strongest, so that there is an embedding at all
        weight[:2] = np.maximum(values[:2], 1e-3)
    return _Fit(used, w, s, norm, values, u, float(noise), weight)


def _worth(
    opened: sp.csr_matrix, n_open: np.ndarray, bin_weight: np.ndarray, d_embed: int, rng: np.random.Generator
) -> np.ndarray:
    """F of each bin by the trend over n_open, the largest 1; all ones where the cells are too few to tell.  (n_bins,)"""
    first = np.arange(len(n_open)) // BLOCK % 2 == 0
    if len(opened.indptr) - 1 < 4 * MIN_OPEN or not (bin_weight[first].any() and bin_weight[~first].any()):
        return np.ones(len(n_open))
    variance = np.zeros(len(n_open))
    for half in (first, ~first):
        fit = _fit(opened, np.where(half, bin_weight, 0.0), d_embed, rng)
        strength = (fit.values + np.sqrt(np.maximum(fit.values**2 - fit.noise**2, 0.0))) / 2
        # share of a dimension that is signal: a spike of that strength in noise that reaches to e
        signal = np.where(fit.weight > 0, 1 - (fit.noise / 2 / np.maximum(strength, 1e-12)) ** 2, 0.0).clip(0, 1)
        n = np.maximum(n_open, 1)[:, None]
        squared = ((opened.T @ fit.u) / n) ** 2 - 1.0 / n  # (n_bins, k)
        variance[~half] = (squared @ signal)[~half]
    return _trend(variance, n_open)


def _trend(variance: np.ndarray, n_open: np.ndarray, n_groups: int = 20, min_bins: int = 20) -> np.ndarray:
    """Mean of ``variance`` among bins open in about as many cells, between groups by log n_open; at least 0, at most 1."""
    log_n = np.log(np.maximum(n_open, 1))
    edges = np.linspace(np.log(MIN_OPEN), max(log_n.max(), np.log(MIN_OPEN)) + 1e-6, n_groups + 1)
    group = np.digitize(log_n, edges) - 1  # -1: too rare to say anything, as the rarest that do
    inside = (group >= 0) & (group < n_groups)
    count = np.bincount(group[inside], minlength=n_groups)
    told = count >= min_bins
    if not told.any():
        return np.ones(len(n_open))
    x = np.bincount(group[inside], log_n[inside], n_groups)[told] / count[told]
    y = np.bincount(group[inside], variance[inside], n_groups)[told] / count[told]
    if y.max() <= 0:  # noise alone
        return np.ones(len(n_open))
    return np.interp(log_n, x, np.maximum(y, 0.0) / y.max())


def _least_open(n_open: np.ndarray, min_cells: int, max_bins: int) -> int:
    """In how many cells a bin must be open to be compared."""
    if len(n_open) <= max_bins:
        return min_cells
    return max(min_cells, int(np.partition(n_open, len(n_open) - max_bins)[len(n_open) - max_bins]))


def _mean_vectors(opened: sp.csr_matrix, u: np.ndarray, norm: np.ndarray, n_open: np.ndarray) -> np.ndarray:
    """Mean of u_i / |x_i g| over the cells in which a bin is open, drawn to zero as if 10 more cells were there.

    (n_bins, k): the same mean as that of the compared bins, whose g cancels.
    """
    share = (1.0 / norm).astype(np.float32)
    mass = opened.T @ share
    return (opened.T @ (u * share[:, None])) / np.maximum(mass, 1e-12)[:, None] * (n_open / (n_open + 10.0))[:, None]


def _unit_rows(
    indptr: np.ndarray, bins: np.ndarray, used: np.ndarray, weight: np.ndarray, n_bins: int
) -> tuple[sp.csr_matrix, np.ndarray]:
    """Rows of weighted open bins, of length 1, over the used bins only (n_cells, len(used)) float32; their norms."""
    column = np.full(n_bins, -1, np.int32)
    column[used] = np.arange(len(used), dtype=np.int32)
    column = column[bins]
    inside = column >= 0
    count = np.concatenate([[0], np.cumsum(inside)])[indptr]
    column = column[inside]
    w = sp.csr_matrix((weight[column], column, count), shape=(len(indptr) - 1, len(used)), dtype=np.float32)
    norm = np.sqrt(np.add.reduceat(np.append(w.data**2, 0.0), w.indptr[:-1]))
    norm[np.diff(w.indptr) == 0] = 1.0
    w.data /= np.repeat(norm, np.diff(w.indptr)).astype(np.float32)
    return w, norm


def _spectrum(
    w: sp.csr_matrix, degree: np.ndarray, self_similarity: np.ndarray, d_embed: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Largest eigenvalues after the first, u_k = U_k / U_0 scaled to mean square 1, and the noise e."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    n = w.shape[0]
    r = (1.0 / np.sqrt(degree)).astype(np.float32)
    transposed = w.T

    def product(v: np.ndarray) -> np.ndarray:
        y = r * v.ravel().astype(np.float32)
        return r * (w @ (transposed @ y) - self_similarity * y)

    k = min(d_embed + 1, n - 1)
    operator = LinearOperator((n, n), matvec=product, dtype=np.float32)
    v0 = rng.standard_normal(n).astype(np.float32)

    # newer ARPACKs draw again when they restart: from here, or the same seed would give other bits
    seeded = {"rng": np.random.default_rng(0)} if "rng" in inspect.signature(eigsh).parameters else {}

    def solve(k: int, which: str, tol: float) -> tuple[np.ndarray, np.ndarray]:
        try:
            return eigsh(operator, k=k, which=which, tol=tol, v0=v0, ncv=min(n, max(2 * k + 1, 20)), **seeded)
        except ArpackNoConvergence as error:  # what has converged is exact; the rest is noise
            if len(error.eigenvalues) < 2:
                raise
            return error.eigenvalues, error.eigenvectors

    values, vectors = solve(k, "LA", 1e-4)
    order = np.argsort(-values)
    values, vectors = values[order], vectors[:, order]
    lowest = float(solve(1, "SA", 1e-2)[0][0]) if n > 3 else 0.0
    first = np.sqrt(degree / degree.sum())  # the first vector in closed form: exact, never zero
    u = vectors[:, 1:] / first[:, None]
    u *= np.sign(u[np.abs(u).argmax(0), np.arange(u.shape[1])])  # signs are arbitrary: fix them
    return values[1:].astype(np.float32), u.astype(np.float32), max(-lowest, 0.0)


def _participation(u: np.ndarray, degree: np.ndarray) -> np.ndarray:
    """Effective number of cells that a vector lives on: (sum p)^2 / sum p^2, p its squared entries.  (k,)"""
    p = (u**2) * (degree / degree.sum())[:, None]
    return p.sum(0) ** 2 / np.maximum((p**2).sum(0), 1e-30)


def _padded(x: np.ndarray, size: int) -> np.ndarray:
    out = np.zeros(size, np.float32)
    out[: len(x)] = x
    return out


def nearest_cells(start: SpectralStart, cells: np.ndarray, n_cells: int, n_neighbors: int = 10) -> np.ndarray:
    """Nearest neighbours in the spectral embedding, among ``cells`` that were fitted alone.

    Returns (n_cells, n_neighbors) row numbers, -1 for cells that are not in ``cells`` or were not fitted; never the
    cell itself. Held-out cells must not be in ``cells``: as targets they would leak into the held-out loss.
    """
    from sklearn.neighbors import NearestNeighbors

    inside = np.isin(start.cells, cells)
    rows, vectors = start.cells[inside], start.vectors[inside]
    k = min(n_neighbors, len(rows) - 1)
    out = np.full((n_cells, n_neighbors), -1, np.int64)
    if k < 1:
        return out
    # without an argument kneighbors leaves the cell itself out, among copies of it too
    near = NearestNeighbors(n_neighbors=k).fit(vectors).kneighbors(return_distance=False)
    out[rows] = rows[near[:, np.arange(n_neighbors) % k]]
    return out
