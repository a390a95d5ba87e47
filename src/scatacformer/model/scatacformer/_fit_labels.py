"""Fitting of a :class:`~scatacformer.nn.LabelHead`: a few hundred steps on the network's output for labelled cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from scatacformer.nn import LabelHead, balanced_weights, label_loss
from scatacformer.training import DescendOptions, Outcome, descend


@dataclass(frozen=True)
class LabelOptions:
    """Options for fitting the heads; checked when created. See :meth:`~scatacformer.ScAtacFormer.train_labels`."""

    max_epochs: int | None = None
    batch_size: int = 256
    lr: float = 1e-2
    weight_decay: float = 1e-2
    class_weight: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1.")
        if not self.lr > 0 or self.weight_decay < 0:
            raise ValueError(
                f"lr is {self.lr} and weight_decay is {self.weight_decay}; expected lr above 0 and weight_decay of 0 or more."
            )
        if self.class_weight not in (None, "balanced"):
            raise ValueError(f"class_weight is {self.class_weight!r}; expected None or 'balanced'.")

    def n_epochs(self, n_cells: int) -> int:
        """Number of epochs: as requested, or about 200 steps (10 to 60 epochs)."""
        if self.max_epochs is not None:
            return self.max_epochs
        return int(np.clip(round(200 / max(n_cells / self.batch_size, 1)), 10, 60))


def fit_head(
    inputs: torch.Tensor, labels: torch.Tensor, n_train: int, n_labels: int, options: LabelOptions, seed: int, task: str
) -> tuple[LabelHead, Outcome]:
    """A fitted head, and its history.

    ``inputs`` (n_cells, d_in) float32 and ``labels`` (n_cells,) int64 of ``n_train`` training cells, then the held-out
    ones. The global generator of torch is not changed.
    """
    n_epochs = options.n_epochs(n_train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = LabelHead(inputs.shape[1], n_labels)
        head.standardise(inputs[:n_train])
        class_weight = balanced_weights(labels[:n_train], n_labels) if options.class_weight else None
        optimizer = torch.optim.AdamW(head.parameters(), lr=options.lr, weight_decay=options.weight_decay)
        n_steps = n_epochs * -(-n_train // options.batch_size)

        def validate() -> dict[str, float]:
            if n_train == len(inputs):
                return {}
            logits, held_out = head(inputs[n_train:]), labels[n_train:]
            accuracy = (logits.argmax(1) == held_out).float().mean()
            return {"validation_loss": float(label_loss(logits, held_out)), "validation_accuracy": float(accuracy)}

        outcome = descend(
            lambda cells: label_loss(head(inputs[cells]), labels[cells], class_weight),
            lambda epoch: torch.randperm(n_train).split(options.batch_size),
            optimizer,
            DescendOptions(
                what=task, max_epochs=n_epochs, progress=False,
                advice=f"Lower lr of labels_kwargs (it is {options.lr})", if_interrupted="train_labels() fits them again",
            ),
            describe=lambda cells: f"training cells with a label (numbers): {cells[:10].tolist()}",
            count=len, validate=validate, modules=[head],
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps),
        )  # fmt: skip
    return head, outcome
