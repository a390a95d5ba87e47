"""The common part of all training plans: steps, check of the loss, history, checkpoints, several processes."""

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
    """Losses of a minibatch: the one that is minimised, and those recorded in ``history``."""

    total: Tensor
    """(): the loss whose gradient is used. Ignored in validation."""
    means: dict[str, Tensor]
    """By name (``"train_loss"``, ``"validation_loss"``, ...), means over the ``n`` units of the minibatch."""
    n: float = 1.0
    """Number of cells, bins, windows, ... over which the means were taken; 0 for a minibatch without weight."""


class TrainingPlan(pl.LightningModule):
    """How a network is trained, in scvi-tools' sense: a LightningModule around it, for one call of ``fit``.

    A subclass must implement :meth:`losses`, :meth:`validation_losses`, :meth:`configure_optimizers` and
    :meth:`describe`; it may override :meth:`before_step` and :meth:`learning_rates`. Hooks of Lightning that it
    overrides must call ``super()``.

    Parameters
    ----------
    module
        The network. Its best weights are restored when training ends.
    """

    several_processes: bool = False
    """Whether :meth:`losses` forms the loss of a minibatch that is divided among processes (see :meth:`summed`)."""
    advice: str = "Lower lr, or train in precision='32-true'"
    """Advice in the error about a loss that is not finite."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.history = History()
        self.interrupt = Interrupt()  # of the running training: set by `fit`
        self._agreed_to_stop = 0  # signal after which all processes stop
        self.n_steps = 0  # of the optimizer in the whole training: known when it starts
        self.gradient_clip_val, self.log_every_n_steps = 0.0, 50  # set by `fit`
        self.batch_idx = 0  # of the minibatch of this step, within the epoch
        self.fingerprint: dict[str, Any] = {}  # written into checkpoints: set by `fit`
        self._agreed, self._world = False, 1
        self._epoch_means, self._log_means, self._validation_means = Means(), Means(), Means()
        self._random_state: dict[str, Any] = {}
        self._rows = row_parameters(module, "module.")
        # their row-sparse gradients are combined before a step: DDP would make them dense
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, list(self._rows))

    # implemented by subclasses

    def losses(self, batch: Batch) -> Losses:
        """The loss of a training minibatch."""
        raise NotImplementedError

    def validation_losses(self, batch: Batch) -> Losses:
        """Metrics of a held-out minibatch, without gradients; ``means`` must include the monitored one."""
        raise NotImplementedError

    def describe(self, batch: Batch) -> str:
        """Description of the minibatch, for the error about its loss: ``"cells (row numbers): [3, 17, 5]"``."""
        raise NotImplementedError

    def before_step(self) -> None:
        """Select the parameters that are trained in the next step; see ``current_epoch``, ``batch_idx`` and
        ``global_step``."""

    def learning_rates(self) -> Sequence[float] | None:
        """The learning rate of each group of the optimizer in the next step; None: unchanged.

        It should depend on the place in the training alone (``global_step`` of ``n_steps``, or ``epochs_done``), so
        that a resumed training is that of one that was never interrupted. See :func:`scatacformer.training.schedule`.
        """
        return None

    @property
    def fixed(self) -> frozenset[str]:
        """Names of large tensors of the module that training does not change: they are not copied."""
        return frozenset()

    @property
    def stage(self) -> str:
        """Name of the current stage, for the progress bar; empty if there is only one."""
        return ""

    @property
    def epochs_done(self) -> float:
        """Epochs before this minibatch, with the share of the current one."""
        return self.current_epoch + self.batch_idx / max(self.trainer.num_training_batches, 1)

    # several processes

    def summed(self, values: Tensor) -> Tensor:
        """The sum of ``values`` (1-D) over all processes, in each of them; call it once in :meth:`losses`.

        The same message lets the processes agree on whether training ends, so that all stop after the same step.
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

    def mean_loss(self, total: Tensor, n: Tensor) -> Losses:
        """The loss of a minibatch that is divided among processes: the mean of all of them.

        ``total`` (): sum of the losses of this process; ``n`` (): number of values that it was summed over. Gradients
        are averaged over processes later, and the loss is multiplied by their number here.
        """
        (n_all,) = self.summed(n[None].float())
        return Losses(
            n_processes() * total / n_all.clamp_min(1), {"train_loss": total.detach() / n.clamp_min(1)}, float(n)
        )

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
        """Raise FloatingPointError for a loss that is not finite, with a description of the minibatch."""
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
        if any(
            isinstance(p, DTensor) for p in self.module.parameters()
        ):  # no DDP: a part of the network is sharded by FSDP
            rows = {id(p) for p in self._rows.values()}
            average_whole(p for p in self.module.parameters() if not isinstance(p, DTensor) and id(p) not in rows)

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        # over dense and row-sparse gradients together, after they are combined over all processes
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
        """Pass metrics to callbacks and to the progress bar."""
        for name, value in values.items():
            self.log(name, value, on_step=False, on_epoch=True, batch_size=1, prog_bar=True, logger=False)

    def _keep(self, name: str, value: float) -> None:
        self.history.keep(name, self.current_epoch, value)
        for logger in self.trainer.loggers:
            logger.log_metrics({name: value, "epoch": self.current_epoch}, step=self.trainer.global_step)


def _numbers(*values: Tensor) -> list[float]:
    """One copy from the device for all of them."""
    return torch.stack([value.detach().double().reshape(()) for value in values]).tolist() if values else []
