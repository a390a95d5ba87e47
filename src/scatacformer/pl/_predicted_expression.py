"""Measured against predicted expression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from ._figure import finish

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from scatacformer import GET


def predicted_expression(
    model: GET,
    groups: str | Sequence[str] | None = None,
    *,
    adata: AnnData | None = None,
    held_out: bool = True,
    max_groups: int = 6,
    label: int = 5,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """A panel for each group: measured against predicted log10(TPM + 1) of genes, and how well they agree.

    Parameters
    ----------
    model
        A GET that was trained on expression.
    groups
        Which groups; None: those that were held out in training, or the first ones if none were.
    adata
        Groups × regions with measured expression; None: the model's own.
    held_out
        Draw only the genes on the chromosomes that were held out, where there were any. Otherwise genes that the model
        was trained on are in the picture, and it says so.
    max_groups
        Most panels.
    label
        How many of the genes that are furthest off are named.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Returns
    -------
    list of Axes
        One for each group.

    Raises
    ------
    RuntimeError
        The model is not trained on expression.
    KeyError
        No such group.
    ValueError
        No measured expression, or no gene on the held-out chromosomes.
    """
    training = model.training_
    table, measured, chrom = model.get_expression_tables(adata)
    held_groups = [name for name in training.get("holdout_groups", []) if name in table.columns]
    names = [groups] if isinstance(groups, str) else list(groups) if groups is not None else held_groups
    names = (names or list(table.columns))[:max_groups]
    if absent := [name for name in names if name not in table.columns]:
        raise KeyError(f"there is no group {absent[0]!r}; the groups are {', '.join(map(str, table.columns[:6]))}.")
    chromosomes = training.get("holdout_chromosomes", []) if held_out else []
    rows = chrom.isin(chromosomes).to_numpy() if chromosomes else np.ones(len(table), bool)
    if not rows.any():
        raise ValueError(f"no gene is on the held-out chromosomes {', '.join(chromosomes)}: use held_out=False.")
    n_columns = min(3, len(names))
    n_rows = -(-len(names) // n_columns)
    figure, grid = plt.subplots(
        n_rows, n_columns, figsize=(3.2 * n_columns, 3.3 * n_rows), squeeze=False, sharex=True, sharey=True,
        layout="constrained",
    )  # fmt: skip
    axes = list(grid.ravel())
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes, names, strict=False):
        x, y = measured.loc[rows, name].to_numpy(), table.loc[rows, name].to_numpy()
        known = np.isfinite(x) & np.isfinite(y)
        _panel(ax, x[known], y[known], np.asarray(table.index)[rows][known], label)
        seen = name in training.get("groups", [])
        what = "held out" if not seen else "held-out chromosomes" if chromosomes else "trained on"
        ax.set_title(f"{name} ({what})", fontsize="medium")
    figure.supxlabel("measured, log10(TPM + 1)", fontsize="medium")
    figure.supylabel("predicted, log10(TPM + 1)", fontsize="medium")
    finish(axes[0], show, save)
    return axes[: len(names)]


def _panel(ax: Axes, x: np.ndarray, y: np.ndarray, genes: np.ndarray, label: int) -> None:
    top = 1.05 * float(max(x.max(initial=0.1), y.max(initial=0.1)))
    ax.plot([0, top], [0, top], color="0.7", linewidth=0.8, zorder=0)
    ax.scatter(x, y, s=8, alpha=0.6, linewidths=0, color="#2166ac", rasterized=len(x) > 2_000)
    named: list[tuple[float, float]] = []
    for row in np.argsort(-np.abs(x - y), kind="stable")[: 4 * label]:
        if abs(x[row] - y[row]) < 0.1 * top or len(named) == label:
            break
        if any(abs(x[row] - a) < 0.35 * top and abs(y[row] - b) < 0.04 * top for a, b in named):
            continue  # its name would be written over another
        named.append((x[row], y[row]))
        side = "left" if x[row] < top / 2 else "right"
        ax.annotate(genes[row], (x[row], y[row]), xytext=(3 if side == "left" else -3, 2), fontsize=6, ha=side,
                    textcoords="offset points")  # fmt: skip
    ax.set_xlim(-0.02 * top, top)
    ax.set_ylim(-0.02 * top, top)
    ax.set_aspect("equal")
    ax.spines[["top", "right"]].set_visible(False)
    if len(x) > 2 and x.std() and y.std():
        r, error = np.corrcoef(x, y)[0, 1], 1 - ((x - y) ** 2).sum() / ((x - x.mean()) ** 2).sum()
        ax.text(
            0.03, 0.97, f"r = {r:.2f}, R² = {error:.2f}\n{len(x):,} genes", transform=ax.transAxes, va="top", fontsize=7
        )
