"""Cells compared by their weighted open bins, each left out of its comparison with itself (``spectral`` has the names)."""

from __future__ import annotations

import inspect
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

N_LOWEST = 8  # eigenvalues in which the edge of the noise is looked for


class Comparison(NamedTuple):
    """Names as in the docstring of :mod:`scatacformer.cells.spectral`."""

    values: np.ndarray  # (k,) lambda
    u: np.ndarray  # (n_cells, k)
    noise: float  # e
    weight: np.ndarray  # (k,) zero for dimensions that are dropped


def compare(opened: sp.csr_matrix, bin_weight: np.ndarray, d_embed: int, rng: np.random.Generator) -> Comparison:
    """Cells compared by the bins whose weight is not zero.

    ``opened`` (n_cells, n_bins) ones where a bin is open; ``bin_weight`` (n_bins,) g.
    """
    used = np.flatnonzero(bin_weight)
    w, norm = _unit_rows(opened.indptr, opened.indices, used, bin_weight[used].astype(np.float32), opened.shape[1])
    self_similarity = np.asarray(w.multiply(w).sum(1), dtype=np.float32).ravel()  # 1, or 0 for an empty row
    degree = np.maximum(w @ (w.T @ norm) - self_similarity * norm, 1e-6)
    values, u, participation, noise = _spectrum(w, norm, degree, self_similarity, d_embed, rng)
    weight = np.sqrt(np.maximum(values**2 - noise**2, 0.0))
    weight[participation < _least_participation(len(u))] = 0.0  # a handful of cells says nothing of the others
    if not weight.any():  # nothing above the noise: keep the two strongest, so that there is an embedding at all
        weight[:2] = np.maximum(values[:2], 1e-3)
    return Comparison(values, u, float(noise), weight)


def _unit_rows(
    indptr: np.ndarray, bins: np.ndarray, used: np.ndarray, weight: np.ndarray, n_bins: int
) -> tuple[sp.csr_matrix, np.ndarray]:
    """Rows of weighted open bins, of length 1, over the used bins only (n_cells, len(used)) float32; their norms, 1 for a
    row of none."""
    column = np.full(n_bins, -1, np.int32)
    column[used] = np.arange(len(used), dtype=np.int32)
    column = column[bins]
    inside = column >= 0
    count = np.concatenate([[0], np.cumsum(inside)])[indptr]
    column = column[inside]
    w = sp.csr_matrix((weight[column], column, count), shape=(len(indptr) - 1, len(used)), dtype=np.float32)
    norm = np.sqrt(np.add.reduceat(np.append(w.data**2, 0.0), w.indptr[:-1])).astype(np.float32)
    norm[np.diff(w.indptr) == 0] = 1.0
    w.data /= np.repeat(norm, np.diff(w.indptr))
    return w, norm


def _spectrum(
    w: sp.csr_matrix,
    norm: np.ndarray,
    degree: np.ndarray,
    self_similarity: np.ndarray,
    d_embed: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Largest eigenvalues after the first, u_k = U_k / U_0 scaled to weighted mean square 1, on how many cells each
    lives, and the noise e."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    n = w.shape[0]
    r = np.sqrt(norm / degree).astype(np.float32)
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
            # the edge of the noise is dense: with few Lanczos vectors ARPACK restarts five times as often
            ncv = min(n, max(2 * k + 1 if which == "LA" else 10 * k, 20))
            return eigsh(operator, k=k, which=which, tol=tol, v0=v0, ncv=ncv, **seeded)
        except ArpackNoConvergence as error:  # what has converged is exact; the rest is noise
            if len(error.eigenvalues) < 2:
                raise
            return error.eigenvalues, error.eigenvectors

    values, vectors = solve(k, "LA", 1e-4)
    order = np.argsort(-values)
    values, vectors = values[order], vectors[:, order]
    noise = 0.0
    for n_lowest in (1, min(N_LOWEST, n - 2)) if n > 3 else ():  # the first alone is found sooner
        lowest, at_the_edge = solve(n_lowest, "SA", 1e-2)
        spread = lowest[_participation(at_the_edge) >= _least_participation(n)]
        noise = -float(
            spread.min() if len(spread) else lowest.max()
        )  # what lives on a handful of cells is not the edge
        if len(spread):
            break
    mass = norm * degree
    first = np.sqrt(mass / mass.sum())  # the first vector in closed form: exact, never zero
    u = vectors[:, 1:] / first[:, None]
    u *= np.sign(u[np.abs(u).argmax(0), np.arange(u.shape[1])])  # signs are arbitrary: fix them
    participation = _participation(vectors[:, 1:])
    return values[1:].astype(np.float32), u.astype(np.float32), participation, max(noise, 0.0)


def _participation(vectors: np.ndarray) -> np.ndarray:
    """Effective number of cells that a vector lives on: (sum p)^2 / sum p^2, p its squared entries.  (k,)"""
    p = vectors.astype(np.float64) ** 2
    return p.sum(0) ** 2 / np.maximum((p**2).sum(0), 1e-30)


def _least_participation(n_cells: int) -> float:
    """On how many cells a vector must live to say anything of the others."""
    return min(10.0, n_cells / 10)
