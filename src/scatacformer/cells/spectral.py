"""The first bin vectors, from the cells themselves: leave-self-out spectral embedding in closed form.

Cells are compared by the cosine of their idf-weighted open bins. On the diagonal a cell meets itself, its own noise;
without the diagonal the noise dimensions fall to eigenvalues around zero, half of them below it::

    w_i = x_i idf / |x_i idf|              idf_b = log(n_cells / (1 + n_open_b)), x binary
    K   = W W' - I,   d_i = sum_j K_ij,    L = D^-1/2 K D^-1/2 = U diag(lambda) U'
    u_k = U_k / U_0                        division by the first vector takes depth out
    v_b = sum_i W_ib u_i / s_b,            s_b = sum_i W_ib,    a_b = idf_b s_b

The mean of the rows v_b of a cell's open bins, weighted by a_b, is p_ik = (d_i lambda_k + 1) u_ik / (d_i + 1): the 1
is the cell meeting itself. So u_ik = p_ik (d_i + 1) / (d_i lambda_k + 1), and d_i + 1 = sum_b a_b / sqrt(sum_b idf_b^2)
over the cell's bins: nothing but the bins of a cell is needed, for new cells as well (Nystroem), and a shallow cell
(small d) is drawn to the centre in dimensions that it has little evidence for.
The cell-by-cell matrix is never made: a product with K is two sparse products with W (Lanczos).

The spectrum measures its own noise: without the diagonal it is symmetric for cells with nothing in common, so the
lowest eigenvalue -e says how far noise reaches. Dimensions with lambda <= e are dropped, the others have weight
sqrt(lambda^2 - e^2).

Only the bins that are open in most cells are compared (about 50,000): idf weighs a bin the more the rarer it is, and
among 600,000 bins of 5 kb the rare ones are background. On cells whose types differ in 13 % of their regulatory bins
(``datasets.simulated_cells``) purity is 0.73 with every bin open in 3 cells, 0.95 with 42,000, 0.50 with 8,000.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from .source import RowSource

MAX_FIT_CELLS = 20_000
MAX_BINS = 50_000


@dataclass(frozen=True)
class SpectralStart:
    """What :func:`fit_spectral` found.

    ``table`` (n_bins, d_embed) rows v_b, zero for dimensions that are noise, drawn to zero for bins that are not
    compared; ``pool_weight`` and ``norm_weight`` (n_bins,) a_b and idf_b^2, zero for these; ``eigenvalues`` (d_embed,)
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

    Time and memory grow with the open bins of the fitted cells, not with cells x bins. Cells are compared by the
    ``max_bins`` bins that are open in most cells (all of equal rank at the edge), each in at least ``min_cells``.
    Raises ValueError for fewer than 3 cells.
    """
    if len(cells) < 3:
        raise ValueError(f"a spectral start needs at least 3 cells, found {len(cells)}")
    rng = np.random.default_rng(seed)
    if len(cells) > max_cells:
        cells = np.sort(rng.choice(cells, max_cells, replace=False))
    indptr, bins, _ = source.rows(cells)
    n_open = np.bincount(bins, minlength=source.n_bins)
    used = np.flatnonzero(n_open >= _least_open(n_open, min(min_cells, max(len(cells) - 1, 1)), max_bins))
    idf = np.log(len(cells) / (1 + n_open[used])).clip(min=1e-3).astype(np.float32)
    w, norm = _unit_rows(indptr, bins, used, idf, source.n_bins)
    self_similarity = np.asarray(w.multiply(w).sum(1), dtype=np.float32).ravel()  # 1, or 0 for an empty row
    s = np.asarray(w.sum(0), dtype=np.float32).ravel()
    degree = np.maximum(w @ s - self_similarity, 1e-6)
    values, u, noise = _spectrum(w, degree, self_similarity, d_embed, rng)
    weight = np.sqrt(np.maximum(values**2 - noise**2, 0.0))
    # a vector that lives on a handful of cells says nothing of the others
    spread = _participation(u, degree)
    weight[spread < min(10.0, len(cells) / 10)] = 0.0
    if not weight.any():  # nothing above the noise: keep the two strongest, so that there is an embedding at all
        weight[:2] = np.maximum(values[:2], 1e-3)
    keep, k = weight > 0, len(values)
    table = np.zeros((source.n_bins, d_embed), np.float32)
    table[:, :k] = _mean_vectors(indptr, bins, np.where(keep, u, 0.0), norm, n_open)
    table[used, :k] = np.where(keep, (w.T @ u) / np.maximum(s, 1e-12)[:, None], 0.0)
    pool_weight, norm_weight = np.zeros((2, source.n_bins), np.float32)
    pool_weight[used], norm_weight[used] = idf * s, idf**2
    vectors = np.zeros((len(cells), d_embed), np.float32)
    vectors[:, :k] = u * weight
    return SpectralStart(
        table, pool_weight, norm_weight, _padded(values, d_embed), _padded(np.where(keep, weight, 0.0), d_embed),
        float(noise), np.asarray(cells), vectors,
    )  # fmt: skip


def _least_open(n_open: np.ndarray, min_cells: int, max_bins: int) -> int:
    """In how many cells a bin must be open to be compared."""
    if len(n_open) <= max_bins:
        return min_cells
    return max(min_cells, int(np.partition(n_open, len(n_open) - max_bins)[len(n_open) - max_bins]))


def _mean_vectors(
    indptr: np.ndarray, bins: np.ndarray, u: np.ndarray, norm: np.ndarray, n_open: np.ndarray
) -> np.ndarray:
    """Mean of u_i / |x_i idf| over the cells in which a bin is open, drawn to zero as if 10 more cells were there.

    (n_bins, k): the same mean as that of the compared bins, whose idf cancels.
    """
    share = (1.0 / norm).astype(np.float32)
    opened = sp.csr_matrix((np.ones(len(bins), np.float32), bins, indptr), shape=(len(indptr) - 1, len(n_open)))
    mass = opened.T @ share
    return (opened.T @ (u * share[:, None])) / np.maximum(mass, 1e-12)[:, None] * (n_open / (n_open + 10.0))[:, None]


def _unit_rows(
    indptr: np.ndarray, bins: np.ndarray, used: np.ndarray, idf: np.ndarray, n_bins: int
) -> tuple[sp.csr_matrix, np.ndarray]:
    """Rows of idf-weighted open bins, of length 1, over the used bins only (n_cells, len(used)) float32; their norms."""
    column = np.full(n_bins, -1, np.int32)
    column[used] = np.arange(len(used), dtype=np.int32)
    column = column[bins]
    inside = column >= 0
    count = np.concatenate([[0], np.cumsum(inside)])[indptr]
    column = column[inside]
    w = sp.csr_matrix((idf[column], column, count), shape=(len(indptr) - 1, len(used)), dtype=np.float32)
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
