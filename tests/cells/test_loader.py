from __future__ import annotations

import copy
import gc
import multiprocessing

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scatacformer.cells import RaggedBatch, RowSource, SentenceLoader, collate_bins
from scatacformer.cells.minibatches import order_of_epoch

from ._matrices import open_bins, place, random_csr

SMALL_CHUNKS = {"chunk_cells": 8, "buffer_batches": 3}


@pytest.fixture(scope="module")
def matrix():
    return random_csr(n_cells=150)


@pytest.fixture(scope="module", params=["csr_matrix", "h5ad", "zarr"])
def source(request, matrix, tmp_path_factory):
    return RowSource.from_matrix(place(matrix, request.param, tmp_path_factory.mktemp("cells")))


@pytest.fixture(scope="module")
def memory(matrix):
    return RowSource.from_matrix(matrix)


@pytest.fixture(autouse=True)
def nothing_made_dense(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a sparse matrix was made dense")

    for kind in (sp.csr_matrix, sp.csr_array):
        monkeypatch.setattr(kind, "toarray", refuse)
        monkeypatch.setattr(kind, "todense", refuse)


def order(loader):
    """Row numbers of all cells, in the order in which they came."""
    return np.concatenate([np.empty(0, np.int64), *(batch["cells"].numpy() for batch in loader)])


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype
            assert torch.equal(a[name], b[name])


def with_epoch(batch: RaggedBatch) -> dict[str, torch.Tensor]:
    """A collate whose tensors have all kinds of shapes and types, an empty one too."""
    n = len(batch.cells)
    return collate_bins(batch) | {
        "epoch": torch.tensor(batch.epoch),
        "mask": torch.from_numpy(np.outer(batch.cells, [1, 2, 3]) % 2 == 0),
        "empty": torch.empty((0, n)),
        "transposed": torch.arange(2 * n, dtype=torch.float64).view(2, n).T,
    }


@pytest.mark.parametrize("shuffle", [False, True])
def test_minibatches_hold_the_cells_open_bins(source, matrix, shuffle):
    loader = SentenceLoader(source, batch_size=32, shuffle=shuffle, counts=True, **SMALL_CHUNKS)
    assert len(loader) == 5
    batches = list(loader)
    assert [len(batch["cells"]) for batch in batches] == [32, 32, 32, 32, 22]
    for batch in batches:
        assert batch["bins"].dtype == batch["cells"].dtype == torch.int64
        assert batch["cu_seqlens"].dtype == torch.int32
        for i, cell in enumerate(batch["cells"].tolist()):
            part = slice(batch["cu_seqlens"][i], batch["cu_seqlens"][i + 1])
            bins, counts = open_bins(matrix, cell)
            np.testing.assert_array_equal(batch["bins"][part], bins)
            np.testing.assert_array_equal(batch["counts"][part], counts)


def test_a_minibatch_is_as_large_as_its_open_bins(memory):
    batch = next(iter(SentenceLoader(memory, batch_size=150)))
    n_open = memory.n_open_per_cell().sum()
    assert sum(tensor.numel() for tensor in batch.values()) == n_open + 150 + 151


@pytest.mark.parametrize("cells", [[90, 3, 3, 149, 7, 90, 0], np.arange(149, -1, -1), []])
def test_without_shuffle_cells_come_in_the_order_asked_for(source, cells):
    cells = np.array(cells, dtype=np.int64)
    for epoch in (0, 4):
        loader = SentenceLoader(source, cells, batch_size=4)
        loader.set_epoch(epoch)
        np.testing.assert_array_equal(order(loader), cells)
        assert len(loader) == -(-len(cells) // 4)


@pytest.mark.parametrize("chunk_shuffle", [True, False])
def test_shuffled_epochs_hold_every_cell_once(source, chunk_shuffle):
    cells = np.arange(3, 140, 2)
    loader = SentenceLoader(source, cells, 16, shuffle=True, chunk_shuffle=chunk_shuffle, **SMALL_CHUNKS)
    for epoch in range(3):
        loader.set_epoch(epoch)
        came = order(loader)
        np.testing.assert_array_equal(np.sort(came), cells)
        assert not np.array_equal(came, cells)


@pytest.mark.parametrize("chunk_shuffle", [True, False])
def test_order_depends_on_seed_and_epoch_alone(source, chunk_shuffle):
    def make(seed):
        return SentenceLoader(
            source, batch_size=16, shuffle=True, seed=seed, chunk_shuffle=chunk_shuffle, **SMALL_CHUNKS
        )

    loader = make(1)
    orders = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        orders.append(order(loader))
    late = make(1)
    late.set_epoch(2)
    torch.manual_seed(5)
    np.random.seed(5)
    np.testing.assert_array_equal(order(late), orders[2])
    np.testing.assert_array_equal(order(late), orders[2])  # again, without a new epoch
    assert len({tuple(o) for o in [*orders, order(make(2))]}) == 4


def test_global_random_states_are_left_alone(memory):
    torch.manual_seed(0)
    np.random.seed(0)
    state, other_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(SentenceLoader(memory, shuffle=True, num_workers=1))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], other_state)


@pytest.mark.parametrize("shuffle", [False, True])
def test_workers_change_nothing(source, shuffle):
    alone, helped = (
        SentenceLoader(
            source, batch_size=16, shuffle=shuffle, collate=with_epoch, num_workers=n, counts=True, **SMALL_CHUNKS
        )
        for n in (0, 2)
    )
    for epoch in range(2):
        alone.set_epoch(epoch)
        helped.set_epoch(epoch)
        batches = list(helped)
        assert batches[0]["epoch"] == epoch
        assert_same(batches, list(alone))


def test_a_worker_opens_the_file_for_itself(matrix, tmp_path):
    source = RowSource.from_matrix(place(matrix, "h5ad", tmp_path))
    list(SentenceLoader(source))  # open here, and inherited by what is forked
    handle = source._storage._group

    def inherited(batch):
        return {"inherited": torch.tensor(source._storage._group is handle)}

    assert [b["inherited"].item() for b in SentenceLoader(source, collate=inherited, num_workers=1)] == [False, False]
    assert [b["inherited"].item() for b in SentenceLoader(source, collate=inherited)] == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["csr_matrix", "h5ad", "zarr"])
def test_spawned_workers_change_nothing(where, matrix, tmp_path):
    source = RowSource.from_matrix(place(matrix, where, tmp_path))
    helped = SentenceLoader(source, batch_size=16, num_workers=2, multiprocessing_context="spawn")
    assert_same(list(helped), list(SentenceLoader(source, batch_size=16)))
    if where == "csr_matrix":  # one shared copy for both, none of them through the pipe
        assert source._storage._shared is not None


def test_a_worker_sends_one_buffer_a_fetch(source, monkeypatch):
    from torch.utils import data

    loader = SentenceLoader(source, batch_size=16, shuffle=True, collate=with_epoch, chunk_shuffle=True, **SMALL_CHUNKS)
    fetch = loader._plan()[0]
    assert len(fetch.batches) == 3
    unpacked = list(loader._reader[fetch])
    monkeypatch.setattr(data, "get_worker_info", lambda: "a worker")
    packed = loader._reader[fetch]
    assert isinstance(packed.buffer, torch.Tensor)
    assert_same(list(packed.unpacked()), unpacked)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("budget", [None, 90])
def test_resumed_epochs_go_on_where_they_stopped(source, num_workers, budget):
    def make():
        return SentenceLoader(
            source, batch_size=16, shuffle=True, max_tokens_per_batch=budget, num_workers=num_workers, **SMALL_CHUNKS
        )

    whole, stopped, resumed = make(), make(), make()
    for loader in (whole, stopped):
        loader.set_epoch(3)
    expected = list(whole)
    for stop in (1, 4, len(expected)):
        batches = iter(stopped)
        for _ in range(stop):
            next(batches)
        state = copy.deepcopy(stopped.state_dict())
        assert state == {"epoch": 3, "batch": stop}
        resumed.load_state_dict(state)
        resumed.set_epoch(3)  # as a trainer does when it starts: the place is kept
        assert_same(list(resumed), expected[stop:])
        assert len(resumed) == len(expected)
        assert_same(list(resumed), expected)  # the next iteration is a whole one
    resumed.load_state_dict(state)
    resumed.set_epoch(4)
    assert len(order(resumed)) == 150


def test_resuming_reads_nothing_that_was_handed_out(memory, monkeypatch):
    read = []
    rows = memory.rows
    monkeypatch.setattr(memory, "rows", lambda cells, **kw: (read.extend(cells.tolist()), rows(cells, **kw))[1])
    loader = SentenceLoader(memory, batch_size=10, chunk_shuffle=True, shuffle=True, **SMALL_CHUNKS)
    loader.load_state_dict({"epoch": 0, "batch": 7})
    assert sorted(order(loader)) == sorted(read)
    assert len(read) == 80


def test_workers_end_with_a_loader_that_is_part_of_a_cycle(memory):
    loader = SentenceLoader(memory, num_workers=2)
    loader.itself = loader  # as within a trainer, where everything knows everything
    before = set(multiprocessing.active_children())
    list(loader)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    del loader
    gc.collect()
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.parametrize("shuffle", [False, True])
def test_what_is_done_to_a_minibatch_reaches_nothing_else(memory, shuffle):
    loader = SentenceLoader(memory, batch_size=16, shuffle=shuffle, counts=True)
    expected = [{name: tensor.clone() for name, tensor in batch.items()} for batch in loader]
    for batch in loader:
        for tensor in batch.values():
            tensor.zero_()
    assert_same(list(loader), expected)


def test_an_abandoned_iteration_leaves_no_trace(source):
    loader = SentenceLoader(source, batch_size=16, num_workers=2, shuffle=True, **SMALL_CHUNKS)
    expected = list(loader)
    next(iter(loader))
    assert_same(list(loader), expected)


def test_lightning_sets_the_epoch_of_shuffled_loaders_alone(memory):
    data = pytest.importorskip("lightning.fabric.utilities.data")
    shuffled, held_out = SentenceLoader(memory, shuffle=True), SentenceLoader(memory)
    for loader in (shuffled, held_out):
        data._set_sampler_epoch(loader, 7)
    assert (shuffled.epoch, held_out.epoch) == (7, 0)


@pytest.mark.slow
def test_lightning_resumes_in_the_middle_of_an_epoch(memory, tmp_path):
    pl = pytest.importorskip("lightning.pytorch")

    class Recorder(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.seen, self.held_out = [], []

        def training_step(self, batch, _):
            self.seen.append((self.current_epoch, tuple(batch["cells"].tolist())))
            return self.weight**2

        def validation_step(self, batch, _):
            self.held_out.append(batch["epoch"].item())

        def configure_optimizers(self):
            return torch.optim.SGD([self.weight], 0.1)

    def fit(checkpoint=None):
        recorder = Recorder()
        keep = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=4, save_top_k=-1, filename="{step}")
        trainer = pl.Trainer(
            max_epochs=3, accelerator="cpu", logger=False, callbacks=[keep], default_root_dir=tmp_path,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        train = SentenceLoader(memory, batch_size=16, shuffle=True)
        trainer.fit(recorder, train, SentenceLoader(memory, batch_size=64, collate=with_epoch), ckpt_path=checkpoint)
        return recorder

    whole = fit()
    by_hand = SentenceLoader(memory, batch_size=16, shuffle=True)
    expected = []
    for epoch in range(3):
        by_hand.set_epoch(epoch)
        expected += [(epoch, tuple(batch["cells"].tolist())) for batch in by_hand]
    assert whole.seen == expected
    assert set(whole.held_out) == {0}
    assert fit(tmp_path / "step=12.ckpt").seen == expected[12:]  # epochs have 10 steps


@pytest.mark.parametrize("shuffle", [False, True])
def test_token_budget(source, shuffle):
    loader = SentenceLoader(source, batch_size=16, shuffle=shuffle, max_tokens_per_batch=100, **SMALL_CHUNKS)
    lengths = source.stored_per_cell
    batches = loader.batches()
    assert len(batches) == len(loader)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(150))
    tokens = np.array([lengths[batch].sum() for batch in batches])
    sizes = np.array([len(batch) for batch in batches])
    assert sizes.max() <= 16
    assert (tokens[sizes > 1] <= 100).all()
    # as full as they can be: the next cell would not have fitted (but where a fetch ends)
    starts = np.array([lengths[batch[0]] for batch in batches[1:]])
    closed_early = (tokens[:-1] + starts <= 100) & (sizes[:-1] < 16)
    assert closed_early.sum() <= (-(-150 // 48) if shuffle and source.on_disk else 0)
    np.testing.assert_array_equal(order(loader), np.concatenate(batches))


def test_a_cell_longer_than_the_budget_comes_alone(memory):
    loader = SentenceLoader(memory, max_tokens_per_batch=1)
    assert len(loader) >= 149
    assert memory.stored_per_cell[3] == 0
    np.testing.assert_array_equal(order(loader), np.arange(150))


def test_chunks_are_read_together_and_mixed():
    cells = np.arange(10_000)
    fetches = order_of_epoch(cells, 0, seed=0, batch_size=100, block_cells=50, fetch_batches=10)
    assert [len(fetch.batches) for fetch in fetches] == [10] * 10
    for fetch in fetches:
        read = np.sort(np.concatenate(fetch.batches))
        stretches = 1 + np.count_nonzero(np.diff(read) != 1)
        assert stretches <= 22  # 1,000 cells in about 20 stretches of the disk
        for batch in fetch.batches:
            assert len(np.unique(batch // 50)) > 10  # a minibatch comes from many places
            assert np.corrcoef(np.arange(100), batch)[0, 1] < 0.5
    edges = {
        int(np.sort(np.concatenate(order_of_epoch(cells, e, 0, 100, block_cells=50)[0].batches))[0]) % 50
        for e in range(6)
    }
    assert len(edges) > 1  # blocks do not have the same borders in every epoch


def test_drop_last_drops_the_small_minibatch_alone(source):
    for shuffle in (False, True):
        loader = SentenceLoader(source, batch_size=32, drop_last=True, shuffle=shuffle, **SMALL_CHUNKS)
        assert [len(batch["cells"]) for batch in loader] == [32] * 4
        assert len(loader) == 4
    assert len(SentenceLoader(source, batch_size=50, drop_last=True)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"max_tokens_per_batch": 0}, "max_tokens_per_batch is .*; expected at least 1"),
        ({"batch_size": 151, "drop_last": True}, "drop_last leaves none of the 150 cells in minibatches of 151"),
        ({"drop_last": True, "max_tokens_per_batch": 9}, "drop_last needs minibatches of one size"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(memory, arguments, message):
    with pytest.raises(ValueError, match=message):
        SentenceLoader(memory, **arguments)


def test_cells_that_are_not_there_are_refused(memory):
    with pytest.raises(IndexError, match="no cell 150"):
        SentenceLoader(memory, np.array([0, 150]))


def test_errors_of_a_worker_reach_the_user(memory):
    def broken(batch):
        raise ZeroDivisionError("in the collate")

    with pytest.raises(ZeroDivisionError, match="in the collate"):
        list(SentenceLoader(memory, num_workers=1, collate=broken))
