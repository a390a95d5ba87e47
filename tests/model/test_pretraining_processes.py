"""Several processes train the model that one trains; when one ends, all end, and the run can go on."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

import scatacformer as sf
from scatacformer.cells import RowSource, SentenceLoader
from scatacformer.model.scatacformer._train import training_sentences

from ._cells import SIZES, fresh, planted, weights
from ._pretraining import pretrained, run, stopped

# blocks of no even number of rows, so that the processes' parts differ
ODD = SIZES | {"d_model": 17, "n_heads": 1, "n_layers": 2}
# the last minibatch is uneven: 75 = 4 x 16 + 11, and 81 = 5 x 16 + 1 leaves one process without a cell
UNEVEN = {"n_cells": 90, "validation": 15 / 90, "accumulate_grad_batches": 2}
GHOST = {"n_cells": 82, "validation": 1 / 82, "n_closed": "all", "max_epochs": 1, "gradient_clip_val": 0.0}
# every parameter learns, and there are more of them
WIDE = {"start": "random", "embedding_lr": 1e-2, "model": SIZES | {"decoder": "cross_attention", "embedding": "full"}}
FSDP = {"strategy": "fsdp"}


def compare_with_one_process(tmp_path, cases):
    for number, changes in enumerate(cases):
        changes = changes | {"strategy": "auto"}
        cells = planted(changes.pop("n_cells"))
        one = pretrained(tmp_path / f"one{number}", cells=cells, batch_size=16, **changes)
        expected = weights(sf.ScAtacFormer.load(tmp_path / f"one{number}" / "last", adata=False))
        start = weights(fresh(planted(), **changes.get("model", {})))
        found = np.load(tmp_path / f"{number}.npz")
        assert_close(found, expected)
        assert np.abs(found["encoder.blocks.0.qkv.weight"] - start["encoder.blocks.0.qkv.weight"]).max() > 1e-4
        for rank in (0, 1):  # the model of the lowest validation loss, in each process
            assert_close(np.load(tmp_path / f"{number}-{rank}.npz"), weights(one))
        history = sf.ScAtacFormer.load(tmp_path / str(number), adata=False).history
        for name, frame in one.history.items():
            np.testing.assert_allclose(history[name].to_numpy(), frame.to_numpy(), rtol=1e-5, err_msg=name)


def assert_close(found, expected):
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, rtol=0, err_msg=name)


def last(folder):
    return weights(sf.ScAtacFormer.load(folder / "last", adata=False))


def test_two_processes_train_the_same_model_as_one_with_twice_the_batch(tmp_path):
    cases = [UNEVEN, UNEVEN | FSDP | {"model": ODD}]
    done = run("forked", "together", tmp_path, json.dumps(cases))
    assert done.returncode == 0, done.stderr
    compare_with_one_process(tmp_path, cases)
    # with FSDP a process holds its part of the encoder and of its moments, and no more
    sizes = [json.loads((tmp_path / f"1-{rank}.json").read_text()) for rank in (0, 1)]
    for held in zip(*(s["held"] for s in sizes), strict=True):
        assert sizes[0]["all"] <= sum(held) < 1.05 * sizes[0]["all"]  # layer norms are in both
        assert max(held) < 0.55 * sizes[0]["all"]


@pytest.mark.slow
def test_they_do_so_where_a_process_has_no_cell_and_where_all_learns(tmp_path):
    cases = [GHOST, GHOST | FSDP, UNEVEN | WIDE, UNEVEN | WIDE | FSDP, UNEVEN | FSDP | {"precision": "64-true"}]
    done = run("forked", "together", tmp_path, json.dumps(cases))
    assert done.returncode == 0, done.stderr
    compare_with_one_process(tmp_path, cases)


@pytest.mark.slow
def test_fsdp_rounds_to_bfloat16_what_ddp_does(tmp_path):
    bf16 = UNEVEN | {"precision": "bf16-mixed"}
    done = run("forked", "together", tmp_path, json.dumps([bf16, bf16 | FSDP, UNEVEN]))
    assert done.returncode == 0, done.stderr
    ddp, fsdp, float32 = (dict(np.load(tmp_path / f"{number}.npz")) for number in range(3))
    assert_close(fsdp, ddp)
    assert max(np.abs(float32[name] - ddp[name].astype(float)).max() for name in ddp) > 1e-4


@pytest.mark.slow
def test_torchrun_does_so_too(tmp_path):
    cases = [UNEVEN, UNEVEN | FSDP]
    done = run("together", tmp_path, json.dumps(cases), torchrun=2)
    assert done.returncode == 0, done.stderr
    compare_with_one_process(tmp_path, cases)


@pytest.mark.slow
def test_a_checkpoint_of_a_divided_encoder_is_that_of_one_process(tmp_path):
    changes = {"model": ODD}
    stopped(tmp_path / "one", batch_size=16, **changes)
    done = run("forked", "handed_over", tmp_path, json.dumps(changes))
    assert done.returncode == 0, done.stderr
    pretrained(tmp_path / "two", resume=True, batch_size=16, every_n_steps=2, **changes)
    pretrained(tmp_path / "whole", batch_size=16, every_n_steps=2, **changes)
    for folder in ("two", "two_to_two", "one"):
        assert_close(last(tmp_path / folder), last(tmp_path / "whole"))
    state, expected = (
        torch.load(tmp_path / f / "training" / "last.ckpt", weights_only=True) for f in ("two_to_two", "whole")
    )
    found, expected = (s["optimizer_states"][0]["state"] for s in (state, expected))
    assert set(found) == set(expected)
    for number, values in expected.items():
        for name in values:
            torch.testing.assert_close(found[number][name], values[name], atol=1e-6, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "strategy"), [("0", "ddp"), ("1", "ddp"), ("1", "fsdp")])
def test_when_a_process_is_killed_the_others_end_and_the_run_goes_on(tmp_path, rank, strategy):
    begin = time.monotonic()
    done = run("until_killed", tmp_path / "cut", 5, rank, strategy, torchrun=2)
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr or "Signal 9" in done.stderr
    assert time.monotonic() - begin < 90
    assert torch.load(tmp_path / "cut" / "training" / "last.ckpt", weights_only=True)["global_step"] == 4
    # one process with the same cells in a minibatch may go on for two
    pretrained(tmp_path / "cut", resume=True, batch_size=16)
    pretrained(tmp_path / "whole", batch_size=16)
    assert_close(last(tmp_path / "cut"), last(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_process_that_is_left_alone_says_so(tmp_path, strategy):
    done = run("forked", "until_killed_alone", tmp_path, strategy)
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
    sentences, _ = training_sentences(
        model.module, source, model._batch_codes(model.adata), SentencePolicy(n_closed=64)
    )
    first, second = (
        list(SentenceLoader(source, np.arange(17), 16, collate=sentences, rank=r, world_size=2)) for r in (0, 1)
    )
    assert [b["cells"].tolist() for b in first][1] == [16]
    assert [b["cells"].tolist() for b in second][1] == [16]
    assert [["ghost" in b for b in part] for part in (first, second)] == [[False, True], [False, False]]
    for a, b in zip(first, second, strict=True):
        assert a["sampled"].tolist() == b["sampled"].tolist()
