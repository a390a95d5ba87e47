"""How scvi-tools' registry sees the open bins: the matrix where it lies, its regions, and nothing made dense."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scvi.data.fields import CategoricalObsField

from scatacformer.cells import RowSource, validate_anndata, validate_counts
from scatacformer.genome import Vocabulary, assembly_name

from ._scvi import BaseAnnDataField

if TYPE_CHECKING:
    from anndata import AnnData


class OpenBinsField(BaseAnnDataField):
    """``adata.X`` or a layer, cells x regions, CSR, in memory or backed.

    scvi-tools' own field refuses ``csr_array`` and keeps every region's name in the registry; this one keeps their
    number and a checksum.
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
            raise KeyError(f"adata has no layer {self._layer!r}; it has {sorted(filter(None, adata.layers))} and X")
        return adata.layers[self._layer]

    def validate_field(self, adata: AnnData) -> None:
        validate_anndata(adata)
        validate_counts(self.source(adata), adata.obs_names)

    def register_field(self, adata: AnnData) -> dict:
        super().register_field(adata)
        vocabulary = Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly"))
        if assembly_name(vocabulary.assembly) is not None:  # one whose chromosomes are known
            vocabulary.validate_assembly()
        return _state(vocabulary, adata.n_obs)

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs) -> dict:
        validate_anndata(adata_target, min_cells=1)
        found = Vocabulary.from_var(adata_target.var, assembly=adata_target.uns.get("assembly"))
        assembly = state_registry["assembly"]
        if assembly is not None and found.assembly is not None and assembly != found.assembly:
            raise ValueError(
                f"the model was trained on {assembly}, adata.uns['assembly'] says {found.assembly!r}; "
                "lift the regions over, or train a model on this assembly"
            )
        if found.checksum != state_registry["checksum"]:
            raise ValueError(_difference(state_registry, found))
        # an empty cell can be embedded (at the origin), though not trained on
        validate_counts(self.source(adata_target), adata_target.obs_names, empty="warn")
        return _state(found, adata_target.n_obs)

    def get_summary_stats(self, state_registry: dict) -> dict:
        return {"n_cells": state_registry.get("n_cells", 0), "n_vars": state_registry.get("n_bins", 0)}

    def view_state_registry(self, state_registry: dict):
        return None


class LabelsField(CategoricalObsField):
    """Labels in ``obs``; code -1 for a cell without one: NaN, the unlabelled category, or no such column.

    New cells may lack the column, for they are embedded without it. Nor does it matter whether the model knows their
    labels, unless it is made to predict them.
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
        """``fixed_labels``: labels that the registry does not have are an error."""
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
        """The labels that cells have, sorted; not that of those which have none."""
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


def refuse_new_labels(new: np.ndarray, known: np.ndarray, key: str, unlabeled_category: str) -> None:
    """ValueError if there are labels that a supervised model does not know."""
    if len(new):
        raise ValueError(
            f"{len(new)} of the labels in adata.obs[{key!r}] are not known to the model (first: {new[0]!r}); it knows "
            f"{', '.join(map(str, known[:20]))}{', ...' * (len(known) > 20)}. Rename them, set them to "
            f"{unlabeled_category!r}, or leave the column out"
        )


def _state(vocabulary: Vocabulary, n_cells: int) -> dict:
    return {
        "n_cells": int(n_cells),
        "n_bins": vocabulary.n_bins,
        "bin_size": vocabulary.bin_size,
        "assembly": vocabulary.assembly,
        "checksum": vocabulary.checksum,
    }


def _difference(state: dict, found: Vocabulary) -> str:
    if found.bin_size != state["bin_size"]:
        what = f"their width is {found.bin_size or 'not one'} bp, the model's {state['bin_size'] or 'not one'} bp"
    elif found.n_bins != state["n_bins"]:
        what = f"there are {found.n_bins:,}, the model has {state['n_bins']:,}"
    else:
        what = "they are as many as the model's, but others or in another order"
    return (
        f"the regions of adata are not the model's: {what}. Bring them to the model's with "
        "ScAtacFormer.prepare_query_anndata(adata, model) (the same regions, some missing or in another order) or "
        "scatacformer.pp.match_vocabulary(adata, model) (other regions: by overlap)"
    )
