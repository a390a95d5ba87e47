"""Links of a gene as arcs along the genome."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from scatacformer.genome import Vocabulary, check_links

from ._figure import finish
from ._genes import genome_axis
from ._tracks import bins_inside, draw_groups, groups_of, parse_region

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

    from scatacformer.model import ScAtacFormer

POSITIVE, NEGATIVE = "Blues", "Reds"


def links(
    links: pd.DataFrame,
    gene: str,
    groupby: str | None = None,
    *,
    model: ScAtacFormer | None = None,
    adata: AnnData | None = None,
    region: str | None = None,
    max_q: float = 0.05,
    max_links: int = 50,
    max_cells: int = 500,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Arcs from a gene's transcription start site to its linked bins; height and darkness show the score.

    Parameters
    ----------
    links
        Result of ``get_gene_bin_links``, or a subset of its rows.
    gene
        Gene whose links are plotted.
    groupby
        Column of ``adata.obs``: above the arcs, a panel for each group shows the share of its cells in which each bin
        is open, and the prediction if ``model`` is given. Needs ``model`` or ``adata``.
    model
        A trained model, for the panels of groups.
    adata
        Cells for the panels of groups; None: the cells of the model.
    region
        Genomic region to plot, in bp: ``"chr1:1,000,000-1,500,000"``. None: the extent of the links.
    max_q
        Links with a larger q value are left out.
    max_links
        Maximum number of these links to plot: those with the largest absolute scores.
    max_cells
        Maximum number of cells per group.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Returns
    -------
    list of Axes
        The panels of the groups, if any, the panel of the arcs, and the panel of the gene and its bins.

    Raises
    ------
    KeyError
        The gene has no row in ``links``, or the column does not exist in ``adata.obs``.
    ValueError
        A column of ``links`` is missing, ``groupby`` is given without cells, or ``region`` is on another chromosome.
    """
    here = _of_gene(links, gene)
    chrom, tss, strand = str(here["chrom"].iloc[0]), int(here["tss"].iloc[0]), str(here["strand"].iloc[0])
    found = here[(here["q"] <= max_q) & np.isfinite(here["score"])]
    drawn = found.loc[found["score"].abs().sort_values(ascending=False).index[:max_links]]
    start, end = _extent(drawn if len(drawn) else here, tss) if region is None else _of_region(region, chrom, gene)
    drawn = drawn[(drawn["end"] > start) & (drawn["start"] < end)]

    groups: list[str] = []
    if groupby is not None:
        if adata is None and model is None:
            raise ValueError("groupby is given without cells. Pass adata=, or model= to use its cells and predictions.")
        adata = adata if model is None or adata is not None else model.adata
        assert adata is not None
        groups = groups_of(adata, groupby)
    heights = [0.6] * len(groups) + [2.0, 0.45]
    figure, grid = plt.subplots(
        len(heights),
        1,
        figsize=(8, 0.6 + sum(heights)),
        sharex=True,
        squeeze=False,
        height_ratios=heights,
        layout=ConstrainedLayoutEngine(h_pad=0.03, hspace=0.02),
    )
    axes = list(grid[:, 0])
    *tracks, arcs, bins = axes
    if groups and adata is not None:
        vocabulary = model.vocabulary if model is not None else Vocabulary.from_var(adata.var)
        inside = bins_inside(vocabulary, chrom, start, end)
        draw_groups(tracks, adata, groupby or "", vocabulary, inside, model, max_cells)
        top = max(ax.get_ylim()[1] for ax in tracks)
        for ax in tracks:
            ax.set_ylim(0, top)
            ax.tick_params(bottom=False)
        # centred on all panels: at the middle one, or above the lower of the middle two
        tracks[len(tracks) // 2].set_ylabel("share of cells", y=0.5 if len(tracks) % 2 else 1.15)
    _draw_arcs(arcs, drawn, tss)
    _draw_gene(bins, drawn, gene, tss, strand, end - start)
    limit = f"q ≤ {max_q:g}"
    told = f"{len(found):,} of {len(here):,} bins linked at {limit}" if len(found) else f"no bin linked at {limit}"
    arcs.set_title(told + (f", {len(drawn)} drawn" if len(drawn) < len(found) else ""), loc="left", fontsize="small")
    genome_axis(bins, chrom, start, end)
    figure.align_ylabels()
    finish(arcs, show, save)
    return axes


def _of_gene(links: pd.DataFrame, gene: str) -> pd.DataFrame:
    links = check_links(links)
    here = links[(links["gene"] == gene).to_numpy()]
    if here.empty:
        names = [str(name) for name in links["gene"].unique()]
        close = difflib.get_close_matches(gene.upper(), [name.upper() for name in names], n=3)
        like = [name for name in names if name.upper() in close]
        hint = f"; did you mean {', '.join(like)}?" if like else f". It has {', '.join(names[:5]) or 'no gene'}."
        raise KeyError(f"links has no row for {gene!r}{hint}")
    return here


def _extent(rows: pd.DataFrame, tss: int) -> tuple[int, int]:
    """Extent of all rows and the start of the gene, with a margin on either side, in bp."""
    first, last = min(int(rows["start"].min()), tss), max(int(rows["end"].max()), tss)
    margin = max((last - first) // 20, 10_000)
    return max(first - margin, 0), last + margin


def _of_region(region: str, chrom: str, gene: str) -> tuple[int, int]:
    named, start, end = parse_region(region)
    if named != chrom:
        raise ValueError(f"{region} is not on {chrom}, the chromosome of {gene}. Leave out region to show all links.")
    return start, end


def _draw_arcs(ax: Axes, drawn: pd.DataFrame, tss: int) -> None:
    score = drawn["score"].to_numpy()
    centre = (drawn["start"] + drawn["end"]).to_numpy() / 2e6
    strongest = float(np.abs(score).max(initial=0)) or 1.0
    ax.axhline(0, color="0.3", linewidth=0.8, zorder=0)
    for at in np.argsort(np.abs(score)):  # strongest last, so that they are on top
        share = abs(score[at]) / strongest
        # the maximum of a cubic with its ends on the line is 3/4 of the height of its control points
        top = score[at] * 4 / 3
        points = [(tss / 1e6, 0), (tss / 1e6, top), (centre[at], top), (centre[at], 0)]
        curve = Curve(points, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
        color = plt.get_cmap(POSITIVE if score[at] >= 0 else NEGATIVE)(0.35 + 0.6 * share)
        ax.add_patch(PathPatch(curve, fill=False, edgecolor=color, linewidth=0.8 + 1.2 * share, capstyle="round"))
    if score.any():
        ax.set_ylim(1.1 * min(score.min(), 0), 1.1 * max(score.max(), 0))
        ax.locator_params(axis="y", nbins=4)
    else:
        ax.set_ylim(0, 1)
        ax.set_yticks([0])
    ax.set_ylabel("score")
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    ax.tick_params(bottom=False)


def _draw_gene(ax: Axes, drawn: pd.DataFrame, gene: str, tss: int, strand: str, width: int) -> None:
    """Bins on a line, and below it the transcription start site and strand of the gene."""
    ax.axhline(1, color="0.8", linewidth=0.8, zorder=0)
    if len(drawn):
        widths = np.maximum((drawn["end"] - drawn["start"]) / 1e6, width / 1e6 / 500)  # visible at any scale
        color = [plt.get_cmap(POSITIVE if score >= 0 else NEGATIVE)(0.8) for score in drawn["score"]]
        ax.bar((drawn["start"] + drawn["end"]) / 2e6, 0.5, widths, bottom=0.75, color=color)
    way = -1 if strand == "-" else 1
    x, reach = tss / 1e6, way * width / 1e6 * 0.025
    ax.plot([x, x], [0, 1.25], color="black", linewidth=1.2, solid_capstyle="butt")
    if strand in "+-":
        ax.annotate(
            "",
            (x + reach, 0.05),
            (x, 0.05),
            arrowprops={"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0},
        )
    ax.annotate(
        gene,
        (x + (reach if strand in "+-" else 0), 0.05),
        (4 * way, 0),
        textcoords="offset points",
        ha="right" if way < 0 else "left",
        va="center",
        fontsize="small",
        style="italic",
    )
    ax.set_ylim(-0.35, 1.35)
    ax.set_yticks([])
    ax.spines[["top", "right", "left"]].set_visible(False)
