"""Continued training of an Atacformer: two objectives, one plan."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch.nn.functional as F

from scatacformer.cells import SentenceLoader
from scatacformer.nn import RowAdamW, mean_pool
from scatacformer.training import (
    FitOptions,
    Losses,
    Outcome,
    TrainingPlan,
    decay_groups,
    fit,
    schedule,
    split_cells,
)

from ._sentences import ReplacedSentences, TripletSentences

if TYPE_CHECKING:
    from scatacformer.cells import OverlapSource, RowSource
    from scatacformer.nn import AtacformerNetwork

logger = logging.getLogger("scatacformer")

OBJECTIVES = ("replaced_tokens", "triplet")


@dataclass(frozen=True)
class AtacformerOptions:
    """Arguments of a training, checked when created; see :meth:`scatacformer.Atacformer.train`."""

    objective: str
    replaced_share: float
    margin: float
    max_epochs: int
    batch_size: int
    max_tokens: int
    lr: float
    weight_decay: float
    warmup_steps: int | None
    early_stopping_patience: int | None
    num_workers: int
    seed: int

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective is {self.objective!r}; expected one of {OBJECTIVES}.")
        if not 0 < self.replaced_share < 1:
            raise ValueError(f"replaced_share is {self.replaced_share}; expected a value between 0 and 1.")
        for name in ("max_epochs", "batch_size", "early_stopping_patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1.")
        for name in ("margin", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected above 0.")
        for name in ("weight_decay", "warmup_steps", "num_workers"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"{name} is {value}; expected 0 or more.")


def train(
    module: AtacformerNetwork,
    options: AtacformerOptions,
    source: OverlapSource,
    keys: np.ndarray,
    codes: np.ndarray | None,
    train_size: float | None,
    validation_size: float | None,
    accelerator: str,
    trainer_kwargs: Mapping[str, Any],
) -> Outcome:
    """Train ``module`` in place; ``codes`` (n_cells,) are labels, -1 for none, or None where not needed."""
    among = np.arange(source.n_cells) if codes is None else np.flatnonzero(codes >= 0)
    if not len(among):
        raise ValueError("there is no cell to train on" + ("" if codes is None else ": none of them has a label"))
    patience = options.early_stopping_patience
    parts = split_cells(len(among), train_size, validation_size, options.seed, need_validation=patience is not None)
    n_regions = module.config.n_regions
    training = _loader(options, source, keys, codes, among[parts.train], n_regions, shuffle=True)
    held_out = _loader(options, source, keys, codes, among[parts.validation], n_regions, shuffle=False)
    if training is None:
        raise ValueError(
            "triplets need two labels, and one of them twice, among the training cells; found "
            f"{len(np.unique(codes[among])) if codes is not None else 0} labels in {len(among):,} cells."
        )
    if held_out is None and patience is not None:
        raise ValueError(
            f"early stopping needs held-out cells, and of {len(parts.validation)} none has another one of its label and "
            "one of another: raise validation_size, or set early_stopping=False."
        )
    fit_options = FitOptions(
        max_epochs=options.max_epochs, accelerator=accelerator, devices=1, early_stopping_patience=patience,
        gradient_clip_val=1.0, seed=options.seed, trainer_kwargs=trainer_kwargs,
    )  # fmt: skip
    return fit(AtacformerTrainingPlan(module, options), (training, held_out), fit_options)


def _loader(
    options: AtacformerOptions,
    source: OverlapSource,
    keys: np.ndarray,
    codes: np.ndarray | None,
    cells: np.ndarray,
    n_regions: int,
    shuffle: bool,
) -> SentenceLoader | None:
    """Minibatches of ``cells``, or None if there are none; without ``shuffle``, the same in every epoch."""
    sentences: ReplacedSentences | TripletSentences
    if codes is None:
        sentences = ReplacedSentences(keys, options.max_tokens, options.seed, options.replaced_share, n_regions)
    else:
        sentences = TripletSentences(keys, options.max_tokens, options.seed, source, codes, cells)
        cells = sentences.anchors()
    if not len(cells):
        return None
    return SentenceLoader(
        cast("RowSource", source), cells, options.batch_size, shuffle=shuffle, seed=options.seed, collate=sentences,
        num_workers=options.num_workers,
    )  # fmt: skip


class AtacformerTrainingPlan(TrainingPlan):
    """Losses, optimizer and learning rate."""

    module: AtacformerNetwork

    def __init__(self, module: AtacformerNetwork, options: AtacformerOptions) -> None:
        super().__init__(module)
        self.options = options
        self.n_tokens = 0  # read in training

    def setup(self, stage: str) -> None:
        if self.options.objective == "replaced_tokens" and self.module.discriminator is None:
            logger.info("the model has no head for replaced tokens; a new one is trained")
            self.module.add_discriminator(self.options.seed)

    def configure_optimizers(self) -> RowAdamW:
        """Weights decay, except biases, norms, and rows of the region table that were not read."""
        groups = decay_groups(self.module.parameters(), self.options.weight_decay)
        return RowAdamW(groups, lr=self.options.lr, betas=(0.9, 0.999))

    def learning_rates(self) -> tuple[float, float]:
        warmup = self.options.warmup_steps
        n_warmup = min(500, self.n_steps // 10) if warmup is None else warmup
        rate = self.options.lr * schedule(self.global_step, self.n_steps, n_warmup)
        return rate, rate

    def losses(self, batch: Any) -> Losses:
        losses = self._losses(batch)
        self.n_tokens += len(batch["tokens"])
        return Losses(losses.total, {"train_loss": losses.total}, losses.n)

    def validation_losses(self, batch: Any) -> Losses:
        losses = self._losses(batch)
        return losses._replace(means={f"validation_{name}": value for name, value in losses.means.items()})

    def describe(self, batch: Any) -> str:
        cells = batch["cells"].tolist()
        return f"cells (row numbers): {cells[:10]}{' ...' if len(cells) > 10 else ''}"

    def on_train_epoch_end(self) -> None:
        if not self.n_tokens:
            raise ValueError("no training cell has an open region in the model's universe; expected at least one.")
        super().on_train_epoch_end()

    def _losses(self, batch: Any) -> Losses:
        """Loss and accuracy, for tokens or triplets."""
        hidden = self.module(batch["tokens"], batch["cu_seqlens"])
        if self.options.objective == "replaced_tokens":
            assert self.module.discriminator is not None
            logits = self.module.discriminator(hidden).float()
            n = max(len(logits), 1)
            loss = F.binary_cross_entropy_with_logits(logits, batch["replaced"], reduction="sum") / n
            right = ((logits > 0) == (batch["replaced"] > 0)).sum() / n
            return Losses(loss, {"loss": loss, "accuracy": right}, n)
        anchor, same, other = mean_pool(hidden, batch["cu_seqlens"]).float().chunk(3)
        loss = F.triplet_margin_loss(anchor, same, other, margin=self.options.margin, p=2)
        nearer = F.pairwise_distance(anchor, same) < F.pairwise_distance(anchor, other)
        return Losses(loss, {"loss": loss, "accuracy": nearer.float().mean()}, len(anchor))
