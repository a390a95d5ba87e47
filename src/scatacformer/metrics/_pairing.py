"""Whether a cell's true match in the other modality is the nearest one."""

from __future__ import annotations

import warnings
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from ._check import check_same_cells, checked_embedding, checked_labels

TIED = 0.01  # share of ties above which a low value may be due to the ties


@overload
def foscttm(
    x: ArrayLike,
    y: ArrayLike,
    *,
    within: ArrayLike | None = None,
    chunk_size: int = 1024,
    per_cell: Literal[False] = False,
) -> float: ...
@overload
def foscttm(
    x: ArrayLike,
    y: ArrayLike,
    *,
    within: ArrayLike | None = None,
    chunk_size: int = 1024,
    per_cell: Literal[True],
) -> tuple[np.ndarray, np.ndarray]: ...
def foscttm(
    x: ArrayLike,
    y: ArrayLike,
    *,
    within: ArrayLike | None = None,
    chunk_size: int = 1024,
    per_cell: bool = False,
) -> float | tuple[np.ndarray, np.ndarray]:
    """Fraction of samples closer than the true match: 0 if each cell's true match is the nearest, 1/2 by chance.

    For cell i, with Euclidean distance d and a strict <, it is ``mean_j [d(x_i, y_j) < d(x_i, y_i)]``, and in the other
    direction ``mean_j [d(x_j, y_i) < d(x_i, y_i)]``. Both are averaged over the cells and with each other (Liu et al.,
    WABI 2019; as in scglue). 1 - foscttm is the AUC for distinguishing true pairs from false ones. 1 means that the
    true match is the farthest of all.

    The lengths of the vectors matter: scale rows to length 1 to use the cosine. A pair as far apart as the true one is
    not closer, so an embedding in which all cells are identical scores 0; a warning is given if more than 1 % of the
    pairs tie. Evaluate on unseen cells: on the training cells it can be 0 without being informative.

    Parameters
    ----------
    x, y
        Embeddings of the two modalities, (n_cells, n_dims); rows are the same cells. For two DataFrames, the index is
        compared.
    within
        Labels, (n_cells,): a cell is compared only with cells of its label, so that knowing the label does not help.
        Labels with a single cell are ignored.
    chunk_size
        Number of rows of ``x`` at a time. Memory is chunk_size x n_cells numbers, time n_cells squared x n_dims.
    per_cell
        Return a value for each cell instead of the mean.

    Returns
    -------
    float or (numpy.ndarray, numpy.ndarray)
        The mean; with ``per_cell``, the value of each cell of x among those of y and of each cell of y among those of
        x, (n_cells,) each, NaN where a label has one cell.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        Different cells or dimensions; NaN; fewer than 2 cells; no label with 2 cells.
    """
    check_same_cells(x, y, ("x", "y"))
    x, y = checked_embedding(x, "x"), checked_embedding(y, "y")
    if x.shape != y.shape:
        raise ValueError(f"x has {x.shape[1]} dimensions, y has {y.shape[1]}; expected two embeddings in one space.")
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; expected at least 1.")
    codes = np.zeros(len(x), np.int64) if within is None else checked_labels(within, len(x), "labels in within")
    shares = np.full((3, len(x)), np.nan)  # closer to x_i, closer to y_i, tied with x_i
    for code in range(codes.max() + 1):
        rows = np.flatnonzero(codes == code)
        if len(rows) > 1:
            shares[:, rows] = _shares(x[rows], y[rows], chunk_size)
    of_x, of_y, tied = shares
    if np.isnan(of_x).all():
        raise ValueError("no label in within has two cells; expected at least one that does.")
    if (share := float(np.nanmean(tied))) > TIED:
        warnings.warn(
            f"{share:.0%} of pairs are exactly as far apart as the true one and count as not closer, so foscttm is too low: cells "
            "have identical coordinates. Check sf.metrics.uniformity (0: all cells are identical).",
            stacklevel=2,
        )
    return (of_x, of_y) if per_cell else float((np.nanmean(of_x) + np.nanmean(of_y)) / 2)


def _shares(x: np.ndarray, y: np.ndarray, chunk_size: int) -> np.ndarray:
    """Shares of y closer to x_i than y_i, of x closer to y_i than x_i, of y as far from x_i as y_i.  (3, n_cells)"""
    n = len(x)
    chunks = [slice(first, first + chunk_size) for first in range(0, n, chunk_size)]
    # by the same routine as all other distances, so that ties are exact: by differences, summed in the same order
    blocks = [slice(first, first + 32) for first in range(0, n, 32)]
    match = np.concatenate([cdist(x[part], y[part], "sqeuclidean").diagonal() for part in blocks])
    count = np.zeros((3, n))
    for part in chunks:
        distance = cdist(x[part], y, "sqeuclidean")  # (chunk_size, n_cells)
        count[0, part] = (distance < match[part, None]).sum(1)
        count[1] += (distance < match).sum(0)
        count[2, part] = (distance == match[part, None]).sum(1) - 1
    return count / n
