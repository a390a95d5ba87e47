"""Whether a cell's true partner in the other modality is the nearest one."""

from __future__ import annotations

import warnings
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from ._check import check_same_cells, checked_embedding, checked_labels

TIED = 0.01  # share of ties from which a low value says more of the ties than of the pairing


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
    """Fraction of samples closer than the true match: 0 if each cell's partner is the nearest, 1/2 by chance.

    Of cell i, with d Euclidean and a strict <, ``mean_j [d(x_i, y_j) < d(x_i, y_i)]``; in the other direction
    ``mean_j [d(x_j, y_i) < d(x_i, y_i)]``. Both are averaged over the cells, and with each other (Liu et al., WABI 2019;
    as in scglue). One less it is the AUC of telling true pairs from false. 1: the partner is the farthest of all.

    Lengths count: scale the rows to 1 where the cosine is meant. A pair as far as the true one is not closer, so that an
    embedding in which all cells are the same scores 0; there is a warning when more than 1 % of pairs tie. Quote it of
    cells that were held out: on the cells of the training it can be 0 and say nothing.

    Parameters
    ----------
    x, y
        Embeddings of the two modalities, (n_cells, n_dims); rows are the same cells. Of two DataFrames the index is
        compared.
    within
        Labels, (n_cells,): a cell is compared with cells of its label alone, so that knowing the label is worth nothing.
        Labels of a single cell take no part.
    chunk_size
        Rows of ``x`` at a time. Memory is chunk_size x n_cells numbers, time n_cells squared x n_dims.
    per_cell
        Return a value for each cell rather than the mean.

    Returns
    -------
    float or (numpy.ndarray, numpy.ndarray)
        The mean; with ``per_cell`` that of each cell of x among those of y and of each of y among those of x, (n_cells,)
        each, NaN where a label has one cell.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        Not the same cells or dimensions; NaN; fewer than 2 cells; no label with 2.
    """
    check_same_cells(x, y, ("x", "y"))
    x, y = checked_embedding(x, "x"), checked_embedding(y, "y")
    if x.shape != y.shape:
        raise ValueError(f"x has {x.shape[1]} dimensions, y has {y.shape[1]}; expected two embeddings in one space.")
    if chunk_size < 1:
        raise ValueError(f"chunk_size = {chunk_size}; expected at least 1.")
    codes = np.zeros(len(x), np.int64) if within is None else checked_labels(within, len(x), "labels of `within`")
    shares = np.full((3, len(x)), np.nan)  # closer to x_i, closer to y_i, tied with x_i
    for code in range(codes.max() + 1):
        rows = np.flatnonzero(codes == code)
        if len(rows) > 1:
            shares[:, rows] = _shares(x[rows], y[rows], chunk_size)
    of_x, of_y, tied = shares
    if np.isnan(of_x).all():
        raise ValueError("no label of `within` has two cells; expected at least one that has.")
    if (share := float(np.nanmean(tied))) > TIED:
        warnings.warn(
            f"{share:.0%} of pairs are exactly as far apart as the true one and count as not closer: cells share their "
            "coordinates, and foscttm is lower than it should be. Look at sf.metrics.uniformity (0: all cells the same).",
            stacklevel=2,
        )
    return (of_x, of_y) if per_cell else float((np.nanmean(of_x) + np.nanmean(of_y)) / 2)


def _shares(x: np.ndarray, y: np.ndarray, chunk_size: int) -> np.ndarray:
    """Shares of y closer to x_i than y_i, of x closer to y_i than x_i, of y as far from x_i as y_i.  (3, n_cells)"""
    n = len(x)
    chunks = [slice(first, first + chunk_size) for first in range(0, n, chunk_size)]
    # of the same routine as all other distances: by differences, so that ties are ties, and by no other order of sums
    blocks = [slice(first, first + 32) for first in range(0, n, 32)]
    match = np.concatenate([cdist(x[part], y[part], "sqeuclidean").diagonal() for part in blocks])
    count = np.zeros((3, n))
    for part in chunks:
        distance = cdist(x[part], y, "sqeuclidean")  # (chunk_size, n_cells)
        count[0, part] = (distance < match[part, None]).sum(1)
        count[1] += (distance < match).sum(0)
        count[2, part] = (distance == match[part, None]).sum(1) - 1
    return count / n
