"""Signal of tracks with each allele of a variant, and the difference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from ._figure import finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from scatacformer.model import Epiformer


def variant(
    model: Epiformer,
    variant: str,
    groups: str | Sequence[str] | None = None,
    *,
    window: int = 8192,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Predicted signal around a variant: reference and alternative in one panel, their difference in the next.

    Parameters
    ----------
    model
        A trained model.
    variant
        Such as ``"chr2:127135234 C>T"``, the position 1-based as in VCF.
    groups
        Names of tracks; all by default.
    window
        Width in bp of what is drawn.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Returns
    -------
    Two Axes for each track.
    """
    signal = model.predict_alleles(variant, groups, window=window)
    names = [str(name) for name in signal["track"].values]
    offset = signal["offset"].values
    half = np.diff(offset[:2]).sum() / 2  # of a bin
    edges = np.append(offset - half, offset[-1] + half)
    figure, axes = plt.subplots(
        2 * len(names), 1, figsize=(8, 1 + 1.6 * len(names)), sharex=True, squeeze=False, layout="constrained"
    )
    for row, name in enumerate(names):
        upper, lower = axes[2 * row, 0], axes[2 * row + 1, 0]
        reference, alternative = (
            signal.sel(track=name, allele=allele).values for allele in ("reference", "alternative")
        )
        difference = alternative - reference
        reference, alternative, difference = (np.append(x, x[-1]) for x in (reference, alternative, difference))
        upper.step(edges, reference, where="post", color="0.4", linewidth=1.2, label="reference")
        upper.step(edges, alternative, where="post", color="C3", linewidth=1.2, label="alternative")
        upper.set_ylim(bottom=0)
        lower.fill_between(edges, difference, step="post", color="C3", alpha=0.5, linewidth=0)
        lower.axhline(0, color="0.3", linewidth=0.6)
        upper.set_ylabel(name, rotation=0, ha="right", va="center")
        lower.set_ylabel("difference", rotation=0, ha="right", va="center", fontsize="small")
        for ax in (upper, lower):
            ax.axvline(0, color="0.6", linewidth=0.6, linestyle=":")
    axes[0, 0].legend(  # above the panel: nothing is covered
        frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2
    )
    axes[-1, 0].set_xlim(edges[0], edges[-1])
    axes[0, 0].set_title(variant, loc="left", fontsize="medium")
    axes[-1, 0].set_xlabel("bp from the variant")
    finish(axes[0, 0], show, save)
    return list(axes[:, 0])
