"""Comparison of cells by their weighted open bins, without the comparison of a cell with itself (notation as in
``spectral``)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

FEW_UNUSED = 0.9  # if more than this share of the entries has a weight, all are kept, the others with weight zero
N_LOWEST = 8  # number of lowest eigenvalues used to find the noise level


class Comparison(NamedTuple):
    """Notation as in the docstring of :mod:`scatacformer.cells.start.spectral`."""

    values: np.ndarray  # (k,) lambda
    u: np.ndarray  # (n_cells, k)
    noise: float  # e
    weight: np.ndarray  # (k,) zero for dimensions that are dropped


def compare(opened: sp.csr_matrix, bin_weight: np.ndarray, d_embed: int, rng: np.random.Generator) -> Comparison:
    """Comparison of cells by the bins with non-zero weight.

    ``opened`` (n_cells, n_bins) is 1, of any dtype, where a bin is open; ``bin_weight`` (n_bins,) is g.
    """
    w, norm, self_similarity = _unit_rows(opened, bin_weight.astype(np.float32))
    degree = np.maximum(w @ (w.T @ norm) - self_similarity * norm, 1e-6)
    values, u, participation, noise = _spectrum(w, norm, degree, self_similarity, d_embed, rng)
    weight = np.sqrt(np.maximum(values**2 - noise**2, 0.0))
    weight[participation < _least_participation(len(u))] = (
        0.0  # dimensions supported by a handful of cells are not informative about the others
    )
    if not weight.any():  # nothing is above the noise: keep the two strongest, so that there is an embedding
        weight[:2] = np.maximum(values[:2], 1e-3)
    return Comparison(values, u, float(noise), weight)


def open_cells(opened: sp.csr_matrix) -> np.ndarray:
    """Number of cells in which each bin is open, without a copy of the entries.  (n_bins,) int64"""
    total = np.zeros(opened.shape[1], np.int64)
    for _, entries in _stretches(opened.indptr):
        total += np.bincount(opened.indices[entries], minlength=opened.shape[1])
    return total


def sums_over_cells(opened: sp.csr_matrix, u: np.ndarray, at_once: int = 8) -> Iterator[tuple[slice, np.ndarray]]:
    """Sum of u (n_cells, k) over the cells in which each bin is open, in chunks of columns: the column slice, and
    (n_bins, columns) float32."""
    for start in range(0, u.shape[1], at_once):
        columns = slice(start, min(start + at_once, u.shape[1]))
        part = np.ascontiguousarray(u[:, columns], dtype=np.float32)
        total = np.zeros((opened.shape[1], part.shape[1]), np.float32)
        for rows, _ in _stretches(opened.indptr, 6_000_000):  # scipy multiplies with a float32 copy of the ones
            total += opened[rows].T @ part[rows]
        yield columns, total


def _unit_rows(opened: sp.csr_matrix, weight: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Rows of weighted open bins, scaled to length 1, (n_cells, columns) float32; their norms, 1 for empty rows; and
    the similarity of each row with itself: 1, or 0 for empty rows.

    Columns are the bins with a weight. If few entries have no weight, columns are all bins, and w shares the index
    arrays of ``opened`` instead of new ones."""
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
    """Number of each cell's open bins with a weight, and the norm of their weights.  (n_cells,) each"""
    n_used, square = np.zeros(opened.shape[0], np.int64), np.zeros(opened.shape[0])
    for rows, entries in _stretches(opened.indptr):
        n_rows = rows.stop - rows.start
        owner = np.repeat(np.arange(n_rows), np.diff(opened.indptr[rows.start : rows.stop + 1]))
        value = weight[opened.indices[entries]]
        square[rows] = np.bincount(owner, value.astype(np.float64) ** 2, n_rows)
        n_used[rows] = np.bincount(owner, value > 0, n_rows)
    return n_used, np.sqrt(square).astype(np.float32)


def _stretches(indptr: np.ndarray, at_once: int = 1_000_000) -> Iterator[tuple[slice, slice]]:
    """Consecutive chunks of rows with about ``at_once`` entries: the rows, and their entries. Leading empty rows are in
    none."""
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
    """Largest eigenvalues after the first, u_k = U_k / U_0 scaled to weighted mean square 1, the participation of each,
    and the noise level e."""
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

    n = w.shape[0]
    r = np.sqrt(norm / degree).astype(np.float32)
    transposed = w.T

    def product(v: np.ndarray) -> np.ndarray:
        y = r * v.ravel().astype(np.float32)
        return r * (w @ (transposed @ y) - self_similarity * y)

    k = min(d_embed + 1, n - 1)
    operator = LinearOperator((n, n), matvec=product, dtype=np.float32)
    v0 = rng.standard_normal(n).astype(np.float32)

    # newer versions of ARPACK sample again at a restart: from this generator, for bit-identical results
    seeded = {"rng": np.random.default_rng(0)} if "rng" in inspect.signature(eigsh).parameters else {}

    def solve(k: int, which: str, tol: float) -> tuple[np.ndarray, np.ndarray]:
        try:
            # eigenvalues are dense at the noise level: with few Lanczos vectors, ARPACK restarts five times as often
            ncv = min(n, max(2 * k + 1 if which == "LA" else 10 * k, 20))
            return eigsh(operator, k=k, which=which, tol=tol, v0=v0, ncv=ncv, **seeded)
        except ArpackNoConvergence as error:  # converged eigenvalues are exact; the others are noise
            if len(error.eigenvalues) < 2:
                raise
            return error.eigenvalues, error.eigenvectors
        except ArpackError as error:
            raise ValueError(
                f"the {n:,} cells have too few open bins in common to be compared (ARPACK: {error}). Deeper cells, more cells "
                "or wider bins are needed."
            ) from None

    values, vectors = solve(k, "LA", 1e-4)
    order = np.argsort(-values)
    values, vectors = values[order], vectors[:, order]
    noise = 0.0
    for n_lowest in (1, min(N_LOWEST, n - 2)) if n > 3 else ():  # one eigenvalue is faster to find
        lowest, at_the_edge = solve(n_lowest, "SA", 1e-2)
        spread = lowest[_participation(at_the_edge) >= _least_participation(n)]
        noise = -float(
            spread.min() if len(spread) else lowest.max()
        )  # vectors supported by a handful of cells do not show the noise level
        if len(spread):
            break
    mass = norm * degree
    first = np.sqrt(mass / mass.sum())  # the first eigenvector in closed form: exact, and never zero
    u = vectors[:, 1:] / first[:, None]
    u *= np.sign(u[np.abs(u).argmax(0), np.arange(u.shape[1])])  # signs are arbitrary: fix them
    participation = _participation(vectors[:, 1:])
    return values[1:].astype(np.float32), u.astype(np.float32), participation, max(noise, 0.0)


def _participation(vectors: np.ndarray) -> np.ndarray:
    """Participation: effective number of cells that support a vector, (sum p)^2 / sum p^2, p its squared entries.
    (k,)"""
    p = vectors.astype(np.float64) ** 2
    return p.sum(0) ** 2 / np.maximum((p**2).sum(0), 1e-30)


def _least_participation(n_cells: int) -> float:
    """Minimum participation of an informative vector."""
    return min(10.0, n_cells / 10)
