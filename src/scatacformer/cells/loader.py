"""Minibatches of cells as packed lists of open bins: seeded, resumable, the same for any number of workers."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .minibatches import Fetch, order_of_epoch, part_of

if TYPE_CHECKING:
    from torch import Tensor

    from .overlap_source import OverlapSource
    from .source import RowSource


@dataclass(frozen=True)
class RaggedBatch:
    """Some cells and their open bins, packed: those of ``cells[i]`` are ``bins[indptr[i]:indptr[i + 1]]``."""

    cells: np.ndarray  # (n_cells,) int64, row numbers
    indptr: np.ndarray  # (n_cells + 1,) int64
    bins: np.ndarray  # (n_open,) int32
    counts: np.ndarray | None  # (n_open,) float32, if requested
    epoch: int
    whole: np.ndarray | None = None  # cells of the minibatch of all processes, where these are one's part of it
    ghost: bool = False  # no cell is left for this process: `cells` is one of another process, with weight zero


Collate = Callable[[RaggedBatch], "dict[str, Tensor]"]


class SentenceLoader:
    """Iterates over ``cells`` of ``source`` in packed minibatches of ``batch_size``.

    The order of epoch e depends on (seed, e) and the arguments below, never on earlier epochs or ``num_workers``; as
    with torch's DistributedSampler, call :meth:`set_epoch` before each epoch (Lightning does). Without ``shuffle``
    cells come in the order of ``cells``, repeats included.

    Parameters
    ----------
    source
        Where the rows are read.
    cells
        Row numbers or a mask; all cells by default.
    batch_size
        Cells of a minibatch.
    shuffle
        Whether the order of the cells is random.
    seed
        Of that order.
    collate
        From :class:`RaggedBatch` to the tensors of a minibatch; runs in the worker. By default :func:`collate_bins`.
    drop_last
        Leave out a last minibatch of fewer than ``batch_size`` cells.
    num_workers
        Processes that read and collate. They share the matrix (forked on Linux; through shared memory elsewhere), and
        open a file on disk for themselves.
    max_tokens_per_batch
        Close a minibatch before its stored entries exceed this, so that minibatches cost about the same; a longer cell
        comes alone. The number of minibatches then depends on the epoch.
    chunk_shuffle
        Shuffle so that the disk is read in long stretches: blocks of ``chunk_cells`` neighbouring cells are sampled,
        ``buffer_batches`` minibatches of them are read at once, and shuffled in memory. By default for data on disk.
        Memory: the open bins of ``batch_size * buffer_batches`` cells in each process.
    chunk_cells, buffer_batches
        Cells of a block, and minibatches in memory at once, with ``chunk_shuffle``.
    counts
        Hand the counts to ``collate`` as well.
    multiprocessing_context
        How workers are started, such as ``"fork"``, as in torch's ``DataLoader``; the platform's way by default.
    rank, world_size
        Which of how many processes that train together this is. The minibatches are planned as for one process, and
        each reads its part of every one: ``batch_size`` is that of all together.
    """

    def __init__(
        self,
        source: RowSource | OverlapSource,
        cells: np.ndarray | None = None,
        batch_size: int = 128,
        shuffle: bool = False,
        seed: int = 0,
        collate: Collate | None = None,
        num_workers: int = 0,
        drop_last: bool = False,
        max_tokens_per_batch: int | None = None,
        chunk_shuffle: bool | None = None,
        chunk_cells: int = 64,
        buffer_batches: int = 16,
        counts: bool = False,
        multiprocessing_context: str | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        sizes = {"batch_size": batch_size, "chunk_cells": chunk_cells, "buffer_batches": buffer_batches}
        for name, value in (sizes | {"max_tokens_per_batch": max_tokens_per_batch}).items():
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1.")
        self.source = source
        self.cells = np.arange(source.n_cells) if cells is None else source.row_numbers(cells)
        if drop_last and max_tokens_per_batch is not None:
            raise ValueError("drop_last needs minibatches of one size, and max_tokens_per_batch makes them differ.")
        if drop_last and len(self.cells) < batch_size:
            raise ValueError(
                f"drop_last leaves none of the {len(self.cells)} cells in minibatches of {batch_size}. Lower batch_size."
            )
        self.batch_size, self.shuffle, self.seed, self.drop_last = batch_size, shuffle, seed, drop_last
        self.max_tokens_per_batch = max_tokens_per_batch
        self.chunk_shuffle = source.on_disk if chunk_shuffle is None else chunk_shuffle
        self.chunk_cells, self.buffer_batches = chunk_cells, buffer_batches
        self.num_workers, self.rank, self.world_size = num_workers, rank, world_size
        self.multiprocessing_context = multiprocessing_context
        self._reader = _Reader(source, collate or collate_bins, counts)
        self._loader: list[Any] = []  # the DataLoader, made when first needed
        self._epoch, self._start, self._done = 0, 0, 0
        self._planned: tuple[int, list[Fetch]] | None = None
        # workers that live from epoch to epoch hang for 5 s each if they are left to the cycle collector
        weakref.finalize(self, self._loader.clear)

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next iteration goes through."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is epoch ``epoch``; a place restored by :meth:`load_state_dict` in it is kept."""
        if epoch != self._epoch:
            self._epoch, self._start, self._done = int(epoch), 0, 0

    @property
    def sampler(self) -> SentenceLoader | None:
        """What Lightning calls ``set_epoch`` on. None without shuffle: held-out cells stay in their epoch, so that what
        is removed from them does not change.
        """
        return self if self.shuffle else None

    @property
    def batch_sampler(self) -> None:
        """Lightning looks for one wherever there is a ``sampler``."""
        return None

    def state_dict(self) -> dict[str, int]:
        """The position in the current epoch: its number, and the number of minibatches returned."""
        return {"epoch": self._epoch, "batch": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration resumes after the minibatches counted in ``state``, without reading them."""
        self._epoch = int(state["epoch"])
        self._start = self._done = int(state["batch"])

    def __len__(self) -> int:
        """Minibatches in the current epoch, from its beginning."""
        return sum(len(fetch.batches) for fetch in self._plan())

    def batches(self) -> list[np.ndarray]:
        """Row numbers of each minibatch of the current epoch, without reading them."""
        return [batch for fetch in self._plan() for batch in fetch.batches]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        start, self._start = self._start, 0
        self._done = start
        if not self._loader:
            self._loader.append(self._make_loader())
        self._loader[0].sampler.fetches = list(_from_batch(self._plan(), start))
        for packed in self._loader[0]:
            for batch in packed.unpacked() if isinstance(packed, _Packed) else packed:
                self._done += 1
                yield batch

    def _plan(self) -> list[Fetch]:
        if self._planned is None or self._planned[0] != self._epoch:
            fetches = order_of_epoch(
                self.cells,
                self._epoch,
                seed=self.seed if self.shuffle else None,
                batch_size=self.batch_size,
                drop_last=self.drop_last,
                lengths=None if self.max_tokens_per_batch is None else self.source.stored_per_cell,
                max_tokens=self.max_tokens_per_batch,
                block_cells=self.chunk_cells if self.chunk_shuffle else None,
                fetch_batches=self.buffer_batches,
            )
            if self.world_size > 1:
                fetches = part_of(fetches, self.rank, self.world_size)
            self._planned = self._epoch, fetches
        return self._planned[1]

    def _make_loader(self) -> Any:
        import torch
        from torch.utils.data import DataLoader

        # forked workers share the matrix without a copy; Python 3.14 would choose forkserver
        context = self.multiprocessing_context or ("fork" if sys.platform == "linux" else None)
        return DataLoader(
            cast("Any", self._reader),  # it has the __getitem__ that DataLoader needs, and no more
            batch_size=None,
            sampler=_Queue(),
            collate_fn=_as_is,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            multiprocessing_context=context if self.num_workers > 0 else None,
            # a fetch from disk already is many minibatches
            prefetch_factor=None if self.num_workers == 0 else 1 if self.chunk_shuffle else 4,
            generator=torch.Generator().manual_seed(0),  # otherwise DataLoader would use torch's global generator
        )


def collate_bins(batch: RaggedBatch) -> dict[str, Tensor]:
    """``cells`` (n_cells,) int64, ``bins`` (n_open,) int64, ``cu_seqlens`` (n_cells + 1,) int32; ``counts`` if read."""
    import torch

    tensors = {
        "cells": torch.from_numpy(batch.cells),
        "bins": torch.from_numpy(batch.bins.astype(np.int64)),
        "cu_seqlens": torch.from_numpy(batch.indptr.astype(np.int32)),
    }
    if batch.counts is not None:
        tensors["counts"] = torch.from_numpy(batch.counts)
    return tensors


class _Queue:
    """The sampler of the DataLoader: yields whole fetches, so that one call reads many cells."""

    def __init__(self) -> None:
        self.fetches: list[Fetch] = []

    def __iter__(self) -> Iterator[Fetch]:
        return iter(self.fetches)

    def __len__(self) -> int:
        return len(self.fetches)


class _Reader:
    """The dataset of the DataLoader: from a fetch to its collated minibatches. Without state, so any worker will do."""

    def __init__(self, source: RowSource | OverlapSource, collate: Collate, counts: bool) -> None:
        self.source, self.collate, self.counts = source, collate, counts

    def __getitem__(self, fetch: Fetch) -> Iterator[dict[str, Tensor]] | _Packed:
        from torch.utils.data import get_worker_info

        # without workers, each minibatch is collated on demand, which saves memory
        batches = self._collated(fetch)
        return batches if get_worker_info() is None else _Packed.of(list(batches))

    def _collated(self, fetch: Fetch) -> Iterator[dict[str, Tensor]]:
        whole: list[np.ndarray | None] = [*fetch.whole] if fetch.whole else [None] * len(fetch.batches)
        # a process without cells reads one nevertheless, because all processes take every step together
        parts = [part if len(part) or w is None else w[:1] for part, w in zip(fetch.batches, whole, strict=True)]
        indptr, bins, counts = self.source.rows(np.concatenate(parts), counts=self.counts)
        stop = 0
        for part, own, all_cells in zip(parts, fetch.batches, whole, strict=True):
            start, stop = stop, stop + len(part)
            here = slice(indptr[start], indptr[stop])
            boundaries = indptr[start : stop + 1] - indptr[start]
            values = None if counts is None else counts[here]
            # a copy: row numbers are a view of the plan, and the user may write to what the minibatch holds
            ghost = len(part) > len(own)
            yield self.collate(RaggedBatch(part.copy(), boundaries, bins[here], values, fetch.epoch, all_cells, ghost))


_Layout = dict[str, tuple[int, Any, tuple[int, ...]]]  # name -> (byte in the buffer, dtype, shape)


class _Packed:
    """Minibatches on their way from a worker: all tensors in one buffer.

    Each tensor that a worker sends costs a file descriptor and a system call on both sides; a fetch of 16 minibatches
    of 16 tensors would reach the usual limit of 1,024 open files with four workers.
    """

    ALIGNMENT = 64

    def __init__(self, buffer: Tensor, layout: list[_Layout]) -> None:
        self.buffer, self.layout = buffer, layout

    @classmethod
    def of(cls, batches: list[dict[str, Tensor]]) -> _Packed:
        import torch

        size = 0
        layout: list[_Layout] = [{} for _ in batches]
        for batch, places in zip(batches, layout, strict=True):
            for name, tensor in batch.items():
                places[name] = (size, tensor.dtype, tuple(tensor.shape))
                size += -(-tensor.nbytes // cls.ALIGNMENT) * cls.ALIGNMENT
        packed = cls(torch.empty(size, dtype=torch.uint8), layout)
        for batch, empty in zip(batches, packed.unpacked(), strict=True):
            for name, tensor in batch.items():
                empty[name].copy_(tensor)
        return packed

    def unpacked(self) -> Iterator[dict[str, Tensor]]:
        for batch in self.layout:
            yield {name: self._view(*place) for name, place in batch.items()}

    def _view(self, start: int, dtype: Any, shape: tuple[int, ...]) -> Tensor:
        n_bytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        return self.buffer[start : start + n_bytes].view(dtype).view(shape)


def _from_batch(fetches: list[Fetch], start: int) -> Iterator[Fetch]:
    """The fetches, less their first ``start`` minibatches."""
    for fetch in fetches:
        if start < len(fetch.batches):
            whole = None if fetch.whole is None else fetch.whole[start:]
            yield Fetch(fetch.epoch, fetch.batches[start:], whole)
        start = max(start - len(fetch.batches), 0)


def _as_is(item: Any) -> Any:
    return item
