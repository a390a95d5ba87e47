"""Training is the same for the same seed, whatever prepares it and however often it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer.training.callbacks import BestWeights

from ._cells import SENTENCES, TRAINING, assert_same_bits, fresh, planted, quiet, trained, weights


def train(model, **changes):
    with quiet():
        model.train(**(TRAINING | changes))
    return model


class AfterEpoch(pl.Callback):
    """Does something at the end of an epoch (or in its middle)."""

    def __init__(self, epoch, action, middle=False):
        self.epoch, self.action, self.middle = epoch, action, middle

    def on_train_epoch_start(self, trainer, pl_module):
        if not self.middle and trainer.current_epoch == self.epoch + 1:
            self.action()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.middle and trainer.current_epoch == self.epoch and batch_idx == 1:
            self.action()


class Killed(Exception):
    pass


def kill():
    raise Killed


def test_the_same_seed_gives_the_same_weights_to_the_bit_and_another_others(adata):
    one, same, other = (trained(planted(), seed=s) for s in (3, 3, 4))
    assert_same_bits(weights(same), weights(one))
    assert not np.array_equal(
        weights(other)["encoder.blocks.0.qkv.weight"], weights(one)["encoder.blocks.0.qkv.weight"]
    )
    np.testing.assert_array_equal(one.get_latent_representation(), same.get_latent_representation())


def test_workers_do_not_change_the_weights(adata):
    alone = trained(planted())
    together = trained(planted(), train={"num_workers": 2})
    assert_same_bits(weights(together), weights(alone))


@pytest.mark.parametrize(("epoch", "middle"), [(0, False), (2, False), (2, True)])
def test_a_run_that_was_killed_and_resumed_ends_like_the_whole_one(tmp_path, epoch, middle):
    whole = train(fresh(planted()), max_epochs=5)
    cut = fresh(planted())
    with pytest.raises(Killed):
        train(cut, max_epochs=5, checkpoint_dir=tmp_path, callbacks=[AfterEpoch(epoch, kill, middle)])
    assert (tmp_path / "last.ckpt").exists()
    resumed = train(fresh(planted()), max_epochs=5, checkpoint_dir=tmp_path, resume=True)
    assert_same_bits(weights(resumed), weights(whole))
    for name, frame in whole.history.items():
        np.testing.assert_array_equal(resumed.history[name].to_numpy(), frame.to_numpy(), err_msg=name)
    assert len(whole.history["train_loss"]) == 5


def in_a_process_of_its_own(folder: Path, what: str) -> int:
    """Trains on the planted cells in another process; its exit code. What has ended well leaves ``what.npz``."""
    run = f"from model.test_training import {what} as run; run({str(folder)!r})"
    tests = Path(__file__).parents[1]
    process = subprocess.run([sys.executable, "-c", run], cwd=tests, capture_output=True, text=True, timeout=300)
    assert process.returncode in (0, -signal.SIGKILL), process.stderr
    return process.returncode


def until_sigkill(folder):
    # nothing is flushed, no handler runs
    suicide = AfterEpoch(2, lambda: os.kill(os.getpid(), signal.SIGKILL), middle=True)
    train(fresh(planted()), max_epochs=5, checkpoint_dir=folder, callbacks=[suicide])


def resumed(folder):
    model = train(fresh(planted()), max_epochs=5, checkpoint_dir=folder, resume=True)
    np.savez(Path(folder) / "resumed.npz", **weights(model))


def whole(folder):
    np.savez(Path(folder) / "whole.npz", **weights(train(fresh(planted()), max_epochs=5)))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is a POSIX signal")
def test_a_process_that_was_killed_leaves_a_checkpoint_that_ends_like_the_whole_run(tmp_path):
    assert in_a_process_of_its_own(tmp_path, "until_sigkill") == -signal.SIGKILL
    assert in_a_process_of_its_own(tmp_path, "resumed") == 0
    assert in_a_process_of_its_own(tmp_path, "whole") == 0
    with np.load(tmp_path / "resumed.npz") as found, np.load(tmp_path / "whole.npz") as expected:
        assert_same_bits(dict(found), dict(expected))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"sentence_kwargs": {"n_neighbors": 0}}, "n_neighbors is 0; expected at least 1"),
        ({"sentence_kwargs": {"n_closed": 0}}, "n_closed is .*; expected at least 1"),
        ({"sentence_kwargs": {"neighbor_share": 1.5}}, "neighbor_share is .*; expected 0"),
        ({"devices": 2, "accelerator": "cpu"}, "devices selects 2 devices; expected one"),
    ],
)
def test_a_refused_argument_leaves_the_weights_alone(adata, wrong, message):
    model = fresh(adata)
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        train(model, **wrong)
    assert_same_bits(weights(model), before)
    assert not model.is_trained


def test_a_resumed_run_stops_as_early_as_the_whole_one(tmp_path):
    # early stopping counts on where it was
    options = {"max_epochs": 30, "early_stopping_patience": 2, "lr": 0.05}
    whole = train(fresh(planted()), **options)
    n_epochs = len(whole.history["train_loss"])
    assert 3 < n_epochs < 30
    with pytest.raises(Killed):
        train(fresh(planted()), **options, checkpoint_dir=tmp_path, callbacks=[AfterEpoch(n_epochs - 2, kill)])
    resumed = train(fresh(planted()), **options, checkpoint_dir=tmp_path, resume=True)
    assert len(resumed.history["train_loss"]) == n_epochs
    assert_same_bits(weights(resumed), weights(whole))


def test_resuming_needs_a_checkpoint(tmp_path, adata):
    model = fresh(adata)
    with pytest.raises(ValueError, match="resume=True needs a checkpoint, found none at.*checkpoint_dir"):
        train(model, resume=True, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="checkpoint_dir"):
        train(model, resume=True)


def test_ctrl_c_leaves_a_model_that_works_and_says_so(adata):
    model = fresh(adata)
    before = signal.getsignal(signal.SIGINT)
    interrupt = AfterEpoch(1, lambda: os.kill(os.getpid(), signal.SIGINT), middle=True)
    with pytest.warns(UserWarning, match="stopped by Ctrl-C in epoch 2 of 20"):
        train(model, max_epochs=20, callbacks=[interrupt])
    assert signal.getsignal(signal.SIGINT) is before
    assert model.is_trained
    assert len(model.history["train_loss"]) <= 2
    z = model.get_latent_representation()
    assert np.isfinite(z).all()
    assert z.std() > 0


def test_after_ctrl_c_a_run_is_resumed_like_any_other(tmp_path):
    whole = train(fresh(planted()), max_epochs=5)
    interrupt = AfterEpoch(2, lambda: os.kill(os.getpid(), signal.SIGINT), middle=True)
    with pytest.warns(UserWarning, match=r"train\(resume=True\) resumes it"):
        train(fresh(planted()), max_epochs=5, checkpoint_dir=tmp_path, callbacks=[interrupt])
    resumed = train(fresh(planted()), max_epochs=5, checkpoint_dir=tmp_path, resume=True)
    assert_same_bits(weights(resumed), weights(whole))


def test_a_second_ctrl_c_is_keyboard_interrupt(adata):
    model = fresh(adata)

    def twice():
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(model, max_epochs=20, callbacks=[AfterEpoch(1, twice, middle=True)])
    assert not model.is_trained
    assert not model.module.training


@pytest.mark.parametrize(
    ("seed", "cells", "changes", "message"),
    [
        (0, 80, {}, "cells was 90 and is 80 .*split differ too"),
        (5, 90, {}, "split was .*seed"),
        (0, 90, {"batch_size": 8}, "batch_size was 16 and is 8"),
        (0, 90, {"lr": 0.1}, "lr was 0.001 and is 0.1"),
        (0, 90, {"train_size": 0.5}, "split was"),
        (0, 90, {"sentence_kwargs": {"n_closed": "all", "max_tokens": 16}}, "n_closed was 128 and is 'all'"),
        (
            0,
            90,
            {"plan_kwargs": {"n_decoder_epochs": 2}},
            "embedding_lr was 0.001 and is 0.0 .n_decoder_epochs differ too",
        ),
        (0, 90, {"accumulate_grad_batches": 2}, "trainer was"),
        (0, -90, {}, "their counts and batches was"),
    ],
    ids=str,
)
def test_the_checkpoint_of_another_training_is_refused(checkpoint, seed, cells, changes, message):
    model = fresh(planted(abs(cells), seed=int(cells < 0)), seed=seed)
    before = weights(model)
    with pytest.raises(ValueError, match=f"last.ckpt cannot be resumed: {message}"):
        train(model, checkpoint_dir=checkpoint, resume=True, **changes)
    assert_same_bits(weights(model), before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of a training of 3 epochs."""
    folder = tmp_path_factory.mktemp("checkpoint")
    train(fresh(planted()), max_epochs=3, checkpoint_dir=folder)
    return folder


def test_more_epochs_may_follow_and_damage_is_seen(checkpoint, tmp_path):
    assert len(train(fresh(planted()), max_epochs=5, checkpoint_dir=checkpoint, resume=True).history["train_loss"]) == 5
    raw = (checkpoint / "last.ckpt").read_bytes()
    model = fresh(planted())
    before = weights(model)
    with zipfile.ZipFile(checkpoint / "last.ckpt") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    at = largest.header_offset + largest.file_size // 2  # within its tensor, for the header is short
    flipped = raw[:at] + bytes(byte ^ 0x5A for byte in raw[at : at + 8]) + raw[at + 8 :]
    for damaged in (raw[:-100], flipped, b"", b"not a checkpoint"):
        (tmp_path / "last.ckpt").write_bytes(damaged)
        with pytest.raises(ValueError, match="last.ckpt is (truncated, damaged, or not a checkpoint|damaged)"):
            train(model, max_epochs=5, checkpoint_dir=tmp_path, resume=True)
    assert_same_bits(weights(model), before)


def test_options_of_sentences_have_a_place_of_their_own(adata):
    model = fresh(adata)
    with pytest.raises(TypeError, match=r"no argument 'n_closed': train\(sentence_kwargs=\{'n_closed': 8\}\)"):
        train(model, n_closed=8)
    with pytest.raises(TypeError, match="sentence_kwargs takes max_tokens, .*; found 'max_token'"):
        train(model, sentence_kwargs={"max_token": 8})
    with pytest.raises(TypeError, match="plan_kwargs takes lr, .*; found 'decoder_rate'"):
        train(model, plan_kwargs={"decoder_rate": 8})
    with pytest.raises(ValueError, match="max_epochs is 2.0; expected a whole number"):
        train(model, max_epochs=2.0)


def test_early_stopping_without_held_out_cells_is_refused(adata):
    model = fresh(adata)
    with pytest.raises(ValueError, match="early stopping needs cells"):
        train(model, train_size=1.0)
    with pytest.raises(ValueError, match="there are no held-out cells; expected some for early stopping"):
        train(model, datasplitter_kwargs={"external_indexing": [np.arange(50)]})
    train(model, train_size=1.0, early_stopping=False, max_epochs=2)
    assert "validation_loss" not in model.history
    assert len(model.train_indices) == 90


def test_cells_are_split_as_they_were_named(adata):
    parts = [np.arange(0, 60), np.arange(70, 90), np.arange(60, 70)]
    model = train(fresh(adata), datasplitter_kwargs={"external_indexing": parts}, max_epochs=2)
    for found, expected in zip((model.train_indices, model.validation_indices, model.test_indices), parts, strict=True):
        np.testing.assert_array_equal(np.sort(found), expected)
    with pytest.raises(ValueError, match="each at most once"):
        train(model, datasplitter_kwargs={"external_indexing": [[0, 1], [1, 2]]})
    with pytest.raises(ValueError, match="row numbers from 0 to 89"):
        train(model, datasplitter_kwargs={"external_indexing": [[0, 1], [90]]})
    with pytest.raises(ValueError, match="row numbers"):
        train(model, datasplitter_kwargs={"external_indexing": [[0, 1], [-1]]})


def test_cells_that_are_left_out_of_the_split_do_not_change_the_weights():
    parts = [np.arange(0, 60), np.arange(60, 75)]
    one, other = planted(), planted()
    other.X = sp.vstack([one.X[:75], planted(seed=9).X[75:]], format="csr")
    a, b = (
        train(fresh(x), datasplitter_kwargs={"external_indexing": [*parts, np.arange(75, 90)]}, max_epochs=2)
        for x in (one, other)
    )
    assert (one.X != other.X).nnz > 0
    assert_same_bits(weights(a), weights(b))


def test_the_history_has_a_frame_for_each_metric(adata):
    model = trained(adata, train={"max_epochs": 4})
    for name in ("train_loss", "validation_loss", "reconstruction_loss_validation"):
        frame = model.history[name]
        assert list(frame.columns) == [name]
        assert frame.index.name == "epoch"
        assert frame.index.tolist() == [0, 1, 2, 3]
        assert np.isfinite(frame.to_numpy()).all()
    loss = model.history["validation_loss"]["validation_loss"]
    assert loss.iloc[-1] < loss.iloc[0]


@pytest.mark.parametrize("embedding_lr", [0.0, 1e-2])
def test_the_weights_are_those_of_the_best_epoch(embedding_lr):
    plan = {"n_decoder_epochs": 1, "embedding_lr": embedding_lr}
    options = {"max_epochs": 12, "lr": 0.2, "early_stopping_patience": 20, "plan_kwargs": plan}
    whole = train(fresh(planted()), **options)
    loss = whole.history["validation_loss"]["validation_loss"]
    assert loss.idxmin() < 11  # a rate this high goes past the best

    class Keep(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking and trainer.current_epoch == loss.idxmin():
                self.weights = {k: v.clone().numpy() for k, v in pl_module.module.state_dict().items()}
                self.table = pl_module.module.embedding.table.weight.clone().numpy()

        def on_fit_end(self, trainer, pl_module):
            [best] = [c for c in trainer.callbacks if isinstance(c, BestWeights)]
            self.copied = set(best.weights)
            self.moved = not np.array_equal(pl_module.module.embedding.table.weight.detach().numpy(), self.table)

    keep = Keep()
    again = train(fresh(planted()), **options, callbacks=[keep])
    assert_same_bits(weights(again), keep.weights)
    # a table that does not learn is not copied: on a genome it is most of the model
    assert keep.moved == (embedding_lr > 0)
    assert set(keep.weights) - keep.copied == (set() if embedding_lr else {"embedding.table.weight"})


@pytest.mark.parametrize(
    "case",
    [
        ({"sentence_kwargs": SENTENCES | {"n_closed": "all"}}, {}),
        ({}, {"decoder": "mlp"}),
        ({"sentence_kwargs": SENTENCES | {"n_closed": "all"}}, {"decoder": "mlp"}),
        ({"sentence_kwargs": SENTENCES | {"neighbor_share": 0.0}}, {"removed_share": 0.0}),
        ({"batch_size": 1000}, {}),
        ({"batch_size": 7}, {"attention": "padded"}),
    ],
    ids=str,
)
def test_variants_learn(case):
    training, changes = case
    if changes.get("decoder") == "mlp":
        training = training | {"max_epochs": 4}
    model = trained(planted(), train={"max_epochs": 6} | training, **changes)
    loss = model.history["validation_loss"]["validation_loss"]
    assert loss.min() < loss.iloc[0]
    assert np.isfinite(model.get_latent_representation()).all()


def test_a_second_call_goes_on_from_the_first(adata):
    model = trained(adata)
    before = weights(model)
    train(model, max_epochs=2)
    after = weights(model)
    moved = np.abs(after["embedding.table.weight"] - before["embedding.table.weight"]).max()
    assert 0 < moved < 0.2 * np.abs(before["embedding.table.weight"]).max()


def test_by_default_the_embedding_is_the_spectral_one_and_the_rest_learns(adata):
    model = trained(adata, train={"plan_kwargs": {"n_decoder_epochs": 0}})
    start = weights(trained(adata, train={"plan_kwargs": {"n_decoder_epochs": 3}}))
    after = weights(model)
    for name in ("embedding.table.weight", "to_latent.weight"):
        np.testing.assert_array_equal(after[name], start[name])
    assert not after["to_latent.weight"].any()
    for name in ("encoder.blocks.0.qkv.weight", "decoder.from_eos.weight", "decoder.bias.weight"):
        assert (after[name] != start[name]).any()


def test_global_generators_are_left_alone(adata):
    import torch

    model = fresh(adata)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = np.random.random(), torch.rand(1)
    np.random.seed(5)
    torch.manual_seed(5)
    train(model)
    assert (np.random.random(), torch.rand(1)) == expected


def test_a_loss_that_is_not_finite_names_the_cells(adata):
    model = fresh(adata)
    with pytest.raises(FloatingPointError, match=r"the loss is .* in epoch \d+, step \d+; cells \(row numbers\)"):
        train(model, lr=1e30, max_epochs=4, plan_kwargs={"n_decoder_epochs": 1, "decoder_lr": 1e30})


def test_types_are_found_without_labels(adata):
    model = trained(adata, train={"max_epochs": 6})
    z, kind = model.get_latent_representation(), adata.obs["type"].to_numpy()
    distance = ((z[:, None] - z[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, 1)[:, :5]
    assert (kind[near] == kind[:, None]).mean() > 0.9


def test_the_model_sums_itself_up(adata):
    model = fresh(adata)
    for word in ("1 layers", "16 wide", "400 regions on 3 chromosomes", "bilinear decoder", "2 batches", "not trained"):
        assert word in repr(model)
    train(model, max_epochs=1)
    assert repr(model).endswith("; trained")


@pytest.mark.parametrize("n_cells", [3, 4, 8, 12])
def test_a_handful_of_cells_is_enough_to_train(n_cells):
    model = trained(planted(n_cells), train={"max_epochs": 2})
    z = model.get_latent_representation()
    assert np.isfinite(z).all()
    assert z.std() > 0


def test_two_cells_are_not():
    with pytest.raises(ValueError, match="there are 2 cells; expected at least 3"):
        trained(planted(2), train={"early_stopping": False, "train_size": 1.0})
