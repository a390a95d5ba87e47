"""MuData: read without reordering or modifying the user's object."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scatacformer.cells import PairedCells, match_pairs
from scatacformer.model._scvi import setup_arguments

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from ._model import ScAtacFormer

MODALITIES = {"rna_layer": "rna", "atac_layer": "atac"}
KEYS = ("batch_key", "labels_key", "organ_key")


class Asked(NamedTuple):
    """The cells requested from a getter."""

    adata: AnnData  # as registered; for a MuData, the AnnData around its ATAC
    rows: np.ndarray  # (n_cells,) row numbers in it, in the order of the result
    cells: PairedCells | None  # of a MuData


class _Known(NamedTuple):
    """Content of a MuData that was read, and how it was read."""

    setup: dict[str, Any]  # layers, modalities and, for a query, the keys
    cells: PairedCells
    matrices: tuple[Any, Any]  # RNA and ATAC matrices at that time


# A MuData's own `uns` would be the place if it were ours to write to; what is known of one goes when it goes. Models are
# made of the first; what a model reads of other cells is kept apart, so that a set-up stays what the user set up.
_set_up: weakref.WeakKeyDictionary[MuData, _Known] = weakref.WeakKeyDictionary()
_read: weakref.WeakKeyDictionary[MuData, _Known] = weakref.WeakKeyDictionary()


def is_mudata(data: Any) -> bool:
    """Whether ``data`` is a MuData, without importing mudata for it."""
    return hasattr(data, "mod") and hasattr(data, "obsmap")


def modality_names(modalities: dict[str, str] | None) -> dict[str, str]:
    """The names of both modalities; ValueError for unknown keys."""
    given = dict(modalities or {})
    if unknown := sorted(set(given) - set(MODALITIES)):
        raise ValueError(f"modalities has the keys {unknown}; expected {sorted(MODALITIES)}.")
    return MODALITIES | given


def default_setup(registry: dict[str, Any]) -> dict[str, Any]:
    """How a model that was made of an AnnData reads a MuData: by the default names."""
    return {"rna_layer": None, "atac_layer": setup_arguments(registry)["layer"], "modalities": MODALITIES}


def remember_set_up(mdata: MuData, setup: dict[str, Any], cells: PairedCells) -> None:
    """Keep what ``setup_mudata`` found, for the models that are made of it."""
    _set_up[mdata] = _Known(setup, cells, _matrices(mdata, setup))


def set_up_as(
    cls: type[ScAtacFormer], mdata: MuData, setup: dict[str, Any] | None, registry: dict[str, Any], **kwargs: Any
) -> MuData:
    """Set up ``mdata`` like that of an existing model; cells without RNA are allowed."""
    setup, arguments = setup or default_setup(registry), setup_arguments(registry)
    cells = _query_cells(mdata, setup, arguments)
    cls.setup_anndata(cells.atac, source_registry=registry, **kwargs, **arguments | {"layer": setup["atac_layer"]})
    remember_set_up(mdata, setup, cells)
    return mdata


def set_up_pairs(mdata: MuData) -> tuple[dict[str, Any], PairedCells]:
    """How a MuData was set up, and its pairs. ValueError if it was not, or has changed since."""
    found = _found(mdata)
    check_unchanged(mdata, found.setup, found.cells)
    return found.setup, found.cells


def pairs_of(mdata: MuData, setup: dict[str, Any], registry: dict[str, Any]) -> PairedCells:
    """The pairs of a MuData that a model reads, matched anew where it has changed since they were last read."""
    arguments = setup_arguments(registry)
    known_as = setup | {key: arguments.get(key) for key in KEYS}
    found = _read.get(mdata)
    if found is not None and found.setup == known_as:
        same_matrices = all(map(_same_matrix, found.matrices, _matrices(mdata, setup)))
        if same_matrices and _same_cells(mdata, setup, found.cells):
            _take_columns(mdata, setup, found.cells)
            return found.cells
    cells = _query_cells(mdata, setup, arguments)
    _read[mdata] = _Known(known_as, cells, _matrices(mdata, setup))
    return cells


def check_unchanged(mdata: MuData, setup: dict[str, Any], cells: PairedCells) -> None:
    """Raise ValueError if cells were added, removed or reordered since the set-up; otherwise copy new columns of
    ``obs``."""
    if not _same_cells(mdata, setup, cells):
        raise ValueError(
            f"the cells or features of mdata have changed since it was set up (then {cells.atac.n_obs:,} cells, now "
            f"{mdata.n_obs:,}); call ScAtacFormer.setup_mudata(mdata) again and create the model again, or load a saved one "
            "with it."
        )
    _take_columns(mdata, setup, cells)


def asked_cells(model: Any, data: AnnData | MuData | None, indices: Any = None) -> tuple[AnnData, np.ndarray]:
    """The AnnData that ``model`` reads for ``data`` (None: its own), and the rows in it given by ``indices``."""
    asked = model._asked(data, indices)
    return asked.adata, asked.rows


def registered_regions(data: AnnData | MuData) -> pd.DataFrame:
    """``.var`` of the regions that were set up."""
    return (_found(data).cells.atac if is_mudata(data) else data).var


def _found(mdata: MuData) -> _Known:
    found = _set_up.get(mdata)
    if found is None:
        raise ValueError("the MuData is not set up. Call ScAtacFormer.setup_mudata(mdata) first.")
    return found


def _query_cells(mdata: MuData, setup: dict[str, Any], setup_args: dict[str, Any]) -> PairedCells:
    """Cells to be read by an existing model: RNA, labels and the batch may be missing."""
    names, keys = setup["modalities"], []
    tables = [mdata.mod[name].obs for name in (names["atac_layer"], names["rna_layer"]) if name in mdata.mod]
    for key in map(setup_args.get, KEYS):
        if key is not None and any(key in obs for obs in (*tables, mdata.obs)):
            keys.append(key)
    return match_pairs(
        mdata, names["rna_layer"], names["atac_layer"], setup["rna_layer"], setup["atac_layer"], tuple(keys),
        need_rna=False,
    )  # fmt: skip


def _matrices(mdata: MuData, setup: dict[str, Any]) -> tuple[Any, Any]:
    """The RNA and the ATAC matrix; None if missing."""
    found = []
    for which in ("rna_layer", "atac_layer"):
        part, layer = mdata.mod.get(setup["modalities"][which]), setup[which]
        found.append(None if part is None else part.X if layer is None else part.layers.get(layer))
    return found[0], found[1]


def _same_matrix(before: Any, now: Any) -> bool:
    """Whether a matrix has not been replaced; one on disk is a new object at each access."""
    return before is now or (type(before) is type(now) and hasattr(now, "group"))


def _same_cells(mdata: MuData, setup: dict[str, Any], cells: PairedCells) -> bool:
    names = setup["modalities"]
    atac, rna = mdata.mod.get(names["atac_layer"]), mdata.mod.get(names["rna_layer"])
    if atac is None or not atac.obs_names.equals(cells.atac.obs_names) or atac.n_vars != cells.atac.n_vars:
        return False
    with_atac = cells.order >= 0
    if (
        len(cells.order) != mdata.n_obs
        or not (atac.obs_names[cells.order[with_atac]] == mdata.obs_names[with_atac]).all()
    ):
        return False
    if rna is None or cells.rna is None:
        return rna is None and cells.rna is None
    if rna.shape != (cells.rna.n_cells, cells.rna.n_bins):
        return False
    has = cells.has_rna
    return bool((rna.obs_names[cells.rna_row[has]] == cells.atac.obs_names[has]).all())


def _take_columns(mdata: MuData, setup: dict[str, Any], cells: PairedCells) -> None:
    """Columns of ``obs`` that came later, such as clusters."""
    atac = mdata.mod[setup["modalities"]["atac_layer"]]
    for obs in (atac.obs, mdata.obs.reindex(atac.obs_names)):
        for column in obs.columns.difference(cells.atac.obs.columns):
            cells.atac.obs[column] = obs[column].to_numpy()
