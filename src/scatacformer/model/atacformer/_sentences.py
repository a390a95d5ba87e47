"""Minibatches of tokens: unchanged, with replaced tokens, or as triplets. Seeded by cell, not by minibatch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scatacformer.cells import bin_keys, draws, lowest, packed, tensors, uniform

if TYPE_CHECKING:
    from torch import Tensor

    from scatacformer.cells import OverlapSource, RaggedBatch, RowSource

# random numbers that must differ have separate streams
TRUNCATE, REPLACE, NEW_TOKEN, POSITIVE, NEGATIVE = range(10, 15)


class TokenSentences:
    """Collates cells for reading: of more than ``max_tokens`` regions a sample without replacement, sorted.

    ``keys`` (n_cells,) identify the cells in the sampling, so that it does not depend on their order.
    """

    def __init__(self, keys: np.ndarray, max_tokens: int, seed: int = 0) -> None:
        self.keys, self.max_tokens, self.seed = keys, max_tokens, seed

    def __call__(self, batch: RaggedBatch) -> dict[str, Tensor]:
        tokens, lengths = self._truncated(batch.cells, batch.indptr, batch.bins, 0)
        return tensors(cells=batch.cells, **packed("tokens", "cu_seqlens", tokens, lengths))

    def _truncated(
        self, cells: np.ndarray, indptr: np.ndarray, tokens: np.ndarray, epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """At most ``max_tokens`` of each cell's tokens, those with the lowest random numbers, in their order; and their
        number."""
        lengths = np.diff(indptr)
        if not (lengths > self.max_tokens).any():
            return tokens, lengths
        draw = draws(bin_keys(tokens), self.keys[cells], lengths, epoch, TRUNCATE, self.seed)
        chosen, n_chosen = lowest(draw, indptr, self.max_tokens)
        return tokens[chosen], n_chosen


class ReplacedSentences(TokenSentences):
    """Each token is replaced with probability ``share`` by one of all ``n_regions``, sampled uniformly.

    ``replaced`` (n_tokens,) is 1 where the new token is not the old one. There is no generator network, as in
    Atacformer.
    """

    def __init__(self, keys: np.ndarray, max_tokens: int, seed: int, share: float, n_regions: int) -> None:
        super().__init__(keys, max_tokens, seed)
        self.share, self.n_regions = share, n_regions

    def __call__(self, batch: RaggedBatch) -> dict[str, Tensor]:
        old, lengths = self._truncated(batch.cells, batch.indptr, batch.bins, batch.epoch)
        cell = np.repeat(self.keys[batch.cells], lengths)
        change = uniform(old, cell, batch.epoch, REPLACE, self.seed) < self.share
        draw = uniform(old, cell, batch.epoch, NEW_TOKEN, self.seed)
        new = np.where(change, (draw * self.n_regions).astype(np.int64), old)
        replaced = (new != old).astype(np.float32)
        return tensors(cells=batch.cells, replaced=replaced, **packed("tokens", "cu_seqlens", new, lengths))


class TripletSentences(TokenSentences):
    """A cell, another one of its label, and one of another label: ``tokens`` of all cells, then of the others in turn.

    ``codes`` (n_cells,) are the labels, -1 for none; ``among`` the row numbers to sample from. Cells that are read
    must be among :meth:`anchors`.
    """

    def __init__(
        self,
        keys: np.ndarray,
        max_tokens: int,
        seed: int,
        source: RowSource | OverlapSource,
        codes: np.ndarray,
        among: np.ndarray,
    ) -> None:
        super().__init__(keys, max_tokens, seed)
        self.source, self.codes = source, codes
        among = among[codes[among] >= 0]
        self.ordered = among[np.argsort(codes[among], kind="stable")]  # by label
        n_labels = int(codes.max(initial=-1)) + 1
        self.first = np.searchsorted(codes[self.ordered], np.arange(n_labels + 1))  # where each label begins
        self.place = np.full(len(codes), -1)
        self.place[self.ordered] = np.arange(len(self.ordered))

    def anchors(self) -> np.ndarray:
        """Row numbers, sorted, of the cells for which a cell of their label and one of another can be sampled."""
        same = np.diff(self.first)[self.codes[self.ordered]]
        return np.sort(self.ordered[(same > 1) & (same < len(self.ordered))])

    def __call__(self, batch: RaggedBatch) -> dict[str, Tensor]:
        others = np.concatenate(self.drawn(batch.cells, batch.epoch))
        rows = self.source.rows(others)
        cells = np.concatenate([batch.cells, others])
        indptr = np.concatenate([batch.indptr, batch.indptr[-1] + rows.indptr[1:]])
        tokens, lengths = self._truncated(cells, indptr, np.concatenate([batch.bins, rows.bins]), batch.epoch)
        return tensors(cells=cells, **packed("tokens", "cu_seqlens", tokens, lengths))

    def drawn(self, cells: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers of a cell of the same label, never itself, and of one of another label.  (len(cells),) each."""
        start, stop = self.first[self.codes[cells]], self.first[self.codes[cells] + 1]
        key = self.keys[cells]
        same = start + (uniform(0, key, epoch, POSITIVE, self.seed) * (stop - start - 1)).astype(np.int64)
        same += same >= self.place[cells]  # past the cell itself
        n_other = len(self.ordered) - (stop - start)
        other = (uniform(0, key, epoch, NEGATIVE, self.seed) * n_other).astype(np.int64)
        other += (other >= start) * (stop - start)  # past the cells of the label
        return self.ordered[same], self.ordered[other]
