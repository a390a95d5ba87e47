"""How well an embedding and its clusters agree with known labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.neighbors import NearestNeighbors

if TYPE_CHECKING:
    from anndata import AnnData


def label_agreement(
    adata: AnnData,
    labels_key: str,
    *,
    clusters_key: str = "leiden",
    use_rep: str = "X_scatacformer",
    n_neighbors: int = 15,
) -> pd.Series:
    """Agreement of clusters with labels, and of each cell's neighbours with its label.

    Parameters
    ----------
    adata
        Cells with an embedding and clusters.
    labels_key
        Column of ``.obs`` with the labels. Cells without a label (NaN) are ignored, also as neighbours.
    clusters_key
        Column of ``.obs`` with the clusters.
    use_rep
        Embedding in ``.obsm``.
    n_neighbors
        Number of neighbours of a cell, without itself; at most all other cells.

    Returns
    -------
    pandas.Series
        ``n_cells``, ``n_labels``, ``n_clusters``; ``ari`` and ``nmi`` of clusters with labels, 1 = the same, 0 = by
        chance (ARI); ``knn_purity``, the share of a cell's neighbours that have its label, averaged over the labels, so
        that a rare one counts as much as a common one.

    Raises
    ------
    KeyError
        The column or the embedding does not exist.
    ValueError
        Fewer than two cells have a label.
    """
    for key in (labels_key, clusters_key):
        if key not in adata.obs:
            raise KeyError(f"adata.obs has no column {key!r}; it has {', '.join(map(str, adata.obs.columns))}.")
    if use_rep not in adata.obsm:
        raise KeyError(f"adata.obsm has no embedding {use_rep!r}; it has {', '.join(adata.obsm) or 'none'}.")
    labelled = adata.obs[labels_key].notna().to_numpy()
    if labelled.sum() < 2:
        raise ValueError(f"{int(labelled.sum())} cells have a label in adata.obs[{labels_key!r}]; expected at least 2.")
    label, names = pd.factorize(adata.obs[labels_key][labelled].astype(str))
    cluster = adata.obs[clusters_key][labelled].astype(str)
    embedding = np.asarray(adata.obsm[use_rep])[labelled]

    n_neighbors = min(n_neighbors, len(label) - 1)
    # without an argument, kneighbors excludes each cell itself, also among cells with the same coordinates
    near = NearestNeighbors(n_neighbors=n_neighbors).fit(embedding).kneighbors(return_distance=False)
    same = (label[near] == label[:, None]).mean(1)  # (n_labelled,)
    return pd.Series(
        {
            "n_cells": len(label),
            "n_labels": len(names),
            "n_clusters": cluster.nunique(),
            "ari": float(adjusted_rand_score(label, cluster)),
            "nmi": float(normalized_mutual_info_score(label, cluster)),
            "knn_purity": float(np.mean([same[label == code].mean() for code in range(len(names))])),
        },
        name="label_agreement",
        dtype=object,
    )
