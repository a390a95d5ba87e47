"""Cells over one set of regions, read as cells over another: the regions of a vocabulary that they overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .source import Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from .source import RowSource


class OverlapSource:
    """What a :class:`RowSource` gives, with each open bin put as the token ids that it overlaps.

    ``tokens_of_bin`` is CSR (source.n_bins, n_tokens), not zero where a bin overlaps a token's region, as
    :func:`scatacformer.genome.overlap_matrix` gives it. Tokens of a cell come sorted, each once. Nothing is kept: a
    minibatch is mapped when it is read. Can be pickled.
    """

    def __init__(self, source: RowSource, tokens_of_bin: csr_matrix) -> None:
        if tokens_of_bin.shape[0] != source.n_bins:
            raise ValueError(f"tokens are given for {tokens_of_bin.shape[0]:,} bins; the cells have {source.n_bins:,}.")
        self._source, self.n_bins = source, int(tokens_of_bin.shape[1])
        self._first = tokens_of_bin.indptr.astype(np.int64)
        self._tokens = tokens_of_bin.indices.astype(np.int32)

    @property
    def n_cells(self) -> int:
        """Rows of the matrix."""
        return self._source.n_cells

    @property
    def on_disk(self) -> bool:
        """Whether the entries are read from a file on demand."""
        return self._source.on_disk

    @property
    def stored_per_cell(self) -> np.ndarray:
        """Stored entries of each cell before they are mapped.  (n_cells,) int64."""
        return self._source.stored_per_cell

    def row_numbers(self, cells: np.ndarray) -> np.ndarray:
        """As :meth:`RowSource.row_numbers`."""
        return self._source.row_numbers(cells)

    def rows(self, cells: np.ndarray, counts: bool = False) -> Rows:
        """Token ids of ``cells``, in the given order, sorted within a cell. Tokens have no counts (None)."""
        indptr, bins, _ = self._source.rows(cells)
        n_tokens = self._first[bins + 1] - self._first[bins]
        owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        ends = np.cumsum(n_tokens)
        at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(self._first[bins] - ends + n_tokens, n_tokens)
        # one number for cell and token: sorted, and what is equal to the one before is a repeat
        key = np.repeat(owner, n_tokens) * self.n_bins + self._tokens[at]
        key.sort()
        key = key[np.diff(key, prepend=-1) > 0]
        owner, tokens = np.divmod(key, self.n_bins)
        lengths = np.bincount(owner, minlength=len(indptr) - 1)
        return Rows(np.concatenate([[0], np.cumsum(lengths)]), tokens.astype(np.int32), None)
