"""scatacformer: a transformer for single-cell ATAC-seq.

Importing the package loads nothing heavy; each room is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._settings import settings, show_messages

if TYPE_CHECKING:
    from . import (
        cells,
        cli,
        corpus,
        datasets,
        genome,
        metrics,
        model,
        nn,
        pl,
        pp,
        pseudobulk,
        sequence,
        tl,
        tokenizer,
        tracks,
        training,
    )
    from .corpus import Corpus
    from .genome import Vocabulary
    from .model import GET, Atacformer, Epiformer, ScAtacFormer, pretrain
    from .tokenizer import Tokenizer

__version__ = "0.2.0"

_ROOMS: tuple[str, ...] = (
    "cells",
    "cli",
    "corpus",
    "datasets",
    "genome",
    "metrics",
    "model",
    "nn",
    "pl",
    "pp",
    "pseudobulk",
    "sequence",
    "tl",
)
_ROOMS += ("tokenizer", "tracks", "training")
_ROOM_OF = {"Atacformer": "model", "Corpus": "corpus", "ScAtacFormer": "model", "Tokenizer": "tokenizer"}
_ROOM_OF |= {"Epiformer": "model", "GET": "model", "Vocabulary": "genome", "pretrain": "model"}

__all__ = [
    "GET",
    "Atacformer",
    "Corpus",
    "Epiformer",
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
    "nn",
    "pl",
    "pp",
    "pretrain",
    "pseudobulk",
    "sequence",
    "settings",
    "tl",
    "tokenizer",
    "tracks",
    "training",
]


show_messages()


def __getattr__(name: str) -> Any:
    # scvi-tools, torch and scanpy take many seconds and 700 MB to import: not before they are used
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _ROOM_OF:
        return getattr(importlib.import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
