"""Fragments files: read, scanned for barcodes, counted into bins, streamed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .check import check_chromosomes, choose_cells, warn_of_format
    from .count import count_fragments, count_tiles
    from .misplaced import Misplaced
    from .read import CALLS_CELLS, IS_CELL, FragmentBlock, iter_fragments, read_barcodes
    from .scan import FragmentScan, scan_fragments
    from .stream import fragments_on_disk

__all__ = [
    "CALLS_CELLS",
    "FragmentBlock",
    "FragmentScan",
    "IS_CELL",
    "Misplaced",
    "check_chromosomes",
    "choose_cells",
    "count_fragments",
    "count_tiles",
    "fragments_on_disk",
    "iter_fragments",
    "read_barcodes",
    "scan_fragments",
    "warn_of_format",
]
_FILE_OF = {
    "CALLS_CELLS": "read",
    "FragmentBlock": "read",
    "FragmentScan": "scan",
    "IS_CELL": "read",
    "Misplaced": "misplaced",
    "check_chromosomes": "check",
    "choose_cells": "check",
    "count_fragments": "count",
    "count_tiles": "count",
    "fragments_on_disk": "stream",
    "iter_fragments": "read",
    "read_barcodes": "read",
    "scan_fragments": "scan",
    "warn_of_format": "check",
}


def __getattr__(name: str) -> Any:
    if name in _FILE_OF:  # imported when first used
        return getattr(importlib.import_module(f".{_FILE_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
