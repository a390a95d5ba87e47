"""A training of GET that is interrupted and resumed ends as one that was not; that of something else is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import lightning.pytorch as pl
import pytest
import torch

import scatacformer as sf

from .conftest import make_regions, small

QUIET = {"enable_progress_bar": False, "accelerator": "cpu", "batch_size": 16, "early_stopping": False}


class CtrlC(pl.Callback):
    """As if the user had pressed it once, in the middle of an epoch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *args) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("verb", ["train", "pretrain"])
def test_a_resumed_training_ends_as_one_that_was_never_interrupted(_regions, tmp_path, verb):
    options = QUIET | {"holdout_chromosomes": "chr4"}
    if verb == "pretrain":
        options |= {"mask_ratio": 0.3}
    whole = small(_regions.copy(), seed=3)
    getattr(whole, verb)(3, **options)
    for step in (1, 4):
        folder = tmp_path / str(step)
        first = small(_regions.copy(), seed=3)
        with pytest.warns(UserWarning, match=rf"stopped by Ctrl-C .*; {verb}\(resume=True\) resumes it"):
            getattr(first, verb)(3, checkpoint_dir=folder, callbacks=[CtrlC(step)], **options)
        again = small(_regions.copy(), seed=3)
        getattr(again, verb)(3, checkpoint_dir=folder, resume=True, **options)
        for name, value in whole.module.state_dict().items():
            assert torch.equal(value, again.module.state_dict()[name]), (step, name)
        assert again.history["train_loss"].equals(whole.history["train_loss"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda model: model.train(3, lr=5e-4, **QUIET), "options"),
        (lambda model: model.train(3, holdout_chromosomes="chr3", **QUIET), "split"),
        (lambda model: model.pretrain(3, **QUIET), "target"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused(_regions, tmp_path, monkeypatch, change, named):
    model = small(_regions.copy(), seed=3)
    model.train(1, checkpoint_dir=tmp_path, **QUIET)
    monkeypatch.setitem(QUIET, "checkpoint_dir", tmp_path)
    monkeypatch.setitem(QUIET, "resume", True)
    with pytest.raises(ValueError, match=rf"cannot be resumed: .*{named}"):
        change(small(_regions.copy(), seed=3))
    others = make_regions(seed=8)
    sf.GET.setup_anndata(others)
    with pytest.raises(ValueError, match="cannot be resumed: motifs was"):
        small(others, seed=3).train(3, **QUIET)


SCRIPT = """
import sys
from tests.model.get.conftest import make_regions, small
import scatacformer as sf
regions = make_regions()
sf.GET.setup_anndata(regions)
model = small(regions)
model.train(10_000, checkpoint_dir=sys.argv[1], enable_progress_bar=False, accelerator="cpu", early_stopping=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_a_checkpoint(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    while not (tmp_path / "last.ckpt").exists():
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait(60) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    regions = make_regions()
    sf.GET.setup_anndata(regions)
    model = small(regions)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    model.train(
        state["epoch"] + 2,
        checkpoint_dir=tmp_path,
        resume=True,
        enable_progress_bar=False,
        accelerator="cpu",
        early_stopping=False,
    )
    assert model.is_trained_
