"""The training plan of pretraining: stages and rates by step, one loss for all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from scatacformer.model.scatacformer._plan import PlanOptions, ScAtacTrainingPlan
from scatacformer.nn import weighted_total
from scatacformer.training import Losses, n_processes, warm_cosine

if TYPE_CHECKING:
    from scatacformer.nn import ScAtacNetwork

    from .config import PretrainConfig


PARTS = ("open", "kept")  # of the loss


class PretrainTrainingPlan(ScAtacTrainingPlan):
    """:class:`ScAtacTrainingPlan` whose stages are counted in steps, for any number of processes.

    Every process reads its part of a minibatch. The network returns means and their counts; weighted by their
    shares in all processes, the parts add up to the loss of the whole minibatch. ``name``: of a cell, by its row
    number."""

    several_processes = True
    advice = "Lower lr, lower gradient_clip_val, or train in precision='32-true'"

    def __init__(self, module: ScAtacNetwork, config: PretrainConfig, name: Callable[[int], str]) -> None:
        embedding_lr = config.embedding_lr
        if embedding_lr is None:
            embedding_lr = 0.0 if config.start == "spectral" else config.lr
        options = PlanOptions(
            lr=config.lr, decoder_lr=config.decoder_lr, weight_decay=config.weight_decay,
            kept_weight=config.kept_weight, embedding_lr=embedding_lr, n_decoder_epochs=0,
        )  # fmt: skip
        super().__init__(module, options)
        self.config, self.name = config, name
        self.n_decoder_steps = self.n_warmup_steps = 0  # set when the number of steps is known

    @property
    def decoder_only(self) -> bool:
        """Whether the encoder is left out of this step."""
        return self.trainer.global_step < self.n_decoder_steps

    def on_train_start(self) -> None:
        """Lengths of the stages, from the number of steps."""
        super().on_train_start()
        decoder, warmup = self.config.decoder_steps, self.config.warmup_steps
        if decoder is None:
            decoder = min(self.n_steps // 10, 1000) if self.config.start == "spectral" else 0
        self.n_decoder_steps = decoder
        self.n_warmup_steps = min(self.n_steps // 50, 2000) if warmup is None else warmup

    def before_step(self) -> None:
        for parameter in self._embedding_parameters():
            parameter.requires_grad_(self._embedding_learns)

    def learning_rates(self) -> tuple[float, ...]:
        if self.decoder_only:
            return self.options.decoder_lr, 0.0, 0.0
        done = self.trainer.global_step - self.n_decoder_steps
        left = max(self.n_steps - self.n_decoder_steps - self.n_warmup_steps, 1)
        return self._rates(warm_cosine((done + 1) / (self.n_warmup_steps + 1), (done - self.n_warmup_steps) / left))

    def losses(self, batch: Any) -> Losses:
        mine = self.module.losses(batch, self.decoder_only)
        own = float("ghost" not in batch)  # no cell is left for this process: it reads one of another process
        counts = torch.stack([mine[name].n if name in mine else torch.zeros_like(mine["open"].n) for name in PARTS])
        totals = self.summed(counts * own)
        # the share of this part times the number of processes, because DDP averages their gradients
        shares = n_processes() * own * counts.clamp_min(1.0) / totals.clamp_min(1.0)
        if n_processes() == 1:
            shares = torch.ones_like(counts)
        means = {name: share * mine[name].mean for name, share in zip(PARTS, shares, strict=True) if name in mine}
        n = own * float(counts[0].clamp_min(1.0))
        return Losses(weighted_total(means, self.options.kept_weight), {"train_loss": mine["open"].mean}, n)

    def validation_losses(self, batch: Any) -> Losses:
        """Removed-bin loss of held-out cells for their own bins, always on the same sentences."""
        loss = self.module.losses(batch, self.decoder_only)["open"]
        n = 0.0 if "ghost" in batch else float(loss.n.clamp_min(1.0))
        return Losses(loss.mean, {"validation_loss": loss.mean}, n)

    def describe(self, batch: Any) -> str:
        cells = [self.name(cell) for cell in batch["cells"].tolist()]
        return f"its cells: {'; '.join(cells[:10])}{'; ...' if len(cells) > 10 else ''}"
