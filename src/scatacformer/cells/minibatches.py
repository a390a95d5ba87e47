"""In which order cells come, and which are read together: a function of the seed and the epoch alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Fetch(NamedTuple):
    """Minibatches that are read with one call."""

    epoch: int
    batches: list[np.ndarray]  # row numbers, int64
    whole: list[np.ndarray] | None = None  # the minibatches of all processes, of which `batches` are one's part


def order_of_epoch(
    cells: np.ndarray,
    epoch: int,
    seed: int | None,
    batch_size: int,
    drop_last: bool = False,
    lengths: np.ndarray | None = None,
    max_tokens: int | None = None,
    block_cells: int | None = None,
    fetch_batches: int = 16,
) -> list[Fetch]:
    """The minibatches of an epoch. Every one of ``cells`` comes once, but for a last small minibatch if dropped.

    Without ``seed`` the order is that of ``cells``, one minibatch a fetch. With it, a permutation of all cells; or,
    with ``block_cells``, a permutation of blocks of that many neighbouring cells, which are fetched
    ``fetch_batches * batch_size`` cells at a time and permuted within the fetch.
    ``lengths`` (tokens by row number) and ``max_tokens`` close minibatches early.
    """
    if seed is not None and block_cells is not None:
        rng = np.random.default_rng([seed, epoch])
        regions = _regions(cells, block_cells, batch_size * fetch_batches, rng)
    else:
        regions = [cells if seed is None else np.random.default_rng([seed, epoch]).permutation(cells)]
    if max_tokens is None:
        cut = [[region[i : i + batch_size] for i in range(0, len(region), batch_size)] for region in regions]
        if drop_last and cut[-1] and len(cut[-1][-1]) < batch_size:
            cut[-1].pop()
    else:
        assert lengths is not None
        cut = [_within_budget(region, lengths[region], batch_size, max_tokens) for region in regions]
    if seed is None or block_cells is None:
        return [Fetch(epoch, [batch]) for batches in cut for batch in batches]
    return [Fetch(epoch, batches) for batches in cut if batches]


def part_of(fetches: list[Fetch], rank: int, world_size: int) -> list[Fetch]:
    """What one of several processes reads: of each minibatch a part, the same number of cells but for one.

    A minibatch is divided by row number: of the blocks that a fetch mixes, each process reads some, not some cells of
    all. Where there are fewer cells than processes, a part may be empty.
    """

    def mine(whole: np.ndarray) -> np.ndarray:
        return np.sort(whole)[rank * len(whole) // world_size : (rank + 1) * len(whole) // world_size]

    return [Fetch(fetch.epoch, [mine(whole) for whole in fetch.batches], fetch.batches) for fetch in fetches]


def _regions(cells: np.ndarray, block_cells: int, fetch_cells: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Blocks of neighbouring cells in random order, ``fetch_cells`` cells of them at a time, mixed within."""
    cells = np.sort(cells)
    # the first block begins at random, so that a cell's neighbours are not the same in every epoch
    blocks = np.split(cells, np.arange(rng.integers(1, block_cells + 1), len(cells), block_cells))
    cells = np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
    return [rng.permutation(cells[i : i + fetch_cells]) for i in range(0, max(len(cells), 1), fetch_cells)]


def _within_budget(cells: np.ndarray, lengths: np.ndarray, batch_size: int, max_tokens: int) -> list[np.ndarray]:
    """Cuts ``cells`` where the next would make a minibatch longer than ``max_tokens`` or larger than ``batch_size``."""
    ends = np.cumsum(lengths)
    batches, start = [], 0
    while start < len(cells):
        spent = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, spent + max_tokens, side="right"))
        stop = min(max(stop, start + 1), start + batch_size)
        batches.append(cells[start:stop])
        start = stop
    return batches
