"""Setup of an AnnData for Atacformer: checked and recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer.cells import RowSource, counts_of, validate_counts
from scatacformer.genome import Vocabulary, overlaps_allowed

if TYPE_CHECKING:
    from anndata import AnnData

SETUP = "scatacformer_atacformer"  # key of uns


@dataclass(frozen=True)
class Setup:
    """The parts of the AnnData that are read."""

    layer: str | None = None
    labels_key: str | None = None
    unlabeled_category: str = "Unknown"

    def to_dict(self) -> dict[str, Any]:
        """For ``uns`` and JSON, without unset values."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @classmethod
    def from_dict(cls, content: Any) -> Setup:
        """What :meth:`to_dict` wrote, from a file or ``uns``."""
        known = {key: str(content[key]) for key in ("layer", "labels_key", "unlabeled_category") if key in content}
        return cls(**known)


def regions_of(adata: AnnData) -> Vocabulary:
    """The regions of an AnnData; they may overlap each other. ValueError if they have no positions."""
    with overlaps_allowed():
        return Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly"))


def source_of(adata: AnnData, layer: str | None) -> RowSource:
    """The counts of an AnnData, checked."""
    source = RowSource.from_matrix(counts_of(adata, layer))
    validate_counts(source, adata.obs_names, empty="ignore")
    return source


def record_setup(adata: AnnData, setup: Setup) -> None:
    """Check the AnnData and record the setup in ``uns``."""
    if getattr(adata, "is_view", False):
        raise ValueError("adata is a view of another AnnData. Copy it first: adata = adata.copy().")
    regions_of(adata)
    source_of(adata, setup.layer)
    if setup.labels_key is not None and setup.labels_key not in adata.obs:
        found = ", ".join(map(str, adata.obs.columns)) or "none"
        raise KeyError(f"adata.obs has no column {setup.labels_key!r}; it has {found}.")
    adata.uns[SETUP] = setup.to_dict()


def setup_of(adata: AnnData, default: Setup | None = None) -> Setup:
    """How the AnnData was set up; ``default`` if it was not. ValueError without either."""
    if SETUP in adata.uns:
        return Setup.from_dict(adata.uns[SETUP])
    if default is None:
        raise ValueError("adata is not set up. Call Atacformer.setup_anndata(adata) first.")
    return default


def label_codes(adata: AnnData, key: str | None, unlabeled: str) -> np.ndarray:
    """Labels as numbers, -1 for none.  (n_cells,)"""
    import pandas as pd

    if key is None or key not in adata.obs:
        found = ", ".join(map(str, adata.obs.columns)) or "none"
        raise ValueError(f"labels_key is {key!r}; expected a column of adata.obs ({found}), for objective='triplet'.")
    labels = adata.obs[key].astype(object)
    return pd.factorize(labels.where(labels != unlabeled))[0].astype(np.int64)
