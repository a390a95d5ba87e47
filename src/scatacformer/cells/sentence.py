"""The sentence of a cell: which of its open bins are kept or removed, and which closed bins are sampled.

Every choice is a function of (seed, epoch, cell, bin) through a hash, not of a random stream: it does not depend on the
minibatch, the order of the bins, or the number of workers, and a run that is resumed makes the same choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .sampling import HIGHEST, Lookup, bin_keys, bound, counts_of, draws, lowest, uniform

if TYPE_CHECKING:
    from torch import Tensor

    from .loader import RaggedBatch
    from .source import RowSource


@dataclass(frozen=True)
class SentencePolicy:
    """How sentences are made.

    ``removed_share`` of the open bins are held out of the input; the encoder reads at most ``max_tokens`` of the kept
    ones; at most ``max_targets`` removed bins per cell are predicted, against ``n_closed`` closed bins sampled by
    frequency (None: all closed bins). In a share ``neighbor_share`` of the cells the bins to be predicted are those of
    one of the cell's neighbours instead of its own, for which its own noise does not help.
    """

    max_tokens: int = 512
    removed_share: float = 0.5
    max_targets: int = 512
    max_states: int = 64
    n_closed: int | None = 4096
    neighbor_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_tokens", "max_targets", "max_states", "n_closed"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1.")
        for name, most in (("removed_share", 0.9), ("neighbor_share", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 ... {most:g}.")


class ReadSentences:
    """Collates cells for reading: every open bin is kept. ``batch_codes``: (n_cells,) int64 of the source's cells."""

    def __init__(self, batch_codes: np.ndarray, max_tokens: int, seed: int = 0) -> None:
        self.batch_codes, self.max_tokens, self.seed = batch_codes, max_tokens, seed

    def __call__(self, ragged: RaggedBatch) -> dict[str, Tensor]:
        """``bins``, ``cu_seqlens``; ``tokens``, ``token_cu_seqlens`` (at most ``max_tokens`` a cell, the same bins in
        every call and batch: those of the lowest hash); ``depth``, ``batch``, ``own_batch``, ``cells``."""
        lengths = np.diff(ragged.indptr)
        tokens, n_tokens = ragged.bins, lengths
        if (lengths > self.max_tokens).any():
            draw = draws(bin_keys(ragged.bins), np.zeros(len(lengths)), lengths, seed=self.seed)
            chosen, n_tokens = lowest(draw, ragged.indptr, self.max_tokens)
            tokens = ragged.bins.take(chosen)
        return tensors(
            cells=ragged.cells,
            **packed("bins", "cu_seqlens", ragged.bins, lengths),
            **packed("tokens", "token_cu_seqlens", tokens, n_tokens),
            depth=lengths.astype(np.float32),
            batch=self.batch_codes[ragged.cells],
            own_batch=self.batch_codes[ragged.cells],
        )


class TrainSentences:
    """Collates cells for training; see :class:`SentencePolicy` and ``ScAtacNetwork.loss`` for what comes out.

    ``frequency`` (n_bins,) is the share of each bin among all open entries, ``group`` (n_bins,) a number
    that bins with the same ``<eos>`` share, such as their chromosome: sampled bins come sorted by it; ``neighbors``
    (n_cells, k) row numbers of each cell's neighbours, -1 where it has none.
    """

    def __init__(
        self,
        source: RowSource,
        batch_codes: np.ndarray,
        frequency: np.ndarray,
        group: np.ndarray,
        policy: SentencePolicy,
        neighbors: np.ndarray | None = None,
    ) -> None:
        self.source, self.batch_codes, self.policy, self.neighbors = source, batch_codes, policy, neighbors
        self.group = np.asarray(group)
        self.lookup = Lookup(np.cumsum(frequency, dtype=np.float64))

    def __call__(self, ragged: RaggedBatch) -> dict[str, Tensor]:
        policy, bins, indptr, cells = self.policy, ragged.bins, ragged.indptr, ragged.cells
        lengths, row = np.diff(indptr), np.arange(len(cells))
        keys, removed = bin_keys(bins), bound(policy.removed_share)
        draw = draws(keys, cells, lengths, ragged.epoch, seed=policy.seed)  # below `removed`: a removed bin
        kept = np.flatnonzero(draw >= removed)
        n_kept = counts_of(kept, indptr)
        if (bare := np.flatnonzero((n_kept == 0) & (lengths > 0))).size:
            # a sentence has at least one kept bin: the one with the highest hash
            for start, stop in zip(indptr[bare].tolist(), indptr[bare + 1].tolist(), strict=True):
                draw[start + draw[start:stop].argmax()] = HIGHEST
            kept = np.flatnonzero(draw >= removed)
            n_kept = counts_of(kept, indptr)
        read, n_read = kept, n_kept
        if (n_kept > policy.max_tokens).any():
            read, n_read = lowest(~draw, indptr, policy.max_tokens, ~removed)
        states, n_states = lowest(draws(keys, cells, lengths, ragged.epoch, 1, policy.seed), indptr, policy.max_states)
        # without removed bins, the kept bins themselves are predicted (states 0 and 1)
        target = self._targets(ragged, draw, HIGHEST if removed == 0 else removed - np.uint64(1))
        out = packed("bins", "cu_seqlens", bins.take(kept), n_kept)
        out |= packed("tokens", "token_cu_seqlens", bins.take(read), n_read)
        # a neighbour that is to be predicted may be of another batch than the cell that is read
        out |= {"cells": cells, "batch": self.batch_codes[target["from"]], "own_batch": self.batch_codes[cells]}
        out |= {k: target[k] for k in ("target_bins", "target_cell", "depth", "log_rate")}
        out |= {"state_bins": bins.take(states), "state_cell": np.repeat(row, n_states)}
        out |= {"state_kept": draw.take(states) >= removed}
        if ragged.ghost:
            out["ghost"] = np.ones(1, bool)
        if policy.n_closed is None:
            open_cell = np.repeat(row, np.diff(target["open_indptr"]))
            return tensors(**out, open_cell=open_cell, open_bins=target["open_bins"])
        # processes that share a minibatch sample the same bins as a single process
        sampled = self._draw_closed(cells if ragged.whole is None else ragged.whole, ragged.epoch)
        closed = np.ones((len(cells), len(sampled)), bool)
        _mark_open(closed, sampled, target["open_indptr"], target["open_bins"], len(self.group))
        return tensors(**out, sampled=sampled, closed=closed)

    def _targets(self, ragged: RaggedBatch, draw: np.ndarray, limit: np.uint64) -> dict[str, np.ndarray]:
        """The bins to be predicted, cell by cell: its own with a hash <= ``limit``, or all open bins of a neighbour."""
        policy, bins, indptr, cells = self.policy, ragged.bins, ragged.indptr, ragged.cells
        at = self._partners(cells, ragged.epoch)  # row numbers of whom to predict
        other = at != cells
        limits = np.where(other, HIGHEST, limit)
        if other.any():
            n_indptr, n_bins, _ = self.source.rows(at[other])
            n_draw = draws(bin_keys(n_bins), cells[other], np.diff(n_indptr), ragged.epoch, 2, policy.seed)
            # one ragged batch in which the bins of neighbours replace the cell's own
            bins, _ = _with_rows(bins, indptr, other, n_bins, n_indptr)
            draw, indptr = _with_rows(draw, indptr, other, n_draw, n_indptr)
        lengths = np.diff(indptr)
        chosen, used = lowest(draw, indptr, policy.max_targets, limits)
        share = np.where(used > 0, used, 0.5) / np.maximum(lengths, 1)  # no removed bin: as if half a one
        return {
            "from": at, "target_bins": bins.take(chosen), "target_cell": np.repeat(np.arange(len(cells)), used),
            "depth": lengths.astype(np.float32), "log_rate": np.log(share).astype(np.float32),
            "open_indptr": indptr, "open_bins": bins,
        }  # fmt: skip

    def _partners(self, cells: np.ndarray, epoch: int) -> np.ndarray:
        if self.neighbors is None or self.policy.neighbor_share == 0:
            return cells
        near = self.neighbors[cells]
        which = (uniform(cells, 0, epoch, 3, self.policy.seed) * near.shape[1]).astype(np.int64)
        partner = near[np.arange(len(cells)), which]
        swap = (uniform(cells, 0, epoch, 4, self.policy.seed) < self.policy.neighbor_share) & (partner >= 0)
        return np.where(swap, partner, cells)

    def _draw_closed(self, cells: np.ndarray, epoch: int) -> np.ndarray:
        """Bins sampled by frequency, shared by the minibatch, sorted by group.  (n_closed,)"""
        rng = np.random.default_rng([self.policy.seed, epoch, int(cells[0]), int(cells[-1]), len(cells)])
        bins = self.lookup(rng.random(self.policy.n_closed))
        return bins[np.argsort(self.group[bins], kind="stable")]


def _with_rows(
    flat: np.ndarray, indptr: np.ndarray, other: np.ndarray, new: np.ndarray, new_indptr: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Packed rows, in which the rows of the mask ``other`` are replaced by the new ones; and their boundaries."""
    pieces = [flat[a:b] for a, b in zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True)]
    bounds = zip(new_indptr[:-1].tolist(), new_indptr[1:].tolist(), strict=True)
    for place, (a, b) in zip(np.flatnonzero(other).tolist(), bounds, strict=True):
        pieces[place] = new[a:b]
    lengths = np.diff(indptr)
    lengths[other] = np.diff(new_indptr)
    return np.concatenate(pieces), np.concatenate([[0], np.cumsum(lengths)])


def _mark_open(closed: np.ndarray, sampled: np.ndarray, indptr: np.ndarray, bins: np.ndarray, n_bins: int) -> None:
    """Sets ``closed[i, j]`` to False where bin ``sampled[j]`` is open in cell i; a bin may be sampled more than
    once."""
    drawn, place = np.zeros(n_bins, bool), np.empty(n_bins, np.int32)
    drawn[sampled] = True
    place[sampled] = np.arange(len(sampled))
    hits = np.flatnonzero(drawn.take(bins))  # few: a boolean table for all open bins, a table of positions for these
    closed[np.repeat(np.arange(len(closed)), counts_of(hits, indptr)), place.take(bins.take(hits))] = False
    told = place.take(sampled)
    again = np.flatnonzero(told != np.arange(len(sampled)))
    closed[:, again] = closed[:, told[again]]


def packed(name: str, boundaries: str, flat: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
    cu = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=cu[1:])
    return {name: flat, boundaries: cu}


def tensors(**arrays: np.ndarray) -> dict[str, Tensor]:
    import torch

    # torch indexes with int64; cu_seqlens stay int32, as required by the kernels
    return {
        name: torch.from_numpy(
            np.ascontiguousarray(a.astype(np.int64) if a.dtype == np.int32 and "cu_" not in name else a)
        )
        for name, a in arrays.items()
    }
