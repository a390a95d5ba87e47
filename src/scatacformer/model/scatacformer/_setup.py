"""What ``setup_anndata`` registers for :class:`~scatacformer.ScAtacFormer`: of an AnnData, or of a vocabulary alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scvi import REGISTRY_KEYS

from scatacformer.model._fields import BatchField, LabelsField, OpenBinsField, default_state
from scatacformer.model._scvi import registry_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scatacformer.genome import Vocabulary
    from scatacformer.model._scvi import BaseAnnDataField

UNLABELED = "Unknown"


def fields_of(
    layer: str | None, batch_key: str | None, labels_key: str | None, unlabeled_category: str, organ_key: str | None
) -> list[BaseAnnDataField]:
    """The fields of the arguments of ``setup_anndata``."""
    fields = [
        OpenBinsField(REGISTRY_KEYS.X_KEY, layer),
        BatchField(REGISTRY_KEYS.BATCH_KEY, batch_key),
        LabelsField(REGISTRY_KEYS.LABELS_KEY, labels_key, unlabeled_category),
    ]
    if organ_key is not None:
        fields.append(LabelsField("organ", organ_key, unlabeled_category))
    return fields


def registry_without_cells(vocabulary: Vocabulary, batch_key: str | None, batch_names: Sequence[str]) -> dict[str, Any]:
    """The registry of an AnnData of these regions and batches, without labels; for a model without data.

    Raises ValueError for regions that are not of the assembly that they name.
    """
    arguments = {
        "layer": None, "batch_key": batch_key, "labels_key": None, "unlabeled_category": UNLABELED, "organ_key": None,
    }  # fmt: skip
    regions, batch = OpenBinsField(REGISTRY_KEYS.X_KEY, None), BatchField(REGISTRY_KEYS.BATCH_KEY, batch_key)
    labels = LabelsField(REGISTRY_KEYS.LABELS_KEY, None, UNLABELED)
    states = [
        (regions, regions.state_of(vocabulary)), (batch, batch.state_of(batch_names)), (labels, default_state(labels)),
    ]  # fmt: skip
    return registry_of("ScAtacFormer", arguments, states)
