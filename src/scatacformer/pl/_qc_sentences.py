"""Lengths of the cells' sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ._figure import finish

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def qc_sentences(
    adata: AnnData,
    *,
    min_tokens: int = 100,
    max_tokens: int = 6800,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Histogram of tokens (open bins) per cell, with the limits and the number of cells beyond them.

    Parameters
    ----------
    adata
        Cells with ``.obs["n_tokens"]``, from :func:`scatacformer.pp.qc_sentences`.
    min_tokens, max_tokens
        Limits to mark: shorter sentences are too short, longer ones are not read in full by the encoder.
    ax
        Axes to plot on; a new figure by default.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Raises
    ------
    KeyError
        The tokens have not been counted.
    """
    if "n_tokens" not in adata.obs:
        raise KeyError("adata.obs has no column 'n_tokens'. Run sf.pp.qc_sentences(adata) first.")
    n_tokens = adata.obs["n_tokens"].to_numpy()
    if ax is None:
        _, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    shown = np.maximum(n_tokens, 1)  # empty cells are placed at the left end of the logarithmic axis
    edges = np.geomspace(shown.min() * 0.9, shown.max() * 1.1, 51)
    ax.hist(shown, bins=list(edges), color="C0")
    ax.set_xscale("log")
    n_short, n_long = int((n_tokens < min_tokens).sum()), int((n_tokens > max_tokens).sum())
    for limit, label in (
        (min_tokens, f"{n_short:,} cell{'s' * (n_short != 1)} below {min_tokens:,}"),
        (max_tokens, f"{n_long:,} cell{'s' * (n_long != 1)} above {max_tokens:,}"),
    ):
        ax.axvline(limit, color="C1", linewidth=1, linestyle="--" if limit == min_tokens else ":", label=label)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("tokens per cell (open bins)")
    ax.set_ylabel("cells")
    ax.set_title(f"{len(n_tokens):,} cells, median {np.median(n_tokens):,.0f} tokens")
    ax.legend(frameon=False)
    finish(ax, show, save)
    return ax
