"""How well measured and predicted tracks agree, each with its own and with the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from ._figure import finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes


def track_correlation(
    adata: AnnData,
    layer: str = "epiformer",
    chromosomes: str | Sequence[str] | None = None,
    ax: Axes | None = None,
    *,
    specific: bool = False,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Pearson's r of log2(x + 1) of each measured track (rows) with each predicted one (columns), over bins.

    A model that distinguishes tracks has its largest values on the diagonal.

    Parameters
    ----------
    adata
        Tracks × bins, the measured signal in ``.X``.
    layer
        Layer with the predicted signal; bins that are NaN are left out.
    chromosomes
        Chromosomes to compare on, such as those that were held out; all by default.
    ax
        Axes to draw in; new ones by default.
    specific
        Subtract the mean over tracks in each bin first: what is left is specific to a track.
    show, save
        As in :func:`scatacformer.pl.embedding`.

    Raises
    ------
    KeyError
        No such layer.
    ValueError
        No bin on those chromosomes has both values.
    """
    if layer not in adata.layers:
        raise KeyError(f"adata.layers has no {layer!r}: adata.layers[{layer!r}] = model.get_predicted_tracks().")
    measured, predicted = (
        np.log2(np.asarray(values, dtype=np.float64) + 1) for values in (adata.X, adata.layers[layer])
    )
    keep = np.isfinite(measured).all(0) & np.isfinite(predicted).all(0)
    if chromosomes is not None:
        wanted = [chromosomes] if isinstance(chromosomes, str) else list(chromosomes)
        keep &= adata.var["chrom"].astype(str).isin(wanted).to_numpy()
    if keep.sum() < 2:
        raise ValueError("no bin on those chromosomes has a measured and a predicted value in all tracks.")
    measured, predicted = measured[:, keep], predicted[:, keep]
    if specific:
        measured, predicted = measured - measured.mean(0), predicted - predicted.mean(0)
    matrix = np.corrcoef(np.vstack([measured, predicted]))[: len(measured), len(measured) :]
    names = [str(name) for name in adata.obs_names]
    if ax is None:
        side = 2 + 0.45 * len(names)
        _, ax = plt.subplots(figsize=(side + 1, side), layout="constrained")
    image = ax.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
    for row in range(len(names)):
        for column in range(len(names)):
            dark = abs(matrix[row, column]) > 0.6
            ax.text(
                column, row, f"{matrix[row, column]:.2f}", ha="center", va="center", fontsize="small",
                color="white" if dark else "black",
            )  # fmt: skip
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("predicted")
    ax.set_ylabel("measured")
    ax.figure.colorbar(image, ax=ax, label="Pearson's r, specific" if specific else "Pearson's r", shrink=0.8)
    finish(ax, show, save)
    return ax
