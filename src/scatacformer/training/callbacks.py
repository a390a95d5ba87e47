"""Callbacks: best weights, checkpoints and early stopping."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from scatacformer._io import (
    partial_of,
    put_in_place,
    read_tensors,
    remove,
    remove_dead_partials,
    write_tensors,
    writing,
)

from .plan import TrainingPlan
from .sharding import whole_weights

logger = logging.getLogger("scatacformer")


class BestWeights(pl.Callback):
    """Keeps the weights with the lowest ``monitor`` in memory, and restores them when training ends.

    One copy, without the tensors that training does not change (``fixed``, by name).
    """

    def __init__(self, monitor: str = "validation_loss", fixed: frozenset[str] = frozenset()) -> None:
        self.monitor, self.fixed = monitor, fixed
        self.best, self.epoch = float("inf"), -1
        self.weights: dict[str, Tensor] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or value is None or not float(value) < self.best:
            return
        self.best, self.epoch = float(value), trainer.current_epoch
        weights = whole_weights(_module(pl_module))
        self.weights = {k: v.detach().clone() for k, v in weights.items() if k not in self.fixed}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.weights is not None:
            module = _module(pl_module)
            module.load_state_dict(module.state_dict() | self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.epoch, self.weights = state_dict["best"], state_dict["epoch"], state_dict["weights"]


class BestOnDisk(pl.Callback):
    """Keeps the weights with the lowest ``monitor`` in a file; see :func:`write_weights`."""

    def __init__(self, path: Path, monitor: str = "validation_loss") -> None:
        self.path, self.monitor = path, monitor
        self.best, self.step = float("inf"), -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = float(trainer.callback_metrics[self.monitor])
        if trainer.sanity_checking or not value < self.best:
            return
        self.best, self.step = value, trainer.global_step
        weights = whole_weights(_module(pl_module))  # all processes must call this
        if trainer.is_global_zero:
            write_weights(weights, self.path)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.step = state_dict["best"], state_dict["step"]


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Ends training when ``monitor`` has not fallen for ``patience`` epochs; epochs of the warm-up do not count."""

    def __init__(self, monitor: str, patience: int, warmup_epochs: int = 0, min_delta: float = 0.0) -> None:
        # a validation loss that is not finite is not an improvement; the training loss is checked separately
        super().__init__(monitor, min_delta=min_delta, patience=patience, check_finite=False)
        self.warmup_epochs = warmup_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch >= self.warmup_epochs:
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch >= self.warmup_epochs:
            super().on_validation_end(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.stopped_epoch:
            logger.info(
                "early stopping after epoch %d: %s has not fallen below %.4f for %d epochs",
                self.stopped_epoch + 1, self.monitor, float(self.best_score), self.patience,
            )  # fmt: skip


class StepCheckpoint(pl.callbacks.Checkpoint):
    """Ends training when the processes have agreed to, and before that writes a checkpoint, every few steps too.

    Within an epoch a checkpoint is written only after a step of the optimizer, where no validation follows (that is
    then part of the epoch), and if the loader can continue from there (``load_state_dict``). ``path`` None: nothing is
    written."""

    def __init__(self, path: Path | None, every_n_steps: int | None = None, how_to_resume: str = "") -> None:
        self.path, self.every_n_steps, self.how_to_resume = path, every_n_steps, how_to_resume
        self.stopped = False
        self._written = self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._written = self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        asked = _plan(pl_module).must_stop
        if self.path is None or not hasattr(trainer.train_dataloader, "load_state_dict"):
            if asked:
                self.stopped = trainer.should_stop = True
            return
        step, done = trainer.global_step, batch_idx + 1
        stepped, self._step = step > self._step, step
        every = trainer.val_check_batch
        validates = bool(trainer.val_dataloaders) and every is not None and done % every == 0
        if not stepped or validates or done >= trainer.num_training_batches:
            return
        if asked:
            self.stopped = trainer.should_stop = True
        if self.stopped or (self.every_n_steps is not None and step - self._written >= self.every_n_steps):
            self._write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.stopped:  # this epoch is incomplete
            return
        if self.path is not None:
            self._write(trainer)
        if _plan(pl_module).must_stop:
            self.stopped = trainer.should_stop = True

    def _write(self, trainer: pl.Trainer) -> None:
        assert self.path is not None
        kept = f"The checkpoint of step {self._written} is whole" if self._written else "There is none before it"
        kept += f"; continue with {self.how_to_resume}" if self.how_to_resume else ""
        partial = partial_of(self.path)
        remove_dead_partials(self.path.parent, self.path.name)
        try:
            with writing(self.path, kept):
                trainer.save_checkpoint(partial, weights_only=False)  # with what is needed to resume
                if trainer.is_global_zero:
                    put_in_place(partial, self.path)
        finally:
            remove(partial)
        self._written = trainer.global_step


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a module's weights and buffers as a complete safetensors file with a checksum, or not at all."""
    write_tensors(path, weights)


def read_weights(module: torch.nn.Module, path: Path) -> None:
    """The weights of :func:`write_weights`, into the module. ValueError, naming the file, if it is damaged."""
    module.load_state_dict(read_tensors(path))


def _plan(module: pl.LightningModule) -> TrainingPlan:
    assert isinstance(module, TrainingPlan)
    return module


def _module(plan: pl.LightningModule) -> torch.nn.Module:
    module = plan.module
    assert isinstance(module, torch.nn.Module)
    return module
