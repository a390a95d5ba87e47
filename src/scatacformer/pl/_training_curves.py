"""The losses of a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from ._figure import finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def training_curves(
    model: Any,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Training and validation loss by epoch, and the epoch whose weights were kept.

    Parameters
    ----------
    model
        A trained model; its ``.history`` has ``train_loss`` and, with held-out cells, ``validation_loss``.
    ax
        Axes to plot on; a new figure by default.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Raises
    ------
    ValueError
        The model has not been trained.
    """
    history = getattr(model, "history", None) or {}
    curves = {
        name: history[name].iloc[:, 0].astype(float) for name in ("train_loss", "validation_loss") if name in history
    }
    if not curves:
        raise ValueError("The model has no history of losses. Train it first with model.train().")
    if ax is None:
        _, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for name, curve in curves.items():
        ax.plot(curve.index, curve, marker=".", label=name.replace("_loss", ""))
    if "validation_loss" in curves and curves["validation_loss"].notna().any():
        best = curves["validation_loss"].idxmin()
        ax.axvline(best, color="0.6", linewidth=1, linestyle=":", label=f"best epoch ({best})")
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    finish(ax, show, save)
    return ax
