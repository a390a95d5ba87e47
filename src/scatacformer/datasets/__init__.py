"""Simulated data, and readers for public data sets as they are downloaded."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scatacformer.corpus import catlas_entries, hubmap_entries, tenx_entries

    from ._downloads import MultiomeFiles, buenrostro2018, pbmc5k, pbmc10k_multiome, pbmc500
    from ._simulated_cells import simulated_cells
    from ._simulated_fragments import simulated_fragments
    from ._simulated_multiome import simulated_multiome
    from ._simulated_regulation import SimulatedRegulation, simulated_regulation

__all__ = [
    "MultiomeFiles",
    "SimulatedRegulation",
    "buenrostro2018",
    "catlas_entries",
    "hubmap_entries",
    "pbmc10k_multiome",
    "pbmc500",
    "pbmc5k",
    "simulated_cells",
    "simulated_fragments",
    "simulated_multiome",
    "simulated_regulation",
    "tenx_entries",
]

_DOWNLOADS = ("MultiomeFiles", "buenrostro2018", "pbmc10k_multiome", "pbmc500", "pbmc5k")


def __getattr__(name: str) -> Any:
    if name.endswith("_entries") and name in __all__:
        return getattr(importlib.import_module("scatacformer.corpus"), name)
    if name == "SimulatedRegulation":
        return importlib.import_module("._simulated_regulation", __name__).SimulatedRegulation
    if name in _DOWNLOADS:
        return getattr(importlib.import_module("._downloads", __name__), name)
    if name in __all__:  # one file per verb, imported when the verb is first used
        return getattr(importlib.import_module(f"._{name}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
