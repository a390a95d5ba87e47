"""Checked access to the rows and scores of a gene-by-motif matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def motif_rows(gbm: AnnData, group: str | None = None, gene: str | None = None) -> NDArray[np.intp]:
    """Rows of a group, of a gene, or of both; all rows if neither is given. KeyError for an unknown name."""
    chosen = np.ones(gbm.n_obs, bool)
    for column, name in (("group", group), ("gene", gene)):
        if name is None:
            continue
        if column not in gbm.obs:
            raise KeyError(f"gbm.obs has no column {column!r}: expected the AnnData of GET.get_gene_by_motif.")
        named = gbm.obs[column].astype(str).to_numpy() == str(name)
        if not named.any():
            some = ", ".join(map(str, gbm.obs[column].astype(str).unique()[:5]))
            raise KeyError(f"no row of gbm has {column} {name!r}; it has {some}, ...")
        chosen &= named
    return np.flatnonzero(chosen)


def motif_values(gbm: AnnData, group: str | None = None, layer: str | None = None) -> NDArray[np.float64]:
    """Scores of a group's rows, (rows, motifs) float64. ValueError for NaN or fewer than two motifs."""
    found = gbm.X if layer is None else gbm.layers[layer]
    rows = motif_rows(gbm, group)
    part = found[rows]
    x = np.asarray(part.todense() if hasattr(part, "todense") else part, np.float64)
    if x.shape[1] < 2:
        raise ValueError(f"gbm has {x.shape[1]} motif; expected at least two.")
    if not np.isfinite(x).all():
        bad = int(np.flatnonzero(~np.isfinite(x).all(1))[0])
        raise ValueError(f"gbm holds NaN or infinite scores (first row: {gbm.obs_names[rows[bad]]}). Drop these rows.")
    return x
