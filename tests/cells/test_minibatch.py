"""The minibatches that ``cells`` makes are those that ``nn`` declares: names, dtypes and shapes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scatacformer.cells import ReadSentences, RowSource, SentenceLoader, SentencePolicy, TrainSentences
from scatacformer.nn import Minibatch, TrainingMinibatch

N_CELLS, N_BINS, BATCH_SIZE, N_CLOSED = 24, 200, 10, 32
INT64, INT32, FLOAT32, BOOL = torch.int64, torch.int32, torch.float32, torch.bool
# sizes that are names must be the same wherever the name stands in a minibatch
DECLARED = {
    "cells": (INT64, ("n_cells",)),
    "bins": (INT64, ("n_kept",)),
    "cu_seqlens": (INT32, ("n_cells + 1",)),
    "tokens": (INT64, ("n_tokens",)),
    "token_cu_seqlens": (INT32, ("n_cells + 1",)),
    "depth": (FLOAT32, ("n_cells",)),
    "batch": (INT64, ("n_cells",)),
    "own_batch": (INT64, ("n_cells",)),
    "target_bins": (INT64, ("n_targets",)),
    "target_cell": (INT64, ("n_targets",)),
    "log_rate": (FLOAT32, ("n_cells",)),
    "state_bins": (INT64, ("n_states",)),
    "state_cell": (INT64, ("n_states",)),
    "state_kept": (BOOL, ("n_states",)),
    "sampled": (INT64, ("n_sampled",)),
    "closed": (BOOL, ("n_cells", "n_sampled")),
    "open_cell": (INT64, ("n_open",)),
    "open_bins": (INT64, ("n_open",)),
}


@pytest.fixture(scope="module")
def source() -> RowSource:
    rng = np.random.default_rng(0)
    return RowSource.from_matrix(sp.csr_matrix((rng.random((N_CELLS, N_BINS)) < 0.3).astype(np.float32)))


def training(source: RowSource, **policy) -> TrainSentences:
    frequency = source.n_open_per_bin() + 0.5
    neighbors = np.roll(np.arange(N_CELLS), 1)[:, None]
    policy = {"max_tokens": 8, "max_targets": 9, "max_states": 4, "n_closed": N_CLOSED} | policy
    group = np.arange(N_BINS) // 50
    args = source, np.arange(N_CELLS) % 2, frequency / frequency.sum(), group
    return TrainSentences(*args, SentencePolicy(**policy), neighbors)


def check(batch: dict[str, torch.Tensor], declared: type, optional: set[str]) -> dict[str, int]:
    """Sizes by name; fails where the minibatch is not what the TypedDict ``declared`` says."""
    assert set(batch) == declared.__required_keys__ | optional
    assert optional <= declared.__optional_keys__
    sizes = {"n_cells + 1": len(batch["cells"]) + 1}
    for name, tensor in batch.items():
        dtype, shape = DECLARED[name]
        assert tensor.dtype == dtype, name
        assert tensor.ndim == len(shape), name
        for size, label in zip(tensor.shape, shape, strict=True):
            assert sizes.setdefault(label, size) == size, f"{name}: {label}"
    return sizes


def test_every_declared_tensor_is_checked_here():
    # of a minibatch that several processes share, model/test_pretraining_processes.py has the rest
    assert set(DECLARED) == set(TrainingMinibatch.__annotations__)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_cells_that_are_read(source, num_workers):
    collate = ReadSentences(np.arange(N_CELLS) % 2, max_tokens=8)
    sizes = [
        check(batch, Minibatch, {"own_batch"})
        for batch in SentenceLoader(source, batch_size=BATCH_SIZE, collate=collate, num_workers=num_workers)
    ]
    assert [size["n_cells"] for size in sizes] == [10, 10, 4]
    assert sum(size["n_kept"] for size in sizes) == source.n_open_per_bin().sum()
    assert all(size["n_tokens"] == 8 * size["n_cells"] for size in sizes)


@pytest.mark.parametrize("neighbor_share", [0.0, 0.5])
@pytest.mark.parametrize("removed_share", [0.0, 0.5])
def test_cells_to_train_on(source, removed_share, neighbor_share):
    policy = {"removed_share": removed_share, "neighbor_share": neighbor_share}
    sampled = {"own_batch", "sampled", "closed"}
    for batch in SentenceLoader(source, batch_size=BATCH_SIZE, collate=training(source, **policy)):
        assert check(batch, TrainingMinibatch, sampled)["n_sampled"] == N_CLOSED
    every = {"own_batch", "open_cell", "open_bins"}
    for batch in SentenceLoader(source, batch_size=BATCH_SIZE, collate=training(source, n_closed=None, **policy)):
        sizes = check(batch, TrainingMinibatch, every)
        assert sizes["n_open"] == batch["depth"].sum()
