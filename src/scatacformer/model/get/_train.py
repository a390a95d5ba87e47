"""How a GET is trained: on masked regions, on expression, or on accessibility."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from scatacformer.nn import masked_error
from scatacformer.pseudobulk import WindowLoader
from scatacformer.training import (
    FitOptions,
    Fitting,
    Losses,
    TrainingPlan,
    decay_groups,
    digest,
    fit_options,
    hold_out,
    schedule,
)

from ._adapter import add_adapter, has_adapter
from ._setup import check_expression, dense
from ._windows import stretches_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scatacformer.nn import GETNetwork

    from ._state import GETState

Batch = dict[str, "Tensor"]


@dataclass(frozen=True)
class GETOptions:
    """Arguments of a training, checked when made; as :meth:`GET.train` has them."""

    max_epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    warmup_steps: int | None
    patience: int | None
    seed: int
    mask_ratio: float = 0.5

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1.")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; expected above 0.")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; expected 0 or more.")
        if self.warmup_steps is not None and self.warmup_steps < 0:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; expected 0 or more, or None.")
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio is {self.mask_ratio}; expected a share from 0 to below 1.")


def train_model(
    model: GETState,
    target: str,
    options: GETOptions,
    holdout_chromosomes: str | Sequence[str] | None,
    holdout_groups: str | Sequence[str] | None,
    lora: int | None,
    trainer_kwargs: dict[str, Any],
) -> None:
    """Train ``model`` in place; everything is checked before the network is touched."""
    prepared = model._prepared_of(None)
    if target == "expression":
        check_expression(prepared.adata, model.setup_)
    if lora is None and has_adapter(model.module):
        raise ValueError("the model has an adapter: merge_adapter() or remove_adapter() before training all weights.")
    of_motifs = target == "accessibility"  # every group has the same windows: those of one are enough
    if of_motifs and holdout_groups:
        raise ValueError(
            "accessibility is predicted from motifs alone, by an output for each group: a group that is held out would have "
            "none. Hold out chromosomes."
        )
    stretches = stretches_of(prepared, np.arange(1) if of_motifs else None, model.open_only_ and not of_motifs)
    parts = hold_out(
        stretches.chroms,
        stretches.groups,
        holdout_chromosomes=holdout_chromosomes,
        holdout_groups=holdout_groups,
        need_validation=options.patience is not None,
        what="stretches of regions",
    )
    before, module = model.module, model.module
    n_groups = len(prepared.group_names) if of_motifs else 1
    if model.target_ != target or (of_motifs and model.accessibility_groups_ != prepared.group_names):
        module = module.with_target(target, options.seed, n_groups)
    if lora is not None and not has_adapter(module):
        add_adapter(module, lora, options.seed)
    plan = GETTrainingPlan(module, options, dense(prepared.data.accessibility).T.copy() if of_motifs else None)
    how = f"{'pretrain' if target == 'reconstruction' else 'train'}(resume=True)"
    fingerprint = _fingerprint(model, target, options, stretches, parts, lora)
    fitting = Fitting(
        plan,
        fit_options(
            trainer_kwargs, _OF_FIT, max_epochs=options.max_epochs, early_stopping_patience=options.patience,
            seed=options.seed, gradient_clip_val=1.0, devices=1, fingerprint=fingerprint, how_to_resume=how,
        ),
    )  # fmt: skip
    model.module = module
    common: dict[str, Any] = {
        "n_regions": model.config_.n_regions,
        "stride": model.stride_,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "target": "expression" if target == "expression" else None,
        "accessibility": "ones" if of_motifs else "binary" if model.binary_ else "quantitative",
        "rank": fitting.trainer.global_rank,
        "world_size": fitting.n_processes,
    }
    held_out = stretches.select(parts.validation)
    try:
        train = WindowLoader(prepared.data, stretches.select(parts.train), shuffle=True, **common)
        validation = WindowLoader(prepared.data, held_out, **common) if len(held_out) else None
        outcome = fitting.run((train, validation))
    except BaseException:
        model.module = before
        raise
    model.module.to(before.device).eval()
    model.history_ = outcome.history.frames()
    model.accessibility_groups_ = prepared.group_names if of_motifs else []
    model.is_trained_ = target != "reconstruction" or model.is_trained_
    model.training_ = {
        "target": target,
        "groups": prepared.group_names if of_motifs else sorted(set(stretches.groups[parts.train].tolist())),
        "chromosomes": sorted(set(stretches.chroms[parts.train].tolist())),
        "holdout_groups": _listed(holdout_groups),
        "holdout_chromosomes": _listed(holdout_chromosomes),
        "epochs": len(next(iter(model.history_.values()), ())),
        "lora": lora,
    }
    plan.warn_if_collapsed()


class GETTrainingPlan(TrainingPlan):
    """Losses, optimizer and learning rate of GET."""

    several_processes = True

    def __init__(self, module: GETNetwork, options: GETOptions, accessibility: np.ndarray | None = None) -> None:
        super().__init__(module)
        self.options = options
        # (regions, groups), the targets of a network that predicts the accessibility of all groups at once
        self.accessibility = None if accessibility is None else torch.from_numpy(accessibility.astype(np.float32))
        self.masks, self.skipped = torch.Generator().manual_seed(options.seed), module.sampled  # skipped: blocks
        self.same_masks = torch.Generator()
        self._sums = [0.0] * 6  # n, and sums of predicted, measured, their squares and products

    def losses(self, batch: Batch) -> Losses:
        """Mean over the scored regions (or the masked ones) of all processes."""
        total, n, _ = self._total(batch, self.masks)
        return self.mean_loss(total, n)

    def validation_losses(self, batch: Batch) -> Losses:
        """The same on held-out windows, with the same masks in every epoch."""
        total, n, output = self._total(batch, self.same_masks)
        if self.module.target != "reconstruction":
            counted = batch["scored"][..., None].expand_as(output)
            if self.module.target == "expression" and "tss" in batch:
                counted = counted & batch["tss"]
            a, b = output[counted].double(), self._targets(batch)[counted].double()
            found = [float(len(a)), *(float(x.sum()) for x in (a, b, a * a, b * b, a * b))]
            self._sums = [x + y for x, y in zip(self._sums, found, strict=True)]
        return Losses(total, {"validation_loss": total / n.clamp_min(1)}, float(n))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; biases, norms and tokens do not decay."""
        groups = decay_groups(self.module.parameters(), self.options.weight_decay, lambda p: p.dim() == 2)
        return torch.optim.AdamW(groups, lr=self.options.lr, betas=(0.9, 0.999))

    def learning_rates(self) -> list[float]:
        warmup = round(self.n_steps / 20) if self.options.warmup_steps is None else self.options.warmup_steps
        rate = self.options.lr * schedule(self.global_step, self.n_steps, warmup)
        return [rate, rate]

    def describe(self, batch: Batch) -> str:
        first = [
            f"group {g}, region {r}"
            for g, r in zip(batch["group"].tolist(), batch["regions"][:, 0].tolist(), strict=True)
        ]
        return f"windows (rows and first columns of the AnnData): {'; '.join(first[:5])}"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["scatacformer"] |= {"masks": self.masks.get_state(), "skipped": self.skipped.get_state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.masks.set_state(checkpoint["scatacformer"]["masks"])
        self.skipped.set_state(checkpoint["scatacformer"]["skipped"])

    def on_validation_epoch_start(self) -> None:
        self.same_masks.manual_seed(self.options.seed + 1)
        self._sums = [0.0] * 6

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self._sums = self._over_processes(self._sums)
        if self.module.target != "reconstruction":
            self._show({"validation_pearson": self._pearson()})
            self._keep("validation_pearson", self._pearson())

    def _total(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the losses of the regions that count, how many numbers that is, and the output (B, R, ...)."""
        x, padding, scored = batch["features"], ~batch["valid"], batch["scored"]
        if self.module.target == "reconstruction":
            chance = torch.rand(scored.shape, generator=generator).to(x.device)
            masked = (chance < self.options.mask_ratio) & batch["valid"]
            output = self.module(x, padding, masked)
            counted = masked & scored
            n = counted.sum() * x.shape[-1]
            total = masked_error(output, x, counted) * n if counted.any() else 0.0 * output.sum()
            return total, n, output
        output = self.module(x, padding)
        predicted, measured = output[scored].float(), self._targets(batch)[scored]
        total = F.poisson_nll_loss(predicted, measured, log_input=False, reduction="sum")
        return total, torch.tensor(predicted.numel(), device=x.device), output

    def _targets(self, batch: Batch) -> Tensor:
        """(B, R, outputs); of a window's missing regions anything, for they are not scored."""
        if self.accessibility is None:
            return batch["targets"]
        return self.accessibility[batch["regions"].cpu()].to(batch["features"].device)

    def _moments(self) -> tuple[float, float, float]:
        """Variances of what was predicted and measured, and their covariance."""
        n, a, b, aa, bb, ab = self._sums
        n = max(n, 1.0)
        return aa / n - (a / n) ** 2, bb / n - (b / n) ** 2, ab / n - a * b / n**2

    def _pearson(self) -> float:
        """NaN where one of the two is constant."""
        var_a, var_b, cov = self._moments()
        return cov / math.sqrt(var_a * var_b) if min(var_a, var_b) > 1e-12 else float("nan")

    def warn_if_collapsed(self) -> None:
        """Say so where the last epoch predicted the same value everywhere."""
        var_a, var_b, _ = self._moments()
        if self._sums[0] < 2 or var_b <= 0 or var_a > 1e-4 * var_b:
            return
        warnings.warn(
            f"the model predicts nearly the same value ({self._sums[1] / self._sums[0]:.3g}) everywhere on the held-out "
            f"regions, where the measured values have a standard deviation of {var_b**0.5:.3g}: training has collapsed or "
            "has not begun to learn. Raise max_epochs, lower lr, or check that motifs and expression are of the same "
            "regions",
            UserWarning,
            stacklevel=4,
        )


# options of ``fit`` that the user may give; the others follow from arguments of ``train``
_OF_FIT = {field.name for field in fields(FitOptions)} - {
    "max_epochs", "early_stopping_patience", "seed", "monitor", "fingerprint", "how_to_resume",
}  # fmt: skip


def _fingerprint(
    model: GETState, target: str, options: GETOptions, stretches: Any, parts: Any, lora: int | None
) -> dict:
    """What a resumed training must have in common with the one before; it may have more epochs."""
    data = model._prepared_of(None).data
    return {
        "target": target,
        "regions": digest(stretches.chroms, stretches.groups),
        "motifs": digest(data.motif),
        "accessibility": digest(data.accessibility),
        "expression": "" if data.expression is None or target != "expression" else digest(*data.expression),
        "split": digest(parts.train, parts.validation),
        "network": model.config_.to_dict(),
        "lora": lora,
        "stride": model.stride_,
        "options": {name: value for name, value in asdict(options).items() if name not in ("max_epochs", "patience")},
    }


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [] if names is None else [names] if isinstance(names, str) else [str(name) for name in names]
