"""Many data sets on disk as one stream of cell sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._lazy import lazy

if TYPE_CHECKING:
    from ._config import read_config
    from ._corpus import Corpus
    from ._entry import CorpusEntry
    from ._recipes import LAYOUTS, catlas_entries, hubmap_entries, tenx_entries
    from ._validate import validate

__all__ = ["Corpus", "CorpusEntry", "read_config"]
_FILE_OF = {"Corpus": "_corpus", "CorpusEntry": "_entry", "read_config": "_config", "validate": "_validate"}
_FILE_OF |= dict.fromkeys(("LAYOUTS", "catlas_entries", "hubmap_entries", "tenx_entries"), "_recipes")

__getattr__, __dir__ = lazy(__name__, __all__, _FILE_OF)
