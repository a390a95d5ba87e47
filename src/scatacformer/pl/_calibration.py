"""Whether removed bins are open as often as predicted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp

from ._figure import finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes

    from scatacformer.model import ScAtacFormer


def calibration(
    model: ScAtacFormer,
    adata: AnnData | None = None,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    n_groups: int = 15,
    max_cells: int = 200,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Calibration curve: predicted probability against the share of open bins, for bins that are not in the input.

    Half of each cell's open bins are removed, the model reads the rest, and all bins that it was not shown are sorted
    by the probability that they are open all the same: p / (2 - p) for an accessibility p at the cell's whole depth. A
    calibrated model lies on the diagonal. Bars are 95 % intervals, and the bars at the bottom show how many bins each
    point stands for.

    Parameters
    ----------
    model
        A trained model.
    adata, indices
        Cells on the model's regions; None: the held-out cells of the training, or all cells if there were none.
    n_groups
        Number of points of the curve: groups of probabilities, evenly spaced on a logarithmic scale.
    max_cells
        Maximum number of cells, sampled by the model's seed.
    ax, show, save
        As in :func:`scatacformer.pl.training_curves`.

    Raises
    ------
    ValueError
        No cell has at least two open bins.
    """
    from scatacformer.model import asked_cells, setup_layer

    held_out = model.validation_indices
    if adata is None and indices is None and held_out is not None and len(held_out):
        indices = held_out
    adata, rows = asked_cells(model, adata, indices)
    rng = np.random.default_rng(model.seed_)
    layer = setup_layer(model)
    x = sp.csr_matrix((adata.X if layer is None else adata.layers[layer])[rows])
    x.eliminate_zeros()
    some = np.flatnonzero(np.diff(x.indptr) >= 2)
    if not len(some):
        raise ValueError("no cell has two open bins; expected cells from which bins can be removed.")
    some = np.sort(rng.choice(some, min(max_cells, len(some)), replace=False))
    shown, hidden = _halves(x[some], rng)
    half = adata[rows[some]].copy()
    if layer is None:
        half.X = shown
    else:
        half.layers[layer] = shown
    # the odds of a bin are proportional to the depth at which the cell is predicted
    deeper = np.diff(x[some].indptr) / np.diff(shown.indptr)
    edges = np.geomspace(1e-4, 1, n_groups + 1)
    edges[0] = 0.0
    n, n_open, mass = np.zeros((3, n_groups))
    for first in range(0, len(some), 32):
        part = slice(first, min(first + 32, len(some)))
        p = model.get_normalized_accessibility(half, indices=np.arange(part.start, part.stop), return_numpy=True)
        odds = p / np.maximum(1 - p, 1e-7) * deeper[part, None]
        p = odds / (1 + odds)
        p = p / (2 - p)
        of_group = np.digitize(p, edges[1:-1])
        truth, known = (m[part].toarray() > 0 for m in (hidden, shown))  # at most 32 cells
        n += np.bincount(of_group[~known], minlength=n_groups)
        n_open += np.bincount(of_group[~known], truth[~known], minlength=n_groups)
        mass += np.bincount(of_group[~known], p[~known], minlength=n_groups)
    if ax is None:
        _, ax = plt.subplots(figsize=(4.5, 4.2), layout="constrained")
    _draw(ax, n, n_open, mass)
    finish(ax, show, save)
    return ax


def _draw(ax: Axes, n: np.ndarray, n_open: np.ndarray, mass: np.ndarray) -> None:
    """Points with their intervals, and below them how many bins each stands for."""
    enough = n >= 10
    n, n_open, mass = n[enough], n_open[enough], mass[enough]
    predicted, observed = mass / n, n_open / n
    lowest = float(predicted.min(initial=1e-3))
    ax.plot([lowest, 1], [lowest, 1], color="0.7", linewidth=1, zorder=0, label="perfectly calibrated")
    low, high = _wilson(n_open, n)
    some = n_open > 0
    ax.errorbar(
        predicted[some], observed[some], yerr=[(observed - low)[some], (high - observed)[some]],
        marker=".", capsize=2, color="C0", label="removed bins, 95 % interval",
    )  # fmt: skip
    if not some.all():  # a share of 0 has no place on a logarithmic axis
        ax.plot(predicted[~some], high[~some], "v", markersize=4, color="C0", alpha=0.5, label="none open: upper limit")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("predicted probability")
    ax.set_ylabel("observed share of open bins")
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.3)
    counts = ax.inset_axes((0.0, 0.0, 1.0, 0.18), sharex=ax)
    counts.vlines(predicted, 1, n, color="0.75", linewidth=4)
    counts.set_yscale("log")
    counts.set_ylim(bottom=1)
    counts.patch.set_alpha(0)
    counts.tick_params(bottom=False, labelbottom=False, left=False, labelleft=False, right=True, labelright=True)
    counts.tick_params(axis="y", which="both", labelsize="x-small", labelcolor="0.5", right=True, left=False)
    counts.yaxis.set_label_position("right")
    counts.set_ylabel("bins", fontsize="x-small", color="0.5")
    counts.spines[["top", "left", "bottom"]].set_visible(False)
    # room for the counts below the curve
    bottom = float(np.min(low[some], initial=lowest))
    ax.set_ylim(bottom * (bottom / 1.5) ** 0.3, 1.5)


def _wilson(successes: np.ndarray, n: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a share, which is inside 0 and 1 (Wilson 1927). Bins of one cell are taken for independent."""
    share = successes / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.minimum(middle - half, share).clip(0), np.maximum(middle + half, share).clip(max=1)


def _halves(x: sp.csr_matrix, rng: np.random.Generator) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Each cell's entries, split at random into two matrices; the first has at least half of them."""
    order = np.argsort(np.repeat(np.arange(x.shape[0]), np.diff(x.indptr)) + rng.random(x.nnz), kind="stable")
    rank = np.empty(x.nnz, np.int64)
    rank[order] = np.arange(x.nnz) - np.repeat(x.indptr[:-1], np.diff(x.indptr))
    first = rank < np.repeat((np.diff(x.indptr) + 1) // 2, np.diff(x.indptr))
    halves = []
    for mask in (first, ~first):
        half = x.copy()
        half.data = np.where(mask, half.data, 0)
        half.eliminate_zeros()
        halves.append(half)
    return halves[0], halves[1]
