"""Comparison of cells by their weighted open bins, without the comparison of a cell with itself (notation as in
``spectral``)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .noise import skew
from .open_bins import OpenBins
from .options import StartOptions
from .spectrum import REACH, both_ends, participation

ACCURATE, ROUGH = 3e-3, 1e-1  # residuals of the eigenvalues


class Comparison(NamedTuple):
    """Notation as in the docstring of :mod:`scatacformer.cells.start.spectral`."""

    values: np.ndarray  # (k,) lambda
    u: np.ndarray  # (n_cells, k)
    noise: float  # how far noise often extends above its centre c
    above: np.ndarray  # (k,) lambda - c
    signal: np.ndarray  # (k,) ((lambda - c)^2 - h^2)^1/2, zero for dimensions that a handful of cells support
    share: np.ndarray  # (k,) of signal in a dimension, its squared cosine with u_k without noise


class Similarity:
    """The operator L of cells by their open bins with weights g, ``bin_weight`` (n_bins,), and its first vector.

    Raises ValueError if no cell has a bin whose weight is not zero.
    """

    def __init__(self, opened: OpenBins, bin_weight: np.ndarray) -> None:
        self.opened = opened
        self.g = bin_weight.astype(np.float32)
        self.square = self.g**2
        self.norm = np.sqrt(opened.sums_over_bins(self.square))  # (n_cells,) n
        self._own = (self.norm > 0).astype(np.float32)  # similarity of a row with itself
        if not self._own.any():
            raise ValueError(
                f"the {opened.shape[0]:,} cells have too few open bins in common to be compared. Deeper cells, more cells or "
                "wider bins are needed."
            )
        self.norm[self.norm == 0] = 1.0
        degree = np.maximum(self._unscaled(self.norm), 1e-6)
        self._scale = np.sqrt(self.norm / degree)
        mass = self.norm.astype(np.float64) * degree
        self.first = np.sqrt(mass / mass.sum())  # the first eigenvector in closed form: exact, and never zero

    def product(self, v: np.ndarray) -> np.ndarray:
        """L v.  (n_cells,) float32"""
        return self._scale * self._unscaled(self._scale * v)

    def forms(self, vectors: np.ndarray) -> np.ndarray:
        """U' L u for each column u of ``vectors`` (n_cells, k), from sums over cells alone.  (k,) float64"""
        y = self._scale[:, None] * vectors
        out = -np.square(y[self._own > 0], dtype=np.float64).sum(0)
        for columns, total in self.opened.columns_over_cells(y / self.norm[:, None]):
            out[columns] += self.square @ np.square(total, out=total)
        return out

    def start(self, rng: np.random.Generator, bins: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Where a Krylov space begins: a sum of random numbers over the ``bins`` of each cell, whatever their order."""
        random = np.zeros(len(self.g), np.float32)
        random[bins] = rng.standard_normal(len(random[bins])).astype(np.float32)
        return self._scale * self.opened.sums_over_bins(self.g * random) / self.norm

    def _unscaled(self, y: np.ndarray) -> np.ndarray:
        """K y"""
        total = self.opened.sums_over_cells(y / self.norm)
        return self.opened.sums_over_bins(self.square * total) / self.norm - self._own * y


def compare(
    opened: OpenBins,
    bin_weight: np.ndarray,
    d_embed: int,
    rng: np.random.Generator,
    options: StartOptions,
    tolerance: float = ACCURATE,
) -> Comparison:
    """Comparison of cells by their open bins with weights g, ``bin_weight`` (n_bins,).

    It does not depend on the order of the cells.
    """
    similarity = Similarity(opened, bin_weight)
    norm, first = similarity.norm, similarity.first
    start = similarity.start(rng)
    least = options.least(len(norm))
    found = both_ends(similarity.product, start, first, d_embed, least, tolerance)
    values, above = found.values, found.values - found.centre
    # dimensions supported by a handful of cells are not informative about the others; the pool divides by a number that
    # is positive where lambda is
    valid = (participation(found.vectors) >= least) & (np.minimum(above, values) > 0)
    signal = np.sqrt(np.maximum(above**2 - found.extent**2, 0.0)) * valid
    frequency = opened.open_cells() / len(norm)
    variance = similarity.square * frequency * (1 - frequency)
    share = _share(above, found.extent * skew(variance, len(norm))) * valid
    u = found.vectors / first[:, None]
    u *= np.sign(u[np.abs(u).argmax(0), np.arange(u.shape[1])])  # signs are arbitrary: fix them
    return Comparison(
        values.astype(np.float32),
        u.astype(np.float32),
        REACH * found.extent,
        above.astype(np.float32),
        signal.astype(np.float32),
        share.astype(np.float32),
    )


def _share(above: np.ndarray, edge: float) -> np.ndarray:
    """Squared cosine of a vector of noise and signal with that of the signal, by the distances of its eigenvalue and of
    the edge of the noise from the noise's centre; 0 below the edge.  (k,)"""
    strength = (above + np.sqrt(np.maximum(above**2 - edge**2, 0.0))) / 2
    return np.where(above > edge, 1 - (edge / 2 / np.maximum(strength, 1e-12)) ** 2, 0.0).clip(0, 1)
