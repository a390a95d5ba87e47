"""What the letters of DNA say: sequences of bins and their embeddings by language models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fasta import BinDna
    from .language_model import DnaCheckpoint
    from .table import DnaTableWriter, read_dna_table

__all__ = [
    "BinDna",
    "DnaTableWriter",
    "read_dna_table",
]
_FILE_OF = {
    "BinDna": "fasta",
    "DnaCheckpoint": "language_model",
    "DnaTableWriter": "table",
    "read_dna_table": "table",
}


def __getattr__(name: str) -> Any:
    if name in _FILE_OF:  # imported when first used
        return getattr(importlib.import_module(f".{_FILE_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
