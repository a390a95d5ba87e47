"""Pseudobulks: summed counts and accessibility of groups of cells."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer.cells import counts_of
from scatacformer.genome import intervals_of_var
from scatacformer.pseudobulk import acpm, log_tpm, sum_by_group

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


def pseudobulk(
    data: AnnData | MuData,
    groupby: str | Sequence[str],
    *,
    min_cells: int = 100,
    min_fragments: float = 1_000_000,
    layer: str | None = None,
    atac: str = "atac",
    rna: str = "rna",
    rna_layer: str | None = None,
) -> AnnData | MuData:
    """Sum the counts of the cells in each group.

    Groups with too few cells or fragments are left out, because their accessibility is mostly noise; a warning lists
    them. GET's authors require more than 100 cells and recommend 3 million fragments.

    Parameters
    ----------
    data
        Cells × regions with counts, in memory or on disk; or a MuData of them and of cells × genes. It is not changed.
    groupby
        Column of ``.obs`` with the group of each cell, such as its type. With several columns, each combination is a
        group, named ``"a | b"``. Cells without a label are left out. For a MuData, a column of ``mdata.obs`` or of each
        modality.
    min_cells
        Smallest number of cells (of the ATAC modality) in a group.
    min_fragments
        Smallest total count of a group in the regions.
    layer
        Layer with the counts of regions; ``.X`` by default.
    atac, rna
        Names of the modalities of a MuData.
    rna_layer
        Layer with the counts of genes; ``.X`` by default.

    Returns
    -------
    AnnData or MuData
        Groups × regions: ``.X`` and ``.layers["counts"]``, float32 counts; ``.layers["acpm"]``, log10(counts / total ×
        1e5 + 1) divided by its largest value in the group; ``.obs["n_cells"]`` and ``.obs["n_fragments"]``, and the
        columns of ``groupby``; ``.var``, ``.varm`` and ``.uns["assembly"]`` of the cells. For a MuData, a MuData with
        the same groups × genes as a second modality: ``.X`` and ``.layers["counts"]``, and ``.layers["log_tpm"]``,
        log10(counts / total × 1e6 + 1).

    Raises
    ------
    ValueError
        No such column; no group is large enough; counts that are negative, NaN or no whole numbers; a group that has no
        cell, or no count, of RNA; ``.var`` does not say where the regions lie.

    Warns
    -----
    UserWarning
        Groups that are left out, and cells without a label.

    Notes
    -----
    Cells are read in chunks. Memory: 16 bytes per group and region.
    """
    import pandas as pd
    from mudata import MuData

    if isinstance(data, MuData):
        for name in (atac, rna):
            if name not in data.mod:
                raise ValueError(f"The MuData has no modality {name!r}. It has: {', '.join(data.mod)}.")
        cells: AnnData = data.mod[atac]
        labels = _labels(data, groupby, atac)
    else:
        cells, labels = data, _labels(data, groupby, None)
    intervals_of_var(cells.var)  # raises an error if the positions of the regions are missing
    groups = labels.cat.categories
    counts = sum_by_group(counts_of(cells, layer), labels.cat.codes.to_numpy(), len(groups))
    n_cells = np.bincount(labels.cat.codes[labels.notna()], minlength=len(groups))
    n_fragments = counts.sum(axis=1, dtype=np.float64)
    kept = np.flatnonzero((n_cells >= max(min_cells, 1)) & (n_fragments >= max(min_fragments, 1)))
    _say_who_is_left_out(groups, n_cells, n_fragments, kept, min_cells, min_fragments, int(labels.isna().sum()))

    counts = counts[kept]
    obs = pd.DataFrame({"n_cells": n_cells[kept], "n_fragments": n_fragments[kept].astype(np.int64)}, groups[kept])
    keys = [groupby] if isinstance(groupby, str) else list(groupby)
    for number, key in enumerate(keys):
        obs[key] = [name.split(" | ")[number] if len(keys) > 1 else name for name in groups[kept]]
    regions = _groups(counts, obs, cells, acpm=acpm(counts))
    if not isinstance(data, MuData):
        return regions
    genes = data.mod[rna]
    of_rna = _labels(data, groupby, rna).cat.set_categories(groups[kept])
    n_of_rna = np.bincount(of_rna.cat.codes[of_rna.notna()], minlength=len(kept))
    if not n_of_rna.all():
        first = groups[kept][int(np.argmin(n_of_rna))]
        raise ValueError(
            f"{int((n_of_rna == 0).sum())} of {len(kept)} groups have cells with regions and none with RNA (first: "
            f"{first!r}). Leave those groups out, or label the cells of {rna!r} as well."
        )
    of_genes = sum_by_group(counts_of(genes, rna_layer), of_rna.cat.codes.to_numpy(), len(kept), desc="summing RNA")
    if not of_genes.any(axis=1).all():
        raise ValueError(f"Group {groups[kept][int(np.argmin(of_genes.any(axis=1)))]!r} has no count of any gene.")
    obs_of_rna = obs.assign(n_cells=n_of_rna).drop(columns="n_fragments")
    return MuData({atac: regions, rna: _groups(of_genes, obs_of_rna, genes, log_tpm=log_tpm(of_genes))})


def _labels(data: Any, groupby: str | Sequence[str], modality: str | None) -> pd.Series:
    """Group of each cell, categorical, missing where a label is; categories that no cell has stay."""
    import pandas as pd

    keys = [groupby] if isinstance(groupby, str) else list(groupby)
    obs = data.obs if modality is None else data.mod[modality].obs
    columns = []
    for key in keys:
        if key in obs:
            columns.append(obs[key])
        elif modality is not None and key in data.obs:
            columns.append(data.obs[key].reindex(obs.index))
        else:
            known = [str(name) for name in obs.columns][:12]
            where = "" if modality is None else f" of modality {modality!r} or of the MuData"
            raise ValueError(f".obs{where} has no column {key!r}. Columns: {', '.join(known) or 'none'}.")
    if len(columns) == 1:
        label = columns[0]
        if not isinstance(label.dtype, pd.CategoricalDtype):
            label = label.astype(object).where(label.notna(), None).map(str, na_action="ignore").astype("category")
        return label.cat.rename_categories([str(name) for name in label.cat.categories])
    known_everywhere = np.logical_and.reduce([column.notna().to_numpy() for column in columns])
    texts = [column.astype(object).map(str) for column in columns]
    label = texts[0]
    for text in texts[1:]:
        label = label + " | " + text
    return label.where(known_everywhere, None).astype("category")


def _say_who_is_left_out(
    groups: pd.Index,
    n_cells: np.ndarray,
    n_fragments: np.ndarray,
    kept: np.ndarray,
    min_cells: int,
    min_fragments: float,
    n_unlabelled: int,
) -> None:
    out = np.setdiff1d(np.arange(len(groups)), kept)
    shown = ", ".join(
        f"{groups[row]!r} ({n_cells[row]:,} cells, {n_fragments[row]:,.0f} fragments)" for row in out[:10]
    ) + (f", ... ({len(out)} in all)" if len(out) > 10 else "")
    wanted = f"at least {min_cells:,} cells and {min_fragments:,.0f} fragments"
    if not len(kept):
        raise ValueError(
            f"No group has {wanted}: {shown or 'no cell has a label'}. Lower min_cells and min_fragments, or merge "
            "groups."
        )
    if len(out):
        warnings.warn(
            f"{len(out)} of {len(groups)} groups are left out because they do not have {wanted}: {shown}.",
            UserWarning,
            stacklevel=3,
        )
    if n_unlabelled:
        warnings.warn(f"{n_unlabelled:,} cells without a label are left out.", UserWarning, stacklevel=3)


def _groups(counts: np.ndarray, obs: pd.DataFrame, cells: AnnData, **layers: np.ndarray) -> AnnData:
    from anndata import AnnData

    out = AnnData(counts, obs=obs, var=cells.var.copy(), layers={"counts": counts, **layers})
    for key, value in cells.varm.items():
        out.varm[key] = value.copy()
    if "assembly" in cells.uns:
        out.uns["assembly"] = cells.uns["assembly"]
    for key in cells.varm:
        if key in cells.uns:  # what says what the columns are
            out.uns[key] = cells.uns[key]
    return out
