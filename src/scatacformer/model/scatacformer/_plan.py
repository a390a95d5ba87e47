"""The training plan: first only the decoder, then all weights, or those of a query or of fine-tuning."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from scatacformer.nn import LabelTarget, RowAdamW, is_adapter, weighted_total
from scatacformer.training import Losses, TrainingPlan, warm_cosine

from ._trainable import Trainable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from scatacformer.nn import ScAtacNetwork

TABLE = "embedding.table.weight"


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Learning rates and weights of the losses; see ``plan_kwargs`` of :meth:`scatacformer.ScAtacFormer.train`."""

    lr: float = 1e-3
    embedding_lr: float = 0.0
    decoder_lr: float = 1e-2
    weight_decay: float = 1e-4
    kept_weight: float = 0.1
    n_decoder_epochs: int = 3
    label_weight: float | Mapping[str, float] = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


class ScAtacTrainingPlan(TrainingPlan):
    """First only the decoder, then all weights.

    The network starts with a good embedding, which the gradients of an untrained decoder would distort. Therefore only
    the decoder is trained for ``n_decoder_epochs`` (``decoder_lr``), and then the encoder (``lr``) and the decoder
    (3 ``lr``), with a cosine schedule that reaches zero after ``max_epochs``. The embedding, that is the bin table and
    the projection of ``<cls>``, is trained at ``embedding_lr``, which is zero by default: on a few thousand cells,
    training it does not improve the prediction of removed bins and makes the embedding worse.
    ``label_weight``: weight of the labels' cross-entropy relative to the removed-bin loss, for all tasks or by task; it
    trains the encoder, and with ``embedding_lr`` the embedding, on labels too.
    """

    module: ScAtacNetwork

    def __init__(self, module: ScAtacNetwork, options: PlanOptions, trainable: Trainable | None = None) -> None:
        super().__init__(module)
        self.options, self.trainable = options, trainable or Trainable()
        self.label_weight = by_task(options.label_weight, list(module.heads))
        self.labels: dict[str, LabelTarget] = {}  # tasks with a weight: set before fitting

    @property
    def fixed(self) -> frozenset[str]:
        return frozenset() if self.trainable.parts == "all" and self.options.embedding_lr > 0 else frozenset({TABLE})

    @property
    def decoder_only(self) -> bool:
        """Whether the encoder is left out of this step."""
        return not self.trainable.frozen and self.current_epoch < self.options.n_decoder_epochs

    @property
    def stage(self) -> str:
        return "decoder" if self.decoder_only else self.trainable.parts

    def configure_optimizers(self) -> RowAdamW:
        """One optimizer with three groups: decoder, embedding, encoder."""
        module, options = self.module, self.options
        if self.trainable.frozen:
            bias = module.decoder.bias.weight
            bias.register_hook(partial(_columns_alone, columns=list(self.trainable.new_batches)))
            return RowAdamW([bias], lr=options.decoder_lr)
        embedding = self._embedding_parameters()
        taken = {id(p) for p in [*module.decoder.parameters(), *embedding]}
        rest = [p for p in module.parameters() if id(p) not in taken]
        return RowAdamW(
            [
                {"params": list(module.decoder.parameters())},
                {"params": embedding},
                {"params": rest, "weight_decay": options.weight_decay},
            ],
            lr=options.lr,
        )

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        module, parts = self.module, self.trainable.parts
        self.labels = {task: target.to(self.device) for task, target in self.labels.items()}
        module.requires_grad_(parts == "all")
        if parts == "all":
            # in the first stage the table is not trained: only the decoder must adapt
            for parameter in self._embedding_parameters():
                parameter.requires_grad_(self._embedding_learns)
            return
        module.decoder.bias.requires_grad_(True)
        if parts == "lora":
            module.heads.requires_grad_(bool(self.labels))
            for name, parameter in module.encoder.named_parameters():
                parameter.requires_grad_(is_adapter(name) and not self.decoder_only)

    def learning_rates(self) -> tuple[float, ...] | None:
        options = self.options
        if self.trainable.frozen:
            return None
        if self.decoder_only:
            return options.decoder_lr, 0.0, 0.0
        n_epochs = max((self.trainer.max_epochs or 1) - options.n_decoder_epochs, 1)
        return self._rates(warm_cosine(1.0, (self.epochs_done - options.n_decoder_epochs) / n_epochs))

    def losses(self, batch: Any) -> Losses:
        found = {name: loss.mean for name, loss in self.module.losses(batch, self.decoder_only, self.labels).items()}
        means = {"train_loss": found["open"]}
        means |= {f"{task}_joint_loss": found[task] for task in self.labels if task in found}
        return Losses(weighted_total(found, self.options.kept_weight, self.labels), means, len(batch["depth"]))

    def validation_losses(self, batch: Any) -> Losses:
        """Removed-bin loss of held-out cells for their own bins, on the same sentences in every epoch."""
        loss = self.module.losses(batch, self.decoder_only)["open"].mean
        return Losses(loss, {"validation_loss": loss, "reconstruction_loss_validation": loss}, len(batch["depth"]))

    def describe(self, batch: Any) -> str:
        cells = batch["cells"].tolist()
        return f"cells (row numbers): {cells[:10]}{' ...' if len(cells) > 10 else ''}"

    @property
    def _embedding_learns(self) -> bool:
        return self.options.embedding_lr > 0 and not self.decoder_only

    def _rates(self, factor: float) -> tuple[float, float, float]:
        """Learning rates of the decoder, the embedding and the encoder, as shares of their peaks."""
        return 3 * self.options.lr * factor, self.options.embedding_lr * factor, self.options.lr * factor

    def _embedding_parameters(self) -> list[nn.Parameter]:
        module = self.module
        found = [module.embedding.table.weight, *([] if module.to_latent is None else [module.to_latent.weight])]
        return [parameter for parameter in found if isinstance(parameter, nn.Parameter)]


def by_task(label_weight: float | Mapping[str, float], tasks: list[str]) -> dict[str, float]:
    """The weights above zero, by task; ValueError for tasks that the model does not have."""
    if isinstance(label_weight, int | float):
        if label_weight and not tasks:
            raise ValueError(
                "label_weight is given for a model without labels. Create it with ScAtacFormer(adata, supervised=True)."
            )
        label_weight = dict.fromkeys(tasks, label_weight)
    if unknown := sorted(set(label_weight) - set(tasks)):
        raise ValueError(
            f"label_weight names {', '.join(unknown)}; the model predicts {', '.join(tasks) or 'no label'}."
        )
    if any(weight < 0 for weight in label_weight.values()):
        raise ValueError(f"label_weight is {label_weight}; expected 0 or more.")
    return {task: float(weight) for task, weight in label_weight.items() if weight}


def _columns_alone(grad: Tensor, columns: list[int]) -> Tensor:
    """A row-sparse gradient that is zero but in some columns: what has no gradient keeps its value bit for bit."""
    grad = grad.coalesce()
    values = torch.zeros_like(grad.values())
    values[:, columns] = grad.values()[:, columns]
    return torch.sparse_coo_tensor(grad.indices(), values, grad.shape, is_coalesced=True, check_invariants=False)
