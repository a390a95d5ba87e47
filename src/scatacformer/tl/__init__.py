"""Verbs after the embedding."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._label_agreement import label_agreement
    from ._perturb_bins import perturb_bins

__all__ = ["label_agreement", "perturb_bins"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # one file per verb, imported when the verb is first used
        return getattr(importlib.import_module(f"._{name}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
