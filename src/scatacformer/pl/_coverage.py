"""Measured and predicted signal of tracks over a region, the genes below."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from ._figure import finish
from ._genes import draw_genes, gene_table, genome_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from scatacformer.model import Epiformer


def coverage(
    model: Epiformer,
    region: str,
    groups: str | Sequence[str] | None = None,
    *,
    genes: pd.DataFrame | str | Path | None = None,
    mark: int | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Signal of each track along a region: as measured (filled), where the data have it, and as predicted (line).

    Parameters
    ----------
    model
        A trained model.
    region
        Such as ``"chr2:127068747-127150006"``.
    groups
        Names of tracks; all by default.
    genes
        GTF file, or a table with the columns ``chrom``, ``start``, ``end``, ``strand`` and ``name``; drawn below.
    mark
        Position in bp of a vertical line, such as that of a variant.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Returns
    -------
    Axes of each track, and of the genes.
    """
    predicted = model.predict_region(region, groups, progress=False)
    names = [str(name) for name in predicted["track"].values]
    start, end = predicted["start"].values, predicted["end"].values
    chrom = str(predicted.attrs["chrom"])
    measured = _measured(model, names, chrom, start)
    n_panels = len(names) + (genes is not None)
    figure, axes = plt.subplots(
        n_panels, 1, figsize=(9, 1 + 0.9 * n_panels), sharex=True, squeeze=False, layout="constrained"
    )
    edges = np.append(start, end[-1])
    width = 1.0 if len(start) < 400 else 0.5
    for row, name in enumerate(names):
        ax = axes[row, 0]
        if measured is not None:
            ax.fill_between(edges, _to_edges(measured[row]), step="post", color="0.75", linewidth=0, label="measured")
        ax.step(edges, _to_edges(predicted.values[row]), where="post", color="C0", linewidth=width, label="predicted")
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.set_ylim(bottom=0)
        if mark is not None:
            ax.axvline(mark, color="C3", linewidth=0.8)
    axes[0, 0].legend(  # above the panel: nothing is covered
        frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2
    )
    if genes is not None:
        draw_genes(axes[-1, 0], gene_table(genes), chrom, int(start[0]), int(end[-1]), per_unit=1)
    genome_axis(axes[-1, 0], chrom, int(start[0]), int(end[-1]), per_unit=1)
    finish(axes[0, 0], show, save)
    return list(axes[:, 0])


def _to_edges(values: np.ndarray) -> np.ndarray:
    """Values of bins at the edges of the bins, as ``step(where="post")`` draws them to the end of the last one."""
    return np.append(values, values[-1])


def _measured(model: Epiformer, names: list[str], chrom: str, start: np.ndarray) -> np.ndarray | None:
    """Signal of the data in the bins that begin at ``start``, ``(n_tracks, n_bins)``; NaN where there is none."""
    adata: Any = model.adata
    if adata is None:
        return None
    rows = adata.obs_names.get_indexer(names)
    of_chrom = np.flatnonzero(adata.var["chrom"].astype(str).to_numpy() == chrom)
    known = adata.var["start"].to_numpy()[of_chrom]
    place = np.searchsorted(known, start)
    found = (place < len(known)) & (known[np.minimum(place, max(len(known) - 1, 0))] == start) if len(known) else None
    if found is None or not found.any() or (rows < 0).any():
        return None
    out = np.full((len(names), len(start)), np.nan, dtype=np.float32)
    columns = of_chrom[place[found]]
    for number, row in enumerate(rows.tolist()):
        out[number, found] = np.asarray(adata.X[row])[..., columns].ravel()
    return out
