"""Preprocessing: from fragments or any regions to cells × bins, annotation of bins, and quality control."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._annotate_bins import annotate_bins
    from ._bin_fragments import bin_fragments
    from ._dna_embeddings import dna_embeddings
    from ._lift_vocabulary import lift_vocabulary
    from ._map_expression import map_expression
    from ._match_vocabulary import match_vocabulary
    from ._pseudobulk import pseudobulk
    from ._qc_sentences import qc_sentences
    from ._scan_motifs import scan_motifs
    from ._sequence_windows import sequence_windows
    from ._transfer_labels import transfer_labels
    from ._union_regions import union_regions

__all__ = [
    "annotate_bins",
    "bin_fragments",
    "dna_embeddings",
    "lift_vocabulary",
    "map_expression",
    "match_vocabulary",
    "pseudobulk",
    "qc_sentences",
    "scan_motifs",
    "sequence_windows",
    "transfer_labels",
    "union_regions",
]


def __getattr__(name: str) -> Any:
    if name in __all__:  # one file per verb, imported when the verb is first used
        return getattr(importlib.import_module(f"._{name}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
