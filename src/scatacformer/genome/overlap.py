"""Which regions of one set overlap which of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from .vocabulary import Vocabulary


def overlap_matrix(query: Vocabulary, target: Vocabulary) -> csr_matrix:
    """1 where a region of ``query`` shares at least one bp with a region of ``target``.

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
    """Intervals, sorted once, for many queries of which of them overlap others.

    48 bytes an interval. The searches release the GIL.

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
        # Those that no earlier one reaches beyond: all bins, sliding windows and most peaks. Their ends ascend as well.
        is_outer = self.end >= np.maximum.accumulate(self.end)
        self.outer = np.flatnonzero(is_outer)  # ranks
        self.outer_start, self.outer_end = self.start[self.outer], self.end[self.outer]
        self.inner = np.flatnonzero(~is_outer)
        self.inner_start, self.inner_end = self.start[self.inner], self.end[self.inner]
        self.widest_inner = int((self.inner_end - self.inner_start).max(initial=0))

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> OverlapIndex:
        """Of the regions of a vocabulary: its token ids are what is found."""
        return cls(vocabulary.chrom, vocabulary.start, vocabulary.end, vocabulary.genome_order)

    def hits(self, chrom: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(query, interval) of each overlap ``interval.start < query.end and interval.end > query.start``, int64 both.

        Sorted by query, then by start and end of the interval. Queries: code of the chromosome (-1: unknown), start and
        end in bp, start <= end; an empty one overlaps the intervals that contain it.
        """
        known = np.flatnonzero(chrom >= 0) if (chrom < 0).any() else None
        if known is not None:
            chrom, start, end = chrom[known], start[known], end[known]
        base = chrom.astype(np.int64) << 32
        query_start, query_end = base | start, base | end
        first = np.searchsorted(self.outer_end, query_start, "right")
        rows, ranks = _expand(first, np.searchsorted(self.outer_start, query_end, "left"))
        if len(self.inner):
            inner_rows, inner_ranks = self._hits_of_inner(query_start, query_end)
            # one sort of integers in place of a lexsort of two
            key = np.concatenate([rows << 32 | self.outer[ranks], inner_rows << 32 | self.inner[inner_ranks]])
            key.sort()
            rows, ranks = key >> 32, key & 0xFFFFFFFF
        return (rows if known is None else known[rows]), self.order[ranks]

    def _hits_of_inner(self, query_start: np.ndarray, query_end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(query, index in ``inner``) of each overlap, in no order."""
        stop = np.searchsorted(self.inner_start, query_end)
        first = np.searchsorted(self.inner_start, query_start - self.widest_inner)
        if int((stop - first).sum()) <= len(self.inner) + len(query_start):
            rows, at = _expand(first, stop)
            is_hit = self.inner_end[at] > query_start[rows]
            return rows[is_hit], at[is_hit]
        # Too many candidates, because some are wide. Either the interval starts within the query, or the query starts
        # within the interval. Both cases are a contiguous stretch of starts in sorted order, so every candidate is a
        # hit; the strict bound in the second case keeps equal starts from counting twice.
        rows_a, at_a = _expand(np.searchsorted(self.inner_start, query_start), stop)
        by_start = np.argsort(query_start, kind="stable")
        sorted_query = query_start[by_start]
        first = np.searchsorted(sorted_query, self.inner_start, "right")
        at_b, at = _expand(first, np.searchsorted(sorted_query, self.inner_end))
        return np.concatenate([rows_a, by_start[at]]), np.concatenate([at_a, at_b])


def _expand(first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (i, j) with first[i] <= j < stop[i], as two arrays."""
    count = np.maximum(stop - first, 0)
    owner = np.repeat(np.arange(len(first)), count)
    return owner, np.arange(len(owner)) + np.repeat(first - np.cumsum(count) + count, count)
