"""Comparison of cells by their weighted open bins, without the comparison of a cell with itself (notation as in
``spectral``)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .open_bins import OpenBins
from .spectrum import both_ends, participation

ACCURATE, ROUGH = 3e-3, 1e-1  # residuals of the eigenvalues


class Comparison(NamedTuple):
    """Notation as in the docstring of :mod:`scatacformer.cells.start.spectral`."""

    values: np.ndarray  # (k,) lambda
    u: np.ndarray  # (n_cells, k)
    noise: float  # e
    weight: np.ndarray  # (k,) zero for dimensions that are dropped


def compare(
    opened: OpenBins, bin_weight: np.ndarray, d_embed: int, rng: np.random.Generator, tolerance: float = ACCURATE
) -> Comparison:
    """Comparison of cells by their open bins with weights g, ``bin_weight`` (n_bins,).

    The Krylov space begins at a sum of random numbers over the bins of each cell, so that it does not depend on the
    order of the cells.
    """
    g = bin_weight.astype(np.float32)
    square = g**2
    norm = np.sqrt(opened.sums_over_bins(square))
    own = (norm > 0).astype(np.float32)  # similarity of a row with itself
    if not own.any():
        raise ValueError(
            f"the {opened.shape[0]:,} cells have too few open bins in common to be compared. Deeper cells, more cells or wider "
            "bins are needed."
        )
    norm[norm == 0] = 1.0

    def similarity(y: np.ndarray) -> np.ndarray:
        return opened.sums_over_bins(square * opened.sums_over_cells(y / norm)) / norm - own * y

    degree = np.maximum(similarity(norm), 1e-6)
    r = np.sqrt(norm / degree)
    mass = norm.astype(np.float64) * degree
    first = np.sqrt(mass / mass.sum())  # the first eigenvector in closed form: exact, and never zero
    start = r * opened.sums_over_bins(g * rng.standard_normal(len(g)).astype(np.float32)) / norm
    least = _least_participation(len(norm))
    found = both_ends(lambda v: r * similarity(r * v), start, first, d_embed, least, tolerance)
    values = found.values
    weight = np.sqrt(np.maximum(values**2 - found.noise**2, 0.0)) * (values > 0)
    # dimensions supported by a handful of cells are not informative about the others
    weight[participation(found.vectors) < least] = 0.0
    if not weight.any():  # nothing is above the noise: keep the two strongest, so that there is an embedding
        weight[:2] = np.maximum(values[:2], 1e-3)
    u = found.vectors / first[:, None]
    u *= np.sign(u[np.abs(u).argmax(0), np.arange(u.shape[1])])  # signs are arbitrary: fix them
    return Comparison(values.astype(np.float32), u.astype(np.float32), found.noise, weight.astype(np.float32))


def _least_participation(n_cells: int) -> float:
    """Minimum participation of an informative vector."""
    return min(10.0, n_cells / 10)
