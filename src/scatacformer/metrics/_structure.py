"""Whether an embedding separates cell types and conserves the neighbours of each cell."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components
from sklearn import config_context
from sklearn.metrics import silhouette_score

from ._check import check_same_cells, checked_embedding, checked_labels
from ._neighbors import checked_k, nearest

SILHOUETTE_MIB = 128  # of distances at a time; scikit-learn's default is 1 GiB


def mean_average_precision(x: ArrayLike, labels: ArrayLike, k: int | None = None) -> float:
    """Mean average precision of labels among each cell's nearest neighbours: 1 if all have its label, 0 if none.

    For each cell, the precision is computed at each of its k neighbours that has its label (the share with that label
    among this neighbour and the nearer ones) and averaged; 0 if none has it. The result is the mean over cells, as in
    scglue. By chance it is close to the sum of squared label frequencies, not 0.

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims); two modalities are concatenated along the rows.
    labels
        Label of each cell, (n_cells,).
    k
        Number of neighbours of a cell, without itself; None: 1 % of the cells.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        NaN; missing labels or only one; ``k`` not below n_cells.
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
    """Average silhouette width of labels, from 0 to 1: 1 well separated, 1/2 overlapping, 0 in the wrong label.

    ``(mean_i s_i + 1) / 2`` with s_i = (b_i - a_i) / max(a_i, b_i), a_i the mean distance to cells of its label and b_i
    to those of the nearest other label; s_i is 0 for a label with one cell. Equals ``scib_metrics.silhouette_label``.

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims); two modalities are concatenated along the rows.
    labels
        Label of each cell, (n_cells,).

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        NaN; missing labels; only one label; or as many labels as cells.
    """
    x = checked_embedding(x, "x")
    codes = checked_labels(labels, len(x))
    if codes.max() + 1 == len(x):
        raise ValueError(f"{len(x):,} cells have as many different labels; expected at least one label with two cells.")
    with config_context(working_memory=SILHOUETTE_MIB):
        return float((silhouette_score(x, codes) + 1) / 2)


def graph_connectivity(x: ArrayLike, labels: ArrayLike, k: int = 14, *, directed: bool = True) -> float:
    """Whether the cells of each label are connected in the neighbour graph: 1 if each label is one component.

    Mean over the labels of the share of their cells in the largest strongly connected component of the label's
    subgraph. Equals ``scib_metrics.graph_connectivity``, which follows edges only from a cell to its neighbours; scIB
    and scglue (and the Attune paper) follow them in both directions and find larger components.

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims); two modalities are concatenated along the rows.
    labels
        Label of each cell, (n_cells,).
    k
        Number of neighbours of a cell, without itself: the 15 of scanpy and scib-metrics include the cell.
    directed
        Follow edges only in their direction.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        NaN; missing labels or only one; ``k`` not below n_cells.
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
    """Whether each cell has the same neighbours as before: 1 the same, 0 none of them.

    Mean over the cells of the Jaccard index of the k nearest neighbours before and after, for one modality. scglue
    averages it over all modalities, with k = 1 % of the cells of all of them together, which is twice the default here
    for two modalities; :func:`paired_report` does the same. By chance it is about k / (2 n_cells).

    Parameters
    ----------
    before
        Embedding of the modality by itself, for example its principal components, (n_cells, n_dims).
    after
        Embedding of the modality in the joint space, (n_cells, n_dims_after); rows are the same cells.
    k
        Number of neighbours of a cell, without itself; None: 1 % of the cells.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        Different cells; NaN; ``k`` not below n_cells.
    """
    check_same_cells(before, after, ("before", "after"))
    before, after = checked_embedding(before, "before"), checked_embedding(after, "after")
    k = checked_k(k, len(before))
    total = 0.0
    for (_, old), (_, new) in zip(nearest(before, k), nearest(after, k), strict=True):
        both = np.sort(np.concatenate([old, new], axis=1), axis=1)  # (n, 2 k)
        shared = (both[:, 1:] == both[:, :-1]).sum(1)  # no neighbour occurs twice in either
        total += (shared / (2 * k - shared)).sum()
    return float(total / len(before))
