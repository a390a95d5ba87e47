"""Plots. Each returns its matplotlib Axes; ``save`` writes a file, ``show`` opens a window (see
:func:`embedding`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._lazy import lazy, one_file_each

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

__getattr__, __dir__ = lazy(__name__, __all__, one_file_each(__all__))
