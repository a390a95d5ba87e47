"""Callbacks of the trainings that do not go through ``fit`` yet."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from scatacformer._io import whole_file


class LastCheckpoint(pl.callbacks.Checkpoint):
    """Writes ``last.ckpt`` after every whole epoch: to a temporary name, then renamed."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "last.ckpt"

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        interrupted = any(isinstance(c, GracefulInterrupt) and c.asked for c in trainer.callbacks)
        if interrupted:  # this epoch is not whole
            return
        with whole_file(self.path) as partial:
            trainer.save_checkpoint(partial)


class GracefulInterrupt(pl.Callback):
    """The first Ctrl-C ends the training after this step and keeps what was learned; the second is KeyboardInterrupt.

    ``together``: the plan is told (``stop_asked``) and agrees on the step with the other processes.
    """

    def __init__(self, together: bool = False) -> None:
        self.asked, self.together = False, together
        self._before: Any = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(number: int, frame: Any) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            if self.together:
                pl_module.stop_asked = True
            else:
                trainer.should_stop = True
            print("Ctrl-C: stopping after this step; press it again to break off", file=sys.stderr)

        self._before = signal.signal(signal.SIGINT, stop)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None


class Progress(pl.callbacks.ProgressBar):
    """One bar that counts steps and one that counts epochs; neither is drawn where nobody watches (a log file)."""

    def __init__(self) -> None:
        super().__init__()
        self._epochs = self._steps = None
        self._shown = sys.stderr.isatty() or "ipykernel" in sys.modules

    def disable(self) -> None:
        self._shown = False

    def enable(self) -> None:
        self._shown = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from tqdm.auto import tqdm

        self._epochs = tqdm(
            total=trainer.max_epochs, initial=trainer.current_epoch, desc="epochs", disable=not self._shown
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from tqdm.auto import tqdm

        stage = "decoder" if pl_module.decoder_only else "all"
        self._steps = tqdm(
            total=trainer.num_training_batches, desc=f"steps ({stage})", leave=False, disable=not self._shown
        )

    def on_train_batch_end(self, *args: Any) -> None:
        self._steps.update()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._steps.close()
        shown = {k: f"{float(v):.3f}" for k, v in trainer.callback_metrics.items() if not k.startswith("recon")}
        self._epochs.set_postfix(shown)
        self._epochs.update()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epochs.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        for bar in (self._steps, self._epochs):
            if bar is not None:
                bar.close()
