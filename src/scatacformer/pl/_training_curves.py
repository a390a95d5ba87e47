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
    """Training and validation loss by epoch, the epoch whose weights were kept, and the epoch at which the encoder joins
    the decoder (in the session that trained the model).

    The loss is in nats per removed bin for :class:`~scatacformer.ScAtacFormer`, and in the units of their own losses
    for the other models. The training loss is a mean over an epoch in which the weights change, the validation loss is
    computed at its end: early in training it can be the lower one.

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
        ax.plot(curve.index + 1, curve, marker=".", label=name.replace("_loss", ""))
    if "validation_loss" in curves and curves["validation_loss"].notna().any():
        best = int(curves["validation_loss"].idxmin()) + 1
        ax.axvline(best, color="0.6", linewidth=1, linestyle=":", label=f"best epoch ({best})")
    joins = _encoder_joins(model)
    if joins and joins < max(len(curve) for curve in curves.values()):
        ax.axvline(joins + 0.5, color="C2", linewidth=1, linestyle="--", label=f"encoder joins (epoch {joins + 1})")
    ax.set_xlabel("epoch")
    ax.set_ylabel(_label(model))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    # above the panel, where it covers no curve
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.3)
    finish(ax, show, save)
    return ax


def _encoder_joins(model: Any) -> int:
    """Number of epochs in which the decoder was trained alone; 0 for a model without such a stage."""
    return int(getattr(model, "_decoder_epochs", 0))


def _label(model: Any) -> str:
    units = {"ScAtacFormer": "nats per removed bin", "GET": "squared error", "Epiformer": "Poisson loss"}
    unit = units.get(type(model).__name__)
    return f"loss ({unit})" if unit else "loss"
