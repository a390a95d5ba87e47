"""Contacts between regions of a chromosome, predicted from their distances.

Source of the architecture: the distance contact map of GET (Fu et al., Nature 2025), rebuilt from its description.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ContactNetwork(nn.Module):
    """Positions of regions to the logarithm of their contacts: three 3 × 3 convolutions over the distance map.

    In addition to the distance, the convolutions use the density of regions around the two. The output is symmetric and
    at least 0.

    Parameters
    ----------
    width
        Channels of the first convolution; the second has twice as many.
    seed
        Seed of the weights.
    """

    def __init__(self, width: int = 32, seed: int = 0) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}; expected at least 1.")
        self.width = width
        sizes = (1, width, 2 * width, 1)
        layers = [
            nn.Conv2d(a, b, 3, padding=1, padding_mode="replicate") for a, b in zip(sizes, sizes[1:], strict=False)
        ]
        self.layers = nn.ModuleList(layers)
        generator = torch.Generator().manual_seed(seed)
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, positions: Tensor) -> Tensor:
        """Centres of regions in bp, (B, R), to log10(contacts + 1), (B, R, R)."""
        x = torch.log10((positions[:, :, None] - positions[:, None]).abs().to(next(self.parameters()).dtype) + 1)
        x = x[:, None] - 4  # (B, 1, R, R); 10 kb is zero
        for layer in self.layers[:-1]:
            x = F.gelu(layer(x))
        x = self.layers[-1](x)[:, 0]
        return F.softplus((x + x.mT) / 2)


def contact_loss(predicted: Tensor, measured: Tensor) -> Tensor:
    """Poisson loss over the measured pairs; NaN in ``measured`` marks all others.  (B, R, R) -> ()

    Zero, with a gradient of zero, if no pair was measured.
    """
    known = ~measured.isnan()
    if not known.any():
        return 0.0 * predicted.sum()
    return F.poisson_nll_loss(predicted[known], measured[known], log_input=False)
