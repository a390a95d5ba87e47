"""Matching of the cells of two modalities by name; the user's objects are neither reordered nor modified."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from scatacformer.cells.source import RowSource
from scatacformer.cells.validate import validate_anndata, validate_counts

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


@dataclass(frozen=True, eq=False)
class PairedCells:
    """The cells of a MuData in the order of its ATAC modality.

    ``atac`` is a separate AnnData around the user's matrix (which is not copied), so that scvi-tools does not write
    into the user's object."""

    atac: AnnData
    rna: RowSource | None  # (n_rna_cells, n_genes); None: no RNA
    rna_row: np.ndarray  # (n_cells,) row of each cell in `rna`, -1 for cells without RNA
    genes: pd.DataFrame | None  # rna.var
    order: np.ndarray  # (mdata.n_obs,) row of each cell of the MuData in `atac`, -1 where it has none

    def rows_of(self, numbers: np.ndarray) -> np.ndarray:
        """Rows in ``atac`` of cells of the MuData, by their row numbers in ``mdata.obs``. ValueError for cells without ATAC."""
        rows = self.order[numbers]
        if (without := int((rows < 0).sum())) > 0:
            raise ValueError(
                f"{without:,} of {len(rows):,} cells of mdata have no ATAC. Leave them out: "
                "muon.pp.intersect_obs(mdata)."
            )
        return rows

    def numbers_of(self, rows: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`rows_of`: row numbers in ``mdata.obs`` of rows in ``atac``."""
        number = np.full(len(self.rna_row), -1, np.int64)
        number[self.order[self.order >= 0]] = np.flatnonzero(self.order >= 0)
        return number[rows]

    @property
    def has_rna(self) -> np.ndarray:
        """Whether each cell was measured in both modalities.  (n_cells,) bool"""
        return self.rna_row >= 0

    def expression(self, cells: np.ndarray) -> sp.csr_matrix:
        """Counts of ``cells`` (row numbers, all with RNA).  (len(cells), n_genes) CSR float32

        Raises ValueError if they are no longer counts.
        """
        assert self.rna is not None
        rows = self.rna.rows(self.rna_row[cells], counts=True)
        assert rows.counts is not None
        # the matrix belongs to the user, who may have normalised it in place
        if not (rows.counts == np.rint(rows.counts)).all():
            raise ValueError(
                "the RNA counts are no longer integers: they were modified in place after the set-up, for example by "
                "normalisation. Keep the counts in a layer and pass its name: setup_mudata(mdata, rna_layer='counts')."
            )
        return sp.csr_matrix((rows.counts, rows.bins, rows.indptr), shape=(len(cells), self.rna.n_bins))


def match_pairs(
    mdata: MuData,
    rna: str,
    atac: str,
    rna_layer: str | None = None,
    atac_layer: str | None = None,
    obs_keys: tuple[str, ...] = (),
    need_rna: bool = True,
) -> PairedCells:
    """Match the cells of two modalities by ``obs_names``, in any order.

    ``obs_keys`` are columns that the model needs for each cell: they are taken from the ATAC modality, otherwise from
    the RNA modality, otherwise from ``mdata.obs``. ``need_rna=False`` accepts cells without RNA.

    Raises
    ------
    ValueError
        A view; repeated names; cells in only one modality (with their number); RNA values that are not counts.
    KeyError
        The modality, layer or column does not exist.
    """
    if getattr(mdata, "is_view", False):
        raise ValueError("mdata is a view of another MuData. Copy it first: mdata = mdata.copy().")
    if atac not in mdata.mod or (need_rna and rna not in mdata.mod):
        lacking = atac if atac not in mdata.mod else rna
        raise KeyError(
            f"mdata has no modality {lacking!r}; it has {', '.join(map(repr, mdata.mod))}. Name them: "
            'modalities={"rna_layer": ..., "atac_layer": ...}.'
        )
    chromatin = mdata.mod[atac]
    with _naming(atac):
        validate_anndata(chromatin, min_cells=2 if need_rna else 1)
    expression = mdata.mod.get(rna)
    row = np.full(chromatin.n_obs, -1, np.int64)
    source = None
    if expression is not None:
        source = _checked_rna(expression, rna_layer, rna, empty="error" if need_rna else "warn")
        row = expression.obs_names.get_indexer(chromatin.obs_names)
        _check_matched(row, expression, chromatin, rna, atac, need_rna)
    return PairedCells(
        _around(mdata, chromatin, expression, row, atac_layer, obs_keys, atac),
        source,
        row,
        None if expression is None else expression.var,
        chromatin.obs_names.get_indexer(mdata.obs_names),
    )


@contextmanager
def _naming(modality: str) -> Iterator[None]:
    """Add the name of the modality to an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"mdata[{modality!r}]: {error}") from None


def _checked_rna(expression: AnnData, layer: str | None, name: str, empty: Literal["error", "warn"]) -> RowSource:
    """Its counts, checked once. Cells without counts are an error or a warning."""
    if (repeated := expression.var_names.duplicated()).any():
        raise ValueError(
            f"mdata[{name!r}]: {int(repeated.sum()):,} of {expression.n_vars:,} genes have a name that occurred before "
            f"(first: {expression.var_names[repeated][0]}). Make them unique: mdata[{name!r}].var_names_make_unique()."
        )
    if expression.n_vars == 0:
        raise ValueError(f"mdata[{name!r}] has no genes (n_vars is 0). Check that it is the RNA modality.")
    source = RowSource.from_matrix(_layer(expression, layer, name))
    with _naming(name):
        validate_anndata(expression, min_cells=1)
        n_genes = source.n_open_per_cell()  # number of genes per cell
        if n_genes.any():  # without counts there is nothing to check
            validate_counts(source, expression.obs_names, empty="ignore")
    without = np.flatnonzero(n_genes == 0)
    if len(without):
        message = (
            f"{len(without):,} of {source.n_cells:,} cells of {name!r} have no RNA counts (first: "
            f"{expression.obs_names[without[0]]}). Leave them out of both modalities, or pass the layer with the counts"
        )
        if empty == "error":
            raise ValueError(message)
        warnings.warn(message, UserWarning, stacklevel=2)
    return source


def _check_matched(row: np.ndarray, expression: Any, chromatin: Any, rna: str, atac: str, need_rna: bool) -> None:
    n_atac_only = int((row < 0).sum())
    n_rna_only = expression.n_obs - (len(row) - n_atac_only)
    remedy = f'Keep the cells of both: muon.pp.intersect_obs(mdata); or train on mdata.mod["{atac}"] alone'
    if n_atac_only == len(row):
        raise ValueError(
            f"none of the {len(row):,} cells of {atac!r} is among the {expression.n_obs:,} of {rna!r}: their obs_names "
            f"differ (first: {chromatin.obs_names[0]!r} and {expression.obs_names[0]!r}). Give the two measurements of a "
            "cell the same name."
        )
    if n_rna_only or (need_rna and n_atac_only):
        raise ValueError(
            f"{n_atac_only:,} of {len(row):,} cells of {atac!r} have no RNA and {n_rna_only:,} of {expression.n_obs:,} "
            f"cells of {rna!r} have no ATAC; every cell must be measured in both. {remedy}"
            + ("" if need_rna else ". Cells without RNA are accepted here, cells without ATAC are not")
        )


def _layer(adata: Any, layer: str | None, name: str) -> Any:
    if layer is None:
        return adata.X
    if layer not in adata.layers:
        raise KeyError(f"{name!r} has no layer {layer!r}; it has {sorted(filter(None, adata.layers))} and X.")
    return adata.layers[layer]


def _around(
    mdata: MuData, chromatin: Any, expression: Any, row: np.ndarray, layer: str | None, keys: tuple[str, ...], atac: str
) -> AnnData:
    """A new AnnData around the same matrix, with names, regions, and the requested columns."""
    import anndata

    matrix = _layer(chromatin, layer, atac)

    obs = chromatin.obs.copy()
    for key in keys:
        if key in obs:
            continue
        if expression is not None and key in expression.obs and (row >= 0).all():
            obs[key] = expression.obs[key].to_numpy()[row]
        elif key in mdata.obs:
            obs[key] = mdata.obs[key].reindex(obs.index).to_numpy()
        else:
            raise KeyError(
                f"column {key!r} is not in the obs of {atac!r}, of the RNA or of mdata; the first has "
                f"{list(map(str, chromatin.obs.columns))[:12]}."
            )
    out = anndata.AnnData(obs=obs, var=chromatin.var.copy(), shape=chromatin.shape)
    if layer is None:
        out.X = matrix
    else:
        out.layers[layer] = matrix
    if (assembly := chromatin.uns.get("assembly", mdata.uns.get("assembly"))) is not None:
        out.uns["assembly"] = assembly
    return out
