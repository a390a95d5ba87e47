"""The window of a gene: how accessible its regions are, and which of them drive it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from ._figure import finish

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def regulation(
    enhancers: pd.DataFrame,
    gene: str,
    group: str,
    *,
    score: str = "score",
    accessibility: str = "accessibility",
    n_arcs: int = 10,
    label: int = 3,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Arcs from the regions that drive a gene to its TSS, above the scores and the accessibility of all its regions.

    The bar of the region at the TSS is cut off, and its score written beside it, where it exceeds all others threefold.

    Parameters
    ----------
    enhancers
        What ``GET.score_enhancers`` returned, or rows of it.
    gene, group
        Which rows.
    score
        Column that the arcs and the middle panel show, as a share of the gene's regions.
    accessibility
        Column of the lowest panel.
    n_arcs
        How many arcs: the regions with the largest scores.
    label
        How many of them are named.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Returns
    -------
    list of Axes
        Arcs, scores, accessibility.

    Raises
    ------
    KeyError
        No rows of the gene in the group, or no such column.
    """
    for column in ("gene", "group", "region", "distance", score, accessibility):
        if column not in enhancers:
            raise KeyError(f"enhancers has no column {column!r}; it has {', '.join(map(str, enhancers.columns))}.")
    rows = enhancers[(enhancers["gene"].astype(str) == gene) & (enhancers["group"].astype(str) == group)]
    if not len(rows):
        some = ", ".join(enhancers["gene"].astype(str).unique()[:5])
        raise KeyError(f"enhancers has no rows of {gene!r} in {group!r}; it has the genes {some}, ...")
    rows = rows.sort_values("distance")
    at, height = rows["distance"].to_numpy(float) / 1e3, rows[score].to_numpy(float)
    figure, axes = plt.subplots(
        3, 1, figsize=(7, 4), sharex=True, height_ratios=[2, 1, 1], layout="constrained", gridspec_kw={"hspace": 0.05}
    )
    top, middle, low = axes
    own = int(np.argmin(np.abs(at)))  # the region at the TSS has no arc: it often has the largest score of all
    best = np.array([row for row in np.argsort(-height, kind="stable") if row != own][:n_arcs], np.intp)
    strongest = float(height[best].max(initial=0)) or 1.0
    for row in best[::-1]:  # the strongest on top
        share = height[row] / strongest
        points = [(at[row], 0), (at[row], 4 / 3 * share), (0, 4 / 3 * share), (0, 0)]
        curve = Curve(points, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
        color = plt.get_cmap("Reds")(0.25 + 0.7 * share)
        top.add_patch(PathPatch(curve, fill=False, edgecolor=color, linewidth=0.8 + 1.6 * share))
    lowest = -0.12
    for rank, row in enumerate(best[: min(label, len(best))]):  # one below the other: regions may be close together
        side = "left" if at[row] <= (at[0] + at[-1]) / 2 else "right"
        y = lowest * (rank + 1) - 0.04
        top.plot([at[row], at[row]], [0, y], color="0.6", linewidth=0.6)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}
        top.text(at[row], y, f" {rows['region'].iloc[row]} ", fontsize=6, ha=side, va="center", bbox=box)
    width = _width(at)
    middle.bar(at, height, width, color="#b2182b")
    if height[own] > 3 * strongest and len(best):  # the bar at the TSS would flatten all others: it is cut off
        middle.set_ylim(0, 1.6 * strongest)
        middle.annotate(f"{height[own]:.2g}", (at[own] + width / 2, 1), xycoords=("data", "axes fraction"), xytext=(2, -1),
                        textcoords="offset points", fontsize=6, va="top")  # fmt: skip
    low.bar(at, rows[accessibility].to_numpy(float), width, color="0.45")
    for ax in axes:
        ax.axvline(0, color="black", linewidth=0.8, linestyle=":")
        ax.spines[["top", "right"]].set_visible(False)
        ax.locator_params(axis="y", nbins=3)
    top.axhline(0, color="0.3", linewidth=0.8, zorder=0)
    top.set_ylim(lowest * (min(label, len(best)) + 1), 1.1)
    top.set_yticks([])
    top.spines[["left", "bottom"]].set_visible(False)
    top.tick_params(bottom=False)
    top.set_title(f"{gene} in {group}", fontsize="medium")
    middle.set_ylabel("score,\nshare")
    low.set_ylabel("accessibility,\nshare")
    low.set_xlabel("distance from the TSS (kb)")
    figure.align_ylabels([middle, low])
    finish(top, show, save)
    return list(axes)


def _width(at: np.ndarray) -> float:
    """Bars that are seen however far the window reaches, and do not hide each other where regions lie evenly."""
    if len(at) < 2:
        return 1.0
    reach = max(float(at.max() - at.min()), 1e-3)
    gap = float(np.median(np.diff(np.unique(at)))) if len(np.unique(at)) > 1 else reach
    return float(np.clip(0.6 * gap, reach / 300, reach / 30))
