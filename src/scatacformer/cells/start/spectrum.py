"""Both ends of the spectrum of a symmetric operator, as far as they are needed: Lanczos without restarts.

A Krylov space holds both ends: one run gives the largest eigenvalues and, from the smallest, how far the noise extends
(``spectral``). Only eigenvalues above that are needed, so the others do not have to converge. ARPACK needs a run for
each end and makes all it was asked for converge, also those among the noise, which are dense: ten times the products.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

N_LOWEST = 8  # number of lowest eigenvalues used to find the noise level
DENSE = 400  # up to this number of cells, the matrix is diagonalised
CHECK_EVERY = 10
MAX_STEPS = 600
REACH = 1.3  # how much further noise often extends above its centre than below: what is beyond has to converge
EDGE_TOLERANCE = 1e-2  # relative change of the noise level between two checks


class Spectrum(NamedTuple):
    """Eigenvalues in descending order and their vectors; the centre c of the noise and its extent below that, >= 0."""

    values: np.ndarray  # (k,) float64
    vectors: np.ndarray  # (n, k) float64
    centre: float
    extent: float
    n_products: int


def both_ends(
    product: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    first: np.ndarray,
    k: int,
    least: float,
    tolerance: float,
) -> Spectrum:
    """The ``k`` largest eigenvalues orthogonal to the known eigenvector ``first`` (n,), and where the noise lies.

    ``product`` (n,) -> (n,) float32 is the operator, with zeros on its diagonal; ``start`` (n,) where the Krylov space
    begins. At least ``least`` cells must support the lowest eigenvalue, where the noise ends below. Eigenvalues further
    than ``REACH`` times that above the centre have residuals of at most ``tolerance`` times their distance from it; the
    others are approximate.
    """
    n = len(start)
    k = min(k, n - 1)
    if n <= DENSE:
        matrix = np.stack([product(unit) for unit in np.eye(n, dtype=np.float32)], axis=1).astype(np.float64)
        matrix = (matrix + matrix.T) / 2
        matrix -= np.outer(first, first) * (first @ matrix @ first)
        values, vectors = np.linalg.eigh(matrix)
        # the known vector has eigenvalue 0 now
        known = int(np.argmax(np.abs(first @ vectors)))
        keep = np.arange(n) != known
        values, vectors = values[keep], vectors[:, keep]
        top = slice(None, -k - 1, -1)
        lowest = _lowest(values, lambda at: vectors[:, at], n, least)
        return Spectrum(values[top], vectors[:, top], *_noise(values[top], lowest, n), n)
    return _lanczos(product, start, first, k, least, tolerance)


def _lanczos(
    product: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    first: np.ndarray,
    k: int,
    least: float,
    tolerance: float,
) -> Spectrum:
    n = len(start)
    max_steps = min(n - 1, MAX_STEPS)
    basis = np.empty((min(max_steps, 100) + 1, n), np.float32)
    known = first.astype(np.float32)
    basis[0] = _orthogonal(start.astype(np.float32), known, basis[:0])
    basis[0] /= np.linalg.norm(basis[0])
    diagonal, off = np.zeros(max_steps), np.zeros(max_steps)
    extent = np.inf
    for step in range(max_steps):  # at least one, for more than DENSE cells
        if step + 1 == len(basis):
            basis = np.concatenate([basis, np.empty((min(len(basis), max_steps + 1 - len(basis)), n), np.float32)])
        q = basis[step]
        y = product(q)
        diagonal[step] = q @ y
        y = _orthogonal(y, known, basis[: step + 1])
        off[step] = np.linalg.norm(y)
        basis[step + 1] = y / max(off[step], 1e-30)
        last = step + 1 == max_steps or off[step] < 1e-6
        if not last and (step < k or (step + 1) % CHECK_EVERY):
            continue
        values, small = np.linalg.eigh(np.diag(diagonal[: step + 1]) + _off(off[:step]))
        residual = np.abs(off[step] * small[-1])

        vectors = partial(_combined, basis[: step + 1], small)
        top = np.arange(len(values))[::-1][:k]
        before = extent
        centre, extent = _noise(values[top], _lowest(values, vectors, n, least), n)
        settled = abs(extent - before) <= EDGE_TOLERANCE * extent
        above = top[values[top] - centre > REACH * extent]
        if last or (settled and (residual[above] <= tolerance * (values[above] - centre)).all()):
            break
    return Spectrum(values[top], vectors(top), centre, extent, step + 1)


def _combined(basis: np.ndarray, small: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Vectors of the operator from those of the small matrix.  (n, k)"""
    return basis.T @ small[:, at]


def _off(off: np.ndarray) -> np.ndarray:
    return np.diag(off, 1) + np.diag(off, -1)


def _orthogonal(y: np.ndarray, known: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """``y`` without its components along ``known`` and the rows of ``basis``; twice, because of rounding."""
    for _ in range(2):
        y = y - known * (known @ y)
        if len(basis):
            y -= (basis @ y) @ basis
    return y


def _noise(top: np.ndarray, lowest: float, n: int) -> tuple[float, float]:
    """Centre of the noise, and how far it extends below; from the largest eigenvalues and the lowest.

    The diagonal is zero, and so is the sum of all eigenvalues: 1, the first; those above the noise; and the noise, whose
    mean is therefore below zero, the more so the fewer the cells and the more alike they are.
    """
    n_dims, centre, extent = 1, 0.0, 0.0
    for _ in range(len(top)):
        centre = -(1 + top[:n_dims].sum()) / max(n - 1 - n_dims, 1)
        extent = max(centre - lowest, 0.0)
        found = max(int((top - centre > REACH * extent).sum()), 1)
        if found == n_dims:
            break
        n_dims = found
    return float(centre), float(extent)


def _lowest(values: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray], n: int, least: float) -> float:
    """The lowest of ascending ``values`` whose vector is supported by at least ``least`` cells; at most 0."""
    lowest = np.arange(min(N_LOWEST, max(n - 2, 1), len(values)))
    spread = values[lowest][participation(vectors(lowest)) >= least]
    return min(float(spread[0] if len(spread) else values[lowest[-1]]), 0.0)


def participation(vectors: np.ndarray) -> np.ndarray:
    """Participation: effective number of cells that support a vector, (sum p)^2 / sum p^2, p its squared entries.
    (k,)"""
    p = vectors.astype(np.float64) ** 2
    return p.sum(0) ** 2 / np.maximum((p**2).sum(0), 1e-30)
