"""Checks of the input, before anything is computed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike


def checked_embedding(x: ArrayLike, name: str) -> np.ndarray:
    """``x`` as float64, (n_cells, n_dims). Raises TypeError for a sparse matrix, ValueError for shape, NaN, 1 cell."""
    if sp.issparse(x):
        raise TypeError(
            f"{name} is sparse; expected the dense coordinates of an embedding. Reduce its dimensions first."
        )
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"{name} has shape {x.shape}; expected (n_cells, n_dims).")
    if len(x) < 2 or not x.shape[1]:
        raise ValueError(f"{name} has shape {x.shape}; expected at least 2 cells and 1 dimension.")
    bad = ~np.isfinite(x).all(1)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum()):,} of {len(x):,} cells of {name} have NaN or infinite coordinates (first: row "
            f"{int(bad.argmax())}). Leave them out."
        )
    return x


def check_same_cells(x: ArrayLike, y: ArrayLike, names: tuple[str, str]) -> None:
    """Raise ValueError if two arrays cannot be of the same cells in the same order."""
    n_x, n_y = (np.shape(one)[:1] for one in (x, y))
    if n_x != n_y:
        raise ValueError(
            f"{names[0]} has {_count(n_x)} cells, {names[1]} has {_count(n_y)}; expected the same cells in the same order."
        )
    if isinstance(x, pd.DataFrame) and isinstance(y, pd.DataFrame) and not x.index.equals(y.index):
        shared = len(x.index.intersection(y.index))
        raise ValueError(
            f"{names[0]} and {names[1]} do not have the same cells in the same order: {shared:,} of {len(x):,} names are "
            f"shared. Order one by the other with .loc."
        )


def checked_labels(labels: ArrayLike, n_cells: int, name: str = "labels") -> np.ndarray:
    """Labels as codes 0, 1, ..., (n_cells,). Raises ValueError for another length, missing ones, or a single label."""
    values = pd.Series(np.asarray(labels) if not isinstance(labels, pd.Series | pd.Categorical) else labels)
    if len(values) != n_cells:
        raise ValueError(f"{len(values):,} {name} for {n_cells:,} cells; expected one each.")
    codes, found = pd.factorize(values)
    if (codes < 0).any():
        raise ValueError(f"{int((codes < 0).sum()):,} of {n_cells:,} {name} are missing. Leave these cells out.")
    if len(found) < 2:
        raise ValueError(f"all {n_cells:,} {name} are {found[0]!r}; expected at least two different ones.")
    return codes


def unit_rows(x: np.ndarray, name: str) -> np.ndarray:
    """Rows of ``x`` scaled to length 1. Raises ValueError for rows of zeros."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    if not norm.all():
        raise ValueError(
            f"{int((norm == 0).sum()):,} of {len(x):,} cells of {name} are all zeros and have no direction. Leave them out."
        )
    return x / norm


def _count(shape: tuple[int, ...]) -> str:
    return f"{shape[0]:,}" if shape else "no"
