"""Prediction of cell labels from the embedding."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scatacformer.nn.head import Head


class LabelTarget(NamedTuple):
    """One task in the loss of a joint training."""

    codes: Tensor  # (n_cells of the data,) int64; -1: no label
    weight: float  # of the task, relative to the removed-bin loss
    class_weight: Tensor | None  # (n_labels,)

    def to(self, device: torch.device) -> LabelTarget:
        weight = None if self.class_weight is None else self.class_weight.to(device)
        return LabelTarget(self.codes.to(device), self.weight, weight)


class LabelHead(nn.Module):
    """Logits of each label: a linear map plus a perceptron on standardised inputs.  (n_cells, d_in) -> (n_cells, n)

    Before training, all labels are equally probable.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, d_in: int, n_labels: int, d_hidden: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.head = Head(d_in, n_labels, d_hidden, dropout)
        nn.init.zeros_(self.head.linear.weight)
        self.register_buffer("centre", torch.zeros(d_in))
        self.register_buffer("scale", torch.ones(d_in))

    @torch.no_grad()
    def standardise(self, inputs: Tensor) -> None:
        """Set centre and scale from the inputs of the training cells; constant inputs are only centred.

        Inputs are standardised because ``<cls>`` has d_model numbers of size 1, and the embedding a few of any size.
        """
        self.centre.copy_(inputs.mean(0))
        spread = inputs.std(0, correction=0)
        self.scale.copy_(torch.where(spread > 1e-6, spread, 1.0))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head((inputs - self.centre) / self.scale)


def label_loss(logits: Tensor, codes: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Cross-entropy, nats per labelled cell (weighted); zero if no cell has a label.

    ``logits`` (n_cells, n_labels), ``codes`` (n_cells,) int64, -1 for cells without a label.
    """
    labelled = codes >= 0
    if not bool(labelled.any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits[labelled], codes[labelled], weight=class_weight)


def n_labelled(codes: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Over how many cells :func:`label_loss` is a mean, weighted.  ()"""
    labelled = codes[codes >= 0]
    return (torch.ones_like(labelled, dtype=torch.float32) if class_weight is None else class_weight[labelled]).sum()


def balanced_weights(codes: Tensor, n_labels: int) -> Tensor:
    """Weights that give every label with cells the same total weight, 1 on average over cells.  (n_labels,)"""
    count = torch.bincount(codes[codes >= 0], minlength=n_labels).float()
    return torch.where(count > 0, count.sum() / ((count > 0).sum() * count.clamp_min(1.0)), 0.0)
