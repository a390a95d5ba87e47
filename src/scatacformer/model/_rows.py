"""Which cells: the ``indices`` of every getter as row numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def row_numbers(indices: Sequence[int] | Sequence[bool] | slice | np.ndarray | None, n_cells: int) -> np.ndarray:
    """``indices`` as int64 row numbers of ``n_cells`` cells, in their order.

    Row numbers (negative ones count from the end), a mask, a slice, or None for all cells. Raises IndexError for rows
    that are not there and masks of another length, TypeError for anything else, such as names of cells.
    """
    if indices is None:
        return np.arange(n_cells)
    rows = np.arange(n_cells)[indices] if isinstance(indices, slice) else np.asarray(indices)
    if rows.dtype == bool:
        if rows.shape != (n_cells,):
            raise IndexError(f"indices is a mask of shape {rows.shape}, expected ({n_cells},).")
        return np.flatnonzero(rows)
    if not rows.size:
        return np.empty(0, np.int64)
    if rows.dtype.kind not in "iu" and not (rows.dtype.kind == "f" and (rows == np.floor(rows)).all()):
        raise TypeError(f"indices are row numbers or a mask, found {rows.dtype} of shape {rows.shape}.")
    rows = rows.astype(np.int64).reshape(-1)
    if rows.min() < -n_cells or rows.max() >= n_cells:
        raise IndexError(f"indices reach {rows.min()} ... {rows.max()}, and adata has {n_cells:,} cells.")
    return np.where(rows < 0, rows + n_cells, rows)
