"""Counts of groups of cells, and what is computed from them: aCPM of regions, log10(TPM + 1) of genes."""

from __future__ import annotations

from typing import Any

import numpy as np

from scatacformer._io import tqdm
from scatacformer.cells import iter_rows


def sum_by_group(X: Any, group_of_cell: np.ndarray, n_groups: int, *, desc: str = "summing cells") -> np.ndarray:
    """Sum of the counts of the cells of each group, (n_groups, n_columns) float32.

    Cells are read in chunks, from memory or disk. Memory: 8 bytes per group and column, and the result.

    Parameters
    ----------
    X
        (n_cells, n_columns), whole counts: dense, CSR, on disk, or dask.
    group_of_cell
        (n_cells,), group of each cell; -1 for those that are left out.
    n_groups
        Number of groups.
    desc
        Description of the progress bar.

    Raises
    ------
    ValueError
        A count is negative, NaN, or not a whole number.
    """
    n_columns = X.shape[1]
    group_of_cell = np.asarray(group_of_cell, dtype=np.int64)  # pandas' codes of few groups are of one byte
    total = np.zeros(n_groups * n_columns)
    with tqdm(total=X.shape[0], desc=desc, unit="cell", unit_scale=True, delay=2, disable=None) as bar:
        for first, rows in iter_rows(X, rows_at_once=1024):
            bar.update(rows.shape[0])
            group = group_of_cell[first : first + rows.shape[0]]
            of_entry = np.repeat(group, np.diff(rows.indptr))
            kept = of_entry >= 0
            values = rows.data[kept]
            if (values != np.rint(values)).any():
                raise ValueError(
                    f"Counts are whole numbers; found {values[values != np.rint(values)][0]}. Pass the layer that holds "
                    "the counts as they were measured, not normalised ones."
                )
            np.add.at(total, of_entry[kept] * n_columns + rows.indices[kept].astype(np.int64), values)
    return total.reshape(n_groups, n_columns).astype(np.float32)


def acpm(counts: np.ndarray) -> np.ndarray:
    """Accessibility of groups × regions: log10(counts / total × 1e5 + 1), divided by its largest value in the group.

    (n_groups, n_regions) float32, 0 ... 1. The formula is that of GET (Fu et al., Nature 2025).

    Raises ValueError for a group without a count.
    """
    total = counts.sum(axis=1, dtype=np.float64, keepdims=True)
    if not total.all():
        raise ValueError(f"Group {int(np.argmin(total))} has no count in any region.")
    values = np.log10(counts / total * 1e5 + 1)
    return (values / values.max(axis=1, keepdims=True)).astype(np.float32)


def log_tpm(counts: np.ndarray) -> np.ndarray:
    """Expression of groups × genes: log10(counts / total × 1e6 + 1), (n_groups, n_genes) float32.

    For counts of unique molecules, which do not depend on gene length, TPM is counts per million.

    Raises ValueError for a group without a count.
    """
    total = counts.sum(axis=1, dtype=np.float64, keepdims=True)
    if not total.all():
        raise ValueError(f"Group {int(np.argmin(total))} has no count of any gene.")
    return np.log10(counts / total * 1e6 + 1).astype(np.float32)
