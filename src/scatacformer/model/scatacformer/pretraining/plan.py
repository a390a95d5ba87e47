"""How a network is pretrained: stages and rates by step, one loss for all processes, what is logged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from scatacformer.model.scatacformer._plan import SentencePlan
from scatacformer.nn import clip_gradients
from scatacformer.training import average_rows, average_whole, n_processes, row_parameters, sum_over_processes

if TYPE_CHECKING:
    from torch import Tensor

    from scatacformer.nn import RowAdamW, ScAtacNetwork

    from .config import PretrainConfig


class PretrainPlan(SentencePlan):
    """:class:`SentencePlan` whose stages are counted in steps, for any number of processes.

    Every process reads its part of a minibatch. Its losses are scaled by its share of the bins that the minibatch's
    losses are means over, so that the mean of the processes' gradients, which DDP takes, is the gradient of the whole
    minibatch. DDP is told to leave the tables alone: the rows of their gradients are brought together before a step.
    ``name``: of a cell, by its row number.
    """

    def __init__(self, module: ScAtacNetwork, config: PretrainConfig, name: Callable[[int], str]) -> None:
        spectral = config.start == "spectral"
        super().__init__(
            module, lr=config.lr, decoder_lr=config.decoder_lr, weight_decay=config.weight_decay,
            kept_weight=config.kept_weight,
            embedding_lr=(0.0 if spectral else config.lr) if config.embedding_lr is None else config.embedding_lr,
        )  # fmt: skip
        self.settings, self.name = config, name
        self.n_steps, self.n_decoder_steps, self.n_warmup_steps = 0, 0, 0  # known once the loaders are
        self.stop_asked = self.stop_agreed = False
        self._epoch_sums, self._log_sums, self._validation_sums = ([0.0, 0.0] for _ in range(3))
        self._rows = row_parameters(module, "module.")
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, list(self._rows))

    @property
    def decoder_only(self) -> bool:
        """Whether the encoder is left out of this step."""
        return self.trainer.global_step < self.n_decoder_steps

    def on_train_start(self) -> None:
        """Lengths of the stages, from the number of steps."""
        config, trainer = self.settings, self.trainer
        per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        self.n_steps = min(per_epoch * config.max_epochs, config.max_steps or per_epoch * config.max_epochs)
        decoder, warmup = config.decoder_steps, config.warmup_steps
        if decoder is None:
            decoder = min(self.n_steps // 10, 1000) if config.start == "spectral" else 0
        if warmup is None:
            warmup = min(self.n_steps // 50, 2000)
        self.n_decoder_steps, self.n_warmup_steps = decoder, warmup
        self.module.requires_grad_(True)

    def on_train_epoch_start(self) -> None:
        """Tells the loader which epoch it is."""
        self.trainer.train_dataloader.set_epoch(self.current_epoch)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """What learns in this step, and at which rates: a function of the step's number alone."""
        for parameter in self._embedding_parameters():
            parameter.requires_grad_(self.embedding_lr > 0 and not self.decoder_only)
        if self.decoder_only:
            rates = (self.decoder_lr, 0.0, 0.0)
        else:
            done = self.trainer.global_step - self.n_decoder_steps
            left = max(self.n_steps - self.n_decoder_steps - self.n_warmup_steps, 1)
            warm = min((done + 1) / (self.n_warmup_steps + 1), 1.0)
            place = min(max(done - self.n_warmup_steps, 0) / left, 1.0)
            factor = warm * 0.5 * (1 + math.cos(math.pi * place))
            rates = (3 * self.lr * factor, self.embedding_lr * factor, self.lr * factor)
        for group, rate in zip(self.optimizers().param_groups, rates, strict=True):
            group["lr"] = rate

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of this process's part; a loss that is not finite ends the training and names the cells."""
        mine, shares = self._shares(batch)
        losses = self.module.loss(batch, decoder_only=self.decoder_only, kept_weight=self.kept_weight, shares=shares)
        value = float(losses["open"].detach())
        if not bool(losses["loss"].isfinite()):
            cells = [self.name(cell) for cell in batch["cells"].tolist()]
            raise FloatingPointError(
                f"the loss is {float(losses['loss'].detach())} in epoch {self.current_epoch}, minibatch {batch_idx}; its "
                f"cells: {'; '.join(cells[:10])}{'; ...' if len(cells) > 10 else ''}. Lower lr, lower gradient_clip_val, "
                "or train in precision='32-true'"
            )
        for sums in (self._epoch_sums, self._log_sums):
            sums[0] += value * mine
            sums[1] += mine
        return losses["loss"]

    def _shares(self, batch: dict[str, Tensor]) -> tuple[float, Tensor | None]:
        """Bins that the removed-bin loss of this part is a mean over; what the part's losses are multiplied with."""
        counts, own = self.module.loss_counts(batch), "ghost" not in batch  # (2,)
        mine = float(counts[0].clamp_min(1.0)) * own
        if n_processes() == 1:
            self.stop_agreed = self.stop_asked
            return mine, None
        asked = counts.new_tensor([float(self.stop_asked)])
        total = sum_over_processes(torch.cat([counts * own, asked]))
        # all stop after the same step, whoever was told to
        self.stop_agreed = bool(total[2] > 0)
        # a mean over nothing was taken as one over a single bin
        return mine, n_processes() * own * counts.clamp_min(1.0) / total[:2].clamp_min(1.0)

    def on_before_optimizer_step(self, optimizer: RowAdamW) -> None:
        """Brings together the gradients that DDP, or FSDP, leaves alone."""
        average_rows(self._rows.values())
        if any(isinstance(p, DTensor) for p in self.module.encoder.parameters()):
            rows = {id(p) for p in self._rows.values()}
            average_whole(p for p in self.module.parameters() if not isinstance(p, DTensor) and id(p) not in rows)

    def configure_gradient_clipping(self, optimizer: RowAdamW, *args: Any, **kwargs: Any) -> None:
        """Over dense and row-sparse gradients together, after they are those of all processes."""
        if self.settings.gradient_clip_val:
            clip_gradients(self.module.parameters(), self.settings.gradient_clip_val)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A line of the log, of the steps since the last one."""
        step = self.trainer.global_step
        if step % self.settings.log_every_n_steps == 0 and self._log_sums[1]:
            loss = self._mean(self._log_sums)
            self._log_sums = [0.0, 0.0]
            line = {"train_loss_step": loss, "epoch": self.current_epoch, "lr": self.optimizers().param_groups[2]["lr"]}
            for logger in self.trainer.loggers:
                logger.log_metrics(line, step=step)

    def on_train_epoch_end(self) -> None:
        """Loss of the epoch's steps; those of the validations were kept before."""
        self._keep("train_loss", self._mean(self._epoch_sums))
        self._epoch_sums = [0.0, 0.0]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Removed-bin loss of held-out cells, about themselves: the same sentences every time."""
        counts = self.module.loss_counts(batch)
        n = 0.0 if "ghost" in batch else float(counts[0].clamp_min(1.0))
        self._validation_sums[0] += n * float(self.module.loss(batch, decoder_only=self.decoder_only)["open"])
        self._validation_sums[1] += n

    def on_validation_epoch_end(self) -> None:
        """Nats per removed bin over all held-out cells, the same in every process."""
        loss = self._mean(self._validation_sums)
        self._validation_sums = [0.0, 0.0]
        self.log("validation_loss", loss, prog_bar=True, logger=False)
        self._keep("validation_loss", loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The history so far, and what the open epoch has added up, of all processes."""
        sums = [sum_over_processes(self._tensor(s)).tolist() for s in (self._epoch_sums, self._log_sums)]
        checkpoint["scatacformer_pretrain"] = {"record": self.record, "sums": sums}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The history of the steps before this run."""
        state = checkpoint["scatacformer_pretrain"]
        self.record = state["record"]
        if self.trainer.is_global_zero:  # it holds the sums of all
            self._epoch_sums, self._log_sums = (list(s) for s in state["sums"])

    def _mean(self, sums: list[float]) -> float:
        total, n = sum_over_processes(self._tensor(sums)).tolist()
        return total / max(n, 1.0)

    def _tensor(self, sums: list[float]) -> Tensor:
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor(sums, dtype=dtype, device=self.device)

    def _keep(self, name: str, value: float) -> None:
        self.record.setdefault(name, {})[self.current_epoch] = value
        for logger in self.trainer.loggers:
            logger.log_metrics({name: value, "epoch": self.current_epoch}, step=self.trainer.global_step)
