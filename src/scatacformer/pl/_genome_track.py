"""Measured and predicted accessibility along a genomic region, by group of cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from ._figure import finish
from ._tracks import bins_inside, draw_groups, groups_of, parse_region

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from scatacformer.model import ScAtacFormer


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
    """Share of cells in which each bin is open, and the mean prediction of the model, with a panel for each group.

    Parameters
    ----------
    model
        A trained model.
    region
        Genomic region, in bp: ``"chr1:1,000,000-1,500,000"``.
    groupby
        Column of ``adata.obs``.
    adata
        Cells on the model's regions; None: the cells of the model.
    max_cells
        Maximum number of cells per group, sampled by the model's seed.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Raises
    ------
    KeyError
        The column does not exist.
    ValueError
        ``region`` cannot be parsed, or overlaps none or more than 5,000 of the model's regions.
    """
    adata = model.adata if adata is None else adata
    groups = groups_of(adata, groupby)
    chrom, start, end = parse_region(region)
    inside = bins_inside(model.vocabulary, chrom, start, end)
    figure, axes = plt.subplots(
        len(groups),
        1,
        figsize=(8, 1 + 0.8 * len(groups)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    draw_groups(list(axes[:, 0]), adata, groupby, model.vocabulary, inside, model, max_cells)
    axes[-1, 0].set_xlabel(f"{chrom}, Mb")
    figure.supylabel("share of cells", fontsize="medium")
    finish(axes[0, 0], show, save)
    return list(axes[:, 0])
