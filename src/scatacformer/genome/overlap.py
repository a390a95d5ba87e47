"""Which regions of one set overlap which of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from .vocabulary import Vocabulary


def overlap_matrix(query: Vocabulary, target: Vocabulary) -> csr_matrix:
    """1 where a region of `query` shares at least one bp with a region of `target`.

    (query.n_bins, target.n_bins), float32, sorted column indices, no explicit zeros. Intervals are half-open, so
    neighbours do not overlap. Neither set need be sorted or free of overlaps. Time grows with (regions) × log(regions)
    plus the number of overlaps, however wide some regions are.
    """
    rows, cols = OverlapIndex.of(target).hits(target.codes_of(query)[query.chrom], query.start, query.end)
    matrix = csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (rows, cols)), shape=(query.n_bins, target.n_bins), dtype=np.float32
    )
    matrix.sort_indices()
    return matrix


class OverlapIndex:
    """Intervals, sorted once, to be asked many times which of them overlap others.

    16 to 24 bytes an interval. The searches release the GIL.

    Parameters
    ----------
    chrom, start, end
        (n,), codes of chromosomes, not negative, and bp; in any order, overlapping and repeated as they like.
    order
        (n,), them by chromosome, start and end, where that is known.
    """

    def __init__(self, chrom: np.ndarray, start: np.ndarray, end: np.ndarray, order: np.ndarray | None = None) -> None:
        base = chrom.astype(np.int64) << 32
        self.order = np.lexsort((end, base | start)) if order is None else order  # rank -> interval
        self.start = (base | start)[self.order]  # ascending
        self.end = (base | end)[self.order]
        # Bins side by side, sliding windows, most peaks: none within another, so that the ends ascend as well.
        self.is_nested = bool((self.end[1:] < self.end[:-1]).any())

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> OverlapIndex:
        """Of the regions of a vocabulary: its token ids are what is found."""
        return cls(vocabulary.chrom, vocabulary.start, vocabulary.end, vocabulary.genome_order)

    def hits(self, chrom: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(query, interval) of each overlap `interval.start < query.end and interval.end > query.start`, int64 both.

        Sorted by query, then by start and end of the interval. Queries: code of the chromosome (-1: unknown), start and
        end in bp, start <= end; one without width hits the intervals that it lies within.
        """
        known = np.flatnonzero(chrom >= 0) if (chrom < 0).any() else None
        if known is not None:
            chrom, start, end = chrom[known], start[known], end[known]
        base = chrom.astype(np.int64) << 32
        query_start, query_end = base | start, base | end
        if self.is_nested:
            rows, ranks = self._hits_of_nested(query_start, query_end)
        else:
            first = np.searchsorted(self.end, query_start, "right")
            rows, ranks = _expand(first, np.searchsorted(self.start, query_end, "left"))
        return (rows if known is None else known[rows]), self.order[ranks]

    def _hits_of_nested(self, query_start: np.ndarray, query_end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Either the interval starts within the query, or the query starts within the interval. Both cases are a contiguous
        # stretch of starts in sorted order, so every candidate is a hit; the strict bound in the second case keeps
        # equal starts from counting twice.
        rows_a, ranks_a = _expand(np.searchsorted(self.start, query_start), np.searchsorted(self.start, query_end))
        by_start = np.argsort(query_start, kind="stable")
        sorted_query = query_start[by_start]
        first = np.searchsorted(sorted_query, self.start, "right")
        ranks_b, at = _expand(first, np.searchsorted(sorted_query, self.end))
        rows = np.concatenate([rows_a, by_start[at]])
        ranks = np.concatenate([ranks_a, ranks_b])
        key = rows << 32 | ranks  # one sort of integers instead of a lexsort of two
        key.sort()
        return key >> 32, key & 0xFFFFFFFF


def _expand(first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (i, j) with first[i] <= j < stop[i], as two arrays."""
    count = np.maximum(stop - first, 0)
    owner = np.repeat(np.arange(len(first)), count)
    return owner, np.arange(len(owner)) + np.repeat(first - np.cumsum(count) + count, count)
