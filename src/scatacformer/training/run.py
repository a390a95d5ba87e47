"""``fit``: one way to train every model, through Lightning."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from scatacformer._settings import settings

from .callbacks import BestOnDisk, BestWeights, EarlyStopping, StepCheckpoint
from .checkpoint import check_checkpoint, fingerprint_of, plain
from .device import check_accelerator
from .history import Outcome
from .interrupt import Interrupt, interruptible, terminate
from .plan import Batch, TrainingPlan
from .processes import is_loss_of_a_process
from .progress import Progress
from .sharding import ShardedEncoder

CHECKPOINT = "last.ckpt"
STRATEGIES = ("auto", "ddp", "fsdp")
# warnings of Lightning that do not apply
NOISE = (
    "The '.*_dataloader' does not have many workers",
    "The number of training batches",
    "Found .*eval",
    "Total length of `list` across ranks is zero",  # without held-out cells
    "It is recommended to use .self.log",  # sync_dist: the values are those of all processes already
    ".*isinstance.*treespec",
    "[Yy]ou defined a `validation_step` but have no val_dataloader",
    "Starting from v1.9.0, `tensorboardX`",
)


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Length, devices and safeguards of a training; checked when created.

    Parameters
    ----------
    max_epochs
        Passes over the training data.
    max_steps
        Stop after this many steps of the optimizer, if that is earlier. None: no such limit.
    accelerator
        ``"auto"`` (a CUDA device if there is one), ``"cpu"``, ``"gpu"``, or another name supported by Lightning.
    devices
        Number or list of devices; ``"auto"``: one, or all for a plan that supports several processes.
    num_nodes
        Number of machines.
    strategy
        ``"auto"``: one process, or DDP for several devices; ``"ddp"``; ``"fsdp"``: ``module.encoder`` is sharded
        across the processes.
    timeout
        Seconds that processes wait for one another before training ends with an error.
    precision
        ``"32-true"``, ``"bf16-mixed"``, ``"64-true"``, as in Lightning.
    accumulate_grad_batches
        Minibatches whose gradients make one step.
    gradient_clip_val
        Maximum norm of a step's gradients, all parameters together, row-sparse ones included. None: unlimited.
    monitor
        Metric for the best weights, which have its lowest value, and for early stopping.
    early_stopping_patience
        Stop when ``monitor`` has not fallen for this many epochs. None: no early stopping.
    early_stopping_warmup_epochs
        Epochs at the start that early stopping ignores.
    early_stopping_min_delta
        How far ``monitor`` must fall to count as better, for early stopping.
    validate_every_n_steps
        Minibatches between validations. None: once an epoch.
    checkpoint_dir
        Folder for ``last.ckpt``, which is written at the end of each epoch and when training is interrupted. None: no
        checkpoints.
    checkpoint_every_n_steps
        Steps between further checkpoints within an epoch. None: none.
    resume
        Continue from ``last.ckpt`` in ``checkpoint_dir``.
    fingerprint
        What a resumed training must have in common with the one before (plain numbers, strings and lists).
    best_weights_path
        File for the best weights. None: they are kept in memory, and put back into the module when training ends.
    seed
        Seed of dropout and anything else without a generator; the global random state is restored afterwards.
    loggers
        Loggers of Lightning.
    log_every_n_steps
        Steps between lines of the log.
    progress
        Whether to show a progress bar, on a terminal or in a notebook, and to log a line for each epoch elsewhere.
    callbacks
        Callbacks of the user; they run before those of this package.
    how_to_resume
        The call that resumes the training, for messages: ``"train(resume=True)"``.
    if_interrupted
        What else has not been done after an interruption, for the warning.
    trainer_kwargs
        Further arguments of Lightning's trainer.

    Raises
    ------
    ValueError
        A value is out of range; a GPU is requested but not available; ``resume`` without a checkpoint.
    """

    max_epochs: int
    max_steps: int | None = None
    accelerator: str = "auto"
    devices: int | str | list[int] = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    timeout: float = 600.0
    precision: str = "32-true"
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    monitor: str = "validation_loss"
    early_stopping_patience: int | None = None
    early_stopping_warmup_epochs: int = 0
    early_stopping_min_delta: float = 0.0
    validate_every_n_steps: int | None = None
    checkpoint_dir: Path | None = None
    checkpoint_every_n_steps: int | None = None
    resume: bool = False
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    best_weights_path: Path | None = None
    seed: int = 0
    loggers: Sequence[Any] = ()
    log_every_n_steps: int = 50
    progress: bool = True
    callbacks: Sequence[pl.Callback] = ()
    how_to_resume: str = ""
    if_interrupted: str = ""
    trainer_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("max_epochs", "max_steps", "accumulate_grad_batches", "early_stopping_patience"):
            value = getattr(self, name)
            if value is None and name != "max_epochs":
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} is {value!r}; expected a whole number.")
            if value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1.")
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy is {self.strategy!r}; expected one of {', '.join(STRATEGIES)}.")
        check_accelerator(self.accelerator)
        if self.resume and (self.checkpoint is None or not self.checkpoint.exists()):
            where = self.checkpoint or CHECKPOINT
            raise ValueError(
                f"resume=True needs a checkpoint, found none at {where}; name its folder (checkpoint_dir)."
            )

    @property
    def checkpoint(self) -> Path | None:
        """The file that checkpoints are written to."""
        return None if self.checkpoint_dir is None else Path(self.checkpoint_dir) / CHECKPOINT


def fit(plan: TrainingPlan, data: pl.LightningDataModule | tuple[Iterable[Batch], Any], options: FitOptions) -> Outcome:
    """Train ``plan.module``; see :mod:`scatacformer.training`.

    Parameters
    ----------
    plan
        The network with its loss, optimizer and learning rates.
    data
        A LightningDataModule, or a pair (training, held-out) of iterables of minibatches, which are dicts of tensors;
        the second may be None. What must be computed before the first step belongs into ``setup`` of a data module: it
        runs once all arguments have been checked, and a signal ends it at once.
    options
        See :class:`FitOptions`.

    Returns
    -------
    Outcome
        History, and whether Ctrl-C ended training. The module has the best weights, is in evaluation mode, on the
        device it was trained on.

    Raises
    ------
    FloatingPointError
        The loss is not finite; the error describes the minibatch.
    KeyboardInterrupt
        A second Ctrl-C, or one before the first step.
    SystemExit
        With status 143, after SIGTERM and once a checkpoint is written.
    RuntimeError
        Another process of the training has ended, or does not respond.

    Warns
    -----
    UserWarning
        Ctrl-C ended training; the warning describes the weights and how to resume.
    """
    return Fitting(plan, options).run(data)


class Fitting:
    """A training whose arguments have been checked, and that has not begun: for callers that need to know its
    processes.

    ``fit(plan, data, options)`` is ``Fitting(plan, options).run(data)``.
    """

    def __init__(self, plan: TrainingPlan, options: FitOptions) -> None:
        self.plan, self.options = plan, options
        self.watch = _Watch()
        self.stopping = StepCheckpoint(options.checkpoint, options.checkpoint_every_n_steps, options.how_to_resume)
        with quiet():
            self.trainer = _trainer(plan, options, self.watch, self.stopping)
        if self.trainer.world_size > 1 and not plan.several_processes:
            raise ValueError(f"devices selects {self.trainer.world_size} devices; expected one. Set devices=1.")
        clip = options.trainer_kwargs.get("gradient_clip_val", options.gradient_clip_val)
        plan.gradient_clip_val = float(clip or 0.0)
        plan.log_every_n_steps = int(options.trainer_kwargs.get("log_every_n_steps", options.log_every_n_steps))
        plan.fingerprint = plain(options.fingerprint)
        if options.resume:
            assert options.checkpoint is not None
            check_checkpoint(options.checkpoint, options.fingerprint)

    @property
    def n_processes(self) -> int:
        """Number of processes."""
        return self.trainer.world_size

    @property
    def is_first(self) -> bool:
        """Whether this process is the first of them, which writes files."""
        return self.trainer.is_global_zero

    def run(self, data: pl.LightningDataModule | tuple[Iterable[Batch], Any], resume: bool | None = None) -> Outcome:
        """Train. ``resume`` replaces that of the options if it was not known before."""
        plan, options, trainer = self.plan, self.options, self.trainer
        if options.checkpoint is not None:
            options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        if resume is None:
            resume = options.resume
        elif resume and options.checkpoint is not None:
            fingerprint_of(options.checkpoint, "Begin in another folder")  # not damaged
        loaders: dict[str, Any] = {"datamodule": data}
        if not isinstance(data, pl.LightningDataModule):
            loaders = {"train_dataloaders": data[0], "val_dataloaders": [] if data[1] is None else data[1]}
        module, device = plan.module, next((p.device for p in plan.module.parameters()), torch.device("cpu"))
        learned = {name: p.requires_grad for name, p in module.named_parameters()}
        with interruptible() as interrupt, quiet(), _seeded(options.seed):
            plan.interrupt = interrupt
            self.watch.interrupt = interrupt
            module.train()  # Lightning does not change the mode
            try:
                # weights_only: numbers, never code
                trainer.fit(plan, **loaders, ckpt_path=options.checkpoint if resume else None, weights_only=True)
                device = trainer.strategy.root_device
            except RuntimeError as error:
                if trainer.world_size == 1 or not is_loss_of_a_process(error):
                    raise
                raise RuntimeError(_lost(trainer, options, error)) from error
            finally:
                module.to(device).eval()
                for name, parameter in module.named_parameters():
                    parameter.requires_grad_(learned.get(name, True))
        return self._outcome()

    def _outcome(self) -> Outcome:
        plan, options, trainer = self.plan, self.options, self.trainer
        asked = plan.must_stop
        checkpoint = options.checkpoint
        resume = ""
        if checkpoint is not None and checkpoint.exists() and options.how_to_resume:
            resume = f"; {options.how_to_resume} resumes it"
        place = f"in epoch {trainer.current_epoch} of {trainer.max_epochs}"
        if asked == signal.SIGTERM:
            terminate(f"training was ended by SIGTERM {place}{resume}")
        if asked == signal.SIGINT:
            rest = f"; {options.if_interrupted}" if options.if_interrupted else ""
            warnings.warn(
                f"training was stopped by Ctrl-C {place}; the model has the best weights so far{resume}{rest}",
                UserWarning,
                stacklevel=4,
            )
        return Outcome(plan.history, asked == signal.SIGINT)


def _trainer(plan: TrainingPlan, options: FitOptions, watch: _Watch, stopping: StepCheckpoint) -> pl.Trainer:
    """The trainer with all callbacks. The user's ``trainer_kwargs`` override the defaults."""
    user = dict(options.trainer_kwargs)
    user.pop("gradient_clip_val", None)  # replaced by clipping that supports row-sparse gradients
    callbacks: list[pl.Callback] = [watch, *options.callbacks, *user.pop("callbacks", [])]
    if options.best_weights_path is None:
        callbacks.append(BestWeights(options.monitor, plan.fixed))
    else:
        callbacks.append(BestOnDisk(options.best_weights_path, options.monitor))
    if options.early_stopping_patience is not None:
        callbacks.append(
            EarlyStopping(
                options.monitor, options.early_stopping_patience, options.early_stopping_warmup_epochs,
                options.early_stopping_min_delta,
            )
        )  # fmt: skip
    progress = user.pop("enable_progress_bar", options.progress) and settings.progress
    callbacks += [*([Progress()] if progress else []), stopping]
    devices = 1 if options.devices == "auto" and not plan.several_processes else options.devices
    arguments: dict[str, Any] = {
        "accelerator": check_accelerator(options.accelerator), "devices": devices, "num_nodes": options.num_nodes,
        "precision": options.precision, "max_epochs": options.max_epochs, "max_steps": options.max_steps or -1,
        "accumulate_grad_batches": options.accumulate_grad_batches, "log_every_n_steps": options.log_every_n_steps,
        "val_check_interval": options.validate_every_n_steps, "logger": list(options.loggers) or False,
        "enable_checkpointing": True, "enable_model_summary": False, "num_sanity_val_steps": 0, "benchmark": False,
        # the loaders are not a DataLoader that Lightning could wrap; they divide the data themselves
        "use_distributed_sampler": False,
    }  # fmt: skip
    arguments |= user | {"callbacks": callbacks, "enable_progress_bar": progress}
    if "strategy" in user or not plan.several_processes:
        return pl.Trainer(**arguments)
    trainer = pl.Trainer(strategy="auto", **arguments) if options.strategy == "auto" else None
    if trainer is None or trainer.world_size > 1:
        trainer = pl.Trainer(strategy=_together(options), **arguments)
    return trainer


def _together(options: FitOptions) -> pl.strategies.DDPStrategy:
    timeout = timedelta(seconds=options.timeout)
    if options.strategy == "fsdp":
        return ShardedEncoder(options.precision == "bf16-mixed", timeout=timeout)
    # buffers never change; which parameters a step uses depends on its stage
    return pl.strategies.DDPStrategy(timeout=timeout, broadcast_buffers=False, find_unused_parameters=True)


class _Watch(pl.Callback):
    """Replaces Lightning's handlers, with which SIGTERM ends with exit status 0."""

    def __init__(self) -> None:
        self.interrupt = Interrupt()  # that of the running training: set when it begins

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.interrupt.watch()
        self.interrupt.stepping = True


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress log messages and warnings of Lightning that do not apply."""
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in NOISE:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        log.setLevel(level)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators within the block and restore them afterwards, because dropout takes no
    generator."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _lost(trainer: pl.Trainer, options: FitOptions, error: BaseException) -> str:
    resume = f". Continue from the last checkpoint with {options.how_to_resume}" if options.how_to_resume else ""
    return (
        f"process {trainer.global_rank} of {trainer.world_size} lost the others: one of them has ended (see its "
        f"output), or did not respond for {options.timeout:g} s ({type(error).__name__}){resume}"
    )
