"""What a pretraining leaves on disk while it runs: its settings, its start, the last checkpoint, the best weights."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl

from scatacformer._io import put_in_place, whole_file
from scatacformer.training import whole_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from .plan import PretrainPlan


class RunFiles:
    """Names of the files of a run, in the folder ``training`` of its output."""

    def __init__(self, output: Path) -> None:
        self.output, self.folder = output, output / "training"
        self.settings = self.folder / "run.json"
        self.start = self.folder / "start.safetensors"
        self.best = self.folder / "best.safetensors"
        self.checkpoint = self.folder / "last.ckpt"

    def write_settings(self, run: dict[str, Any]) -> None:
        """Begins the folder: what the run was told, for the one that resumes it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self.settings) as partial:
            partial.write_text(json.dumps(run, indent=1), encoding="utf-8")

    def read_settings(self) -> dict[str, Any]:
        return json.loads(self.settings.read_text(encoding="utf-8"))


@contextmanager
def on_a_full_disk(what: Path, earlier: str) -> Iterator[None]:
    """An OSError that says which file could not be written, and what is still there."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError
        raise OSError(f"{what} could not be written: {error}. {earlier}") from error


class StepCheckpoint(pl.callbacks.Checkpoint):
    """Writes ``last.ckpt`` every so many steps and after every epoch: to a temporary name, then renamed.

    Within an epoch only after a step of the optimizer, and not where a validation follows: that is the epoch's to
    write, or the next step's. When all are to stop, it is written at once, and then they stop.
    """

    def __init__(self, path: Path, every_n_steps: int) -> None:
        self.path, self.every_n_steps = path, every_n_steps
        self.stopped = False
        self._written = self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: PretrainPlan) -> None:
        self._written = self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: PretrainPlan, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, done = trainer.global_step, batch_idx + 1
        stepped, self._step = step > self._step, step
        validates = bool(trainer.val_dataloaders) and done % trainer.val_check_batch == 0
        if not stepped or validates or done >= trainer.num_training_batches:
            return
        if pl_module.stop_agreed:
            self.stopped = trainer.should_stop = True
        if self.stopped or step - self._written >= self.every_n_steps:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PretrainPlan) -> None:
        if self.stopped:  # this epoch is not whole, and its checkpoint is written
            return
        self._write(trainer)
        if pl_module.stop_agreed:
            self.stopped = trainer.should_stop = True

    def _write(self, trainer: pl.Trainer) -> None:
        partial = self.path.with_suffix(".partial")
        earlier = f"The checkpoint of step {self._written} is whole" if self._written else "There is none before it"
        try:
            with on_a_full_disk(self.path, f"{earlier}; make room, and go on with resume=True"):
                trainer.save_checkpoint(partial, weights_only=False)  # with what is needed to go on
                if trainer.is_global_zero:
                    put_in_place(partial, self.path)
        finally:
            if trainer.is_global_zero:
                partial.unlink(missing_ok=True)
        self._written = trainer.global_step


class BestOnDisk(pl.Callback):
    """Keeps the weights of the lowest ``validation_loss`` in a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.best, self.step = path, float("inf"), -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: PretrainPlan) -> None:
        value = float(trainer.callback_metrics["validation_loss"])
        if trainer.sanity_checking or not value < self.best:
            return
        self.best, self.step = value, trainer.global_step
        weights = whole_weights(pl_module.module)  # all processes take part
        if trainer.is_global_zero:
            write_weights(weights, self.path)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.step = state_dict["best"], state_dict["step"]


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """A module's weights and buffers as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    with whole_file(path) as partial, on_a_full_disk(path, "The earlier file is whole"):
        save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, partial)


def read_weights(module: Any, path: Path) -> None:
    """The weights of :func:`write_weights`, into the module."""
    from safetensors.torch import load_file

    module.load_state_dict(load_file(path))
