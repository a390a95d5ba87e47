"""One progress bar for a whole training, with the remaining time."""

from __future__ import annotations

import math
import sys
from typing import Any

import lightning.pytorch as pl

from .plan import TrainingPlan


class Progress(pl.callbacks.ProgressBar):
    """Counts the minibatches of all epochs; not shown in a log file."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._shown = sys.stderr.isatty() or "ipykernel" in sys.modules

    def disable(self) -> None:
        self._shown = False

    def enable(self) -> None:
        self._shown = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from tqdm.auto import tqdm

        n, epochs = trainer.num_training_batches, trainer.max_epochs
        total = None if epochs is None or epochs < 0 or math.isinf(n) else n * epochs
        if total is not None and trainer.max_steps > 0:
            total = min(total, trainer.max_steps * trainer.accumulate_grad_batches)
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self._bar = tqdm(total=total, initial=max(done, 0), unit="step", disable=not self._shown)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        stage = pl_module.stage if isinstance(pl_module, TrainingPlan) else ""
        of = f" of {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        self._bar.set_description(f"epoch {trainer.current_epoch + 1}{of}{f' ({stage})' if stage else ''}")

    def on_train_batch_end(self, *args: Any) -> None:
        self._bar.update()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {k: f"{float(v):.3f}" for k, v in trainer.callback_metrics.items() if not k.startswith("recon")}
        self._bar.set_postfix(metrics)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._bar is not None:
            self._bar.close()
