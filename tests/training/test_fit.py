"""One way to train: the best weights, the same history, the same end whatever interrupts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from scatacformer.training import FitOptions, schedule

from ._toy import Loader, Plan, loaders, network, train


class AtStep(pl.Callback):
    """Does something after a step of the optimizer."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            self.action()


class Cut(Exception):
    pass


def cut():
    raise Cut


def send(number):
    return lambda: os.kill(os.getpid(), number)


def assert_same(found, expected):
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


def test_it_learns_and_keeps_the_best_weights():
    seen = {}

    class Look(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            seen[trainer.current_epoch] = pl_module.module[0].weight.detach().clone()

    module, outcome = train(max_epochs=12, callbacks=[Look()], plan=None)
    loss = outcome.history.frames()["validation_loss"]["validation_loss"]
    assert loss.index.tolist() == list(range(12)) and loss.index.name == "epoch"
    assert loss.min() < 0.5 * loss.iloc[0]
    assert torch.equal(module[0].weight, seen[int(loss.idxmin())])
    assert not module.training and not outcome.stopped
    assert all(p.requires_grad for p in module.parameters())


def test_the_history_is_the_mean_over_rows():
    module, outcome = train(max_epochs=1, plan=None)
    x = torch.stack([torch.arange(40.0, 50.0), torch.arange(40.0, 50.0) % 7], 1) / 50
    expected = ((module(x) - x.sum(1, keepdim=True)) ** 2).mean().item()  # the last minibatch has two rows
    assert outcome.history.record["validation_loss"][0] == pytest.approx(expected, rel=1e-6)


def test_the_rate_rises_in_a_line_and_falls_as_a_cosine():
    module = network()
    plan = Plan(module, lr=2.0e-2)
    train(module, plan=plan, max_epochs=4)
    assert plan.n_steps == 20
    np.testing.assert_allclose(plan.rates[:4], [2e-2 / 3, 4e-2 / 3, 2e-2, 2e-2])
    expected = 1e-2 * (1 + np.cos(np.pi * np.arange(17) / 17))
    np.testing.assert_allclose(plan.rates[3:], expected)
    assert schedule(20, 20, 3) == 0.0


def test_the_global_random_state_is_left_alone_and_the_seed_decides():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    one, same, other = (train(seed=seed)[0] for seed in (0, 0, 1))
    assert torch.rand(1) == expected
    assert_same(one, same)
    assert not torch.equal(one[0].weight, other[0].weight)


@pytest.mark.parametrize("step", [3, 5, 8])
def test_a_run_that_was_cut_and_resumed_ends_like_the_whole_one(tmp_path, step):
    whole, expected = train(max_epochs=4)
    with pytest.raises(Cut):
        # the user's callbacks run first: the checkpoint of this very step is not written
        train(checkpoint_dir=tmp_path, checkpoint_every_n_steps=2, callbacks=[AtStep(step, cut)])
    found, outcome = train(checkpoint_dir=tmp_path, resume=True)
    assert_same(found, whole)
    assert outcome.history.record == expected.history.record


def test_a_loss_that_is_not_finite_names_what_the_minibatch_was_made_of():
    module = network()
    with pytest.raises(FloatingPointError, match=r"the loss is nan in epoch 1, step 2; rows: \[\d+, .*\]. Lower lr"):
        train(module, plan=Plan(module, wrong_after=7))
    assert not module.training


class Plain:
    """A loader without a place in its epoch."""

    def __init__(self, loader):
        self.loader, self.set_epoch = loader, loader.set_epoch

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return iter(self.loader)


@pytest.mark.parametrize("resumable", [True, False])
def test_ctrl_c_ends_training_keeps_the_best_weights_and_says_how_to_resume(tmp_path, resumable):
    whole, _ = train()
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    data = loaders()
    if not resumable:  # the last whole epoch is what can be resumed
        data = tuple(Plain(loader) for loader in data)
    with pytest.warns(
        UserWarning, match=r"stopped by Ctrl-C in epoch 3 of 4; .* best weights so far; again\(\) resumes"
    ):
        options = {"checkpoint_dir": tmp_path, "how_to_resume": "again()"}
        cut, outcome = train(data=data, callbacks=[AtStep(12, send(signal.SIGINT))], **options)
    assert outcome.stopped and not cut.training
    assert max(outcome.history.record["train_loss"]) == 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["global_step"] == (12 if resumable else 10)
    resumed, _ = train(data=data, checkpoint_dir=tmp_path, resume=True)
    assert_same(resumed, whole)


class Impatient(AtStep):
    """Ctrl-C again while training is broken off."""

    def on_exception(self, trainer, *args):
        send(signal.SIGINT)()


@pytest.mark.parametrize("callback", [AtStep, Impatient])
def test_a_second_ctrl_c_is_keyboard_interrupt(callback):
    def twice():
        send(signal.SIGINT)()
        send(signal.SIGINT)()

    before = signal.getsignal(signal.SIGINT)
    module = network()
    with pytest.raises(KeyboardInterrupt):
        train(module, callbacks=[callback(3, twice)])
    assert signal.getsignal(signal.SIGINT) is before
    assert not module.training


class Slow(pl.LightningDataModule):
    """A signal arrives while data are prepared."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def setup(self, stage):
        send(self.number)()

    def train_dataloader(self):
        raise AssertionError("training began")


def test_a_signal_before_the_first_step_ends_training_at_once(capsys):
    with pytest.raises(KeyboardInterrupt):
        train(data=Slow(signal.SIGINT))
    with pytest.raises(SystemExit) as end:
        train(data=Slow(signal.SIGTERM))
    assert end.value.code == 143
    assert "SIGTERM before the first step" in capsys.readouterr().err


def killed(folder):
    options = {"checkpoint_dir": Path(folder), "how_to_resume": "again()"}
    train(max_epochs=4, callbacks=[AtStep(7, send(signal.SIGTERM))], **options)


def test_sigterm_writes_a_checkpoint_and_ends_with_status_143(tmp_path):
    run = f"from training.test_fit import killed; killed({str(tmp_path)!r})"
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root / "src"), str(root / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", run], env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 143, done.stderr
    assert "training was ended by SIGTERM in epoch 2 of 4; again() resumes it" in done.stderr
    assert "Traceback" not in done.stderr
    found, _ = train(max_epochs=4, checkpoint_dir=tmp_path, resume=True)
    assert_same(found, train(max_epochs=4)[0])


def test_early_stopping_counts_after_its_warm_up():
    def n_epochs(**options):
        module = network()
        plan = Plan(module, lr=0.0)  # nothing gets better
        return len(train(module, plan=plan, max_epochs=30, **options)[1].history.record["train_loss"])

    assert n_epochs(early_stopping_patience=3) == 4
    assert n_epochs(early_stopping_patience=3, early_stopping_warmup_epochs=5) == 9
    assert n_epochs() == 30


def test_training_without_held_out_data_keeps_the_last_weights():
    module, outcome = train(data=(Loader(torch.arange(40)), None), max_epochs=2)
    assert set(outcome.history.record) == {"train_loss"}
    assert not torch.equal(module[0].weight, network()[0].weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": 2.0}, "max_epochs is 2.0; expected a whole number"),
        ({"max_epochs": 0}, "max_epochs is 0; expected at least 1"),
        ({"max_epochs": 1, "strategy": "deepspeed"}, "strategy is .*; expected one of auto, ddp, fsdp"),
        ({"max_epochs": 1, "resume": True}, "resume=True needs a checkpoint"),
        ({"max_epochs": 1, "early_stopping_patience": 0}, "early_stopping_patience is .*; expected at least 1"),
    ],
)
def test_wrong_options_are_refused_when_they_are_made(options, message):
    with pytest.raises(ValueError, match=message):
        FitOptions(**options)


def test_a_gpu_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="accelerator='gpu' needs a CUDA device, and torch finds none"):
        FitOptions(max_epochs=1, accelerator="gpu")


def test_several_devices_are_refused_for_a_plan_that_cannot_be_divided():
    with pytest.raises(ValueError, match="devices selects 2 devices; expected one"):
        train(devices=2)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    mark = {"cells": "abc", "seed": 1, "rates": (1e-3, 0.5)}
    train(checkpoint_dir=tmp_path, fingerprint=mark)
    train(checkpoint_dir=tmp_path, fingerprint=mark, resume=True)
    with pytest.raises(ValueError, match=r"cannot be resumed: seed was 1 and is 2 .rates differ too."):
        other = {"cells": "abc", "seed": 2, "rates": [1e-3]}
        train(checkpoint_dir=tmp_path, fingerprint=other, resume=True)


def test_a_damaged_checkpoint_is_refused_or_does_no_harm(tmp_path):
    with pytest.raises(Cut):
        train(checkpoint_dir=tmp_path, callbacks=[AtStep(12, cut)])
    whole, _ = train()
    path, refused, n = tmp_path / "last.ckpt", 0, 24
    raw = path.read_bytes()
    for k in range(n):
        damaged = bytearray(raw)
        at = len(raw) * (2 * k + 1) // (2 * n)
        damaged[at : at + 8] = bytes(b ^ 0x5A for b in damaged[at : at + 8])
        path.write_bytes(damaged)
        try:
            found, _ = train(checkpoint_dir=tmp_path, resume=True)
        except ValueError as error:
            assert "last.ckpt" in str(error)
            refused += 1
        else:
            assert_same(found, whole)
    assert refused > n / 4
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ValueError, match="last.ckpt is truncated, damaged"):
        train(checkpoint_dir=tmp_path, resume=True)


@pytest.mark.parametrize("progress", [True, False])
def test_a_batch_job_gets_a_line_for_each_epoch(progress, caplog):
    with caplog.at_level("INFO", logger="scatacformer"):
        train(max_epochs=2, progress=progress)
    lines = [record.message for record in caplog.records if record.message.startswith("epoch ")]
    assert len(lines) == (2 if progress else 0)
    if progress:
        assert lines[1].startswith("epoch 2 of at most 2: train loss 0.") and ", validation loss " in lines[1]
