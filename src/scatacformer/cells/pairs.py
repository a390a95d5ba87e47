"""Which cell of one modality is which of the other, by name; nothing of the user's is reordered or written to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from .source import RowSource

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


@dataclass(frozen=True, eq=False)
class PairedCells:
    """The cells of a MuData in the order of its ATAC modality.

    ``atac`` is an AnnData of our own around the user's matrix (which is not copied), so that what scvi-tools registers is
    not written into theirs.
    """

    atac: AnnData
    rna: RowSource | None  # (n_rna_cells, n_genes); None: no RNA at all
    rna_row: np.ndarray  # (n_cells,) row of each cell in `rna`, -1 where it has none
    genes: pd.DataFrame | None  # rna.var

    @property
    def has_rna(self) -> np.ndarray:
        """Which cells were measured in both.  (n_cells,) bool"""
        return self.rna_row >= 0

    def expression(self, cells: np.ndarray) -> sp.csr_matrix:
        """Counts of ``cells`` (row numbers, all with RNA).  (len(cells), n_genes) CSR float32"""
        assert self.rna is not None
        rows = self.rna.rows(self.rna_row[cells], counts=True)
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
    """Match the cells of two modalities by ``obs_names``, whatever their order.

    ``obs_keys`` are columns that the model needs of each cell: taken from the ATAC modality, else the RNA modality, else
    from ``mdata.obs``. ``need_rna=False`` accepts cells without RNA.

    Raises
    ------
    ValueError
        A view; repeated names; cells of one modality only (with their number); RNA counts that are no counts.
    KeyError
        No such modality, layer or column.
    """
    from .validate import validate_anndata, validate_counts

    if getattr(mdata, "is_view", False):
        raise ValueError("this MuData is a view of another one. Make it its own: mdata = mdata.copy()")
    if atac not in mdata.mod or (need_rna and rna not in mdata.mod):
        lacking = atac if atac not in mdata.mod else rna
        raise KeyError(
            f"mdata has no modality {lacking!r}; it has {', '.join(map(repr, mdata.mod))}. Name them: "
            'modalities={"rna_layer": ..., "atac_layer": ...}'
        )
    chromatin = mdata.mod[atac]
    validate_anndata(chromatin, min_cells=2 if need_rna else 1)
    expression = mdata.mod.get(rna)
    row = np.full(chromatin.n_obs, -1, np.int64)
    source = None
    if expression is not None:
        validate_anndata(expression, min_cells=1)
        row = expression.obs_names.get_indexer(chromatin.obs_names)
        _check_matched(row, expression, chromatin, rna, atac, need_rna)
        source = RowSource.from_matrix(_layer(expression, rna_layer, rna))
        validate_counts(source, expression.obs_names, empty="error" if need_rna else "warn")
    return PairedCells(
        _around(mdata, chromatin, expression, row, _layer(chromatin, atac_layer, atac), obs_keys, atac),
        source,
        row,
        None if expression is None else expression.var,
    )


def _check_matched(row: np.ndarray, expression: Any, chromatin: Any, rna: str, atac: str, need_rna: bool) -> None:
    n_atac_only = int((row < 0).sum())
    n_rna_only = expression.n_obs - (len(row) - n_atac_only)
    remedy = f'Keep the cells of both: muon.pp.intersect_obs(mdata); or train on mdata.mod["{atac}"] alone'
    if n_atac_only == len(row):
        raise ValueError(
            f"none of the {len(row):,} cells of {atac!r} is among the {expression.n_obs:,} of {rna!r}: their obs_names "
            f"differ (first: {chromatin.obs_names[0]!r} and {expression.obs_names[0]!r}). Give the two measurements of a "
            "cell the same name"
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
        raise KeyError(f"{name!r} has no layer {layer!r}; it has {sorted(filter(None, adata.layers))} and X")
    return adata.layers[layer]


def _around(
    mdata: MuData, chromatin: Any, expression: Any, row: np.ndarray, matrix: Any, keys: tuple[str, ...], atac: str
) -> AnnData:
    """An AnnData of our own around the matrix: names, regions, and the columns asked for."""
    import anndata

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
                f"no column {key!r} in the obs of {atac!r}, of the RNA or of mdata; the first has "
                f"{list(map(str, chromatin.obs.columns))[:12]}"
            )
    out = anndata.AnnData(obs=obs, var=chromatin.var.copy(), shape=chromatin.shape)
    out.X = matrix
    if (assembly := chromatin.uns.get("assembly", mdata.uns.get("assembly"))) is not None:
        out.uns["assembly"] = assembly
    return out
