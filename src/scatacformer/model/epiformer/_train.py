"""How Epiformer is trained: whole, its head alone, or by low-rank changes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from scatacformer.nn import (
    Composition,
    EpiformerConfig,
    EpiformerNetwork,
    add_lora,
    log_error,
    poisson_error,
    remove_lora,
    signal_of,
    squared_error,
)
from scatacformer.tracks import WindowLoader
from scatacformer.training import FitOptions, Losses, TrainingPlan, decay_groups, digest, fit, hold_out, schedule

from ._predict import evaluating
from ._setup import LEAST_WINDOWS, Prepared

if TYPE_CHECKING:
    from torch import Tensor, nn

    from scatacformer.nn import EpiformerConfig

    from ._model import Epiformer

Tune = Literal["all", "head", "composition"]
Loss = Literal["poisson", "log"]
Keep = Literal["best", "last"]
_TO_STANDARDISE = 64  # windows
_COUNTS_KEPT = 1 << 30  # bytes
ERRORS = {"poisson": poisson_error, "log": log_error}


@dataclass(frozen=True)
class Parts:
    """Numbers of the windows of each part, and the names of its chromosomes."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    chromosomes: dict[str, list[str]]


@dataclass(frozen=True)
class EpiformerOptions:
    """Arguments of a training, checked when made; as :meth:`Epiformer.train` has them."""

    max_epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    warmup_steps: int | None
    patience: int | None
    reverse_complement: bool
    max_shift: int
    tune: Tune
    lora: int | None
    seed: int
    num_workers: int
    loss: Loss = "poisson"
    keep: Keep = "best"

    def __post_init__(self) -> None:
        if not self.lr > 0 or self.weight_decay < 0:
            raise ValueError(f"lr is {self.lr} and {self.weight_decay}; expected above 0 and weight_decay at least 0.")
        if self.warmup_steps is not None and self.warmup_steps < 0:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; expected 0 or more, or None.")
        if self.tune not in get_args(Tune):
            raise ValueError(f"tune is {self.tune!r}; expected one of {', '.join(map(repr, get_args(Tune)))}.")
        if self.lora is not None and self.tune != "all":
            raise ValueError(
                f"lora is given with tune={self.tune!r}, which does not train the transformer. Leave out one."
            )
        if self.keep not in ("best", "last"):
            raise ValueError(f"keep is {self.keep!r}; expected 'best' or 'last'.")
        if self.loss not in ERRORS:
            raise ValueError(f"loss is {self.loss!r}; expected one of {', '.join(map(repr, ERRORS))}.")


def loss_of(config: EpiformerConfig, loss: Loss | None, tune: str) -> Loss:
    """The loss of a training; ValueError for one that the network cannot have, or nothing of it to train."""
    if tune == "composition" and not config.composition:
        raise ValueError("tune is 'composition', which the model does not have: create it with composition=.")
    if config.composition and loss not in (None, "log"):
        raise ValueError(f"loss is {loss!r}; a model with a composition predicts log2(signal + 1): expected 'log'.")
    return loss or ("log" if config.composition else "poisson")


def split_windows(
    prepared: Prepared,
    holdout_chromosomes: str | Sequence[str] | None,
    validation_chromosomes: str | Sequence[str] | None,
) -> Parts:
    """Windows to train on, to stop by, and to leave for a test, by chromosome.

    Without ``validation_chromosomes`` the chromosome with a number of windows nearest to a tenth is taken.
    """
    chroms = prepared.data.chrom.astype(str)
    rest, test = np.arange(len(chroms)), np.empty(0, dtype=np.int64)
    if holdout_chromosomes is not None:
        rest, test = hold_out(chroms, holdout_chromosomes=holdout_chromosomes)
    if validation_chromosomes is None:
        names, counts = np.unique(chroms[rest], return_counts=True)
        if len(names) < 2:
            raise ValueError(
                f"the remaining training windows are all on {names[0]}; expected one more chromosome, to tell "
                "when to stop."
            )
        validation_chromosomes = [str(names[np.argmin(np.abs(counts - len(rest) / 10))])]
    inner = hold_out(chroms[rest], holdout_chromosomes=validation_chromosomes)
    train, validation = rest[inner.train], rest[inner.validation]
    named = {
        part: sorted(set(chroms[rows].tolist()))
        for part, rows in (("train", train), ("validation", validation), ("holdout", test))
    }
    if len(train) < LEAST_WINDOWS:
        warnings.warn(
            f"there are {len(train)} windows to train on: too few for a network of this kind to find motifs. Use more "
            "chromosomes, or shorter windows (seq_len)",
            UserWarning,
            stacklevel=3,
        )
    return Parts(train, validation, test, named)


def fingerprint(prepared: Prepared, parts: Parts, options: EpiformerOptions, config: EpiformerConfig) -> dict[str, Any]:
    """What a resumed training must have in common with the one before; it may have more epochs."""
    data, may_differ = prepared.data, ("max_epochs", "patience", "num_workers")
    in_memory = not hasattr(data.signal, "file")  # of a backed AnnData, only the shape is compared
    return {
        "tracks": prepared.track_names,
        "windows": digest(data.chrom, data.start),
        "signal": digest(np.asarray(data.signal)) if in_memory else list(data.signal.shape),
        "network": config.to_dict(),
        "parts": parts.chromosomes,
        "options": {name: value for name, value in asdict(options).items() if name not in may_differ},
    }


def track_scale(prepared: Prepared, windows: np.ndarray) -> np.ndarray:
    """Mean signal of each track in the bins that these windows predict, ``(n_tracks,)`` float32.

    The network predicts multiples of it, so that tracks in different units have the same weight in the loss.
    """
    data = prepared.data
    total = np.zeros(prepared.adata.n_obs, dtype=np.float64)
    known = np.zeros_like(total)
    for window in windows.tolist():
        values = data.target(window)
        total += np.nansum(values, axis=1)
        known += (~np.isnan(values)).sum(axis=1)
    if not total.all():
        name = prepared.track_names[int(np.argmin(total))]
        raise ValueError(
            f"track {name!r} is zero in all windows to train on: leave it out, or hold out other chromosomes."
        )
    return (total / known).astype(np.float32)


def train_model(
    model: Epiformer, prepared: Prepared, parts: Parts, options: EpiformerOptions, fit_options: FitOptions
) -> None:
    """Train ``model`` in place."""
    if not model.is_trained_:
        means = track_scale(prepared, parts.train)
        if model.config_.composition:  # it predicts log2(signal + 1) in the units of the data
            begin_composition(model.module, prepared, parts.train, parts.validation)
        else:
            model.scale_ = means
    common: dict[str, Any] = {
        "batch_size": options.batch_size,
        "seed": options.seed,
        "num_workers": options.num_workers,
    }
    train = WindowLoader(
        prepared.data,
        parts.train,
        shuffle=True,
        reverse_complement=options.reverse_complement,
        max_shift=options.max_shift,
        **common,
    )
    validation = WindowLoader(prepared.data, parts.validation, **common)
    choose_parts(model.module, options)
    plan = EpiformerTrainingPlan(model.module, model.scale_, options, prepared)
    last = LastWeights()
    try:
        outcome = fit(plan, (train, validation), replace(fit_options, callbacks=[*fit_options.callbacks, last]))
        if options.keep == "last" and not outcome.stopped:
            model.module.load_state_dict(last.weights)
    finally:
        remove_lora(model.module, merge=True)
        model.module.requires_grad_(True)
    model.history_ = outcome.history.frames()
    model.is_trained_ = True
    model.training_ = {
        "chromosomes": parts.chromosomes,
        "n_windows": {"train": len(parts.train), "validation": len(parts.validation), "holdout": len(parts.test)},
        "tune": options.tune,
        "lora": options.lora,
        "loss": options.loss,
        "epochs": len(next(iter(model.history_.values()), ())),
    }
    _warn_if_constant(model, validation)


def begin_composition(
    module: nn.Module, prepared: Prepared, windows: np.ndarray, validation: np.ndarray | None = None
) -> None:
    """The start of what reads counts, from some of the windows to train on, evenly spaced.

    Counts get mean 0 and variance 1, and each track begins with its mean of log2(signal + 1). What is linear in the counts
    is solved for all windows to train on, with a penalty that ``validation`` chooses.
    """
    some = windows[np.linspace(0, len(windows) - 1, min(len(windows), _TO_STANDARDISE)).astype(np.int64)].tolist()
    logs = np.concatenate([np.log2(prepared.data.target(window) + 1) for window in some], axis=1)
    start = torch.from_numpy(np.nan_to_num(np.nanmean(logs, axis=1)))
    device = next(module.parameters()).device
    networks = [part for part in module.modules() if isinstance(part, EpiformerNetwork)]
    for network, own in zip(networks, start.split([network.config.n_tracks for network in networks]), strict=True):
        assert network.composition is not None
        if not network.composition.mean.any():  # not one whose perceptrons have learned from standardised counts
            batches = (torch.from_numpy(prepared.data.sequence(window)[None]).to(device) for window in some)
            network.composition.standardise(batches, prepared.data.crop)
        network.composition.start_at(own)
    for number, network in enumerate(networks):
        if network.composition is None or not network.config.linear:
            continue
        rows = slice(number, number + 1) if len(networks) > 1 else slice(None)  # a network for each track

        def pairs(some: np.ndarray, rows: slice = rows) -> Iterator[tuple[Tensor, Tensor]]:
            for window in some.tolist():
                logs = np.log2(prepared.data.target(window)[rows] + 1)
                yield torch.from_numpy(prepared.data.sequence(window)[None]).to(device), torch.from_numpy(logs[None])

        network.composition.fit_line(
            pairs(windows), pairs(windows if validation is None else validation), prepared.data.crop
        )


def choose_parts(module: nn.Module, options: EpiformerOptions) -> None:
    """Freeze what does not learn; low-rank changes of the transformer's linear layers for ``lora``."""
    if options.tune == "all" and options.lora is None:
        return
    module.requires_grad_(False)
    networks = [part for part in module.modules() if isinstance(part, EpiformerNetwork)]
    for number, network in enumerate(networks):
        network.ptw.requires_grad_(options.tune != "composition")
        if network.composition is not None:
            network.composition.requires_grad_(True)
        if options.lora is not None:
            layers = [layer for layer in network.trans.modules() if isinstance(layer, torch.nn.Linear)]
            add_lora(layers, options.lora, torch.Generator().manual_seed(options.seed + number))


class LastWeights(Callback):
    """The weights of the last epoch, before ``fit`` restores the best."""

    weights: dict[str, Tensor]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module.module
        self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}


class EpiformerTrainingPlan(TrainingPlan):
    """Loss in units of each track's mean; missing values are left out."""

    scale: Tensor
    several_processes = True

    def __init__(self, module: nn.Module, scale: np.ndarray, options: EpiformerOptions, prepared: Prepared) -> None:
        super().__init__(module)
        self.options, self.prepared = options, prepared
        self.composition = any(isinstance(part, Composition) for part in module.modules())
        self._counted: dict[int, Tensor] = {}
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale, dtype=np.float32))[:, None], persistent=False)

    def losses(self, batch: dict[str, Tensor]) -> Losses:
        """Mean over the measured values in the minibatches of all processes."""
        frozen = self.options.tune != "all" or self.options.lora is not None
        if frozen:  # the statistics of frozen layers are frozen as well
            for part in self.module.modules():
                if isinstance(part, torch.nn.BatchNorm1d) and not part.weight.requires_grad:
                    part.eval()
        error, n = self._error(batch)
        return self.mean_loss(error, n)

    def validation_losses(self, batch: dict[str, Tensor]) -> Losses:
        """The same loss, and Pearson's r of log2(x + 1) within the minibatch."""
        measured = batch["signal"] / self.scale
        if self.composition:
            predicted = signal_of(self._logs(batch))
        else:
            predicted = self.module(batch["sequence"])
        error, n = ERRORS[self.options.loss](predicted, measured)
        means = {"validation_loss": error / n.clamp_min(1), "validation_pearson": _pearson(predicted, measured)}
        return Losses(error, means, float(n))

    def _error(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        measured = batch["signal"] / self.scale
        if not self.composition:
            return ERRORS[self.options.loss](self.module(batch["sequence"]), measured)
        logs = self._logs(batch)
        return squared_error(logs, torch.log2(measured + 1)[:, None].expand_as(logs))

    def _logs(self, batch: dict[str, Tensor]) -> Tensor:
        """log2(signal + 1) by every perceptron."""
        network: Any = self.module  # one, or one for each track
        logs: Tensor = network.logs(batch["sequence"], self._counts(batch))
        return logs

    def _counts(self, batch: dict[str, Tensor]) -> Tensor | None:
        """What the composition counts in windows that are never moved: once, not in every pass, while there is room."""
        if self.options.max_shift:
            return None
        composition = next(part for part in self.module.modules() if isinstance(part, Composition))
        rows = []
        for place, (window, reverse) in enumerate(
            zip(batch["window"].tolist(), batch["reverse"].tolist(), strict=True)
        ):
            counts = self._counted.get(window)
            if counts is None:
                counts = composition.count(batch["sequence"][place : place + 1])
                counts = counts.flip(-1) if reverse else counts
                if (len(self._counted) + 1) * counts.nbytes <= _COUNTS_KEPT:
                    self._counted[window] = counts
            rows.append(counts.flip(-1) if reverse else counts)
        return torch.cat(rows)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; biases and norms do not decay."""
        groups = decay_groups(self.module.parameters(), self.options.weight_decay)
        return torch.optim.AdamW(groups, lr=self.options.lr)

    def learning_rates(self) -> list[float]:
        """A line up, then a cosine."""
        warmup = self.n_steps // 10 if self.options.warmup_steps is None else self.options.warmup_steps
        return [self.options.lr * schedule(self.global_step, self.n_steps, warmup)] * 2

    def describe(self, batch: dict[str, Tensor]) -> str:
        """The windows of a minibatch, for the error about its loss."""
        data = self.prepared.data
        named = [f"{data.chrom[i]}:{data.start[i]}" for i in batch["window"].tolist()[:5]]
        return f"windows that begin at {', '.join(named)}"


def _pearson(predicted: Tensor, measured: Tensor) -> Tensor:
    known = ~measured.isnan()
    a, b = (torch.log2(x[known] + 1) for x in (predicted, measured))
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12)


def _warn_if_constant(model: Epiformer, validation: WindowLoader) -> None:
    """Say so where the network has collapsed to the mean."""
    batch = next(iter(validation))
    with evaluating(model.module), torch.inference_mode():
        predicted = model.module(batch["sequence"].to(model.device)).float()
    spread = predicted.std(dim=(0, 2)) / predicted.mean(dim=(0, 2)).clamp_min(1e-12)
    if bool((spread < 1e-3).any()):
        names = [name for name, flat in zip(model.track_names_, (spread < 1e-3).tolist(), strict=True) if flat]
        warnings.warn(
            f"the predictions of {', '.join(names[:5])} are the same in all bins: the network has learned nothing about "
            "the sequence. Train longer, with another lr, or on more windows; see model.history_",
            UserWarning,
            stacklevel=3,
        )
