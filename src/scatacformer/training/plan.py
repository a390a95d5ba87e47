"""What every model's training plan shares: steps, the check of the loss, history, checkpoints, several processes."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from scatacformer.nn import clip_gradients

from .history import History, Means
from .interrupt import Interrupt
from .processes import average_rows, average_whole, n_processes, row_parameters, sum_over_processes

Batch = dict[str, Tensor]


class Losses(NamedTuple):
    """What a minibatch gave: the loss that is minimised, and what ``history`` shows."""

    total: Tensor
    """(): its gradient makes the step. Not used in validation."""
    means: dict[str, Tensor]
    """By name (``"train_loss"``, ``"validation_loss"``, ...), means over the ``n`` things that the minibatch counts."""
    n: float = 1.0
    """Number of cells, bins, windows, ... that the means were taken over; 0 for a minibatch that counts nothing."""


class TrainingPlan(pl.LightningModule):
    """How a network is trained, in scvi-tools' sense: a LightningModule around it. Made for one call of ``fit``.

    A subclass must give :meth:`losses`, :meth:`validation_losses`, :meth:`configure_optimizers` and :meth:`describe`; it
    may give :meth:`before_step` and :meth:`learning_rates`. Hooks of Lightning that it overrides must call ``super()``.

    Parameters
    ----------
    module
        The network. Its best weights are restored when training ends.
    """

    several_processes: bool = False
    """Whether :meth:`losses` forms the loss of a minibatch that is divided among processes (see :meth:`summed`)."""
    advice: str = "Lower lr, or train in precision='32-true'"
    """What the error about a loss that is not finite tells the user to do."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.history = History()
        self.interrupt = Interrupt()  # the one of the running training: set by `fit`
        self._agreed_to_stop = 0  # signal that all processes end after
        self.n_steps = 0  # of the optimizer in the whole training: known when it starts
        self.gradient_clip_val, self.log_every_n_steps = 0.0, 50  # set by `fit`
        self.batch_idx = 0  # of the minibatch of this step, within the epoch
        self.fingerprint: dict[str, Any] = {}  # written into checkpoints: set by `fit`
        self._agreed, self._world = False, 1
        self._epoch_means, self._log_means, self._validation_means = Means(), Means(), Means()
        self._random_state: dict[str, Any] = {}
        self._rows = row_parameters(module, "module.")
        # the rows of their gradients are brought together before a step: DDP would make them dense
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, list(self._rows))

    # what a subclass gives

    def losses(self, batch: Batch) -> Losses:
        """The loss of a training minibatch."""
        raise NotImplementedError

    def validation_losses(self, batch: Batch) -> Losses:
        """What is measured on a held-out minibatch, without gradients; ``means`` must have what is monitored."""
        raise NotImplementedError

    def describe(self, batch: Batch) -> str:
        """What the minibatch was made of, for the error about its loss: ``"cells (row numbers): [3, 17, 5]"``."""
        raise NotImplementedError

    def before_step(self) -> None:
        """Set what learns in the step to come; see ``current_epoch``, ``batch_idx`` and ``global_step``."""

    def learning_rates(self) -> Sequence[float] | None:
        """The rate of each group of the optimizer in the step to come; None leaves them alone.

        It should depend on the place in the training alone (``global_step`` of ``n_steps``, or ``epochs_done``), so that a
        resumed training is that of one that was never interrupted. See :func:`scatacformer.training.schedule`.
        """
        return None

    @property
    def fixed(self) -> frozenset[str]:
        """Names of the module's large tensors that no step changes: no copy of them is kept."""
        return frozenset()

    @property
    def stage(self) -> str:
        """What learns at the moment, for the progress bar; empty where there is one stage."""
        return ""

    @property
    def epochs_done(self) -> float:
        """Epochs before this minibatch, with the share of the current one."""
        return self.current_epoch + self.batch_idx / max(self.trainer.num_training_batches, 1)

    # several processes

    def summed(self, values: Tensor) -> Tensor:
        """The sum of ``values`` (1-D) over all processes, in each of them; call it once in :meth:`losses`.

        The processes agree by the same message on whether training ends: all stop after the same step.
        """
        self._agreed = True
        if n_processes() == 1:
            return values
        asked = self.interrupt.asked
        flags = [float(asked == signal.SIGINT), float(asked == signal.SIGTERM)]
        total = sum_over_processes(torch.cat([values, values.new_tensor(flags)]))
        interrupted, terminated = (total[-2:] > 0).tolist()
        self._agreed_to_stop = signal.SIGTERM if terminated else signal.SIGINT if interrupted else 0
        return total[:-2]

    @property
    def must_stop(self) -> int:
        """The signal after which training ends (0: none), the same in all processes."""
        return self.interrupt.asked if self._world == 1 else self._agreed_to_stop

    # Lightning's hooks

    def on_train_start(self) -> None:
        trainer = self.trainer
        self._world = n_processes()
        per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        epochs = -1 if trainer.max_epochs is None else trainer.max_epochs
        limits = [n for n in (per_epoch * epochs, trainer.max_steps) if n >= 0]
        self.n_steps = int(min(limits, default=0))
        if self._random_state:
            torch.set_rng_state(self._random_state["cpu"])
            if "cuda" in self._random_state and self.device.type == "cuda":
                torch.cuda.set_rng_state(self._random_state["cuda"], self.device)
            self._random_state = {}

    def on_train_epoch_start(self) -> None:
        loader: Any = self.trainer.train_dataloader
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(self.current_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.batch_idx, self._agreed = batch_idx, False
        self.before_step()
        rates = self.learning_rates()
        if rates is None:
            return
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Raises FloatingPointError for a loss that is not finite, with what the minibatch was made of."""
        losses = self.losses(batch)
        if not self._agreed:
            self.summed(losses.total.new_zeros(0))
        value, *means = _numbers(losses.total, *losses.means.values())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} in epoch {self.current_epoch}, step {batch_idx}; {self.describe(batch)}. "
                f"{self.advice}"
            )
        for kept in (self._epoch_means, self._log_means):
            kept.add(dict(zip(losses.means, means, strict=True)), losses.n)
        return losses.total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if n_processes() == 1:
            return
        average_rows(self._rows.values())
        if any(isinstance(p, DTensor) for p in self.module.parameters()):  # no DDP: FSDP divides a part of the network
            rows = {id(p) for p in self._rows.values()}
            average_whole(p for p in self.module.parameters() if not isinstance(p, DTensor) and id(p) not in rows)

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        # over dense and row-sparse gradients together, after they are those of all processes
        if self.gradient_clip_val:
            clip_gradients(self.module.parameters(), self.gradient_clip_val)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        trainer, step = self.trainer, self.trainer.global_step
        if trainer.loggers and self._log_means.sums and step % self.log_every_n_steps == 0:
            optimizer = self.optimizers()
            assert not isinstance(optimizer, list)
            lines = {f"{name}_step": value for name, value in self._log_means.take(self._over_processes).items()}
            lines |= {"epoch": float(self.current_epoch), "lr": float(optimizer.param_groups[-1]["lr"])}
            for logger in trainer.loggers:
                logger.log_metrics(lines, step=step)
        if batch_idx + 1 == trainer.num_training_batches:
            self._show(self._epoch_means.values(self._over_processes))

    def on_train_epoch_end(self) -> None:
        for name, value in self._epoch_means.take(self._over_processes).items():
            self._keep(name, value)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        losses = self.validation_losses(batch)
        self._validation_means.add(dict(zip(losses.means, _numbers(*losses.means.values()), strict=True)), losses.n)

    def on_validation_epoch_end(self) -> None:
        means = self._validation_means.take(self._over_processes)
        self._show(means)
        for name, value in means.items():
            self._keep(name, value)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        random = {"cpu": torch.get_rng_state()}  # of dropout
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        means = [means.total(self._over_processes) for means in (self._epoch_means, self._log_means)]
        checkpoint["scatacformer"] = {
            "fingerprint": self.fingerprint, "history": self.history.record, "means": means, "random": random,
        }  # fmt: skip

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["scatacformer"]
        self.history = History(state["history"])
        self._random_state = state["random"]
        if self.trainer.is_global_zero:  # they are the sums of all processes
            self._epoch_means.sums, self._log_means.sums = state["means"]

    def _over_processes(self, numbers: list[float]) -> list[float]:
        if n_processes() == 1 or not numbers:
            return numbers
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return sum_over_processes(torch.tensor(numbers, dtype=dtype, device=self.device)).tolist()

    def _show(self, values: dict[str, float]) -> None:
        """Give metrics to callbacks and to the progress bar."""
        for name, value in values.items():
            self.log(name, value, on_step=False, on_epoch=True, batch_size=1, prog_bar=True, logger=False)

    def _keep(self, name: str, value: float) -> None:
        self.history.keep(name, self.current_epoch, value)
        for logger in self.trainer.loggers:
            logger.log_metrics({name: value, "epoch": self.current_epoch}, step=self.trainer.global_step)


def _numbers(*values: Tensor) -> list[float]:
    """One copy from the device for all of them."""
    return torch.stack([value.detach().double().reshape(()) for value in values]).tolist() if values else []
