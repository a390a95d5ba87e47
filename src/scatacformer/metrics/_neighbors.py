"""Nearest neighbours of each cell, in chunks of rows: with 1 % of the cells as neighbours, memory would grow with
n_cells squared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.neighbors import NearestNeighbors

NUMBERS_AT_ONCE = 4_000_000


def checked_k(k: int | None, n_cells: int) -> int:
    """Number of neighbours; None: 1 % of the cells, at least 1. Raises ValueError unless 1 <= k < n_cells."""
    if k is None:
        return max(round(0.01 * n_cells), 1)
    if not 1 <= k < n_cells:
        raise ValueError(
            f"k is {k} for {n_cells:,} cells; expected 1 to {n_cells - 1:,} (a cell is not its own neighbour)."
        )
    return int(k)


def nearest(x: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of row numbers (n,) and of their ``k`` nearest other rows (n, k), nearest first, Euclidean."""
    index = NearestNeighbors(n_neighbors=k + 1).fit(x)
    step = max(NUMBERS_AT_ONCE // (k + 1), 1)
    for first in range(0, len(x), step):
        rows = np.arange(first, min(first + step, len(x)))
        near = index.kneighbors(x[rows], return_distance=False)  # (n, k + 1)
        leave = near == rows[:, None]
        # with identical cells, a cell need not be its own nearest neighbour, nor among the k + 1 at all
        leave[~leave.any(1), -1] = True
        yield rows, near[~leave].reshape(len(rows), k)
