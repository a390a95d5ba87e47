"""What a cell says: its open bins, read straight from CSR storage, and how they become minibatches."""

from __future__ import annotations

from .batches import LocalShifts, batch_shifts, local_shifts
from .expression import Components, canonical_start, fit_components, log_normalised
from .links import LinkEvidence, link_evidence
from .loader import RaggedBatch, SentenceLoader, collate_bins
from .pairs import PairedCells, match_pairs
from .score_test import benjamini_hochberg, score_test
from .sentence import ReadSentences, SentencePolicy, TrainSentences
from .source import Rows, RowSource
from .spectral import SpectralStart, fit_spectral, nearest_cells
from .split import CellSplit, split_cells
from .tokens import OverlapSource
from .validate import CountSummary, validate_anndata, validate_counts
from .vector_start import start_from_vectors

__all__ = [
    "CellSplit",
    "Components",
    "CountSummary",
    "LinkEvidence",
    "LocalShifts",
    "OverlapSource",
    "PairedCells",
    "RaggedBatch",
    "ReadSentences",
    "RowSource",
    "Rows",
    "SentenceLoader",
    "SentencePolicy",
    "SpectralStart",
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
    "split_cells",
    "start_from_vectors",
    "validate_anndata",
    "validate_counts",
]
