"""Cells compared by their weighted open bins, each left out of its comparison with itself (``spectral`` has the
names)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

FEW_UNUSED = 0.9  # share of the entries that are compared, above which all are kept, with a weight of zero
N_LOWEST = 8  # eigenvalues in which the edge of the noise is looked for


class Comparison(NamedTuple):
    """Names as in the docstring of :mod:`scatacformer.cells.start.spectral`."""

    values: np.ndarray  # (k,) lambda
    u: np.ndarray  # (n_cells, k)
    noise: float  # e
    weight: np.ndarray  # (k,) zero for dimensions that are dropped


def compare(opened: sp.csr_matrix, bin_weight: np.ndarray, d_embed: int, rng: np.random.Generator) -> Comparison:
    """Cells compared by the bins whose weight is not zero.

    ``opened`` (n_cells, n_bins) ones, of any type, where a bin is open; ``bin_weight`` (n_bins,) g.
    """
    w, norm, self_similarity = _unit_rows(opened, bin_weight.astype(np.float32))
    degree = np.maximum(w @ (w.T @ norm) - self_similarity * norm, 1e-6)
    values, u, participation, noise = _spectrum(w, norm, degree, self_similarity, d_embed, rng)
    weight = np.sqrt(np.maximum(values**2 - noise**2, 0.0))
    weight[participation < _least_participation(len(u))] = 0.0  # a handful of cells says nothing of the others
    if not weight.any():  # nothing above the noise: keep the two strongest, so that there is an embedding at all
        weight[:2] = np.maximum(values[:2], 1e-3)
    return Comparison(values, u, float(noise), weight)


def open_cells(opened: sp.csr_matrix) -> np.ndarray:
    """Number of cells that each bin is open in, without a second copy of the entries.  (n_bins,) int64"""
    total = np.zeros(opened.shape[1], np.int64)
    for _, entries in _stretches(opened.indptr):
        total += np.bincount(opened.indices[entries], minlength=opened.shape[1])
    return total


def sums_over_cells(opened: sp.csr_matrix, u: np.ndarray, at_once: int = 8) -> Iterator[tuple[slice, np.ndarray]]:
    """Sum of u (n_cells, k) over the cells that have each bin open, some columns at a time: where they stand in u, and
    (n_bins, columns) float32."""
    for start in range(0, u.shape[1], at_once):
        columns = slice(start, min(start + at_once, u.shape[1]))
        part = np.ascontiguousarray(u[:, columns], dtype=np.float32)
        total = np.zeros((opened.shape[1], part.shape[1]), np.float32)
        for rows, _ in _stretches(opened.indptr, 6_000_000):  # scipy multiplies by a copy of the ones, in float32
            total += opened[rows].T @ part[rows]
        yield columns, total


def _unit_rows(opened: sp.csr_matrix, weight: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Rows of weighted open bins, of length 1, (n_cells, columns) float32; their norms, 1 for a row of none; and what a
    row has in common with itself: 1, or 0 for a row of none.

    Columns are the bins with a weight. Where few entries have none, columns are all bins, and w reads the numbers of
    ``opened`` itself instead of new ones.
    """
    n_used, norm = _lengths(opened, weight)
    filled = norm > 0
    norm[~filled] = 1.0
    whole = n_used.sum() > FEW_UNUSED * opened.nnz
    used = np.ones(len(weight), bool) if whole else weight > 0
    indptr = opened.indptr if whole else np.concatenate([[0], np.cumsum(n_used)])
    indices = opened.indices if whole else np.empty(indptr[-1], np.int32)
    data = np.empty(indptr[-1], np.float32)
    column = np.cumsum(used, dtype=np.int32) - np.int32(1)
    for rows, entries in _stretches(opened.indptr):
        bins, to = opened.indices[entries], slice(indptr[rows.start], indptr[rows.stop])
        value = weight[bins] / np.repeat(norm[rows], np.diff(opened.indptr[rows.start : rows.stop + 1]))
        if whole:
            data[to] = value
        else:
            inside = used[bins]
            data[to], indices[to] = value[inside], column[bins[inside]]
    return sp.csr_matrix((data, indices, indptr), shape=(len(norm), used.sum())), norm, filled.astype(np.float32)


def _lengths(opened: sp.csr_matrix, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of each cell's open bins that have a weight, and the length of their weights.  (n_cells,) each"""
    n_used, square = np.zeros(opened.shape[0], np.int64), np.zeros(opened.shape[0])
    for rows, entries in _stretches(opened.indptr):
        n_rows = rows.stop - rows.start
        owner = np.repeat(np.arange(n_rows), np.diff(opened.indptr[rows.start : rows.stop + 1]))
        value = weight[opened.indices[entries]]
        square[rows] = np.bincount(owner, value.astype(np.float64) ** 2, n_rows)
        n_used[rows] = np.bincount(owner, value > 0, n_rows)
    return n_used, np.sqrt(square).astype(np.float32)


def _stretches(indptr: np.ndarray, at_once: int = 1_000_000) -> Iterator[tuple[slice, slice]]:
    """Rows whose entries are about ``at_once``, one stretch after the other: the rows, and their entries. Empty rows
    that come first are in none."""
    edges = np.searchsorted(indptr, np.arange(0, indptr[-1], at_once), side="right") - 1
    edges = np.unique(np.append(edges, len(indptr) - 1))
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield slice(start, stop), slice(int(indptr[start]), int(indptr[stop]))


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
