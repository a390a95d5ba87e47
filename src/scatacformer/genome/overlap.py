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
    # Two regions overlap if and only if one starts within the other. Both cases are a contiguous stretch of starts in
    # sorted order, so every candidate is a hit; the strict bound in the second case keeps equal starts from counting
    # twice.
    target_code = target.codes_of(query)[query.chrom]  # (n_query,), -1: no target on that chromosome
    known = np.flatnonzero(target_code >= 0)
    query_start = (target_code[known] << 32) | query.start[known]
    query_end = (target_code[known] << 32) | query.end[known]
    target_start = (target.chrom.astype(np.int64) << 32) | target.start
    target_end = (target.chrom.astype(np.int64) << 32) | target.end

    by_target_start = np.argsort(target_start, kind="stable")
    sorted_target = target_start[by_target_start]
    rows_a, at = _expand(np.searchsorted(sorted_target, query_start), np.searchsorted(sorted_target, query_end))
    cols_a = by_target_start[at]

    by_query_start = np.argsort(query_start, kind="stable")
    sorted_query = query_start[by_query_start]
    first, stop = np.searchsorted(sorted_query, target_start, "right"), np.searchsorted(sorted_query, target_end)
    cols_b, at = _expand(first, stop)
    rows_b = by_query_start[at]

    rows = known[np.concatenate([rows_a, rows_b])]
    cols = np.concatenate([cols_a, cols_b])
    matrix = csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (rows, cols)), shape=(query.n_bins, target.n_bins), dtype=np.float32
    )
    matrix.sort_indices()
    return matrix


def _expand(first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (i, j) with first[i] <= j < stop[i], as two arrays."""
    count = np.maximum(stop - first, 0)
    owner = np.repeat(np.arange(len(first)), count)
    return owner, np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
