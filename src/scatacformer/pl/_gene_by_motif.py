"""Which motifs drive which genes."""

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
    from numpy.typing import NDArray


def gene_by_motif(
    gbm: AnnData,
    genes: str | Sequence[str] | None = None,
    groups: str | Sequence[str] | None = None,
    *,
    n_motifs: int = 20,
    n_genes: int = 30,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Scores of motifs: a heat map of genes and groups, or bars where one gene in one group is named.

    Parameters
    ----------
    gbm
        (gene, group) × motifs, as ``GET.get_gene_by_motif`` returns it.
    genes
        Which genes; None: those with the largest scores.
    groups
        Which groups; None: all.
    n_motifs
        How many motifs, those with the largest absolute scores in what is drawn.
    n_genes
        How many genes where none are named.
    ax, show, save
        As in :func:`scatacformer.pl.training_curves`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    KeyError
        No such gene or group, or no columns ``gene`` and ``group``.
    """
    rows = _rows(gbm, genes, groups, n_genes)
    values = gbm.X[rows]
    values = np.asarray(values.todense() if hasattr(values, "todense") else values, np.float64)
    strength = np.abs(values).mean(0)
    columns = np.argsort(-strength, kind="stable")[:n_motifs]
    names = np.asarray(gbm.var_names)[columns]
    labels = gbm.obs["gene"].astype(str).to_numpy()[rows]
    of_group = gbm.obs["group"].astype(str).to_numpy()[rows]
    if len(rows) == 1:
        ax = _bars(values[0, columns], names, f"{labels[0]} in {of_group[0]}", ax)
    else:
        several = len(set(of_group)) > 1
        labels = [f"{gene}, {group}" if several else gene for gene, group in zip(labels, of_group, strict=True)]
        title = "" if several else f"in {of_group[0]}"
        ax = _heat_map(values[:, columns], names, labels, title, ax)
    finish(ax, show, save)
    return ax


def _rows(
    gbm: AnnData, genes: str | Sequence[str] | None, groups: str | Sequence[str] | None, n_genes: int
) -> NDArray[np.intp]:
    """Rows of the genes and groups, genes in the order that was asked for."""
    for column in ("gene", "group"):
        if column not in gbm.obs:
            raise KeyError(f"gbm.obs has no column {column!r}: expected the AnnData of GET.get_gene_by_motif.")
    gene, group = (gbm.obs[column].astype(str).to_numpy() for column in ("gene", "group"))
    wanted, kept_groups = _known(gene, genes, "gene"), _known(group, groups, "group")
    kept = np.ones(gbm.n_obs, bool) if kept_groups is None else np.isin(group, kept_groups)
    if wanted is None:
        size = np.abs(np.asarray(abs(gbm.X).max(1)).ravel())
        best = dict.fromkeys(gene[np.argsort(-size * kept, kind="stable")])
        wanted = list(best)[:n_genes]
    order = [row for name in wanted for row in np.flatnonzero((gene == name) & kept)]
    return np.array(order, np.intp)


def _known(names: NDArray[np.str_], wanted: str | Sequence[str] | None, what: str) -> list[str] | None:
    """The names asked for as a list. KeyError for one that is not there."""
    if wanted is None:
        return None
    asked = [wanted] if isinstance(wanted, str) else [str(name) for name in wanted]
    if absent := [name for name in asked if name not in set(names)]:
        raise KeyError(f"gbm has no {what} {absent[0]!r}; there are {', '.join(list(dict.fromkeys(names))[:5])}, ...")
    return asked


def _bars(values: NDArray[np.float64], names: NDArray[np.str_], title: str, ax: Axes | None) -> Axes:
    if ax is None:
        _, ax = plt.subplots(figsize=(4.5, 0.8 + 0.22 * len(names)), layout="constrained")
    place = np.arange(len(names))[::-1]
    ax.barh(place, values, color=np.where(values >= 0, "#b2182b", "#2166ac"), height=0.75)
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_yticks(place, names, fontsize="small")
    ax.set_xlabel("derivative × motif score")
    ax.set_title(title, fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _heat_map(
    values: NDArray[np.float64], names: NDArray[np.str_], labels: Sequence[str], title: str, ax: Axes | None
) -> Axes:
    if ax is None:
        size = (2.2 + 0.26 * len(names), max(2.6, 1.6 + 0.2 * min(len(labels), 60)))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    limit = float(np.quantile(np.abs(values), 0.99)) or 1.0  # one strong gene does not bleach the others
    image = ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    ax.set_xticks(np.arange(len(names)), names, rotation=90, fontsize="small")
    if len(labels) <= 60:
        ax.set_yticks(np.arange(len(labels)), labels, fontsize="small")
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(labels):,} genes and groups")
    ax.set_title(title, fontsize="medium")
    shrink = min(1.0, 4 * ax.figure.dpi / ax.figure.bbox.height)
    label = "derivative × motif score"
    ax.figure.colorbar(image, ax=ax, label=label, shrink=shrink, aspect=25, extend="both", extendfrac=0.03)
    return ax
