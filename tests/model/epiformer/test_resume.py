"""A training of Epiformer that is interrupted and resumed ends as one that was not; that of something else is refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from anndata import AnnData

import scatacformer as sf

SIZES = {"d_stem": 8, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_feedforward": 16}
QUIET = {"validation_chromosomes": "chr3", "enable_progress_bar": False, "accelerator": "cpu", "early_stopping": False}


class CtrlC(pl.Callback):
    """As if the user had pressed it once, in the middle of an epoch."""

    def on_train_batch_end(self, trainer, *args) -> None:
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore:there are .* windows to train on", "ignore:the predictions of")
def test_a_resumed_training_ends_as_one_that_was_never_interrupted(tracks: AnnData, tmp_path: Path) -> None:
    whole = sf.Epiformer(tracks, **SIZES)
    whole.train(2, **QUIET)
    first = sf.Epiformer(tracks, **SIZES)
    with pytest.warns(UserWarning, match=r"stopped by Ctrl-C .*; train\(resume=True\) resumes it"):
        first.train(2, checkpoint_dir=tmp_path, callbacks=[CtrlC()], **QUIET)
    again = sf.Epiformer(tracks, **SIZES)
    again.train(2, checkpoint_dir=tmp_path, resume=True, **QUIET)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name
    assert again.history["train_loss"].equals(whole.history["train_loss"])

    resumed = {"checkpoint_dir": tmp_path, "resume": True}
    with pytest.raises(ValueError, match="cannot be resumed: options was"):
        sf.Epiformer(tracks, **SIZES).train(3, lr=5e-4, **resumed, **QUIET)
    with pytest.raises(ValueError, match="cannot be resumed: parts was"):
        sf.Epiformer(tracks, **SIZES).train(3, **resumed, **(QUIET | {"validation_chromosomes": "chr2"}))
    others = tracks.copy()
    others.X = others.X + 1
    with pytest.raises(ValueError, match="cannot be resumed: signal was"):
        sf.Epiformer(others, **SIZES).train(3, **resumed, **QUIET)
