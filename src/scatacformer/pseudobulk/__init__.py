"""Regions of groups of cells: counts, expression targets, windows of regions, and minibatches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._lazy import lazy

if TYPE_CHECKING:
    from .count import acpm, log_tpm, sum_by_group
    from .loader import RegionData, WindowLoader, check_values
    from .regions import as_vocabulary, refuse_overlaps, refuse_unsorted
    from .targets import GeneRegions, expression_of_regions, genes_of_regions, table_of
    from .windows import Stretches, Windows

__all__ = [
    "GeneRegions",
    "RegionData",
    "Stretches",
    "WindowLoader",
    "Windows",
    "acpm",
    "as_vocabulary",
    "expression_of_regions",
    "genes_of_regions",
    "log_tpm",
    "refuse_overlaps",
    "refuse_unsorted",
    "sum_by_group",
]
_FILE_OF = {
    "GeneRegions": "targets",
    "RegionData": "loader",
    "Stretches": "windows",
    "WindowLoader": "loader",
    "Windows": "windows",
    "acpm": "count",
    "as_vocabulary": "regions",
    "check_values": "loader",
    "expression_of_regions": "targets",
    "genes_of_regions": "targets",
    "log_tpm": "count",
    "refuse_overlaps": "regions",
    "refuse_unsorted": "regions",
    "sum_by_group": "count",
    "table_of": "targets",
}

__getattr__, __dir__ = lazy(__name__, __all__, _FILE_OF)
