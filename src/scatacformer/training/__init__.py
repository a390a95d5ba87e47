"""How models are trained: one loop, its callbacks, splits of cells, processes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .callbacks import BestWeights, GracefulInterrupt, LastCheckpoint, Progress
    from .processes import average_rows, average_whole, n_processes, row_parameters, sum_over_processes
    from .sharding import ShardedEncoder, whole_weights
    from .split import CellSplit, HoldOut, hold_out, split_cells

__all__ = [
    "CellSplit",
    "HoldOut",
    "hold_out",
    "split_cells",
]
_FILE_OF = {
    "BestWeights": "callbacks",
    "CellSplit": "split",
    "GracefulInterrupt": "callbacks",
    "HoldOut": "split",
    "LastCheckpoint": "callbacks",
    "Progress": "callbacks",
    "ShardedEncoder": "sharding",
    "average_rows": "processes",
    "average_whole": "processes",
    "hold_out": "split",
    "n_processes": "processes",
    "row_parameters": "processes",
    "split_cells": "split",
    "sum_over_processes": "processes",
    "whole_weights": "sharding",
}


def __getattr__(name: str) -> Any:
    if name in _FILE_OF:  # imported when first used
        return getattr(importlib.import_module(f".{_FILE_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
