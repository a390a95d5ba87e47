"""One progress bar for a whole training, with the remaining time; in a log file, a line for each epoch."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

import lightning.pytorch as pl

from .plan import TrainingPlan

logger = logging.getLogger("scatacformer")


class Progress(pl.callbacks.ProgressBar):
    """Counts the minibatches of all epochs. Where no bar can be shown, as in a batch job, it logs each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._in_notebook = "ipykernel" in sys.modules
        self._shown = sys.stderr.isatty() or self._in_notebook

    def disable(self) -> None:
        self._shown = False

    def enable(self) -> None:
        self._shown = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from scatacformer._io import tqdm

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
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if not k.startswith("recon")}
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
        if not self._shown and trainer.is_global_zero:
            losses = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in sorted(values.items()))
            of = f" of at most {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
            logger.info("epoch %d%s: %s", trainer.current_epoch + 1, of, losses)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._bar is not None:
            self._bar.close()
