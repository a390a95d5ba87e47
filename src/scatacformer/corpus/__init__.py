"""Many data sets on disk as one stream of cell sentences."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._config import read_config
    from ._corpus import Corpus
    from ._entry import CorpusEntry
    from ._recipes import LAYOUTS, catlas_entries, hubmap_entries, tenx_entries
    from ._validate import validate

__all__ = ["Corpus", "CorpusEntry", "read_config"]
_FILE_OF = {"Corpus": "_corpus", "CorpusEntry": "_entry", "read_config": "_config", "validate": "_validate"}
_FILE_OF |= dict.fromkeys(("LAYOUTS", "catlas_entries", "hubmap_entries", "tenx_entries"), "_recipes")


def __getattr__(name: str) -> Any:
    if name in _FILE_OF:  # imported when first used
        return getattr(importlib.import_module(f".{_FILE_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
