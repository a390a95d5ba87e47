"""What a user gives ``train``, sorted into options of ``fit`` and arguments of Lightning's trainer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from .run import FitOptions

# name for users, as in Lightning and scvi-tools -> option of ``fit``
OF_FIT = {
    "precision": "precision", "accumulate_grad_batches": "accumulate_grad_batches", "max_steps": "max_steps",
    "gradient_clip_val": "gradient_clip_val", "enable_progress_bar": "progress", "callbacks": "callbacks",
    "early_stopping_monitor": "monitor", "early_stopping_min_delta": "early_stopping_min_delta",
}  # fmt: skip


def fit_options(trainer_kwargs: Mapping[str, Any], also: Collection[str] = (), **options: Any) -> FitOptions:
    """Options of ``fit``: ``options``, and in their place what the user has given of the same meaning.

    ``also``: further options of ``fit`` that the user may give, under their own names. All others are arguments of
    Lightning's trainer.
    """
    names = OF_FIT | {name: name for name in also}
    given = {names[user]: value for user, value in trainer_kwargs.items() if user in names}
    others = {user: value for user, value in trainer_kwargs.items() if user not in names}
    return FitOptions(**({"how_to_resume": "train(resume=True)", "trainer_kwargs": others} | options | given))


def decay_groups(
    parameters: Iterable[Tensor], weight_decay: float, decays: Callable[[Tensor], bool] = lambda p: p.dim() > 1
) -> list[dict[str, Any]]:
    """Two groups for an optimizer, of the parameters that learn: those that decay, and biases, norms and the like, which
    do not."""
    learning = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in learning if decays(p)], "weight_decay": weight_decay},
        {"params": [p for p in learning if not decays(p)], "weight_decay": 0.0},
    ]


def digest(*arrays: Any) -> str:
    """SHA-256 of numbers (dense or sparse), or of names, for the fingerprint of a training."""
    found = hashlib.sha256()
    for array in arrays:
        for part in (array.indptr, array.indices, array.data) if hasattr(array, "indptr") else (np.asarray(array),):
            names = part.dtype.kind in "OUS"
            found.update("\n".join(map(str, part)).encode() if names else np.ascontiguousarray(part).tobytes())
    return found.hexdigest()
