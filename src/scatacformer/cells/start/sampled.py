"""The cells that the start is fitted on where there are more than it takes: chosen by their bins, not by their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .open_bins import bin_sums

if TYPE_CHECKING:
    from scatacformer.cells.source import RowSource

CHUNK = 1024  # cells that are read at a time


def sampled_cells(source: RowSource, cells: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Row numbers of ``n`` of ``cells`` at random, sorted; all of them where they are no more.

    Whether a cell is among them depends on its bins and on those of the others, not on the order of the cells: each bin
    has a random number of 64 bits, and cells with the smallest sums are taken. All cells are read once, ``CHUNK`` at a
    time.
    """
    if len(cells) <= n:
        return cells
    number = rng.integers(0, 2**64, source.n_bins, dtype=np.uint64)
    cells = np.sort(cells)
    sums = []
    for first in range(0, len(cells), CHUNK):
        indptr, bins, _ = source.rows(cells[first : first + CHUNK])
        sums.append(bin_sums(indptr, bins, number))
    return np.sort(cells[np.argsort(np.concatenate(sums), kind="stable")[:n]])
