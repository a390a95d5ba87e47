"""Low-rank changes of linear layers while a network is fine-tuned (LoRA, Hu et al. 2021), merged at the end."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """``weight + b @ a``, ``(out, in)``; ``b`` is zero at first, so that training starts from the network as it is."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        start = torch.randn(rank, n_in, generator=generator) * n_in**-0.5
        self.a = nn.Parameter(start.to(weight.device, weight.dtype))
        self.b = nn.Parameter(torch.zeros(n_out, rank, device=weight.device, dtype=weight.dtype))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def add_low_rank(layers: Iterable[nn.Linear], rank: int, generator: torch.Generator) -> int:
    """Give each layer a change of ``rank``; its own weight no longer learns. Returns how many numbers learn.

    Raises ValueError for a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"the rank of low-rank changes must be at least 1, found {rank}")
    n_learning = 0
    for layer in layers:
        layer.weight.requires_grad_(False)
        change = LowRank(layer.weight, rank, generator)
        parametrize.register_parametrization(layer, "weight", change)
        n_learning += change.a.numel() + change.b.numel()
    return n_learning


def merge_low_rank(network: nn.Module) -> None:
    """Add the changes to the weights for good; the layers are plain again."""
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear) and parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
