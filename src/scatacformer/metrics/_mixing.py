"""Whether modalities, or batches, lie among each other."""

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
    """Whether neighbours are of the other modality as often as by chance: 1 as often, 0 never.

    ``min(1, (k - same) / (k (1 - 1 / B)))`` with B modalities and ``same`` the mean number of a cell's k neighbours that
    are of its own, after each modality is drawn down to the size of the smallest; averaged over the draws (Butler et
    al., Nature Biotechnology 2018; as in scglue). A score that chance would give does not say that partners meet:
    :func:`foscttm` does.

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims), modalities one below the other.
    modality
        Modality or batch of each row, (n_cells,).
    k
        Neighbours of a cell, itself not among them; None: 1 % of the cells of a draw.
    n_subsamples
        Draws; one where all modalities have as many cells, since all draws are the same.
    seed
        Of the draws.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        NaN; modalities missing or a single one; ``k`` not below the cells of a draw; no draws.
    """
    x = checked_embedding(x, "x")
    codes = checked_labels(modality, len(x), "modalities")
    if n_subsamples < 1:
        raise ValueError(f"n_subsamples = {n_subsamples}; expected at least 1.")
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
    """Average silhouette width of batches or modalities within labels, turned round: 1 mixed, 0 apart.

    Mean over the labels of ``mean_i (1 - |s_i|)``, s_i the silhouette of cell i's batch among the cells of its label.
    Equals ``scib_metrics.silhouette_batch``: labels of one batch, or with no two cells of a batch, say nothing and take
    no part (scglue counts such a label as perfectly mixed).

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims); of two modalities, one below the other.
    labels, batch
        (n_cells,)

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        NaN; labels or batches missing or all the same; no label with two batches and two cells of one.
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
        raise ValueError(
            "no label has two batches and two cells of one of them: batches cannot be compared within labels."
        )
    return float(np.mean(widths))
