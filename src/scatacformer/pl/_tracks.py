"""Panels along the genome: the share of cells of each group in which a bin is open, and the prediction of a model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes

    from scatacformer.genome import Vocabulary
    from scatacformer.model import ScAtacFormer

MAX_REGIONS = 5_000


def parse_region(region: str) -> tuple[str, int, int]:
    """Chromosome, start and end of ``chr1:1,000,000-1,500,000``. Raises ValueError."""
    match = re.fullmatch(r"([^:\s]+):([\d,]+)-([\d,]+)", region.strip())
    if match is None:
        raise ValueError(f"region looks like 'chr1:1,000,000-1,500,000', found {region!r}.")
    start, end = (int(number.replace(",", "")) for number in match.groups()[1:])
    if end <= start:
        raise ValueError(f"region is {region!r}, which ends before it starts. Swap its ends.")
    return match[1], start, end


def bins_inside(vocabulary: Vocabulary, chrom: str, start: int, end: int) -> np.ndarray:
    """Token ids of the bins that overlap an interval, by start. Raises ValueError for none or too many."""
    names = np.asarray(vocabulary.chrom_names)[vocabulary.chrom]
    inside = np.flatnonzero((names == chrom) & (vocabulary.end > start) & (vocabulary.start < end))
    if not 0 < len(inside) <= MAX_REGIONS:
        raise ValueError(
            f"{chrom}:{start:,}-{end:,} overlaps {len(inside):,} of the regions; expected 1 to {MAX_REGIONS:,}. Their "
            f"chromosomes are {', '.join(vocabulary.chrom_names[:3])}, ..."
        )
    return inside[np.argsort(vocabulary.start[inside], kind="stable")]


def groups_of(adata: AnnData, groupby: str) -> list[str]:
    """The groups in a column of ``adata.obs``, one panel each. Raises KeyError if the column does not exist."""
    if groupby not in adata.obs:
        raise KeyError(f"adata.obs has no column {groupby!r}; it has {', '.join(map(str, adata.obs.columns))}.")
    return sorted(set(adata.obs[groupby].astype(str)))


def draw_groups(
    axes: Sequence[Axes],
    adata: AnnData,
    groupby: str,
    vocabulary: Vocabulary,
    inside: np.ndarray,
    model: ScAtacFormer | None,
    max_cells: int,
) -> None:
    """Share of cells in which each bin is open, and the prediction of the model, on one Axes for each group.

    At most ``max_cells`` cells per group are used, sampled by the model's seed.
    """
    from scatacformer.model import setup_layer

    values = adata.obs[groupby].astype(str).to_numpy()
    rng = np.random.default_rng(0 if model is None else model.seed_)
    layer = None if model is None else setup_layer(model)
    x = adata.X if layer is None else adata.layers[layer]
    start, end = vocabulary.start[inside], vocabulary.end[inside]
    for ax, group in zip(axes, groups_of(adata, groupby), strict=True):
        rows = np.flatnonzero(values == group)
        if len(rows) > max_cells:
            rows = np.sort(rng.choice(rows, max_cells, replace=False))
        measured = np.asarray((x[rows][:, inside] > 0).mean(0)).ravel()
        ax.stairs(*_steps(start, end, measured), fill=True, color="0.8" if model else "0.6", zorder=1, label="measured")
        if model is not None:
            predicted = model.get_normalized_accessibility(
                adata, indices=rows, region_list=adata.var_names[inside], return_numpy=True
            ).mean(0)
            ax.stairs(
                *_steps(start, end, predicted),
                color="C0",
                linewidth=1.2 if len(inside) < 300 else 0.6,
                zorder=2,
                label="predicted",
            )
        ax.set_title(group, loc="left", fontsize="small", pad=2)
        ax.spines[["top", "right"]].set_visible(False)
    if model is not None:  # above the first panel, where it covers nothing
        axes[0].legend(
            frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0
        )


def _steps(start: np.ndarray, end: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values, edges in Mb) of a staircase that is 0 between bins; a bin ends where the next starts, if they
    overlap."""
    if (start[1:] == end[:-1]).all():
        return values, np.append(start, end[-1]) / 1e6
    end = np.minimum(end, np.append(start[1:], end[-1]))
    edges = np.column_stack([start, end]).ravel()
    return np.column_stack([values, np.zeros_like(values)]).ravel()[:-1], edges / 1e6
