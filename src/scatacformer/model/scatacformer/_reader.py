"""Reading of cells with a network: minibatches in the requested order, and a cache of the encoder's output."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from scvi import settings

from scatacformer.cells import ReadSentences, SentenceLoader

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from scatacformer.cells import RowSource
    from scatacformer.nn import Cells, Minibatch, ScAtacNetwork

MAX_KEPT = 256 * 2**20  # bytes of the encoder's output in the cache
MAX_MEANS = 4  # number of cached means over cells


@dataclass(frozen=True)
class Reader:
    """Reads cells of a source, all their open bins, with a fixed network."""

    network: ScAtacNetwork
    source: RowSource
    batch_codes: np.ndarray  # (n_cells of the source,) int64
    max_tokens: int
    seed: int
    kept: Encodings

    def minibatches(self, rows: np.ndarray, batch_size: int | None) -> Iterator[Minibatch]:
        """Sentences of the cells ``rows``, in their order, on the network's device."""
        sentences = ReadSentences(self.batch_codes, self.max_tokens, seed=self.seed)
        loader = SentenceLoader(
            self.source, rows, batch_size or settings.batch_size, collate=sentences, num_workers=settings.dl_num_workers
        )
        self.network.eval()
        for batch in loader:
            yield cast("Minibatch", {name: tensor.to(self.network.device) for name, tensor in batch.items()})

    def content(self, rows: np.ndarray, batch_size: int | None) -> bytes:
        """A digest of all inputs of the network for the cells, and of their division into minibatches."""
        found = hashlib.blake2b(digest_size=16)
        for batch in self.minibatches(rows, batch_size):
            found.update(_content(batch))
        return found.digest()

    def embedded(self, rows: np.ndarray, batch_size: int | None) -> Iterator[Tensor]:
        """The embedding of the cells, (n_cells, d_embed) a minibatch, not yet shortened."""
        to_latent = self.network.to_latent
        if to_latent is None or not bool(to_latent.weight.any()):  # only the pool, which needs no encoder
            for batch in self.minibatches(rows, batch_size):
                yield self.network.embed(batch)
        else:
            for cells, _ in self.encoded(rows, batch_size):
                yield cells.z

    def encoded(self, rows: np.ndarray, batch_size: int | None) -> Iterator[tuple[Cells, Minibatch]]:
        """The same after the encoder, with the minibatch."""
        self.kept.forget_others(self.network)
        for batch in self.minibatches(rows, batch_size):
            yield self.kept.encode(self.network, batch), batch


class Encodings:
    """Cache of the encoder's output for the latest minibatches, as long as the weights are the same.

    A minibatch is identified by its content, so cells that were changed in place are encoded again. Cached outputs are
    bit-identical to those that the encoder would return.
    """

    def __init__(self, limit: int = MAX_KEPT) -> None:
        self._limit, self._n_bytes = limit, 0
        self._kept: OrderedDict[bytes, Cells] = OrderedDict()
        self._means: OrderedDict[tuple, np.ndarray] = OrderedDict()
        self._weights: tuple[_Weight, ...] = ()

    def forget_others(self, network: ScAtacNetwork) -> None:
        """Clear the cache if the weights have changed."""
        if (weights := _weights(network)) != self._weights:
            self._kept.clear()
            self._means.clear()
            self._n_bytes, self._weights = 0, weights

    def encode(self, network: ScAtacNetwork, batch: Minibatch) -> Cells:
        """``network.encode(batch)``, possibly from the cache."""
        if torch.is_grad_enabled():
            return network.encode(batch)
        key = _content(batch)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        cells = network.encode(batch)
        size = _n_bytes(cells)
        if size > self._limit:
            return cells
        self._kept[key] = cells
        self._n_bytes += size
        while self._n_bytes > self._limit:
            _, oldest = self._kept.popitem(last=False)
            self._n_bytes -= _n_bytes(oldest)
        return cells

    def mean(self, key: tuple, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The result of ``compute``, possibly from the cache for this key and these weights; a copy."""
        if key not in self._means:
            self._means[key] = compute()
            while len(self._means) > MAX_MEANS:
                self._means.popitem(last=False)
        return self._means[key].copy()

    def __getstate__(self) -> dict[str, int]:
        return {"limit": self._limit}  # the cache is neither pickled nor copied

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(state["limit"])  # type: ignore[misc]


class _Weight(NamedTuple):
    """A value that changes whenever a tensor does: by a step, a copy into it, or a replacement."""

    place: int
    version: int
    total: float


def _weights(network: ScAtacNetwork) -> tuple[_Weight, ...]:
    tensors = (*network.parameters(), *network.buffers())
    return tuple(
        # versions do not include writes through .data, but the sum does. 20 ms for 21 million weights
        _Weight(t.data_ptr(), 0 if t.is_inference() else t._version, float(t.sum()) if t.is_floating_point() else 0.0)
        for t in tensors
    )


def _content(batch: Minibatch) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(batch.items()):
        if name != "cells" and isinstance(tensor, torch.Tensor):  # row numbers do not matter
            found.update(name.encode())
            found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.digest()


def _n_bytes(cells: Cells) -> int:
    return sum(t.numel() * t.element_size() for t in cells if t is not None)
