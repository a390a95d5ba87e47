"""Cells in two dimensions of an embedding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    **kwargs: Any,
) -> Axes | list[Axes]:
    """Scatter plot of cells, using :func:`scanpy.pl.embedding`.

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
    **kwargs
        Passed to :func:`scanpy.pl.embedding`.

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
    axes = sc.pl.embedding(adata, basis=name, color=asked or None, show=False, **kwargs)
    finish(axes[0] if isinstance(axes, list) else axes, show, save)
    return axes
