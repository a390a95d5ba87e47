"""The last step of every plot: save the figure, show it, or return it to the caller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from scatacformer._io import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def finish(ax: Axes, show: bool | None, save: str | Path | None) -> None:
    """Write the figure of ``ax`` to ``save``, then show it.

    ``show`` None shows it unless it was saved or the backend has no window (Agg). A figure that was saved and is
    not shown is closed, as in scanpy.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    if save is not None:
        _write(figure, Path(save))
    if show is None:
        show = save is None and plt.get_backend().lower() not in ("agg", "pdf", "ps", "svg", "cairo", "template")
    if show:
        plt.show()
    elif save is not None:
        plt.close(figure)


def _write(figure: Figure, path: Path) -> None:
    formats = figure.canvas.get_supported_filetypes()
    kind = path.suffix.lstrip(".").lower()
    if kind not in formats:
        raise ValueError(f"Cannot write {path}: the name must end in one of .{', .'.join(sorted(formats))}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"Cannot write {path}: there is no folder {path.parent}.")
    with whole_file(path) as partial:
        figure.savefig(partial, format=kind, dpi=150, bbox_inches="tight")
