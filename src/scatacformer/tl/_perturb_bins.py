"""In-silico perturbation: what a model predicts for cells in which bins are closed or opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from scatacformer._io import html_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData

    from scatacformer.model import ScAtacFormer


@dataclass(frozen=True)
class PerturbedBins:
    """Result of :func:`perturb_bins`.

    ``shift`` (n_cells, n_latent): the embedding after the perturbation minus that before. ``regions``: a DataFrame with
    a row for each region of the model: its mean accessibility over the cells ``before`` and ``after``, and the
    ``change``, all at the mean depth. ``n_removed``, ``n_added`` (n_cells,): number of bins of each cell that were
    actually closed and opened."""

    shift: np.ndarray
    regions: pd.DataFrame
    n_removed: np.ndarray
    n_added: np.ndarray

    def _summary(self) -> list[tuple[str, str]]:
        length = np.linalg.norm(self.shift, axis=1)
        change = self.regions["change"].sort_values(key=np.abs, ascending=False).iloc[:3]
        changed = int(((self.n_removed > 0) | (self.n_added > 0)).sum())
        return [
            ("cells changed", f"{changed:,} of {len(self.shift):,}"),
            ("bins closed per cell", f"{self.n_removed.mean():.3g} (mean)"),
            ("bins opened per cell", f"{self.n_added.mean():.3g} (mean)"),
            ("shift in the embedding", f"median length {np.median(length):.3g}, at most {length.max(initial=0):.3g}"),
            ("largest changes", ", ".join(f"{name} {value:+.3g}" for name, value in change.items())),
        ]

    def __repr__(self) -> str:
        return "PerturbedBins: " + "; ".join(f"{name}: {value}" for name, value in self._summary())

    def _repr_html_(self) -> str:
        return html_table("Perturbed bins", self._summary())


def perturb_bins(
    model: ScAtacFormer,
    adata: AnnData | None = None,
    *,
    remove: Sequence[str] = (),
    add: Sequence[str] = (),
    indices: Sequence[int] | np.ndarray | None = None,
    batch_size: int | None = None,
) -> PerturbedBins:
    """Close and open bins in cells, and predict how the cells move in the embedding and which other bins change.

    Parameters
    ----------
    model
        A trained model.
    adata
        Cells on the model's regions; None: the cells of the model. It is not modified.
    remove, add
        Names (``adata.var_names``) of regions to close and to open in every cell.
    indices
        Cells to change. Default: all.
    batch_size
        Number of cells per minibatch.

    Returns
    -------
    PerturbedBins
        The shift of each cell, and the change in the mean accessibility of each region.

    Raises
    ------
    ValueError
        No region is given, a region is not in the data, or a region is in both lists.
    """
    import pandas as pd

    from scatacformer.model import asked_cells, setup_layer

    adata, rows = asked_cells(model, adata, indices)
    closed, opened = (_places(adata, names) for names in (remove, add))
    if not len(closed) and not len(opened):
        raise ValueError("remove and add are empty; expected regions to remove or to add.")
    both = np.intersect1d(closed, opened)
    if len(both):
        raise ValueError(
            f"{len(both)} regions are in both remove and add (first: {adata.var_names[both[0]]}). Leave them out of one."
        )
    before = adata[rows].copy() if not adata.isbacked else adata[rows].to_memory()
    layer = setup_layer(model)
    x = sp.csr_matrix(before.X if layer is None else before.layers[layer])
    x_changed, n_removed, n_added = _change(x, closed, opened)
    after = before.copy()
    if layer is None:
        after.X = x_changed
    else:
        after.layers[layer] = x_changed
    z = model.get_latent_representation(before, batch_size=batch_size)
    p = model.get_mean_accessibility(before, batch_size=batch_size)
    # the other cells are what they were, and what the model says of them
    changed = np.flatnonzero(n_removed + n_added)
    shift, change = np.zeros_like(z), np.zeros_like(p)
    if len(changed):
        z_after = model.get_latent_representation(after, changed, batch_size)
        p_of = [model.get_mean_accessibility(cells, changed, batch_size=batch_size) for cells in (before, after)]
        shift[changed] = z_after - z[changed]
        change = (p_of[1] - p_of[0]) * (len(changed) / before.n_obs)
    regions = pd.DataFrame({"before": p, "after": p + change, "change": change}, index=adata.var_names)
    return PerturbedBins(shift, regions, n_removed, n_added)


def _places(adata: AnnData, names: Sequence[str]) -> np.ndarray:
    if isinstance(names, str):
        names = [names]
    at = adata.var_names.get_indexer(list(names))
    if (at < 0).any():
        missing = np.asarray(names)[at < 0]
        raise ValueError(
            f"{len(missing)} of {len(names)} regions are not in adata.var_names (first: {missing[0]}); "
            f"these are like {adata.var_names[0]}."
        )
    return np.unique(at)


def _change(x: sp.csr_matrix, closed: np.ndarray, opened: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """CSR matrix with some columns set to 0 and others to at least 1; numbers of entries removed and added per row."""
    x = x.copy()
    x.eliminate_zeros()
    gone = np.isin(x.indices, closed)
    owner = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    n_removed = np.bincount(owner[gone], minlength=x.shape[0])
    x.data[gone] = 0
    x.eliminate_zeros()
    n_before = np.diff(x.indptr)
    at = np.arange(x.shape[0] + 1) * len(opened)
    ones = sp.csr_matrix((np.ones(at[-1], x.dtype), np.tile(opened, x.shape[0]), at), shape=x.shape)
    x = x.maximum(ones).tocsr()
    return x, n_removed, np.diff(x.indptr) - n_before
