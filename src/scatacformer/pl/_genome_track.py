"""Measured and predicted accessibility along a genomic region, by group of cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from ._figure import finish
from ._genes import draw_genes, gene_table, genome_axis, n_gene_rows
from ._tracks import bins_inside, draw_groups, groups_of, parse_region

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

    from scatacformer.model import ScAtacFormer


def genome_track(
    model: ScAtacFormer,
    region: str,
    groupby: str,
    adata: AnnData | None = None,
    *,
    genes: pd.DataFrame | str | Path | None = None,
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
    genes
        GTF file, or a table with the columns ``chrom``, ``start``, ``end``, ``strand`` and ``name``, such as
        :func:`scatacformer.genome.read_gene_table` returns; drawn below.
    max_cells
        Maximum number of cells per group, sampled by the model's seed.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Returns
    -------
    list of Axes
        Of each group, and of the genes if any were given.

    Raises
    ------
    KeyError
        The column does not exist, or ``genes`` lacks one.
    ValueError
        ``region`` cannot be parsed, or overlaps none or more than 5,000 of the model's regions.
    """
    adata = model.adata if adata is None else adata
    groups = groups_of(adata, groupby)
    chrom, start, end = parse_region(region)
    inside = bins_inside(model.vocabulary, chrom, start, end)
    table = None if genes is None else gene_table(genes)
    heights = [1.0] * len(groups)
    if table is not None:
        heights.append(0.35 + 0.25 * n_gene_rows(table, chrom, start, end))
    figure, axes = plt.subplots(
        len(heights),
        1,
        figsize=(8, 0.9 + 0.8 * sum(heights)),
        sharex=True,
        squeeze=False,
        height_ratios=heights,
        layout="constrained",
    )
    panels = list(axes[: len(groups), 0])
    draw_groups(panels, adata, groupby, model.vocabulary, inside, model, max_cells)
    top = max(ax.get_ylim()[1] for ax in panels)
    for ax in panels:
        ax.set_ylim(0, top)
    if table is not None:
        draw_genes(axes[-1, 0], table, chrom, start, end)
    genome_axis(axes[-1, 0], chrom, start, end)
    figure.supylabel("share of cells", fontsize="medium")
    finish(axes[0, 0], show, save)
    return list(axes[:, 0])
