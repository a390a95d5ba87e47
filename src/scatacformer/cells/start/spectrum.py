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
EDGE_TOLERANCE = 1e-2  # relative change of the noise level between two checks


class Spectrum(NamedTuple):
    """Eigenvalues in descending order and their vectors, and the noise level e >= 0."""

    values: np.ndarray  # (k,) float64
    vectors: np.ndarray  # (n, k) float64
    noise: float
    n_products: int


def both_ends(
    product: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    first: np.ndarray,
    k: int,
    least: float,
    tolerance: float,
) -> Spectrum:
    """The ``k`` largest eigenvalues orthogonal to the known eigenvector ``first`` (n,), and the noise level.

    ``product`` (n,) -> (n,) float32 is the operator, ``start`` (n,) where the Krylov space begins. The noise level is
    the magnitude of the lowest eigenvalue whose vector is supported by at least ``least`` cells. Eigenvalues that are
    larger have residuals of at most ``tolerance`` times themselves; the others are approximate.
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
        return Spectrum(values[top], vectors[:, top], _noise(values, lambda at: vectors[:, at], n, least), n)
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
    edge = np.inf
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
        noise = _noise(values, vectors, n, least)
        top = np.arange(len(values))[::-1][:k]
        settled = abs(noise - edge) <= EDGE_TOLERANCE * noise
        edge = noise
        above = top[values[top] > noise]
        if last or (settled and (residual[above] <= tolerance * values[above]).all()):
            break
    return Spectrum(values[top], vectors(top), edge, step + 1)


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


def _noise(values: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray], n: int, least: float) -> float:
    """Magnitude of the lowest of ascending ``values`` whose vector is supported by at least ``least`` cells."""
    lowest = np.arange(min(N_LOWEST, max(n - 2, 1), len(values)))
    spread = values[lowest][participation(vectors(lowest)) >= least]
    return max(-float(spread[0] if len(spread) else values[lowest[-1]]), 0.0)


def participation(vectors: np.ndarray) -> np.ndarray:
    """Participation: effective number of cells that support a vector, (sum p)^2 / sum p^2, p its squared entries.
    (k,)"""
    p = vectors.astype(np.float64) ** 2
    return p.sum(0) ** 2 / np.maximum((p**2).sum(0), 1e-30)
