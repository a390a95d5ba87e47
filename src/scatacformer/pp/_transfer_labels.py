"""Labels for the ATAC of multiome cells from their RNA."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

METHODS = ("obs", "scimilarity")


def transfer_labels(
    mdata: MuData,
    labels_key: str = "cell_type",
    method: Literal["obs", "scimilarity"] = "obs",
    model_path: str | os.PathLike | None = None,
    rna: str = "rna",
    atac: str = "atac",
    layer: str | None = None,
    key_added: str | None = None,
    max_distance: float | None = None,
    unlabeled_category: str = "Unknown",
) -> pd.Series:
    """Give the ATAC of paired cells the labels of their RNA.

    Cells are matched by name. A cell without RNA, or without a label, gets ``unlabeled_category``, which
    ``setup_anndata`` and ``setup_mudata`` take as "no label": such cells take no part in what is learned of labels.

    Parameters
    ----------
    mdata
        MuData with paired modalities. ``mdata[atac].obs`` gets the column; nothing else is written to.
    labels_key
        With ``method="obs"``: column with the labels, of ``mdata[rna].obs`` or else of ``mdata.obs`` (there also as
        ``rna:labels_key``).
    method
        ``"obs"``: the labels that the RNA has. ``"scimilarity"``: those that SCimilarity (Heimberg et al. 2024)
        predicts from the counts of human cells; needs the package and a folder with its model.
    model_path
        Folder of the SCimilarity model.
    rna, atac
        Names of the modalities.
    layer
        Layer of the RNA with the counts that SCimilarity reads; default ``.X``. Genes are matched by ``var_names``,
        which are gene symbols.
    key_added
        Column that is written; default ``labels_key``.
    max_distance
        SCimilarity's labels of cells whose nearest reference cell is farther than this are left out.
    unlabeled_category
        Label of cells without a label.

    Returns
    -------
    (n_cells,) categorical series, indexed by the cells of the ATAC: what ``mdata[atac].obs[key_added]`` now holds.

    Raises
    ------
    ValueError
        A modality or the column is missing, no cell has a label, cell names are duplicate, RNA counts are negative or
        no counts, no ``model_path``.
    ImportError
        SCimilarity is requested but not installed.
    """
    import pandas as pd

    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {METHODS}.")
    for name in (rna, atac):
        if name not in mdata.mod:
            raise ValueError(f"mdata has no modality {name!r}, found {', '.join(mdata.mod)}; name it (rna=, atac=).")
        if not mdata.mod[name].obs_names.is_unique:
            raise ValueError(
                f"cells of mdata[{name!r}] share names; call mdata[{name!r}].obs_names_make_unique() first."
            )
    if method == "scimilarity":
        labels = _from_scimilarity(mdata.mod[rna], model_path, layer, max_distance)
    elif model_path is not None or max_distance is not None:
        raise ValueError("model_path and max_distance are for method='scimilarity'.")
    else:
        labels = _from_obs(mdata, rna, labels_key)
    cells = mdata.mod[atac].obs_names
    labels = (
        labels.astype(object).where(labels.notna(), unlabeled_category).reindex(cells, fill_value=unlabeled_category)
    )
    if (labels == unlabeled_category).all():
        raise ValueError(
            f"none of the {len(cells):,} cells of mdata[{atac!r}] has a label: its cells are matched with those of "
            f"mdata[{rna!r}] by name (first: {cells[0]!r} and {mdata.mod[rna].obs_names[0]!r})."
        )
    column = pd.Series(pd.Categorical(labels.astype(str)), index=cells, name=key_added or labels_key)
    mdata.mod[atac].obs[column.name] = column
    return column


def _from_obs(mdata: MuData, rna: str, key: str) -> pd.Series:
    for obs, name in ((mdata.mod[rna].obs, key), (mdata.obs, key), (mdata.obs, f"{rna}:{key}")):
        if name in obs:
            return obs[name]
    found = ", ".join([*mdata.mod[rna].obs.columns, *mdata.obs.columns][:10]) or "none"
    raise ValueError(f"neither mdata[{rna!r}].obs nor mdata.obs has a column {key!r}; found {found}.")


def _from_scimilarity(
    adata: AnnData, model_path: str | os.PathLike | None, layer: str | None, max_distance: float | None
) -> pd.Series:
    import anndata
    import pandas as pd

    if model_path is None:
        raise ValueError("method='scimilarity' needs model_path: the folder of a downloaded SCimilarity model.")
    if not os.path.isdir(model_path):
        raise ValueError(
            f"model_path {os.fspath(model_path)!r} is not a folder. Download the SCimilarity model and pass its path."
        )
    if layer is not None and layer not in adata.layers:
        found = ", ".join(name for name in adata.layers if name is not None)  # anndata 0.13 lists X, as None
        raise ValueError(f"the RNA has no layer {layer!r}, found {found or 'none'}.")
    counts = adata.X if layer is None else adata.layers[layer]
    _check_counts(counts)
    try:
        from scimilarity import CellAnnotation
        from scimilarity.utils import align_dataset, lognorm_counts
    except ImportError:
        raise ImportError(
            "labels from the RNA by SCimilarity need its package: pip install 'scatacformer[scimilarity]'. "
            "For labels that the RNA has already: method='obs'."
        ) from None
    annotation: Any = CellAnnotation(model_path=os.fspath(model_path))
    # its functions write to what they are given
    cells = anndata.AnnData(counts.copy(), obs=adata.obs[[]].copy(), var=adata.var[[]].copy())
    cells.layers["counts"] = cells.X.copy()
    cells = annotation.annotate_dataset(lognorm_counts(align_dataset(cells, annotation.gene_order)))
    labels = pd.Series(cells.obs["celltype_hint"].astype(object).to_numpy(), index=cells.obs_names)
    if max_distance is not None:
        labels[cells.obs["min_dist"].to_numpy() > max_distance] = np.nan
    return labels


def _check_counts(counts: Any) -> None:
    """SCimilarity normalises counts itself; numbers that are none would be normalised twice."""
    values = np.asarray(counts.data if hasattr(counts, "indptr") else counts).ravel()[:100_000]
    if not np.isfinite(values).all() or (values < 0).any() or (values != np.round(values)).any():
        raise ValueError(
            "the RNA holds numbers that are not counts (negative, not finite or not integer); name the layer that holds "
            "the counts (layer=)."
        )
