"""Whether an embedding keeps cell types apart, and cells beside those they were beside."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components
from sklearn import config_context
from sklearn.metrics import silhouette_score

from ._check import check_same_cells, checked_embedding, checked_labels
from ._neighbors import checked_k, nearest

SILHOUETTE_MIB = 128  # of distances at a time; scikit-learn's own default is 1 GiB


def mean_average_precision(x: ArrayLike, labels: ArrayLike, k: int | None = None) -> float:
    """Whether a cell's nearest neighbours have its label, the nearest first: 1 all of them, 0 none.

    Of a cell, the mean over those of its k neighbours that have its label of the precision down to that neighbour (the
    share with the label among it and the nearer ones); 0 if none has it. Averaged over the cells (as in scglue).
    By chance it is near the summed squares of the labels' shares, not 0.

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims); of two modalities, one below the other.
    labels
        (n_cells,)
    k
        Neighbours of a cell, itself not among them; None: 1 % of the cells.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        NaN; labels missing or all the same; ``k`` not below n_cells.
    """
    x = checked_embedding(x, "x")
    codes, k = checked_labels(labels, len(x)), checked_k(k, len(x))
    rank = np.arange(1, k + 1)
    total = 0.0
    for rows, near in nearest(x, k):
        hit = codes[near] == codes[rows, None]  # (n, k)
        precision = hit.cumsum(1) / rank
        total += ((precision * hit).sum(1) / np.maximum(hit.sum(1), 1)).sum()
    return float(total / len(x))


def cell_type_asw(x: ArrayLike, labels: ArrayLike) -> float:
    """Average silhouette width of labels, in 0 to 1: 1 far apart, 1/2 overlapping, 0 each cell among another label.

    ``(mean_i s_i + 1) / 2`` with s_i = (b_i - a_i) / max(a_i, b_i), a_i the mean distance to cells of its label and b_i
    to those of the nearest other label; 0 for a label of one cell. Equals ``scib_metrics.silhouette_label``.

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims); of two modalities, one below the other.
    labels
        (n_cells,)

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        NaN; labels missing, all the same or all different.
    """
    x = checked_embedding(x, "x")
    codes = checked_labels(labels, len(x))
    if codes.max() + 1 == len(x):
        raise ValueError(f"{len(x):,} cells have as many labels; expected at least one label with two cells.")
    with config_context(working_memory=SILHOUETTE_MIB):
        return float((silhouette_score(x, codes) + 1) / 2)


def graph_connectivity(x: ArrayLike, labels: ArrayLike, k: int = 14, *, directed: bool = True) -> float:
    """Whether the cells of a label hang together in the graph of neighbours: 1 each label is one piece, 0 all crumbs.

    Mean over the labels of the share of their cells that is in the largest strongly connected component of the label's
    part of the graph. Equals ``scib_metrics.graph_connectivity``, which follows edges from a cell to its neighbours
    alone; scIB and scglue (with it the Attune paper) follow them both ways, and find larger pieces.

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims); of two modalities, one below the other.
    labels
        (n_cells,)
    k
        Neighbours of a cell, itself not among them: scanpy's and scib-metrics' 15 count the cell itself.
    directed
        Follow edges in their direction alone.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        NaN; labels missing or all the same; ``k`` not below n_cells.
    """
    x = checked_embedding(x, "x")
    codes, k = checked_labels(labels, len(x)), checked_k(k, len(x))
    near = np.concatenate([near for _, near in nearest(x, k)])
    ones = np.ones(near.size, np.int8)
    graph = sp.csr_matrix((ones, near.ravel(), np.arange(0, near.size + 1, k)), shape=(len(x), len(x)))
    shares = []
    for code in range(codes.max() + 1):
        rows = np.flatnonzero(codes == code)
        _, piece = connected_components(graph[rows][:, rows], directed=directed, connection="strong")
        shares.append(np.bincount(piece).max() / len(rows))
    return float(np.mean(shares))


def neighbor_conservation(before: ArrayLike, after: ArrayLike, k: int | None = None) -> float:
    """Whether a cell has the neighbours that it had: 1 the same, 0 none of them.

    Mean over the cells of the Jaccard index of the k nearest before and the k nearest after, of one modality (scglue
    calls it once for all modalities and averages them, with k = 1 % of the cells of all of them together: twice the
    default here for two; :func:`paired_report` does the same). By chance it is about k / (2 n_cells).

    Parameters
    ----------
    before
        Embedding of the modality by itself, for example its principal components, (n_cells, n_dims).
    after
        Its embedding in the shared space, (n_cells, n_dims_after); rows are the same cells.
    k
        Neighbours of a cell, itself not among them; None: 1 % of the cells.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        Not the same cells; NaN; ``k`` not below n_cells.
    """
    check_same_cells(before, after, ("before", "after"))
    before, after = checked_embedding(before, "before"), checked_embedding(after, "after")
    k = checked_k(k, len(before))
    total = 0.0
    for (_, old), (_, new) in zip(nearest(before, k), nearest(after, k), strict=True):
        both = np.sort(np.concatenate([old, new], axis=1), axis=1)  # (n, 2 k)
        shared = (both[:, 1:] == both[:, :-1]).sum(1)  # none is twice in one of them
        total += (shared / (2 * k - shared)).sum()
    return float(total / len(before))
