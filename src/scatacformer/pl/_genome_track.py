"""Measured and predicted accessibility along a piece of the genome, group by group."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from ._figure import finish

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from scatacformer import ScAtacFormer

MAX_REGIONS = 5_000


def genome_track(
    model: ScAtacFormer,
    region: str,
    groupby: str,
    adata: AnnData | None = None,
    *,
    max_cells: int = 500,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Share of a group's cells that have each bin open, and the mean that the model predicts, a panel for each group.

    Parameters
    ----------
    model
        A trained model.
    region
        Where, in base pairs: `"chr1:1,000,000-1,500,000"`.
    groupby
        Column of `adata.obs`.
    adata
        Cells on the model's regions; None: the model's own.
    max_cells
        Most cells of a group that are drawn from, by the model's seed.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Raises
    ------
    KeyError
        No such column.
    ValueError
        `region` cannot be read, holds none of the model's regions, or more than 5,000.
    """
    adata = model.adata if adata is None else adata
    if groupby not in adata.obs:
        raise KeyError(f"adata.obs has no column {groupby!r}; it has {', '.join(map(str, adata.obs.columns))}.")
    chrom, start, end = _parse(region)
    vocabulary = model.vocabulary
    names = np.asarray(vocabulary.chrom_names)[vocabulary.chrom]
    inside = np.flatnonzero((names == chrom) & (vocabulary.end > start) & (vocabulary.start < end))
    if not 0 < len(inside) <= MAX_REGIONS:
        raise ValueError(
            f"{region} holds {len(inside):,} of the model's regions, expected 1 to {MAX_REGIONS:,}; its chromosomes are "
            f"{', '.join(vocabulary.chrom_names[:3])}, ..."
        )
    values = adata.obs[groupby].astype(str).to_numpy()
    groups = sorted(set(values))
    rng = np.random.default_rng(model.seed_)
    layer = model.registry_["setup_args"].get("layer")
    x = adata.X if layer is None else adata.layers[layer]
    edges = np.append(vocabulary.start[inside], vocabulary.end[inside[-1]]) / 1e6
    figure, axes = plt.subplots(
        len(groups),
        1,
        figsize=(8, 1 + 0.8 * len(groups)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax, group in zip(axes[:, 0], groups, strict=True):
        rows = np.flatnonzero(values == group)
        if len(rows) > max_cells:
            rows = np.sort(rng.choice(rows, max_cells, replace=False))
        measured = np.asarray((x[rows][:, inside] > 0).mean(0)).ravel()
        predicted = model.get_normalized_accessibility(
            adata, indices=rows, region_list=adata.var_names[inside], return_numpy=True
        ).mean(0)
        ax.stairs(measured, edges, fill=True, color="0.8", label="measured")
        ax.stairs(predicted, edges, color="C0", label="predicted")
        ax.set_title(group, loc="left", fontsize="small", pad=2)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False, fontsize="small", loc="upper right")
    axes[-1, 0].set_xlabel(f"{chrom}, Mb")
    figure.supylabel("share of cells", fontsize="medium")
    finish(axes[0, 0], show, save)
    return list(axes[:, 0])


def _parse(region: str) -> tuple[str, int, int]:
    match = re.fullmatch(r"([^:\s]+):([\d,]+)-([\d,]+)", region.strip())
    if match is None:
        raise ValueError(f"region looks like 'chr1:1,000,000-1,500,000', found {region!r}")
    start, end = (int(number.replace(",", "")) for number in match.groups()[1:])
    if end <= start:
        raise ValueError(f"region ends before it starts: {region!r}")
    return match[1], start, end
