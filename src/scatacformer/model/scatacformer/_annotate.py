"""``ScAtacFormer.annotate``: embedding and predictions written into the user's AnnData or MuData."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ._mudata import Asked, is_mudata
from ._probability import matching_threshold, to_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

    from ._model import ScAtacFormer


def annotate(
    model: ScAtacFormer,
    data: AnnData | MuData | None,
    accessibility: bool | str,
    region_list: Sequence[str] | None,
    threshold: float | None,
    store: Path | None,
    key: str,
    batch_size: int | None,
) -> None:
    """See :meth:`scatacformer.ScAtacFormer.annotate`."""
    mdata = model.mdata if data is None else data if is_mudata(data) else None
    own = model._validate_anndata(data)
    if store is not None and store.exists():
        raise FileExistsError(f"{store} exists. Choose another store, or remove it first.")
    # a MuData is registered through a separate AnnData: write into the user's object
    adata = own if mdata is None else mdata.mod[model._mudata_setup()["modalities"]["atac_layer"]]
    if mdata is not None and model.paired is not None:
        _annotate_pairs(model, mdata, own, key, batch_size)
    else:
        adata.obsm[f"X_{key}"] = model.get_latent_representation(own, batch_size=batch_size)
    reader = model._reader(own)
    n_open = reader.source.n_open_per_cell()
    adata.obs["n_tokens"] = n_open
    adata.obs["n_tokens_cut"] = np.maximum(n_open - reader.max_tokens, 0)
    notes = dict(adata.uns.get(key, {}))
    with torch.inference_mode():
        if accessibility and store is not None:
            to_store(reader, store, batch_size)
            notes["store"] = str(store)
        elif accessibility and region_list is not None:
            frame = model.get_normalized_accessibility(own, region_list=region_list, batch_size=batch_size)
            adata.obsm[f"{key}_accessibility"] = frame
        elif accessibility:
            threshold = matching_threshold(reader, n_open) if threshold is None else threshold
            adata.layers[key] = model.get_normalized_accessibility(own, threshold=threshold, batch_size=batch_size)
            notes["threshold"] = float(threshold)
    adata.uns[key] = notes


def _annotate_pairs(model: ScAtacFormer, mdata: MuData, adata: AnnData, key: str, batch_size: int | None) -> None:
    """Write predictions for paired cells into the user's MuData; ``adata`` is the AnnData around its ATAC."""
    cells, names = model._cells_of(mdata), model._mudata_setup()["modalities"]
    assert cells is not None
    rows = np.arange(adata.n_obs)  # in the order of the ATAC
    reader = model._pairs_reader(Asked(adata, rows, cells))
    joint = reader.latent(rows, None, batch_size)
    out, has_atac = np.full((mdata.n_obs, joint.shape[1]), np.nan, np.float32), cells.order >= 0
    out[has_atac] = joint[cells.order[has_atac]]
    chromatin = mdata.mod[names["atac_layer"]]
    chromatin.obsm[f"X_{key}"] = reader.latent(rows, "accessibility", batch_size)
    mdata.obsm[f"X_{key}"] = out
    if cells.rna is None:
        chromatin.obsm[f"{key}_expression"] = model._predicted(Asked(adata, rows, cells), None, batch_size)[0]
        return
    rna, with_rna = mdata.mod[names["rna_layer"]], np.flatnonzero(cells.has_rna)
    # every cell with RNA has ATAC, as checked before
    measured = with_rna[np.argsort(cells.rna_row[with_rna])]  # in the order of the RNA
    rna.obsm[f"X_{key}"] = reader.latent(measured, "expression", batch_size)
    rna.obs[f"{key}_distance"] = reader.distance(measured)
    predicted, _ = model._predicted(Asked(adata, measured, cells), None, batch_size)
    if list(predicted.columns) == [str(name) for name in rna.var_names]:
        rna.layers[f"{key}_predicted"] = predicted.to_numpy()
    else:
        rna.obsm[f"{key}_predicted"] = predicted
