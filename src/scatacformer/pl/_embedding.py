"""Cells in two dimensions of an embedding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from ._figure import finish

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def embedding(
    adata: AnnData,
    color: str | Sequence[str] | None = None,
    *,
    basis: str = "X_umap",
    show: bool | None = None,
    save: str | Path | None = None,
    ncols: int = 2,
    **kwargs: Any,
) -> Axes | list[Axes]:
    """Scatter plot of cells, using :func:`scanpy.pl.embedding`, with a panel for each color and a legend beside it.

    Parameters
    ----------
    adata
        Cells with the coordinates in ``.obsm``.
    color
        Columns of ``.obs``, or bins in ``.var_names``; one panel each.
    basis
        Coordinates, ``"X_umap"`` or ``"umap"``; the first two dimensions are plotted.
    show
        Open a window. Default: True unless ``save`` is given or the backend has no window.
    save
        File to write, in the format given by its extension.
    ncols
        Panels in a row.
    **kwargs
        Passed to :func:`scanpy.pl.embedding`. ``size``, the area of a dot, is 40 for few cells and decreases with their
        number by default; ``ax`` plots a single panel on existing Axes.

    Raises
    ------
    KeyError
        The coordinates or the column do not exist.
    """
    import scanpy as sc

    name = next((key for key in (basis, f"X_{basis}") if key in adata.obsm), None)
    if name is None:
        raise KeyError(
            f"adata.obsm has no {basis!r}; it has {', '.join(adata.obsm) or 'none'}. For a UMAP of the embedding: "
            "sc.pp.neighbors(adata, use_rep='X_scatacformer'); sc.tl.umap(adata)."
        )
    asked = [] if color is None else [color] if isinstance(color, str) else list(color)
    absent = [key for key in asked if key not in adata.obs and key not in adata.var_names]
    if absent:
        raise KeyError(
            f"{absent[0]!r} is neither a column of adata.obs nor a bin; the columns are {', '.join(map(str, adata.obs.columns))}."
        )
    kwargs.setdefault("size", min(40.0, max(2.0, 60_000 / max(adata.n_obs, 1))))
    basis = name.removeprefix("X_")  # scanpy's names of the axes: UMAP1
    if "ax" in kwargs:
        ax = sc.pl.embedding(adata, basis=basis, color=asked or None, show=False, **kwargs) or kwargs["ax"]
        finish(ax, show, save)
        return ax
    colors: list[str | None] = [*asked] if asked else [None]
    titles = kwargs.pop("title", None)
    titles = [titles] * len(colors) if titles is None or isinstance(titles, str) else list(titles)
    n_rows, n_cols = -(-len(colors) // ncols), min(ncols, len(colors))
    figure, grid = plt.subplots(
        n_rows, n_cols, figsize=(5.6 * n_cols, 4.4 * n_rows), squeeze=False, layout="constrained"
    )
    axes = list(grid.flat)
    own_bar = "colorbar_loc" not in kwargs
    if own_bar:
        kwargs["colorbar_loc"] = None
    for ax, key, title in zip(axes, colors, titles, strict=False):
        sc.pl.embedding(adata, basis=basis, color=key, ax=ax, title=title, show=False, **kwargs)
        ax.set_box_aspect(1)
        if own_bar and len(ax.collections) and ax.collections[-1].get_array() is not None:
            figure.colorbar(ax.collections[-1], cax=ax.inset_axes((1.03, 0.15, 0.04, 0.7)))  # as high as the panel
    for ax in axes[len(colors) :]:
        ax.remove()
    finish(axes[0], show, save)
    return axes[0] if len(colors) == 1 else axes[: len(colors)]
