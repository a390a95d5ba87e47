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
    """Arcs from a gene's transcription start to its bins, each as high as its score; the darker, the stronger.

    Parameters
    ----------
    links
        What `get_gene_bin_links` returned, or rows of it.
    gene
        Whose links.
    groupby
        Column of `adata.obs`: above the arcs, a panel for each group has the share of its cells with each bin open,
        and the prediction where there is a model. Needs `model` or `adata`.
    model
        A trained model for the panels of groups.
    adata
        Cells for the panels of groups; None: the model's own.
    region
        What to draw, in base pairs: `"chr1:1,000,000-1,500,000"`. None: as far as the links reach.
    max_q
        Links with a larger q value are left out.
    max_links
        Of those, how many are drawn: the ones with the largest absolute score.
    max_cells
        Most cells of a group that are drawn from.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Returns
    -------
    list of Axes
        The panels of groups, if any, that of the arcs, and that of the gene and its bins.

    Raises
    ------
    KeyError
        The gene has no row in `links`, or `adata.obs` no such column.
    ValueError
        A column of `links` is missing, `groupby` comes without cells, or `region` is not about this gene.
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
            raise ValueError("groupby needs cells: pass adata=, or model= for its own cells and what it predicts.")
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
        # in the middle of all panels: of one, or above the lower of two
        tracks[len(tracks) // 2].set_ylabel("share of cells", y=0.5 if len(tracks) % 2 else 1.15)
    _draw_arcs(arcs, drawn, tss)
    _draw_gene(bins, drawn, gene, tss, strand, end - start)
    limit = f"q ≤ {max_q:g}"
    told = f"{len(found):,} of {len(here):,} bins linked at {limit}" if len(found) else f"no bin linked at {limit}"
    arcs.set_title(told + (f", {len(drawn)} drawn" if len(drawn) < len(found) else ""), loc="left", fontsize="small")
    bins.set_xlim(start / 1e6, end / 1e6)
    bins.set_xlabel(f"{chrom}, Mb")
    bins.ticklabel_format(axis="x", useOffset=False)
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
        raise KeyError(f"links has no row of {gene!r}{hint}")
    return here


def _extent(rows: pd.DataFrame, tss: int) -> tuple[int, int]:
    """What holds all rows and the start of the gene, and some more on either side, bp."""
    first, last = min(int(rows["start"].min()), tss), max(int(rows["end"].max()), tss)
    margin = max((last - first) // 20, 10_000)
    return max(first - margin, 0), last + margin


def _of_region(region: str, chrom: str, gene: str) -> tuple[int, int]:
    named, start, end = parse_region(region)
    if named != chrom:
        raise ValueError(f"{gene} is on {chrom}, {region} is not. Leave region out to see all links.")
    return start, end


def _draw_arcs(ax: Axes, drawn: pd.DataFrame, tss: int) -> None:
    score = drawn["score"].to_numpy()
    centre = (drawn["start"] + drawn["end"]).to_numpy() / 2e6
    strongest = float(np.abs(score).max(initial=0)) or 1.0
    ax.axhline(0, color="0.3", linewidth=0.8, zorder=0)
    for at in np.argsort(np.abs(score)):  # the strongest last, on top
        share = abs(score[at]) / strongest
        # a cubic whose ends are on the line and whose control points are at 4/3 of the height has its top at the height
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
    """Bins on a line, and below it where the gene starts and which way it is read."""
    ax.axhline(1, color="0.8", linewidth=0.8, zorder=0)
    if len(drawn):
        widths = np.maximum((drawn["end"] - drawn["start"]) / 1e6, width / 1e6 / 500)  # seen however far the view
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
