"""The labels of cells, as they were set up: of each task that a model may predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scatacformer.model._fields import refuse_new_labels
from scatacformer.model._scvi import categories, category_column, field_state

if TYPE_CHECKING:
    from scvi.data import AnnDataManager

TASKS = ("labels", "organ")  # from labels_key and organ_key of setup_anndata
SIZES = {"labels": "n_labels", "organ": "n_organs"}  # in the configuration of the network


class TaskLabels(NamedTuple):
    """The labels of one task."""

    task: str
    column: str  # of obs
    names: np.ndarray  # (n_labels,) in the order of their codes
    codes: np.ndarray  # (n_cells,) int64; -1: no label
    unlabeled: str  # value of the column that means the same

    def labelled(self, rows: np.ndarray) -> np.ndarray:
        """Those of the rows that have a label, sorted."""
        return np.sort(rows[self.codes[rows] >= 0])


def task_labels(registry: dict[str, Any], manager: AnnDataManager, task: str) -> TaskLabels:
    """The labels of the cells of ``manager``, coded as in the model's ``registry``. ValueError for new labels."""
    names, column, unlabeled = (
        categories(registry, task),
        str(category_column(registry, task)),
        _unlabeled(registry, task),
    )
    refuse_new_labels(categories(manager.registry, task)[len(names) :], names, column, unlabeled)
    codes = np.asarray(manager.get_from_registry(task)).ravel().astype(np.int64)
    return TaskLabels(task, column, names, codes, unlabeled)


def label_sizes(registry: dict[str, Any]) -> dict[str, int]:
    """Sizes of the heads for the network's configuration. ValueError without labels, and for a single one."""
    sizes = {}
    for task in TASKS:
        if (column := category_column(registry, task)) is None:
            continue
        sizes[SIZES[task]] = n = len(categories(registry, task))
        if n < 2:
            raise ValueError(
                f"adata.obs[{column!r}] has {n} label{'s' * (n != 1)} besides {_unlabeled(registry, task)!r}; expected "
                "at least 2 for a supervised model."
            )
    if not sizes:
        raise ValueError(
            "supervised=True is set, but no labels are registered. Call ScAtacFormer.setup_anndata(adata, labels_key=...) and create the model again."
        )
    return sizes


def _unlabeled(registry: dict[str, Any], task: str) -> str:
    return (field_state(registry, task) or {}).get("unlabeled_category", "Unknown")
