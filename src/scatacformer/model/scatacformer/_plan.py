"""How the network is trained: a Lightning plan in two stages, and what it hands to the user as history."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

from scatacformer.nn import LabelTarget, RowAdamW, is_adapter

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from scatacformer.nn import ScAtacNetwork


LOSSES = ("train_loss", "validation_loss", "reconstruction_loss_validation")


class SentencePlan(pl.LightningModule):
    """First the decoder alone, then everything, gently.

    The network starts at a good embedding; while the decoder is wrong in scale its gradient would warp it. So for
    ``n_decoder_epochs`` only the decoder learns (``decoder_lr``); then the encoder (``lr``) and the decoder (3 ``lr``)
    too, under a cosine that ends at zero after ``max_epochs``. What the embedding is made of, the bin table and the
    projection of ``<cls>``, learns at ``embedding_lr``. It is zero by default: on a few thousand cells the removed bins
    are predicted as well without, and the embedding of the spectral start is better than what they make of it.
    ``label_weight``: of the labels' cross-entropy beside the removed-bin loss, for all tasks or by task; with it the
    encoder, and with ``embedding_lr`` the embedding, learn from labels too.
    ``adapters_only``: of the encoder the low-rank changes alone learn, beside the biases of the decoder and, with
    ``label_weight``, the heads.
    ``new_batches``: codes of a query's batches on a frozen model; nothing but the decoder's bias of these learns.
    """

    def __init__(
        self,
        module: ScAtacNetwork,
        lr: float = 1e-3,
        embedding_lr: float = 0.0,
        decoder_lr: float = 1e-2,
        weight_decay: float = 1e-4,
        kept_weight: float = 0.1,
        n_decoder_epochs: int = 3,
        label_weight: float | dict[str, float] = 0.0,
        new_batches: list[int] | None = None,
        adapters_only: bool = False,
    ) -> None:
        super().__init__()
        self.module = module
        self.lr, self.embedding_lr, self.decoder_lr, self.weight_decay = lr, embedding_lr, decoder_lr, weight_decay
        self.kept_weight, self.n_decoder_epochs, self.new_batches = kept_weight, n_decoder_epochs, new_batches
        self.adapters_only = adapters_only
        self.label_weight = _by_task(label_weight, list(module.heads))
        self.labels: dict[str, LabelTarget] = {}  # of the tasks with a weight: set before fitting
        self.record: dict[str, dict[int, float]] = {}

    @property
    def bias_only(self) -> bool:
        """Whether a query's batches are all that is trained."""
        return self.new_batches is not None

    @property
    def fixed(self) -> frozenset[str]:
        """Names of the large weights that no step of this plan changes."""
        learns = self.embedding_lr > 0 and not self.bias_only and not self.adapters_only
        return frozenset() if learns else frozenset({"embedding.table.weight"})

    @property
    def decoder_only(self) -> bool:
        """Whether the encoder is left out of this epoch."""
        return not self.bias_only and self.current_epoch < self.n_decoder_epochs

    def configure_optimizers(self) -> RowAdamW:
        """One optimizer of three groups: decoder, what the embedding is made of, encoder."""
        module = self.module
        if self.bias_only:
            bias = module.decoder.bias.weight
            bias.register_hook(partial(_columns_alone, columns=self.new_batches))
            return RowAdamW([bias], lr=self.decoder_lr)
        embedding = self._embedding_parameters()
        taken = {id(p) for p in [*module.decoder.parameters(), *embedding]}
        rest = [p for p in module.parameters() if id(p) not in taken]
        return RowAdamW(
            [
                {"params": list(module.decoder.parameters())},
                {"params": embedding},
                {"params": rest, "weight_decay": self.weight_decay},
            ],
            lr=self.lr,
        )

    def on_train_start(self) -> None:
        """Early stopping goes on in its warm-up where a resumed run left it; scvi-tools' own would begin it anew."""
        for callback in self.trainer.callbacks:
            if hasattr(callback, "warmup_epochs"):
                callback.warmup_epochs = max(callback.warmup_epochs - self.current_epoch, 0)

    def on_train_epoch_start(self) -> None:
        """Tells the loader which epoch it is; freezes what this stage does not train."""
        loader = self.trainer.train_dataloader
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(self.current_epoch)
        if self.bias_only:
            self.module.requires_grad_(False)
            self.module.decoder.bias.requires_grad_(True)
            return
        self.module.requires_grad_(not self.adapters_only)
        self.labels = {task: target.to(self.device) for task, target in self.labels.items()}
        if self.adapters_only:
            self.module.decoder.bias.requires_grad_(True)
            self.module.heads.requires_grad_(bool(self.labels))
            for name, parameter in self.module.encoder.named_parameters():
                parameter.requires_grad_(is_adapter(name) and not self.decoder_only)
            return
        # in the first stage the table is read, not learned: the decoder alone is wrong in scale
        for parameter in self._embedding_parameters():
            parameter.requires_grad_(self.embedding_lr > 0 and not self.decoder_only)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Learning rates of this step: a function of its place in the run alone, so that resuming changes nothing."""
        groups = self.optimizers().param_groups
        if self.bias_only:
            return
        if self.decoder_only:
            rates = (self.decoder_lr, 0.0, 0.0)
        else:
            n_epochs = max(self.trainer.max_epochs - self.n_decoder_epochs, 1)
            done = self.current_epoch - self.n_decoder_epochs + batch_idx / max(self.trainer.num_training_batches, 1)
            cosine = 0.5 * (1 + math.cos(math.pi * min(done / n_epochs, 1.0)))
            rates = (3 * self.lr * cosine, self.embedding_lr * cosine, self.lr * cosine)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate

    def _embedding_parameters(self) -> list[torch.nn.Parameter]:
        to_latent = self.module.to_latent
        return [self.module.embedding.table.weight, *([] if to_latent is None else [to_latent.weight])]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of a minibatch; a loss that is not finite ends the training and names the cells."""
        losses = self.module.loss(
            batch, decoder_only=self.decoder_only, kept_weight=self.kept_weight, labels=self.labels
        )
        if not bool(losses["loss"].isfinite()):
            cells = batch["cells"].tolist()
            raise FloatingPointError(
                f"the loss is {float(losses['loss'].detach())} in epoch {self.current_epoch}, step {batch_idx}; cells "
                f"(row numbers): {cells[:10]}{' ...' if len(cells) > 10 else ''}. Lower lr, or train in precision='32-true'"
            )
        self._log("train_loss", losses["open"], len(batch["depth"]), prog_bar=True)
        for task in self.labels.keys() & losses.keys():
            self._log(f"{task}_joint_loss", losses[task], len(batch["depth"]))
        return losses["loss"]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Removed-bin loss of held-out cells, about themselves: the same sentences in every epoch."""
        losses = self.module.loss(batch, decoder_only=self.decoder_only)
        self._log("validation_loss", losses["open"], len(batch["depth"]), prog_bar=True)
        self._log("reconstruction_loss_validation", losses["open"], len(batch["depth"]))

    def on_train_epoch_end(self) -> None:
        """Keeps the epoch's averages for ``model.history``."""
        for name, value in self.trainer.callback_metrics.items():
            if name in LOSSES or name.endswith("_joint_loss"):
                self.record.setdefault(name, {})[self.current_epoch] = float(value)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The history so far travels with the checkpoint."""
        checkpoint["scatacformer_history"] = self.record

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The history of the epochs before this run."""
        self.record = checkpoint.get("scatacformer_history", {})

    def history(self) -> dict[str, pd.DataFrame]:
        """One frame a metric, indexed by epoch, as scvi-tools has it."""
        import pandas as pd

        return {
            name: pd.DataFrame({name: list(values.values())}, index=pd.Index(list(values), name="epoch"))
            for name, values in self.record.items()
        }

    def _log(self, name: str, value: Tensor, n_cells: int, prog_bar: bool = False) -> None:
        self.log(name, value, on_step=False, on_epoch=True, batch_size=n_cells, prog_bar=prog_bar)


def _by_task(label_weight: float | dict[str, float], tasks: list[str]) -> dict[str, float]:
    """The weights above zero, by task; ValueError for tasks that the model does not have."""
    if not isinstance(label_weight, dict):
        if label_weight and not tasks:
            raise ValueError("label_weight is for a supervised model: ScAtacFormer(adata, supervised=True)")
        label_weight = dict.fromkeys(tasks, label_weight)
    if unknown := sorted(set(label_weight) - set(tasks)):
        raise ValueError(
            f"label_weight names {', '.join(unknown)}; the model predicts {', '.join(tasks) or 'no label'}"
        )
    if any(weight < 0 for weight in label_weight.values()):
        raise ValueError(f"label_weight must not be negative, found {label_weight}")
    return {task: float(weight) for task, weight in label_weight.items() if weight}


def _columns_alone(grad: Tensor, columns: list[int]) -> Tensor:
    """A row-sparse gradient that is zero but in some columns: what has no gradient keeps its value to the bit."""
    grad = grad.coalesce()
    values = torch.zeros_like(grad.values())
    values[:, columns] = grad.values()[:, columns]
    return torch.sparse_coo_tensor(grad.indices(), values, grad.shape, is_coalesced=True, check_invariants=False)
