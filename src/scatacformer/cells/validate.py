"""Are these counts of cells that a model can read? One pass over them, before anything expensive starts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .source import Rows, RowSource


class CountSummary(NamedTuple):
    """What the pass over the counts saw on its way."""

    n_open_per_cell: np.ndarray  # (n_cells,) int64
    n_open_per_bin: np.ndarray  # (n_bins,) int64: cells in which the bin is open
    binary: bool  # every count is 1


def validate_anndata(adata: Any, min_cells: int = 2) -> None:
    """Raise ValueError for a view, for fewer than ``min_cells`` cells, and for repeated names of cells or bins, and
    TypeError for anything but an AnnData."""
    if not hasattr(adata, "is_view"):
        raise TypeError(
            f"found a {type(adata).__name__}, expected an AnnData. Read a file with anndata.read_h5ad(path)."
        )
    if adata.is_view:
        raise ValueError(
            "this AnnData is a view of another one. Make it its own: "
            f"adata = adata.{'to_memory()' if adata.isbacked else 'copy()'}."
        )
    if adata.n_obs < min_cells:
        one = adata.n_obs == 1
        way = " A trained model embeds a single cell: model.get_latent_representation(adata)." if one else ""
        raise ValueError(f"found {adata.n_obs} cell{'' if one else 's'}, expected at least {min_cells}.{way}")
    if adata.n_vars == 0:
        raise ValueError("this AnnData has no bins (adata.n_vars is 0).")
    for names, what, remedy in (
        (adata.obs_names, "cells (adata.obs_names)", "adata.obs_names_make_unique()"),
        (adata.var_names, "bins (adata.var_names)", "adata = adata[:, ~adata.var_names.duplicated()].copy()"),
    ):
        if not names.is_unique:
            repeated = names[names.duplicated()]
            raise ValueError(
                f"{len(repeated):,} of {len(names):,} {what} have a name that was there before "
                f"(first: {repeated[0]}). Names must be unique: {remedy}"
            )


def validate_counts(
    source: RowSource,
    obs_names: Sequence[str] | None = None,
    empty: Literal["error", "warn", "ignore"] = "error",
    chunk_cells: int = 1024,
) -> CountSummary:
    """Check every count of ``source`` in one streamed pass, and return the open bins per cell and per bin.

    ``obs_names`` (n_cells,) name the cells in messages. ``empty`` determines how cells without open bins are treated.

    Raises ValueError for counts that are NaN, infinite, negative or not integer, for a bin that is stored twice in a
    cell or beyond the last column, for cells without open bins (``empty="error"``), and if no bin is open at all.
    """
    if obs_names is not None and len(obs_names) != source.n_cells:
        raise ValueError(f"obs_names has {len(obs_names):,} names, expected one for each of {source.n_cells:,} cells.")
    bad = {problem: _Found() for problem in _PROBLEMS}
    per_cell = np.zeros(source.n_cells, np.int64)
    per_bin = np.zeros(source.n_bins, np.int64)
    binary = True
    for start, rows in source.iter_chunks(chunk_cells, counts=True):
        counts = rows.counts
        assert counts is not None
        lengths = np.diff(rows.indptr)
        per_cell[start : start + len(lengths)] = lengths
        if not len(counts):
            continue
        lowest, highest = counts.min(), counts.max()
        binary &= bool(lowest == 1 and highest == 1)
        # the comparisons are False for NaN as well
        if not (lowest >= 0 and highest < np.inf) or not (counts == np.rint(counts)).all():
            bad["finite"].add(start, rows, ~np.isfinite(counts), counts)
            bad["positive"].add(start, rows, counts < 0, counts)
            bad["integer"].add(start, rows, np.isfinite(counts) & (counts != np.rint(counts)), counts)
        if rows.bins.min() < 0 or rows.bins.max() >= source.n_bins:
            bad["inside"].add(start, rows, (rows.bins < 0) | (rows.bins >= source.n_bins), rows.bins)
            continue
        bad["once"].add(start, rows, _repeated(rows), rows.bins)
        per_bin += np.bincount(rows.bins, minlength=source.n_bins)
    for problem, found in bad.items():
        if found.n:
            first = _name(obs_names, found.cell)
            what, remedy = _PROBLEMS[problem]
            raise ValueError(
                f"{found.n:,} {what} in {found.n_cells:,} of {source.n_cells:,} cells "
                f"(first: {found.value:g} in cell {first}). {remedy}"
            )
    _judge_empty(per_cell, obs_names, empty)
    return CountSummary(per_cell, per_bin, binary)


_RAW = (
    "Raw counts are needed, not normalised ones: name the layer that holds them, as in layer='counts', "
    "or put them into adata.X."
)
_DAMAGED = "The matrix is damaged. Read or create it again."
_PROBLEMS = {
    "finite": ("counts are NaN or infinite", f"Counts are whole numbers, 0 or more. {_RAW}"),
    "positive": ("counts are negative", f"Counts are whole numbers, 0 or more. {_RAW}"),
    "integer": ("counts are not integer", _RAW),
    "inside": ("entries have a column number outside the matrix", _DAMAGED),
    "once": ("bins are stored more than once", "Add their counts up: adata.X.sum_duplicates()"),
}


class _Found:
    """How many entries have a problem, in how many cells, and the first of them."""

    def __init__(self) -> None:
        self.n, self.n_cells, self.cell, self.value = 0, 0, -1, 0.0

    def add(self, start: int, rows: Rows, wrong: np.ndarray, values: np.ndarray) -> None:
        at = np.flatnonzero(wrong)
        if not len(at):
            return
        owner = np.searchsorted(rows.indptr, at, side="right") - 1
        if not self.n:
            self.cell, self.value = start + int(owner[0]), float(values[at[0]])
        self.n += len(at)
        self.n_cells += 1 + int(np.count_nonzero(np.diff(owner)))


def _repeated(rows: Rows) -> np.ndarray:
    """Mask of the entries whose bin occurred before in the same cell."""
    repeated = np.zeros(len(rows.bins), bool)
    inner = np.ones(max(len(rows.bins) - 1, 0), bool)  # entry i + 1 is in the same cell as entry i
    edges = rows.indptr[1:-1]
    inner[edges[(edges > 0) & (edges < len(rows.bins))] - 1] = False
    down = inner & (rows.bins[1:] <= rows.bins[:-1])
    # bins that rise throughout a cell, as in scipy's canonical form, cannot repeat; the other cells are sorted
    owner = np.searchsorted(rows.indptr, np.flatnonzero(down), side="right") - 1
    for cell in owner[np.flatnonzero(np.diff(owner, prepend=-1))]:
        part = slice(rows.indptr[cell], rows.indptr[cell + 1])
        bins = rows.bins[part]
        if (np.diff(np.sort(bins)) == 0).any():
            order = np.argsort(bins, kind="stable")
            repeated[rows.indptr[cell] + order[1:][np.diff(bins[order]) == 0]] = True
    return repeated


def _judge_empty(per_cell: np.ndarray, obs_names: Sequence[str] | None, empty: str) -> None:
    without = np.flatnonzero(per_cell == 0)
    if len(without) and len(without) == len(per_cell):
        raise ValueError(
            f"no bin is open in any of {len(per_cell):,} cells. Is this the right matrix (layer=...), and do its bins "
            "belong to the model's assembly?"
        )
    if not len(without) or empty == "ignore":
        return
    named = ", ".join(_name(obs_names, i) for i in without[:3]) + (", ..." if len(without) > 3 else "")
    message = (
        f"{len(without):,} of {len(per_cell):,} cells have no open bin ({named}). "
        "Leave them out: adata = adata[adata.X.sum(1) > 0].copy()"
    )
    if empty == "error":
        raise ValueError(message)
    warnings.warn(message, UserWarning, stacklevel=3)


def _name(obs_names: Sequence[str] | None, cell: int) -> str:
    return f"number {cell}" if obs_names is None else str(obs_names[cell])
