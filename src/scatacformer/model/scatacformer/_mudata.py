"""MuData: registered without reordering or modifying the user's object."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scatacformer.cells import PairedCells, match_pairs
from scatacformer.model._arguments import known_arguments
from scatacformer.model._fields import note_regions, refuse_changed
from scatacformer.model._rows import row_numbers
from scatacformer.model._scvi import setup_arguments

from ._base import ModelBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

MODALITIES = {"rna_layer": "rna", "atac_layer": "atac"}


class _Known(NamedTuple):
    """Content of a MuData that was read, and how it was read."""

    setup: dict[str, Any]  # layers, modalities and, for a query, the keys
    cells: PairedCells
    matrices: tuple[Any, Any]  # RNA and ATAC matrices at that time


class Asked(NamedTuple):
    """The cells requested from a getter."""

    adata: AnnData  # as registered; for a MuData, the AnnData around its ATAC
    rows: np.ndarray  # (n_cells,) row numbers in it, in the order of the result
    cells: PairedCells | None  # of a MuData


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


class MuDataMixin(ModelBase):
    """``setup_mudata``, and MuData wherever a method of the model takes an AnnData."""

    _mdata: MuData | None = None
    _pairs: PairedCells | None = None

    @classmethod
    @known_arguments(("source_registry", "extend_categories", "allow_missing_labels", "fixed_labels"))
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        atac_layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        modalities: dict[str, str] | None = None,
        unlabeled_category: str = "Unknown",
        organ_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register a MuData of paired cells: counts of genes and of regions, measured in the same cells.

        Cells are matched by ``obs_names``, in any order. ``mdata`` is neither reordered nor modified. Row numbers in
        arguments and results of methods are those of ``mdata.obs``. The model keeps a reference to the current counts:
        they must not be changed in place later, and a replaced ``.X`` is not noticed.

        Parameters
        ----------
        mdata
            RNA, cells x genes, and ATAC, cells x regions; raw counts in both.
        rna_layer, atac_layer
            Layers with the counts; default ``.X``.
        batch_key, labels_key, organ_key
            Columns with the batch, the label and a second label, in the ``obs`` of the ATAC modality, of the RNA, or of
            ``mdata``.
        modalities
            Names of the two: ``{"rna_layer": "rna", "atac_layer": "atac"}`` by default.
        unlabeled_category
            As in :meth:`setup_anndata`.

        Raises
        ------
        ValueError
            ``mdata`` is a view; cells were measured in only one modality (the error gives their number); counts are
            NaN, negative or not integer; cells or regions are empty, duplicate or unknown.
        KeyError
            The modality, layer or column does not exist.
        """
        names = modality_names(modalities)
        cells = match_pairs(
            mdata, names["rna_layer"], names["atac_layer"], rna_layer, atac_layer,
            tuple(key for key in (batch_key, labels_key, organ_key) if key is not None),
        )  # fmt: skip
        cls.setup_anndata(
            cells.atac, layer=atac_layer, batch_key=batch_key, labels_key=labels_key,
            unlabeled_category=unlabeled_category, organ_key=organ_key, **kwargs,
        )  # fmt: skip
        setup = {"rna_layer": rna_layer, "atac_layer": atac_layer, "modalities": names}
        _remember(_set_up, mdata, setup, cells)

    @classmethod
    def _set_up_as(cls, mdata: MuData, setup: dict[str, Any] | None, registry: dict[str, Any], **kwargs: Any) -> MuData:
        """Set up ``mdata`` like that of an existing model; cells without RNA are allowed."""
        setup = setup or _default_setup(registry)
        cells = query_cells(mdata, setup, setup_arguments(registry))
        arguments = dict(setup_arguments(registry)) | {"layer": setup["atac_layer"]}
        cls.setup_anndata(cells.atac, source_registry=registry, **kwargs, **arguments)
        _remember(_set_up, mdata, setup, cells)
        return mdata

    @property
    def mdata(self) -> MuData | None:
        """The MuData of the model; None for a model of ATAC only."""
        return self._mdata

    def _take(self, data: AnnData | MuData | None) -> AnnData | None:
        """The AnnData registered with scvi-tools: the one around a MuData, or ``data`` itself."""
        if data is None or not is_mudata(data):
            return data
        found = _found(data)
        _check_unchanged(data, found.setup, found.cells)
        self._mdata, self._pairs, self.mudata_setup_ = data, found.cells, found.setup
        return found.cells.atac

    def _annotated(self, adata: AnnData | None) -> AnnData | None:
        """The object with the annotation of the regions: for a MuData, its ATAC modality."""
        return adata if self._mdata is None else self._mdata.mod[self.mudata_setup_["modalities"]["atac_layer"]]

    def _cells_of(self, data: AnnData | MuData | None) -> PairedCells | None:
        """The pairs of ``data``; None for an AnnData, which has no RNA."""
        if data is None or data is self._mdata:
            if self._mdata is not None:
                assert self._pairs is not None
                _check_unchanged(self._mdata, self.mudata_setup_, self._pairs)
            return self._pairs
        if not is_mudata(data):
            return None
        setup, arguments = self._mudata_setup(), setup_arguments(self.registry_)
        known_as = setup | {key: arguments.get(key) for key in ("batch_key", "labels_key", "organ_key")}
        found = _read.get(data)
        if found is not None and found.setup == known_as:
            same_matrices = all(map(_same_matrix, found.matrices, _matrices(data, setup)))
            if same_matrices and _same_cells(data, setup, found.cells):
                _take_columns(data, setup, found.cells)
                return found.cells
        cells = query_cells(data, setup, arguments)
        _remember(_read, data, known_as, cells)
        return cells

    def _mudata_setup(self) -> dict[str, Any]:
        """How to read a MuData; for a model of ATAC only, by the default names."""
        return getattr(self, "mudata_setup_", None) or _default_setup(self.registry_)

    def _validate_anndata(self, adata: AnnData | MuData | None = None, **kwargs: Any) -> AnnData:
        if adata is None and self.adata is None:
            raise ValueError("the model has no cells (it was loaded with adata=False). Pass adata.")
        if adata is None and self._mdata is not None:
            self._cells_of(None)
        elif is_mudata(adata):
            cells = self._cells_of(adata)
            assert cells is not None
            adata = cells.atac
        found = self.adata if adata is None else adata
        if (known := self.get_anndata_manager(found)) is not None and known.adata is found:
            refuse_changed(known, found)
        found = super()._validate_anndata(found, **kwargs)
        if known is None:
            note_regions(self.get_anndata_manager(found, required=True), found)
        return found

    def _asked(self, data: AnnData | MuData | None, indices: Sequence[int] | np.ndarray | None) -> Asked:
        """The cells given by ``indices``: row numbers in ``mdata.obs`` for a MuData, by default all with ATAC."""
        adata, cells = self._validate_anndata(data), self._cells_of(data)
        if cells is None:
            return Asked(adata, row_numbers(indices, adata.n_obs), None)
        if indices is None:
            return Asked(adata, cells.order[cells.order >= 0], cells)
        return Asked(adata, cells.rows_of(row_numbers(indices, len(cells.order))), cells)

    def _numbers(self, rows: np.ndarray | None) -> np.ndarray | None:
        """Row numbers of the model's cells for the user, in the order of its MuData."""
        if rows is None or self._pairs is None or len(rows) == 0 or np.max(rows) >= len(self._pairs.rna_row):
            return rows
        return self._pairs.numbers_of(np.asarray(rows))

    def _own_rows(self, numbers: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`_numbers`."""
        return numbers if self._pairs is None else self._pairs.rows_of(numbers)

    @property
    def train_indices(self) -> np.ndarray | None:
        """Row numbers of the training cells."""
        return self._numbers(self.train_indices_)

    @train_indices.setter
    def train_indices(self, value: np.ndarray | None) -> None:
        self.train_indices_ = value

    @property
    def validation_indices(self) -> np.ndarray | None:
        """Row numbers of the held-out cells."""
        return self._numbers(self.validation_indices_)

    @validation_indices.setter
    def validation_indices(self, value: np.ndarray | None) -> None:
        self.validation_indices_ = value

    @property
    def test_indices(self) -> np.ndarray | None:
        """Row numbers of the cells that are neither training nor held-out cells."""
        return self._numbers(self.test_indices_)

    @test_indices.setter
    def test_indices(self, value: np.ndarray | None) -> None:
        self.test_indices_ = value


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


def query_cells(mdata: MuData, setup: dict[str, Any], setup_args: dict[str, Any]) -> PairedCells:
    """Cells to be read by an existing model: RNA, labels and the batch may be missing."""
    names, keys = setup["modalities"], []
    tables = [mdata.mod[name].obs for name in (names["atac_layer"], names["rna_layer"]) if name in mdata.mod]
    for key in (setup_args["batch_key"], setup_args["labels_key"], setup_args.get("organ_key")):
        if key is not None and any(key in obs for obs in (*tables, mdata.obs)):
            keys.append(key)
    return match_pairs(
        mdata, names["rna_layer"], names["atac_layer"], setup["rna_layer"], setup["atac_layer"], tuple(keys),
        need_rna=False,
    )  # fmt: skip


def _default_setup(registry: dict[str, Any]) -> dict[str, Any]:
    return {"rna_layer": None, "atac_layer": setup_arguments(registry)["layer"], "modalities": MODALITIES}


def _remember(
    where: weakref.WeakKeyDictionary[MuData, _Known], mdata: MuData, setup: dict[str, Any], cells: PairedCells
) -> None:
    where[mdata] = _Known(setup, cells, _matrices(mdata, setup))


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


def _check_unchanged(mdata: MuData, setup: dict[str, Any], cells: PairedCells) -> None:
    """Raise ValueError if cells were added, removed or reordered since the set-up; otherwise copy new columns of
    ``obs``."""
    if not _same_cells(mdata, setup, cells):
        raise ValueError(
            f"the cells or features of mdata have changed since it was set up (then {cells.atac.n_obs:,} cells, now "
            f"{mdata.n_obs:,}); call ScAtacFormer.setup_mudata(mdata) again and create the model again, or load a saved one "
            "with it."
        )
    _take_columns(mdata, setup, cells)


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
