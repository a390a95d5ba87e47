"""Preprocessing: from fragments or any regions to cells × bins, annotation of bins, and quality control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._lazy import lazy, one_file_each

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

__getattr__, __dir__ = lazy(__name__, __all__, one_file_each(__all__))
