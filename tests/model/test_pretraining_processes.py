"""Several processes train the model that one trains; when one ends, all end, and the run can go on."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

import scatacformer as sf
from scatacformer.cells import RowSource, SentenceLoader

from ._cells import fresh, planted, weights
from ._pretraining import pretrained, run

# the last minibatch is uneven: 75 = 4 x 16 + 11, and 81 = 5 x 16 + 1 leaves one process without a cell
CASES = [
    {"n_cells": 90, "validation": 15 / 90, "accumulate_grad_batches": 2},
    {"n_cells": 82, "validation": 1 / 82, "n_closed": 0, "max_epochs": 1, "gradient_clip_val": 0.0},
]


def compare_with_one_process(tmp_path, cases):
    for number, changes in enumerate(cases):
        changes = dict(changes)
        one = pretrained(tmp_path / f"one{number}", cells=planted(changes.pop("n_cells")), batch_size=16, **changes)
        expected = weights(sf.ScAtacFormer.load(tmp_path / f"one{number}" / "last", adata=False))
        start = weights(fresh(planted()))
        with np.load(tmp_path / f"{number}.npz") as found:
            for name in expected:
                np.testing.assert_allclose(found[name], expected[name], atol=1e-5, rtol=0, err_msg=name)
            assert np.abs(found["encoder.blocks.0.qkv.weight"] - start["encoder.blocks.0.qkv.weight"]).max() > 1e-4
        history = sf.ScAtacFormer.load(tmp_path / str(number), adata=False).history
        for name, frame in one.history.items():
            np.testing.assert_allclose(history[name].to_numpy(), frame.to_numpy(), rtol=1e-5, err_msg=name)


def test_two_processes_train_the_same_model_as_one_with_twice_the_batch(tmp_path):
    done = run("forked", "together", tmp_path, json.dumps(CASES))
    assert done.returncode == 0, done.stderr
    compare_with_one_process(tmp_path, CASES)


@pytest.mark.slow
def test_torchrun_does_so_too(tmp_path):
    done = run("together", tmp_path, json.dumps(CASES[:1]), torchrun=2)
    assert done.returncode == 0, done.stderr
    compare_with_one_process(tmp_path, CASES[:1])


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_when_a_process_is_killed_the_others_end_and_the_run_goes_on(tmp_path, rank):
    begin = time.monotonic()
    done = run("until_killed", tmp_path / "cut", 5, rank, torchrun=2)
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr or "Signal 9" in done.stderr
    assert time.monotonic() - begin < 90
    assert torch.load(tmp_path / "cut" / "training" / "last.ckpt", weights_only=True)["global_step"] == 4
    # one process with the same cells in a minibatch may go on for two
    pretrained(tmp_path / "cut", resume=True, batch_size=16)
    pretrained(tmp_path / "whole", batch_size=16)
    found, expected = (weights(sf.ScAtacFormer.load(tmp_path / f / "last", adata=False)) for f in ("cut", "whole"))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, rtol=0, err_msg=name)


@pytest.mark.slow
def test_a_process_that_is_left_alone_says_so(tmp_path):
    done = run("forked", "until_killed_alone", tmp_path)
    assert "lost the others" in done.stdout, done.stderr
    assert "resume=True" in done.stdout


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("chunk_shuffle", [False, True])
def test_the_parts_of_all_processes_are_the_minibatches_of_one(world_size, chunk_shuffle):
    source, cells = RowSource.from_matrix(planted().X), np.arange(5, 88)
    arguments = {"batch_size": 16, "shuffle": True, "seed": 3, "chunk_shuffle": chunk_shuffle, "chunk_cells": 4}
    one = SentenceLoader(source, cells, **arguments)
    parts = [SentenceLoader(source, cells, rank=r, world_size=world_size, **arguments) for r in range(world_size)]
    for epoch in (0, 4):
        for loader in (one, *parts):
            loader.set_epoch(epoch)
        whole = [sorted(batch) for batch in one.batches()]
        together = [sorted(np.concatenate(batch)) for batch in zip(*(p.batches() for p in parts), strict=True)]
        assert together == whole
        assert sorted(np.concatenate(whole)) == cells.tolist()
        sizes = np.array([[len(b) for b in p.batches()] for p in parts])
        assert (np.ptp(sizes, 0) <= 1).all()
        assert all(len(p) == len(one) for p in parts)


def test_a_process_for_which_no_cell_is_left_reads_one_that_counts_nothing():
    adata = planted()
    model = fresh(adata)
    from scatacformer.cells import SentencePolicy

    source = RowSource.from_matrix(adata.X)
    sentences, _ = model._sentences(source, SentencePolicy(n_closed=64), None)
    first, second = (
        list(SentenceLoader(source, np.arange(17), 16, collate=sentences, rank=r, world_size=2)) for r in (0, 1)
    )
    assert [b["cells"].tolist() for b in first][1] == [16]
    assert [b["cells"].tolist() for b in second][1] == [16]
    assert [["ghost" in b for b in part] for part in (first, second)] == [[False, True], [False, False]]
    for a, b in zip(first, second, strict=True):
        assert a["sampled"].tolist() == b["sampled"].tolist()
