"""Sentences: what is kept, removed and closed, and that it depends on nothing but the cell and the seed."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer.cells import RaggedBatch, ReadSentences, RowSource, SentencePolicy, TrainSentences

N_CELLS, N_BINS = 30, 400


@pytest.fixture(scope="module")
def source() -> RowSource:
    rng = np.random.default_rng(0)
    return RowSource.from_matrix(sp.csr_matrix((rng.random((N_CELLS, N_BINS)) < 0.3).astype(np.float32)))


def ragged(source: RowSource, cells, epoch: int = 0) -> RaggedBatch:
    rows = source.rows(np.asarray(cells))
    return RaggedBatch(np.asarray(cells), rows.indptr, rows.bins, None, epoch)


def maker(source: RowSource, neighbors=None, **policy) -> TrainSentences:
    n_open = source.n_open_per_bin() + 0.5
    policy = {"max_tokens": 40, "max_targets": 1000, "n_closed": 64} | policy
    return TrainSentences(
        source,
        np.arange(N_CELLS) % 2,
        n_open / n_open.sum(),
        np.arange(N_BINS) // 100,
        SentencePolicy(**policy),
        neighbors,
    )


def split(out, name: str, boundaries: str) -> list[set[int]]:
    cu = out[boundaries].tolist()
    return [set(out[name][a:b].tolist()) for a, b in zip(cu[:-1], cu[1:], strict=True)]


def test_kept_and_removed_bins_partition_the_open_ones(source):
    cells = np.arange(N_CELLS)
    out = maker(source)(ragged(source, cells))
    kept, read = split(out, "bins", "cu_seqlens"), split(out, "tokens", "token_cu_seqlens")
    for i in cells:
        opened = set(source.rows([i]).bins.tolist())
        removed = set(out["target_bins"][out["target_cell"] == i].tolist())
        assert kept[i] | removed == opened
        assert not kept[i] & removed
        assert read[i] <= kept[i]
        assert len(read[i]) == min(40, len(kept[i]))
        assert out["log_rate"][i].exp() == pytest.approx(len(removed) / len(opened))
    share = sum(map(len, kept)) / len(source.rows(cells).bins)
    assert share == pytest.approx(0.5, abs=0.05)


def test_a_cell_makes_the_same_sentence_in_any_company_and_another_in_another_epoch(source):
    make = maker(source)
    whole = split(make(ragged(source, [4, 9, 2])), "bins", "cu_seqlens")
    assert split(make(ragged(source, [9])), "bins", "cu_seqlens")[0] == whole[1]
    batch = ragged(source, [9])
    reversed_ = RaggedBatch(batch.cells, batch.indptr, batch.bins[::-1].copy(), None, 0)
    assert split(make(reversed_), "bins", "cu_seqlens")[0] == whole[1]
    assert split(make(ragged(source, [9], epoch=1)), "bins", "cu_seqlens")[0] != whole[1]
    assert split(maker(source, seed=1)(ragged(source, [9])), "bins", "cu_seqlens")[0] != whole[1]


def test_sampled_bins_are_marked_closed_where_they_are_and_come_sorted_by_chromosome(source):
    out = maker(source)(ragged(source, [1, 5]))
    sampled = out["sampled"].numpy()
    assert (np.diff(sampled // 100) >= 0).all()
    for i, cell in enumerate([1, 5]):
        opened = np.isin(sampled, source.rows([cell]).bins)
        assert (out["closed"][i].numpy() == ~opened).all()
        assert opened.any()


def test_frequent_bins_are_drawn_more_often():
    opened = np.zeros((20, 100), np.float32)
    opened[:, :10], opened[0, 10:] = 1, 1
    source = RowSource.from_matrix(sp.csr_matrix(opened))
    n_open = source.n_open_per_bin()
    policy = SentencePolicy(n_closed=5000)
    make = TrainSentences(source, np.zeros(20, int), n_open / n_open.sum(), np.zeros(100), policy)
    drawn = make(ragged(source, [3, 4]))["sampled"].numpy()
    assert (drawn < 10).mean() == pytest.approx(200 / 290, abs=0.03)


def test_a_neighbour_lends_its_bins_as_targets_and_its_depth_and_batch(source):
    neighbors = np.full((N_CELLS, 2), -1)
    neighbors[4] = 7
    out = maker(source, neighbors, neighbor_share=1.0)(ragged(source, [4, 6]))
    seven = source.rows([7]).bins
    assert set(out["target_bins"][out["target_cell"] == 0].tolist()) == set(seven.tolist())
    assert out["depth"][0] == len(seven)
    assert out["batch"].tolist() == [1, 0]  # of cell 7, of cell 6
    assert (out["closed"][0].numpy() == ~np.isin(out["sampled"].numpy(), seven)).all()
    # cell 6 has no neighbour: its own removed bins
    assert set(out["target_bins"][out["target_cell"] == 1].tolist()) < set(source.rows([6]).bins.tolist())


def test_with_nothing_removed_the_open_bins_are_the_target(source):
    out = maker(source, removed_share=0.0)(ragged(source, [3]))
    assert set(out["target_bins"].tolist()) == set(out["bins"].tolist()) == set(source.rows([3]).bins.tolist())


def test_a_cell_always_keeps_a_bin():
    source = RowSource.from_matrix(sp.csr_matrix(np.eye(50, dtype=np.float32)))
    make = TrainSentences(source, np.zeros(50, int), np.ones(50), np.zeros(50), SentencePolicy(removed_share=0.9))
    out = make(ragged(source, np.arange(50)))
    assert out["bins"].tolist() == list(range(50))


def test_reading_pools_every_bin_and_reads_the_same_few_whatever_their_order(source):
    read = ReadSentences(np.zeros(N_CELLS, int), max_tokens=25)
    batch = ragged(source, [8, 11])
    out = read(batch)
    assert out["bins"].tolist() == batch.bins.tolist()
    assert np.diff(out["token_cu_seqlens"]).tolist() == [25, 25]
    alone = ragged(source, [11])
    backwards = read(RaggedBatch(alone.cells, alone.indptr, alone.bins[::-1].copy(), None, 3))
    assert split(backwards, "tokens", "token_cu_seqlens")[0] == split(out, "tokens", "token_cu_seqlens")[1]
