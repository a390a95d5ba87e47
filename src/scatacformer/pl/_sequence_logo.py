"""An attribution as letters, whose height is what they are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from ._figure import finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from xarray import DataArray

COLORS = {"A": "#2e8b57", "C": "#3465a4", "G": "#e6a100", "T": "#c0392b"}


def sequence_logo(
    attribution: DataArray,
    track: str | None = None,
    ax: Axes | None = None,
    *,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Letters along a region: their height is their attribution, or with a mutagenesis the mean change that they
    resist.

    Parameters
    ----------
    attribution
        ``(position, base, track)``, what ``Epiformer.attribute`` or ``Epiformer.mutagenesis`` returned.
    track
        Name of the track; the first by default.
    ax
        Axes to draw in; new ones by default.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Raises
    ------
    ValueError
        Not such an array, an unknown track, or more than 2,000 positions.
    """
    heights, positions, name = _heights(attribution, track)
    if ax is None:
        _, ax = plt.subplots(figsize=(min(20, 2 + 0.12 * len(heights)), 2.2), layout="constrained")
    shapes = {base: _shape(base) for base in "ACGT"}
    for row, position in enumerate(positions.tolist()):
        for sign in (1, -1):
            base = 0.0
            column = heights[row]
            for number in np.argsort(np.abs(column)).tolist():  # the tallest letter ends up outside
                height = float(column[number])
                if height * sign <= 0:
                    continue
                _draw(ax, shapes["ACGT"[number]], "ACGT"[number], position, base, height)
                base += height
    ax.axhline(0, color="0.3", linewidth=0.6)
    ax.set_xlim(positions[0] - 0.5, positions[-1] + 0.5)
    low, high = np.minimum(heights, 0).sum(1).min(), np.maximum(heights, 0).sum(1).max()
    margin = 0.05 * max(high - low, 1e-9)
    ax.set_ylim(low - margin, high + margin)
    ax.ticklabel_format(axis="x", style="plain", useOffset=False)
    ax.set_xlabel(f"{attribution.attrs.get('chrom', '')}, bp")
    ax.set_ylabel(str(attribution.name or ""))
    ax.set_title(name, loc="left", fontsize="medium")
    finish(ax, show, save)
    return ax


def _heights(attribution: DataArray, track: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    """``(position, 4)``, the positions, and the track."""
    if getattr(attribution, "dims", None) != ("position", "base", "track"):
        raise ValueError(
            "sequence_logo takes what Epiformer.attribute or mutagenesis returned: position × base × track."
        )
    names = [str(name) for name in attribution["track"].values]
    name = names[0] if track is None else track
    if name not in names:
        raise ValueError(f"there is no track {name!r}; the tracks are {', '.join(names)}.")
    if attribution.sizes["position"] > 2000:
        raise ValueError(f"a logo of {attribution.sizes['position']:,} letters cannot be read; take at most 2,000.")
    values = attribution.sel(track=name).to_numpy()
    if attribution.name == "change":  # of a mutagenesis: the base that is there is worth what the others take away
        letters = np.array(list(str(attribution.attrs["reference"])))
        here = letters[:, None] == np.array(list("ACGT"))
        values = np.where(here, -values.sum(1, keepdims=True) / 3, 0.0)
    return values, attribution["position"].values, name


def _shape(letter: str) -> TextPath:
    return TextPath((0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))


def _draw(ax: Axes, shape: TextPath, letter: str, x: float, base: float, height: float) -> None:
    box = shape.get_extents()
    place = (
        Affine2D().translate(-box.x0, -box.y0).scale(0.95 / box.width, abs(height) / box.height)
        if height > 0
        # below the axis a letter stands on its head
        else Affine2D().translate(-box.x0, -box.y0).scale(0.95 / box.width, -abs(height) / box.height)
    )
    patch = PathPatch(
        shape, facecolor=COLORS[letter], linewidth=0, transform=place.translate(x - 0.475, base) + ax.transData
    )
    ax.add_patch(patch)
