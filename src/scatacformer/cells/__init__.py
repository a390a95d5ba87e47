"""Cells: their open bins, read directly from CSR storage, and how they become minibatches."""

from __future__ import annotations

from .differential import benjamini_hochberg, score_test
from .loader import RaggedBatch, SentenceLoader, collate_bins
from .match_columns import match_columns
from .overlap_source import OverlapSource
from .paired.components import Components, canonical_start, fit_components, log_normalised
from .paired.link_evidence import FAR_BINS, LinkEvidence, NoEvidence, link_evidence
from .paired.match import PairedCells, match_pairs
from .rows import counts_of, iter_rows
from .sampling import bin_keys, draws, lowest, uniform
from .sentence import ReadSentences, SentencePolicy, TrainSentences, packed, tensors
from .shards import FlatArray
from .source import Rows, RowSource
from .start.batch_shifts import LocalShifts, batch_shifts, local_shifts
from .start.from_vectors import start_from_vectors
from .start.options import StartOptions
from .start.spectral import SpectralStart, fit_spectral, nearest_cells
from .validate import CountSummary, validate_anndata, validate_counts

__all__ = [
    "Components",
    "CountSummary",
    "LinkEvidence",
    "LocalShifts",
    "NoEvidence",
    "OverlapSource",
    "PairedCells",
    "RaggedBatch",
    "ReadSentences",
    "RowSource",
    "Rows",
    "SentenceLoader",
    "SentencePolicy",
    "SpectralStart",
    "StartOptions",
    "TrainSentences",
    "batch_shifts",
    "benjamini_hochberg",
    "canonical_start",
    "collate_bins",
    "fit_components",
    "fit_spectral",
    "link_evidence",
    "local_shifts",
    "log_normalised",
    "match_pairs",
    "nearest_cells",
    "score_test",
    "start_from_vectors",
    "validate_anndata",
    "validate_counts",
]
