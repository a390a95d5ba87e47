"""Fields of scvi-tools' registry for the open bins: a reference to the sparse matrix, and its regions."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS
from scvi.data.fields import CategoricalObsField

from scatacformer.cells import RowSource, validate_anndata, validate_counts
from scatacformer.genome import Vocabulary, assembly_name, identify_assembly

from ._scvi import BaseAnnDataField, field_state, obs_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from scvi.data import AnnDataManager

NEW_BATCH = "new cells"  # batch of a query whose cells have no batch column


class OpenBinsField(BaseAnnDataField):
    """``adata.X`` or a layer, cells x regions, CSR, in memory or backed.

    scvi-tools' field does not support ``csr_array`` and stores every region's name in the registry; this one stores
    their number and a checksum.
    """

    def __init__(self, registry_key: str, layer: str | None) -> None:
        self._registry_key, self._layer = registry_key, layer

    @property
    def registry_key(self) -> str:
        return self._registry_key

    @property
    def attr_name(self) -> str:
        return "X" if self._layer is None else "layers"

    @property
    def attr_key(self) -> str | None:
        return self._layer

    @property
    def is_empty(self) -> bool:
        return False

    def source(self, adata: AnnData) -> RowSource:
        """The rows of ``adata``, for a loader."""
        return RowSource.from_matrix(self.get_field_data(adata))

    def get_field_data(self, adata: AnnData):
        if self._layer is None:
            return adata.X
        if self._layer not in adata.layers:
            raise KeyError(
                f"adata has no layer {self._layer!r}; it has {sorted(filter(None, adata.layers))} and X. If X has the raw "
                f"counts: adata.layers[{self._layer!r}] = adata.X.copy()."
            )
        return adata.layers[self._layer]

    def validate_field(self, adata: AnnData) -> None:
        validate_anndata(adata)
        validate_counts(self.source(adata), adata.obs_names)

    def register_field(self, adata: AnnData) -> dict:
        super().register_field(adata)
        return self.state_of(Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly")), adata.n_obs)

    @staticmethod
    def state_of(regions: Vocabulary, n_cells: int = 0) -> dict:
        """What the registry holds of these regions; ValueError if they are not of the assembly that they name."""
        regions = _identified(regions)
        if assembly_name(regions.assembly) is not None:  # an assembly with known chromosomes
            regions.validate_assembly()
        return _state(regions, n_cells)

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs) -> dict:
        validate_anndata(adata_target, min_cells=1)
        found = regions_of(adata_target)
        _check_assembly(found, state_registry["assembly"])
        if found.checksum != state_registry["checksum"]:
            raise ValueError(_difference(state_registry, found, self._layer))
        # an empty cell can be embedded (at the origin), but not used in training
        validate_counts(self.source(adata_target), adata_target.obs_names, empty="warn")
        return _state(found, adata_target.n_obs)

    def get_summary_stats(self, state_registry: dict) -> dict:
        return {"n_cells": state_registry.get("n_cells", 0), "n_vars": state_registry.get("n_bins", 0)}

    def view_state_registry(self, state_registry: dict):
        return None


class BatchField(CategoricalObsField):
    """The batch in ``obs``, by name: ``1`` and ``"1"`` are the same batch, and unused categories are ignored.

    A query (``extend_categories``) may have new batches, or no such column: its cells are
    then one new batch.
    """

    def register_field(self, adata: AnnData) -> dict:
        if self.is_default:
            return super().register_field(adata)
        if self._original_attr_key not in adata.obs:
            raise KeyError(f"adata.obs has no column {self._original_attr_key!r}; it has {_listed(adata.obs)}.")
        return self._code(adata, self._names(adata), adata.obs[self._original_attr_key])

    def state_of(self, names: Sequence[str]) -> dict:
        """What the registry holds of these batches, in the order of their codes."""
        if self.is_default:
            return default_state(self)
        return {
            self.CATEGORICAL_MAPPING_KEY: np.array(names, dtype=str),
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
        }

    def transfer_field(
        self, state_registry: dict, adata_target: AnnData, extend_categories: bool = False, **kwargs: Any
    ) -> dict:
        if self.is_default:
            return super().transfer_field(state_registry, adata_target, extend_categories=extend_categories, **kwargs)
        key = self._original_attr_key
        known = np.asarray(state_registry[self.CATEGORICAL_MAPPING_KEY]).astype(str)
        if key not in adata_target.obs:
            if NEW_BATCH not in known and not extend_categories:
                raise ValueError(
                    f"adata.obs has no column {key!r}, which names the batch of each cell (it has "
                    f"{_listed(adata_target.obs)}). Add it, or embed the cells as one new batch: "
                    "ScAtacFormer.load_query_data(adata, model)."
                )
            column = pd.Series(NEW_BATCH, index=adata_target.obs_names)
            return self._code(adata_target, known if NEW_BATCH in known else np.append(known, NEW_BATCH), column)
        found = self._names(adata_target)
        new = found[~np.isin(found, known)]
        if len(new) and not extend_categories:
            raise ValueError(
                f"{len(new)} of the {len(found)} batches in adata.obs[{key!r}] are not the model's (first: {str(new[0])!r}; the "
                f"model's: {', '.join(known[:10])}{', ...' * (len(known) > 10)}). Rename them, or add them to the model: "
                "ScAtacFormer.load_query_data(adata, model)."
            )
        return self._code(adata_target, np.concatenate([known, new]), adata_target.obs[key])

    def _names(self, adata: AnnData) -> np.ndarray:
        """The batches of the cells, as strings, in the order of their categories."""
        column = adata.obs[self._original_attr_key]
        if (missing := np.flatnonzero(column.isna())).size:
            raise ValueError(
                f"{len(missing):,} of {adata.n_obs:,} cells have no adata.obs[{self._original_attr_key!r}] (first: "
                f"{adata.obs_names[missing[0]]}). Set their batch, or leave these cells out."
            )
        if not isinstance(column.dtype, pd.CategoricalDtype):
            mixed = column.dtype == object and len({type(value) for value in column.unique()}) > 1
            column = (column.astype(str) if mixed else column).astype("category")
        names = column.cat.remove_unused_categories().cat.categories
        return pd.unique(names.astype(str).to_numpy()).astype(str)

    def _code(self, adata: AnnData, mapping: np.ndarray, column: pd.Series) -> dict:
        codes = pd.Categorical(column.astype(str), categories=mapping).codes
        adata.obs[self.attr_key] = codes
        return {self.CATEGORICAL_MAPPING_KEY: mapping, self.ORIGINAL_ATTR_KEY: self._original_attr_key}


class LabelsField(CategoricalObsField):
    """Labels in ``obs``; code -1 for a cell without one: NaN, the unlabelled category, or no such column.

    New cells may lack the column, because embedding does not need it. Labels need not be in the model, unless it
    predicts labels.
    """

    UNLABELED_CATEGORY = "unlabeled_category"

    def __init__(self, registry_key: str, obs_key: str | None, unlabeled_category: str = "Unknown") -> None:
        super().__init__(registry_key, obs_key)
        self._unlabeled_category = unlabeled_category

    def register_field(self, adata: AnnData) -> dict:
        if self.is_default:
            return super().register_field(adata)
        self.validate_field(adata)
        return self._code(adata, self._names(adata))

    def transfer_field(self, state_registry: dict, adata_target: AnnData, fixed_labels: bool = False, **kwargs) -> dict:
        """``fixed_labels``: raise an error for labels that are not in the registry."""
        if self.is_default:
            return super().transfer_field(state_registry, adata_target, **kwargs | {"extend_categories": True})
        if self._original_attr_key not in adata_target.obs:
            adata_target.obs[self.attr_key] = -1
            return dict(state_registry)
        known = np.asarray(state_registry[self.CATEGORICAL_MAPPING_KEY])
        found = self._names(adata_target)
        new = found[~np.isin(found.astype(str), known.astype(str))]
        if fixed_labels:
            refuse_new_labels(new, known, self._original_attr_key, self._unlabeled_category)
        return self._code(adata_target, np.concatenate([known, new]) if len(new) else known.copy())

    def _names(self, adata: AnnData) -> np.ndarray:
        """The labels of the cells, sorted, without the unlabelled category."""
        column = adata.obs[self._original_attr_key].astype("category").cat
        names = column.remove_unused_categories().cat.categories.to_numpy(copy=True)
        return names[names.astype(str) != str(self._unlabeled_category)]

    def _code(self, adata: AnnData, mapping: np.ndarray) -> dict:
        adata.obs[self.attr_key] = pd.Categorical(adata.obs[self._original_attr_key], categories=mapping).codes
        return {
            self.CATEGORICAL_MAPPING_KEY: mapping,
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
            self.UNLABELED_CATEGORY: self._unlabeled_category,
        }


def default_state(field: CategoricalObsField) -> dict:
    """What the registry holds of a field for which the user named no column: one category."""
    return {field.CATEGORICAL_MAPPING_KEY: np.zeros(1, np.int64), field.ORIGINAL_ATTR_KEY: field.attr_key}


def regions_of(adata: AnnData) -> Vocabulary:
    """The regions of an AnnData; their assembly by name, or from the ends of bins of equal width.

    Raises ValueError if the two contradict each other.
    """
    return _identified(Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly")))


def _identified(regions: Vocabulary) -> Vocabulary:
    assembly = identify_assembly(regions)
    return regions if assembly == regions.assembly else replace(regions, assembly=assembly)


# The names of the regions of each AnnData when it was last compared with its registry.
_compared: weakref.WeakKeyDictionary[AnnDataManager, weakref.ref[pd.Index]] = weakref.WeakKeyDictionary()


def note_regions(manager: AnnDataManager, adata: AnnData) -> None:
    """Store the regions with which ``adata`` was set up."""
    # a weak reference: scvi-tools keeps the manager for ever, and 600,000 names are 50 MB
    _compared[manager] = weakref.ref(adata.var_names)


def refuse_changed(manager: AnnDataManager, adata: AnnData) -> None:
    """ValueError if ``adata`` has other regions than at the set-up, or lacks columns that were added to it.

    Counts are read by position: cells may be removed and reordered, with ``obs``; regions may not.
    """
    again = "Call setup_anndata(adata, ...) again and create the model again, or use a copy with all of them"
    names = adata.var_names
    known = _compared.get(manager)
    if known is None or known() is not names:
        state = field_state(manager.registry, REGISTRY_KEYS.X_KEY)
        assert state is not None
        if adata.n_vars != state["n_bins"] or regions_of(adata).checksum != state["checksum"]:
            what = "other regions, or the same in another order" if adata.n_vars == state["n_bins"] else "other regions"
            raise ValueError(
                f"adata has {what} than when it was set up (then {state['n_bins']:,}, now {adata.n_vars:,}): it was changed "
                f"in place, as sc.pp.filter_genes does. {again}."
            )
        _compared[manager] = weakref.ref(names)
    for column in obs_columns(manager.registry):
        if column not in adata.obs:
            raise ValueError(f"adata.obs lacks {column!r}, which setup_anndata added: obs was replaced. {again}.")


def _check_assembly(found: Vocabulary, assembly: str | None) -> None:
    if assembly is not None and found.assembly is not None and assembly != found.assembly:
        raise ValueError(
            f"the model was trained on {assembly}, the regions of adata are of {found.assembly}: lift them over "
            "(sf.pp.lift_vocabulary), or train a model on this assembly."
        )


def _listed(obs: pd.DataFrame) -> str:
    return ", ".join(map(str, obs.columns[:12])) or "none"


def refuse_new_labels(new: np.ndarray, known: np.ndarray, key: str, unlabeled_category: str) -> None:
    """ValueError for labels that are unknown to a supervised model."""
    if len(new):
        raise ValueError(
            f"{len(new)} of the labels in adata.obs[{key!r}] are unknown to the model (first: {new[0]!r}); its labels are "
            f"{', '.join(map(str, known[:20]))}{', ...' * (len(known) > 20)}. Rename them, set them to "
            f"{unlabeled_category!r}, or leave the column out."
        )


def _state(vocabulary: Vocabulary, n_cells: int) -> dict:
    return {
        "n_cells": int(n_cells),
        "n_bins": vocabulary.n_bins,
        "bin_size": vocabulary.bin_size,
        "assembly": vocabulary.assembly,
        "checksum": vocabulary.checksum,
    }


def _difference(state: dict, found: Vocabulary, layer: str | None) -> str:
    if found.bin_size != state["bin_size"]:
        what = f"their width is {found.bin_size or 'not one'} bp, the model's {state['bin_size'] or 'not one'} bp"
    elif found.n_bins != state["n_bins"]:
        what = f"there are {found.n_bins:,}, the model has {state['n_bins']:,}"
    else:
        what = "they are as many as the model's, but others or in another order"
    of_layer = "" if layer is None else f", layer={layer!r}"
    return (
        f"the regions of adata are not the model's: {what}. Bring them to the model's with "
        "ScAtacFormer.prepare_query_anndata(adata, model) (the same regions, some missing or in another order) or "
        f"scatacformer.pp.match_vocabulary(adata, model{of_layer}) (other regions: by overlap)"
    )
