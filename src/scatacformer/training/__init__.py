"""How models are trained: one way for large networks (:func:`fit`), one for small ones in memory (:func:`descend`).

A model writes a plan, a subclass of :class:`TrainingPlan`, around its network::

    class GETTrainingPlan(TrainingPlan):
        several_processes = True

        def __init__(self, module, options):
            super().__init__(module)
            self.options = options

        def losses(self, batch):  # of a training minibatch, a dict of tensors on the device
            squared, n = self.module.loss(batch)  # sum over what counts, and how much that is
            return self.mean_loss(squared, n)  # over all processes

        def validation_losses(self, batch):
            squared, n = self.module.loss(batch)
            return Losses(squared, {"validation_loss": squared / n.clamp_min(1)}, float(n))

        def configure_optimizers(self):
            return RowAdamW(self.module.parameters(), lr=self.options.lr, weight_decay=0.05)

        def learning_rates(self):  # one for each group of the optimizer
            return [self.options.lr * schedule(self.global_step, self.n_steps, self.options.warmup_steps)]

        def describe(self, batch):
            return f"windows (group and first region): {batch['group'].tolist()}"

and passes it to ``fit`` with its data and :class:`FitOptions`::

    outcome = fit(plan, data, FitOptions(max_epochs=20, early_stopping_patience=3, seed=0))
    self.history_ = outcome.history.frames()

``data`` is a ``LightningDataModule`` or a pair of iterables of minibatches (training; held-out, or None). A loader that
has ``set_epoch`` gets it before each epoch; one that has ``state_dict`` and ``load_state_dict`` can be resumed within
an epoch. Long computations before the first step, such as an initialisation, belong into ``setup`` of a data module: by
then all arguments have been checked. ``fit`` moves minibatches of tensors to the device and the module back.

For every model, the weights with the lowest ``monitor`` are restored at the end, the module is in evaluation
mode; a loss that is not finite raises FloatingPointError with what ``describe`` returns; Ctrl-C ends training after the
step, keeps the best weights so far and warns how to resume, a second one is KeyboardInterrupt; SIGTERM writes a
checkpoint and ends the process with status 143; a resumed training ends as one that was never interrupted, bit for bit,
and is refused where ``FitOptions.fingerprint`` differs. Dropout is seeded, and torch's global generators are as they
were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._lazy import lazy

from .schedule import schedule, warm_cosine  # not lazily: the file would hide its function

if TYPE_CHECKING:
    from .arguments import OF_FIT, decay_groups, digest, fit_options
    from .callbacks import BestWeights, read_weights, write_weights
    from .checkpoint import fingerprint_of
    from .device import check_accelerator, pick_device
    from .history import History, Outcome
    from .in_memory import DescendOptions, descend
    from .plan import Losses, TrainingPlan
    from .processes import average_rows, average_whole, n_processes, row_parameters, sum_over_processes
    from .run import CHECKPOINT, FitOptions, Fitting, fit
    from .sharding import ShardedEncoder, whole_weights
    from .split import CellSplit, HoldOut, hold_out, split_cells

__all__ = [
    "CellSplit",
    "HoldOut",
    "hold_out",
    "split_cells",
]
_FILE_OF = {
    "BestWeights": "callbacks",
    "CHECKPOINT": "run",
    "CellSplit": "split",
    "DescendOptions": "in_memory",
    "FitOptions": "run",
    "Fitting": "run",
    "History": "history",
    "HoldOut": "split",
    "Losses": "plan",
    "OF_FIT": "arguments",
    "Outcome": "history",
    "ShardedEncoder": "sharding",
    "TrainingPlan": "plan",
    "average_rows": "processes",
    "average_whole": "processes",
    "check_accelerator": "device",
    "decay_groups": "arguments",
    "descend": "in_memory",
    "digest": "arguments",
    "fingerprint_of": "checkpoint",
    "fit": "run",
    "fit_options": "arguments",
    "hold_out": "split",
    "n_processes": "processes",
    "pick_device": "device",
    "read_weights": "callbacks",
    "row_parameters": "processes",
    "split_cells": "split",
    "sum_over_processes": "processes",
    "whole_weights": "sharding",
    "write_weights": "callbacks",
}

__getattr__, __dir__ = lazy(__name__, __all__, _FILE_OF)
