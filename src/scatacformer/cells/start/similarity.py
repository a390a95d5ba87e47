"""Comparison of cells by their weighted open bins, without the comparison of a cell with itself (notation as in
``spectral``)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .noise import skew
from .open_bins import OpenBins
from .options import StartOptions
from .spectrum import both_ends, participation

ACCURATE, ROUGH = 3e-3, 1e-1  # residuals of the eigenvalues


class Comparison(NamedTuple):
    """Notation as in the docstring of :mod:`scatacformer.cells.start.spectral`."""

    values: np.ndarray  # (k,) lambda
    u: np.ndarray  # (n_cells, k)
    noise: float  # e
    weight: np.ndarray  # (k,) zero for dimensions that are dropped
    share: np.ndarray  # (k,) of signal in a dimension, its squared cosine with u_k without noise


def compare(
    opened: OpenBins,
    bin_weight: np.ndarray,
    d_embed: int,
    rng: np.random.Generator,
    options: StartOptions,
    tolerance: float = ACCURATE,
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
    least = options.least(len(norm))
    found = both_ends(lambda v: r * similarity(r * v), start, first, d_embed, least, options.reach, tolerance)
    values, above = found.values, found.values - found.centre
    noise = options.reach * found.extent
    # the pool divides by a number that is positive where lambda is
    weight = np.maximum(above**2 - noise**2, 0.0) ** (options.power / 2) * (np.minimum(above, values) > 0)
    # dimensions supported by a handful of cells are not informative about the others
    weight[participation(found.vectors) < least] = 0.0
    frequency = opened.open_cells() / len(norm)
    variance = square * frequency * (1 - frequency)
    share = np.where(weight > 0, _share(above, found.extent * skew(variance, len(norm))), 0.0)
    if not weight.any():  # nothing is above the noise: keep the two strongest, so that there is an embedding
        weight[:2] = np.maximum(above[:2], 1e-3)
    u = found.vectors / first[:, None]
    u *= np.sign(u[np.abs(u).argmax(0), np.arange(u.shape[1])])  # signs are arbitrary: fix them
    return Comparison(
        values.astype(np.float32), u.astype(np.float32), noise, weight.astype(np.float32), share.astype(np.float32)
    )


def _share(above: np.ndarray, edge: float) -> np.ndarray:
    """Squared cosine of a vector of noise and signal with that of the signal, by the distances of its eigenvalue and of
    the edge of the noise from the noise's centre; 0 below the edge.  (k,)"""
    strength = (above + np.sqrt(np.maximum(above**2 - edge**2, 0.0))) / 2
    return np.where(above > edge, 1 - (edge / 2 / np.maximum(strength, 1e-12)) ** 2, 0.0).clip(0, 1)
