"""The sentence of a cell: which of its open bins are kept, which are removed, and which closed bins it is shown.

Every choice is a function of (seed, epoch, cell, bin) through a hash, not of a random stream: it does not depend on the
minibatch, the order of the bins, or the number of workers, and a run that is resumed makes the same choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from .loader import RaggedBatch
    from .source import RowSource


@dataclass(frozen=True)
class SentencePolicy:
    """How sentences are made.

    ``removed_share`` of the open bins are held out of the input; the encoder reads at most ``max_tokens`` of the kept
    ones; at most ``max_targets`` removed bins a cell are predicted, against ``n_closed`` closed bins drawn by their
    frequency (None: all closed bins). In a share ``neighbor_share`` of the cells the bins to be predicted are those of
    one of the cell's neighbours instead of its own: its own noise cannot help there.
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
                raise ValueError(f"{name} must be at least 1, found {value}")
        for name, most in (("removed_share", 0.9), ("neighbor_share", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie in 0 ... {most:g}, found {getattr(self, name)}")


class ReadSentences:
    """Collates cells for reading: every open bin is kept. ``batch_codes``: (n_cells,) int64 of the source's cells."""

    def __init__(self, batch_codes: np.ndarray, max_tokens: int, seed: int = 0) -> None:
        self.batch_codes, self.max_tokens, self.seed = batch_codes, max_tokens, seed

    def __call__(self, ragged: RaggedBatch) -> dict[str, Tensor]:
        """``bins``, ``cu_seqlens``; ``tokens``, ``token_cu_seqlens`` (at most ``max_tokens`` a cell, the same bins in
        every call and batch: those of the lowest hash); ``depth``, ``batch``, ``own_batch``, ``cells``."""
        lengths = np.diff(ragged.indptr)
        chosen = np.ones(len(ragged.bins), bool)
        if (lengths > self.max_tokens).any():
            chosen = _lowest(uniform(ragged.bins, seed=self.seed), ragged.indptr, self.max_tokens, chosen)
        return _tensors(
            cells=ragged.cells,
            **_packed("bins", "cu_seqlens", ragged.bins, lengths),
            **_packed("tokens", "token_cu_seqlens", ragged.bins[chosen], _counts(chosen, ragged.indptr)),
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
        self.cumulative = np.cumsum(frequency, dtype=np.float64)

    def __call__(self, ragged: RaggedBatch) -> dict[str, Tensor]:
        policy, bins, indptr, cells = self.policy, ragged.bins, ragged.indptr, ragged.cells
        lengths = np.diff(indptr)
        owner = np.repeat(np.arange(len(cells)), lengths)
        draw = uniform(bins, cells[owner], ragged.epoch, seed=policy.seed)
        removed = draw < policy.removed_share
        if policy.removed_share > 0:
            # a sentence has at least one kept bin: the one with the highest draw
            removed &= draw < np.maximum.reduceat(np.append(draw, 0.0), indptr[:-1].clip(max=len(draw)))[owner]
        kept = ~removed
        read = _lowest(-draw, indptr, policy.max_tokens, kept)
        # with nothing removed the open bins themselves are predicted (states 0 and 1 of the design)
        candidates = removed if policy.removed_share > 0 else kept
        states = _lowest(uniform(bins, cells[owner], ragged.epoch, 1, policy.seed), indptr, policy.max_states)
        target = self._targets(ragged, bins, indptr, cells, candidates, draw)
        out = _packed("bins", "cu_seqlens", bins[kept], _counts(kept, indptr))
        out |= _packed("tokens", "token_cu_seqlens", bins[read], _counts(read, indptr))
        # a neighbour that is to be predicted may be of another batch than the cell that is read
        out |= {"cells": cells, "batch": self.batch_codes[target["from"]], "own_batch": self.batch_codes[cells]}
        out |= {k: target[k] for k in ("target_bins", "target_cell", "depth", "log_rate")}
        out |= {"state_bins": bins[states], "state_cell": owner[states], "state_kept": kept[states]}
        if ragged.ghost:
            out["ghost"] = np.ones(1, bool)
        if policy.n_closed is None:
            return _tensors(**out, open_cell=target["open_cell"], open_bins=target["open_bins"])
        # processes that share a minibatch draw what one would
        sampled = self._draw_closed(cells if ragged.whole is None else ragged.whole, ragged.epoch)
        closed = np.ones((len(cells), len(sampled)), bool)
        _mark_open(closed, sampled, target["open_cell"], target["open_bins"], len(self.group))
        return _tensors(**out, sampled=sampled, closed=closed)

    def _targets(self, ragged, bins, indptr, cells, candidates, draw) -> dict[str, np.ndarray]:
        """The bins to be predicted, cell by cell: one's own removed bins, or all open bins of a neighbour."""
        policy = self.policy
        at = self._partners(cells, ragged.epoch)  # row numbers of whom to predict
        other = at != cells
        if other.any():
            n_indptr, n_bins, _ = self.source.rows(at[other])
            # one ragged batch in which the other's bins stand in the place of one's own
            pieces_b = np.split(bins, indptr[1:-1])
            pieces_c, pieces_d = np.split(candidates, indptr[1:-1]), np.split(draw, indptr[1:-1])
            n_draw = uniform(n_bins, np.repeat(cells[other], np.diff(n_indptr)), ragged.epoch, 2, policy.seed)
            for place, nb, nd in zip(
                np.flatnonzero(other), np.split(n_bins, n_indptr[1:-1]), np.split(n_draw, n_indptr[1:-1]), strict=True
            ):
                pieces_b[place], pieces_c[place], pieces_d[place] = nb, np.ones(len(nb), bool), nd
            lengths = np.array([len(p) for p in pieces_b])
            bins, candidates, draw = np.concatenate(pieces_b), np.concatenate(pieces_c), np.concatenate(pieces_d)
            indptr = np.concatenate([[0], np.cumsum(lengths)])
        lengths = np.diff(indptr)
        owner = np.repeat(np.arange(len(cells)), lengths)
        chosen = _lowest(draw, indptr, policy.max_targets, candidates)
        used = _counts(chosen, indptr)
        share = np.where(used > 0, used, 0.5) / np.maximum(lengths, 1)  # no removed bin: as if half a one
        return {
            "from": at, "target_bins": bins[chosen], "target_cell": owner[chosen],
            "depth": lengths.astype(np.float32), "log_rate": np.log(share).astype(np.float32),
            "open_cell": owner, "open_bins": bins,
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
        """Bins drawn by frequency, shared by the minibatch, sorted by group.  (n_closed,)"""
        rng = np.random.default_rng([self.policy.seed, epoch, int(cells[0]), int(cells[-1]), len(cells)])
        draw = rng.random(self.policy.n_closed) * self.cumulative[-1]
        bins = np.searchsorted(self.cumulative, draw, side="right").clip(max=len(self.cumulative) - 1)
        return bins[np.argsort(self.group[bins], kind="stable")]


def uniform(bins, cells=0, epoch: int = 0, stream: int = 0, seed: int = 0) -> np.ndarray:
    """Numbers in [0, 1) that depend on their arguments alone (splitmix64; Steele et al. 2014).  float64."""
    with np.errstate(over="ignore"):
        key = np.uint64(_mix(np.uint64(seed * 2 + 1) + np.uint64(epoch) * np.uint64(0x9E3779B97F4A7C15)))
        key = _mix(key + np.uint64(stream))
        x = np.asarray(cells).astype(np.uint64) * np.uint64(0xD1342543DE82EF95) + key
        x = _mix(x) + np.asarray(bins).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return (_mix(x) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _lowest(score: np.ndarray, indptr: np.ndarray, most: int, among: np.ndarray | None = None) -> np.ndarray:
    """Mask of the at most ``most`` entries of lowest score in each row, among those of a mask."""
    mask = np.ones(len(score), bool) if among is None else among.copy()
    for row in np.flatnonzero(_counts(mask, indptr) > most):
        part = slice(indptr[row], indptr[row + 1])
        inside = np.flatnonzero(mask[part])
        rest = inside[np.argpartition(score[part][inside], most)[most:]]
        mask[indptr[row] + rest] = False
    return mask


def _counts(mask: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Number of True entries in each row.  (n_rows,)"""
    return np.diff(np.concatenate([[0], np.cumsum(mask)])[indptr])


def _mark_open(closed: np.ndarray, sampled: np.ndarray, cell: np.ndarray, bins: np.ndarray, n_bins: int) -> None:
    """Sets ``closed[i, j]`` to False where bin ``sampled[j]`` is open in cell i; a bin may be drawn more than once."""
    order = np.argsort(sampled, kind="stable")
    ranked = sampled[order]
    first = np.searchsorted(ranked, bins, side="left")
    last = np.searchsorted(ranked, bins, side="right")
    while (more := first < last).any():
        closed[cell[more], order[first[more]]] = False
        cell, bins, first, last = cell[more], bins[more], first[more] + 1, last[more]


def _packed(name: str, boundaries: str, flat: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
    cu = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=cu[1:])
    return {name: flat, boundaries: cu}


def _tensors(**arrays: np.ndarray) -> dict[str, Tensor]:
    import torch

    # torch indexes with int64; cu_seqlens stay int32, as the kernels want them
    return {
        name: torch.from_numpy(
            np.ascontiguousarray(a.astype(np.int64) if a.dtype == np.int32 and "cu_" not in name else a)
        )
        for name, a in arrays.items()
    }
