"""Plots. Each returns its matplotlib Axes; ``save`` writes a file, ``show`` opens a window (see
:func:`embedding`)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._calibration import calibration
    from ._coverage import coverage
    from ._embedding import embedding
    from ._gene_by_motif import gene_by_motif
    from ._genome_track import genome_track
    from ._links import links
    from ._predicted_expression import predicted_expression
    from ._qc_sentences import qc_sentences
    from ._regulation import regulation
    from ._sequence_logo import sequence_logo
    from ._track_correlation import track_correlation
    from ._training_curves import training_curves
    from ._variant import variant

__all__ = [
    "calibration",
    "coverage",
    "embedding",
    "gene_by_motif",
    "genome_track",
    "links",
    "predicted_expression",
    "qc_sentences",
    "regulation",
    "sequence_logo",
    "track_correlation",
    "training_curves",
    "variant",
]


def __getattr__(name: str) -> Any:
    if name in __all__:  # one file per verb, imported when the verb is first used
        return getattr(importlib.import_module(f"._{name}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
