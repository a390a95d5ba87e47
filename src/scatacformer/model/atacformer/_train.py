"""How an Atacformer is trained on: two objectives, one Lightning plan."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F

from scatacformer.cells import SentenceLoader
from scatacformer.nn import RowAdamW, clip_gradients, mean_pool
from scatacformer.training import BestWeights, GracefulInterrupt, Progress, split_cells

from ._sentences import ReplacedSentences, TripletSentences

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from scatacformer.cells import OverlapSource
    from scatacformer.nn import AtacformerNetwork

    from ._model import Atacformer

logger = logging.getLogger("scatacformer")

OBJECTIVES = ("replaced_tokens", "triplet")
LOSSES = ("train_loss", "validation_loss", "validation_accuracy")
_NOISE = ("The '.*_dataloader' does not have many workers", "The number of training batches", ".*isinstance.*treespec")


@dataclass(frozen=True)
class Plan:
    """Arguments of a training, checked when made; as :meth:`Atacformer.train` has them. ``patience`` None: no early stop."""

    objective: str
    replaced_share: float
    margin: float
    max_epochs: int
    batch_size: int
    max_tokens: int
    lr: float
    weight_decay: float
    warmup_steps: int | None
    patience: int | None
    num_workers: int
    seed: int

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {OBJECTIVES}, found {self.objective!r}")
        if not 0 < self.replaced_share < 1:
            raise ValueError(f"replaced_share must lie between 0 and 1, found {self.replaced_share}")
        for name in ("max_epochs", "batch_size", "patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, found {value}")
        for name in ("margin", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, found {getattr(self, name)}")
        for name in ("weight_decay", "warmup_steps", "num_workers"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"{name} must not be negative, found {value}")


def fit(
    model: Atacformer,
    plan: Plan,
    source: OverlapSource,
    keys: np.ndarray,
    codes: np.ndarray | None,
    train_size: float | None,
    validation_size: float | None,
    accelerator: str,
    trainer_kwargs: dict[str, Any],
) -> None:
    """Train ``model.module`` in place; ``codes`` (n_cells,) are labels, -1 for none, or None where not needed."""
    among = np.arange(source.n_cells) if codes is None else np.flatnonzero(codes >= 0)
    if not len(among):
        raise ValueError("there is no cell to train on" + ("" if codes is None else ": none of them has a label"))
    parts = split_cells(len(among), train_size, validation_size, plan.seed, need_validation=plan.patience is not None)
    n_regions = model.config.n_regions
    train = _loader(plan, source, keys, codes, among[parts[0]], n_regions, shuffle=True)
    held_out = _loader(plan, source, keys, codes, among[parts[1]], n_regions, shuffle=False)
    if train is None:
        raise ValueError(
            "triplets need two labels, and one of them twice, among the training cells; found "
            f"{len(np.unique(codes[among])) if codes is not None else 0} labels in {len(among):,} cells"
        )
    if held_out is None and plan.patience is not None:
        raise ValueError(
            f"early stopping needs held-out cells, and of {len(parts[1])} none has another one of its label and one of "
            "another: raise validation_size, or set early_stopping=False"
        )
    steps = Steps(model.module, plan)
    interrupt = GracefulInterrupt()
    callbacks: list[Any] = [*trainer_kwargs.pop("callbacks", []), interrupt, BestWeights()]
    if plan.patience is not None:
        callbacks.append(pl.callbacks.EarlyStopping("validation_loss", patience=plan.patience, check_finite=False))
    if trainer_kwargs.get("enable_progress_bar", True):
        callbacks.append(Progress())
    defaults = {
        "max_epochs": plan.max_epochs, "accelerator": accelerator, "devices": 1, "logger": False,
        "enable_checkpointing": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
        "use_distributed_sampler": False, "callbacks": callbacks,
    }  # fmt: skip
    device = model.device
    quiet = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = quiet.level
    quiet.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(range(torch.cuda.device_count())):
            for message in _NOISE:
                warnings.filterwarnings("ignore", message=message)
            torch.manual_seed(plan.seed)  # of dropout, which takes no generator; given back afterwards
            trainer = pl.Trainer(**(defaults | trainer_kwargs))
            if plan.objective == "replaced_tokens" and model.module.discriminator is None:
                logger.info("the model has no head for replaced tokens: a new one is trained")
                model.module.add_discriminator(plan.seed)
            model.module.train()  # Lightning leaves the mode as it finds it
            trainer.fit(steps, train, held_out)
    finally:
        quiet.setLevel(level)
        model.module.to(device).eval()
    model.history = steps.history()
    if interrupt.asked:
        warnings.warn(
            f"training was stopped by Ctrl-C in epoch {steps.current_epoch} of {plan.max_epochs}; the model has the best "
            "weights so far",
            UserWarning,
            stacklevel=3,
        )


def _loader(
    plan: Plan,
    source: OverlapSource,
    keys: np.ndarray,
    codes: np.ndarray | None,
    cells: np.ndarray,
    n_regions: int,
    shuffle: bool,
) -> SentenceLoader | None:
    """Minibatches of ``cells``, or None where there is none to make; without ``shuffle`` the same in every epoch."""
    sentences: ReplacedSentences | TripletSentences
    if codes is None:
        sentences = ReplacedSentences(keys, plan.max_tokens, plan.seed, plan.replaced_share, n_regions)
    else:
        sentences = TripletSentences(keys, plan.max_tokens, plan.seed, source, codes, cells)
        cells = sentences.anchors()
    if not len(cells):
        return None
    return SentenceLoader(
        source, cells, plan.batch_size, shuffle=shuffle, seed=plan.seed, collate=sentences,
        num_workers=plan.num_workers,
    )  # fmt: skip


class Steps(pl.LightningModule):
    """Losses, optimizer and learning rate; what the epochs gave is kept for ``history``."""

    decoder_only = False  # there is no decoder; the progress bar asks

    def __init__(self, module: AtacformerNetwork, plan: Plan) -> None:
        super().__init__()
        self.module, self.plan = module, plan
        self.record: dict[str, dict[int, float]] = {}
        self.n_tokens = 0  # that were read in training

    def configure_optimizers(self) -> RowAdamW:
        """Weights decay, but biases and norms do not, and of the region table nothing that was not read."""
        matrices = [p for p in self.module.parameters() if p.dim() > 1]
        vectors = [p for p in self.module.parameters() if p.dim() == 1]
        groups = [{"params": matrices, "weight_decay": self.plan.weight_decay}, {"params": vectors}]
        return RowAdamW(groups, lr=self.plan.lr, betas=(0.9, 0.999))

    def on_train_epoch_start(self) -> None:
        self.trainer.train_dataloader.set_epoch(self.current_epoch)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        n_steps = self.trainer.max_epochs * max(self.trainer.num_training_batches, 1)
        warmup = self.plan.warmup_steps
        rate = self.plan.lr * schedule(self.global_step, n_steps, min(500, n_steps // 10) if warmup is None else warmup)
        for group in self.optimizers().param_groups:
            group["lr"] = rate

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        clip_gradients(self.module.parameters(), 1.0)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of a minibatch; ends the training where it is not finite."""
        loss, _, n = self._losses(batch)
        self.n_tokens += len(batch["tokens"])
        if not bool(loss.isfinite()):
            raise FloatingPointError(
                f"the loss is {float(loss.detach())} in epoch {self.current_epoch}, step {batch_idx}; cells (row "
                f"numbers): {batch['cells'].tolist()[:10]} .... Lower lr, or train in precision='32-true'"
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=n, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        loss, accuracy, n = self._losses(batch)
        for name, value in (("validation_loss", loss), ("validation_accuracy", accuracy)):
            self.log(name, value, on_step=False, on_epoch=True, batch_size=n, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        if not self.n_tokens:
            raise ValueError("no training cell has an open region that the model knows: there is nothing to learn from")
        for name in LOSSES:
            if (value := self.trainer.callback_metrics.get(name)) is not None:
                self.record.setdefault(name, {})[self.current_epoch] = float(value)

    def _losses(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, int]:
        """Loss, share that is told rightly, and how many there are of tokens or triplets (at least 1)."""
        hidden = self.module(batch["tokens"], batch["cu_seqlens"])
        if self.plan.objective == "replaced_tokens":
            logits = self.module.discriminator(hidden).float()
            n = max(len(logits), 1)
            loss = F.binary_cross_entropy_with_logits(logits, batch["replaced"], reduction="sum") / n
            return loss, ((logits > 0) == (batch["replaced"] > 0)).sum() / n, n
        anchor, same, other = mean_pool(hidden, batch["cu_seqlens"]).float().chunk(3)
        loss = F.triplet_margin_loss(anchor, same, other, margin=self.plan.margin, p=2)
        nearer = F.pairwise_distance(anchor, same) < F.pairwise_distance(anchor, other)
        return loss, nearer.float().mean(), len(anchor)

    def history(self) -> dict[str, pd.DataFrame]:
        """One frame a metric, indexed by epoch, as scvi-tools has it."""
        import pandas as pd

        return {
            name: pd.DataFrame({name: list(values.values())}, index=pd.Index(list(values), name="epoch"))
            for name, values in self.record.items()
        }


def schedule(step: int, n_steps: int, warmup: int) -> float:
    """Share of the peak learning rate: up in a line over ``warmup`` steps, down to zero as a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(n_steps - warmup, 1), 1.0)))
