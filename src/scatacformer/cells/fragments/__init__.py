"""Fragments files: read, scanned for barcodes, counted into bins, streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._lazy import lazy

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

__getattr__, __dir__ = lazy(__name__, __all__, _FILE_OF)
