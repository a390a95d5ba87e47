"""Sentences are those that were recorded: a seed that a user has noted makes the same sentences in later versions."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer.cells import RowSource
from scatacformer.cells.loader import RaggedBatch
from scatacformer.cells.sampling import uniform
from scatacformer.cells.sentence import ReadSentences, SentencePolicy, TrainSentences
from scatacformer.model.atacformer._sentences import ReplacedSentences

N_CELLS, N_BINS = 24, 20_000

# SHA-256, its first 16 digits, of all tensors that a policy makes of the same minibatches
RECORDED = {
    "as it comes": ({}, "394d1dbeaba2ecb7"),
    "few removed": ({"removed_share": 0.15}, "9f7a2b103d236eb2"),
    "most removed": ({"removed_share": 0.9, "max_targets": 50}, "3d9b7df89c5451f2"),
    "none removed": ({"removed_share": 0.0, "max_targets": 300}, "325e6c5e8d7fcd20"),
    "short": ({"max_tokens": 9, "max_targets": 7, "max_states": 5, "n_closed": 16}, "55d57d6115287d42"),
    "long": ({"max_tokens": 6800, "max_targets": 5000, "max_states": 3000, "n_closed": 30_000}, "2e1422df0f156a78"),
    "seed": ({"seed": 7}, "e67bf06a765a330f"),
    "all closed bins": ({"n_closed": None}, "167eed4f87528e05"),
    "neighbours": ({"neighbor_share": 0.5}, "6c6af2e31e60a68d"),
    "neighbours, all closed bins": ({"neighbor_share": 1.0, "n_closed": None}, "3deeed0c520597f9"),
    "neighbours, none removed": ({"neighbor_share": 0.5, "removed_share": 0.0, "max_targets": 40}, "f6c2c9a41f30156f"),
}


@pytest.fixture(scope="module")
def source() -> RowSource:
    """Cells of 0, 1, 2 ... 5,000 open bins, some bins open in most of them."""
    rng = np.random.default_rng(0)
    lengths = [0, 1, 2, 3, *np.linspace(5, 5000, N_CELLS - 4).astype(int)]
    rank = 1 / frequencies()
    rows = [np.sort(np.argsort(rng.random(N_BINS) * rank)[:n]) for n in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return RowSource.from_matrix(sp.csr_matrix((np.ones(indptr[-1]), np.concatenate(rows), indptr), (N_CELLS, N_BINS)))


def frequencies() -> np.ndarray:
    frequency = 1 / np.random.default_rng(1).permutation(np.arange(1.0, N_BINS + 1))
    return frequency / frequency.sum()


def minibatches(source: RowSource) -> list[RaggedBatch]:
    """In order and turned round, of all cells and of few, of one that has no bin, and as a part of a larger one."""
    batches = []
    for epoch, cells in enumerate([np.arange(N_CELLS), [23, 0, 5, 23, 1, 0], [0], [1, 2, 3], [15]]):
        rows = source.rows(np.asarray(cells))
        batches.append(RaggedBatch(np.asarray(cells), rows.indptr, rows.bins, None, epoch))
    turned = replace(batches[4], bins=batches[4].bins[::-1].copy())
    part = replace(batches[3], whole=np.array([9, 1, 2, 3, 8]), ghost=True)
    return [*batches, turned, part]


def digest(batches: list[dict]) -> str:
    found = hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            values = batch[name].numpy()
            if name == "log_rate":  # a logarithm may differ in its last bit between machines: the halves it counts
                values = np.rint(np.exp(values.astype(np.float64)) * batch["depth"].numpy().clip(1) * 2)
            found.update(f"{name} {values.dtype} {values.shape}".encode())
            found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("case", RECORDED)
def test_training_sentences_are_those_recorded(source, case):
    policy, recorded = RECORDED[case]
    neighbors = (np.arange(N_CELLS)[:, None] + [1, 7, 11]) % N_CELLS
    neighbors[6] = -1
    codes, chrom = np.arange(N_CELLS) % 3, np.arange(N_BINS) % 5
    make = TrainSentences(source, codes, frequencies(), chrom, SentencePolicy(**policy), neighbors)
    assert digest([make(batch) for batch in minibatches(source)]) == recorded


@pytest.mark.parametrize(("max_tokens", "recorded"), [(25, "c56e10acc347ddc9"), (10_000, "f13e4c2b3b35d0be")])
def test_what_is_read_is_that_recorded(source, max_tokens, recorded):
    make = ReadSentences(np.arange(N_CELLS) % 3, max_tokens, seed=2)
    assert digest([make(batch) for batch in minibatches(source)]) == recorded


def test_replaced_tokens_are_those_recorded(source):
    make = ReplacedSentences(np.arange(N_CELLS) + 100, 40, 3, 0.3, N_BINS)
    assert digest([make(batch) for batch in minibatches(source)]) == "8824cbfd981a99aa"


def test_draws_are_those_recorded():
    draws = uniform(np.arange(1000, dtype=np.int32), np.arange(1000) % 7, 3, 2, 5)
    assert hashlib.sha256(draws.tobytes()).hexdigest()[:16] == "4b8d34964a77f631"
    assert draws[:3].tolist() == [0.2822711877492283, 0.06812590201605895, 0.7696153101143697]
