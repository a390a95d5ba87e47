"""scatacformer: a transformer for single-cell ATAC-seq.

Importing the package loads nothing heavy; each room is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scatacformer import cells, cli, corpus, datasets, genome, metrics, model, models, nn, pl, pp, tl
    from scatacformer.corpus import Corpus
    from scatacformer.genome import Tokenizer, Vocabulary
    from scatacformer.model import ScAtacFormer, pretrain

__version__ = "0.1.0"

_ROOMS = ("cells", "cli", "corpus", "datasets", "genome", "metrics", "model", "models", "nn", "pl", "pp", "tl")
_ROOM_OF = {"Corpus": "corpus", "ScAtacFormer": "model", "Tokenizer": "genome", "Vocabulary": "genome"}
_ROOM_OF |= {"pretrain": "model"}

__all__ = [
    "Corpus",
    "ScAtacFormer",
    "Tokenizer",
    "Vocabulary",
    "__version__",
    "cells",
    "cli",
    "corpus",
    "datasets",
    "genome",
    "metrics",
    "model",
    "models",
    "nn",
    "pl",
    "pp",
    "pretrain",
    "tl",
]


def __getattr__(name: str) -> Any:
    # scvi-tools, torch and scanpy take many seconds and 700 MB to import: not before they are used
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _ROOM_OF:
        return getattr(importlib.import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
