"""Whether modalities, or batches, are mixed in an embedding."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.metrics import silhouette_samples

from ._check import checked_embedding, checked_labels
from ._neighbors import checked_k, nearest
from ._structure import SILHOUETTE_MIB


def seurat_alignment_score(
    x: ArrayLike, modality: ArrayLike, k: int | None = None, *, n_subsamples: int = 4, seed: int = 0
) -> float:
    """Whether neighbours are from the other modality as often as expected by chance: 1 as often, 0 never.

    ``min(1, (k - same) / (k (1 - 1 / B)))`` with B modalities and ``same`` the mean number of a cell's k neighbours
    that are of its own, after each modality is subsampled to the size of the smallest; averaged over the subsamples
    (Butler et al., Nature Biotechnology 2018; as in scglue). A score of 1 does not show that partners are close;
    :func:`foscttm` does.

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims), with the modalities concatenated along the rows.
    modality
        Modality or batch of each row, (n_cells,).
    k
        Number of neighbours of a cell, without itself; None: 1 % of the cells of a subsample.
    n_subsamples
        Number of subsamples; one is used if all modalities have the same number of cells.
    seed
        Seed of the subsampling.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        NaN; missing modalities or only one; ``k`` too large for a subsample; ``n_subsamples`` below 1.
    """
    x = checked_embedding(x, "x")
    codes = checked_labels(modality, len(x), "modalities")
    if n_subsamples < 1:
        raise ValueError(f"n_subsamples is {n_subsamples}; expected at least 1.")
    size = np.bincount(codes)
    n_modalities, smallest = len(size), int(size.min())
    k = checked_k(k, n_modalities * smallest)
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(1 if (size == smallest).all() else n_subsamples):
        drawn = np.concatenate(
            [rng.choice(np.flatnonzero(codes == code), smallest, replace=False) for code in range(n_modalities)]
        )
        of_drawn = codes[drawn]
        same = sum(int((of_drawn[near] == of_drawn[rows, None]).sum()) for rows, near in nearest(x[drawn], k))
        scores.append(min((k - same / len(drawn)) / (k * (1 - 1 / n_modalities)), 1.0))
    return float(np.mean(scores))


def batch_asw(x: ArrayLike, labels: ArrayLike, batch: ArrayLike) -> float:
    """Average silhouette width of batches or modalities within labels, inverted: 1 mixed, 0 separate.

    Mean over the labels of ``mean_i (1 - |s_i|)``, s_i the silhouette of cell i's batch among the cells of its label.
    Equals ``scib_metrics.silhouette_batch``: labels with a single batch, or without two cells of the same batch, are
    ignored (scglue counts such a label as perfectly mixed).

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims); two modalities are concatenated along the rows.
    labels, batch
        Label and batch of each cell, (n_cells,).

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        NaN; missing labels or batches, or only one; no label with two batches and two cells of one of them.
    """
    x = checked_embedding(x, "x")
    codes, batches = checked_labels(labels, len(x)), checked_labels(batch, len(x), "batches")
    widths = []
    with config_context(working_memory=SILHOUETTE_MIB):
        for code in range(codes.max() + 1):
            rows = np.flatnonzero(codes == code)
            if 1 < np.count_nonzero(np.bincount(batches[rows])) < len(rows):
                widths.append(1 - np.abs(silhouette_samples(x[rows], batches[rows])).mean())
    if not widths:
        raise ValueError("no label has two batches and two cells of one of them; expected at least one such label.")
    return float(np.mean(widths))
