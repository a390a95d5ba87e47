"""How a :class:`~scatacformer.nn.LabelHead` is fitted: a few hundred steps on what the network says of labelled cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from scatacformer.nn import LabelHead, balanced_weights, label_loss


@dataclass(frozen=True)
class LabelPlan:
    """How the heads are fitted; checked when it is built. See :meth:`~scatacformer.ScAtacFormer.train_labels`."""

    max_epochs: int | None = None
    batch_size: int = 256
    lr: float = 1e-2
    weight_decay: float = 1e-2
    class_weight: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, found {value}")
        if not self.lr > 0 or self.weight_decay < 0:
            raise ValueError(f"expected lr > 0 and weight_decay >= 0, found {self.lr} and {self.weight_decay}")
        if self.class_weight not in (None, "balanced"):
            raise ValueError(f"class_weight must be None or 'balanced', found {self.class_weight!r}")

    def n_epochs(self, n_cells: int) -> int:
        """Epochs over so many cells: what was asked for, or about 200 steps, 10 to 60."""
        if self.max_epochs is not None:
            return self.max_epochs
        return int(np.clip(round(200 / max(n_cells / self.batch_size, 1)), 10, 60))


def fit_head(
    inputs: torch.Tensor, labels: torch.Tensor, n_train: int, n_labels: int, plan: LabelPlan, seed: int
) -> tuple[LabelHead, dict[str, list[float]]]:
    """A fitted head and its history.

    ``inputs`` (n_cells, d_in) float32 and ``labels`` (n_cells,) int64 of ``n_train`` training cells, then the held-out
    ones. The global generator of torch is left as it was.
    """
    history: dict[str, list[float]] = {"train_loss": []}
    if n_train < len(inputs):
        history |= {"validation_loss": [], "validation_accuracy": []}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = LabelHead(inputs.shape[1], n_labels)
        head.standardise(inputs[:n_train])
        class_weight = balanced_weights(labels[:n_train], n_labels) if plan.class_weight else None
        optimizer = torch.optim.AdamW(head.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
        n_epochs = plan.n_epochs(n_train)
        n_steps = n_epochs * -(-n_train // plan.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        for _ in range(n_epochs):
            head.train()
            total = 0.0
            for batch in torch.randperm(n_train).split(plan.batch_size):
                loss = label_loss(head(inputs[batch]), labels[batch], class_weight)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += float(loss.detach()) * len(batch)
            history["train_loss"].append(total / n_train)
            if n_train < len(inputs):
                head.eval()
                with torch.no_grad():
                    logits = head(inputs[n_train:])
                history["validation_loss"].append(float(label_loss(logits, labels[n_train:])))
                history["validation_accuracy"].append(float((logits.argmax(1) == labels[n_train:]).float().mean()))
    return head.eval(), history
