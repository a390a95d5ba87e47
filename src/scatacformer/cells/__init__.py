"""What a cell says: its open bins, read straight from CSR storage, and how they become minibatches."""

from __future__ import annotations

from .batches import batch_shifts
from .loader import RaggedBatch, SentenceLoader, collate_bins
from .score_test import benjamini_hochberg, score_test
from .sentence import ReadSentences, SentencePolicy, TrainSentences
from .source import Rows, RowSource
from .spectral import SpectralStart, fit_spectral, nearest_cells
from .split import CellSplit, split_cells
from .validate import CountSummary, validate_anndata, validate_counts

__all__ = [
    "CellSplit",
    "CountSummary",
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
    "collate_bins",
    "fit_spectral",
    "nearest_cells",
    "score_test",
    "split_cells",
    "validate_anndata",
    "validate_counts",
]
