"""Contacts between regions of a chromosome, predicted from their distances.

Source of the architecture: the distance contact map of GET (Fu et al., Nature 2025), rebuilt from its description.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_DISTANCE = 5_000  # bp: contact maps know nothing below


class ContactNetwork(nn.Module):
    """Positions of regions to the logarithm of their contacts: a power law and, added to it, three convolutions.

    The 3 × 3 convolutions read the map of distances, and so the density of regions around the two. The output is
    symmetric and at least 0. The published network has neither the power law nor a least distance, and must learn both.

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
        self.slope, self.offset = nn.Parameter(torch.tensor(-1.0)), nn.Parameter(torch.tensor(0.0))

    def forward(self, positions: Tensor) -> Tensor:
        """Centres of regions in bp, (B, R), to log10(contacts + 1), (B, R, R)."""
        distance = (positions[:, :, None] - positions[:, None]).abs().clamp_min(MIN_DISTANCE)
        logged = torch.log10(distance.to(self.slope.dtype) + 1) - 5  # (B, R, R); 100 kb is zero
        x = logged[:, None]
        for layer in self.layers[:-1]:
            x = F.gelu(layer(x))  # (B, channels, R, R)
        x = self.layers[-1](x)[:, 0]
        return F.softplus((x + x.mT) / 2 + self.slope * logged + self.offset)


def contact_loss(predicted: Tensor, measured: Tensor) -> Tensor:
    """Poisson loss over the measured pairs; NaN in ``measured`` marks all others.  (B, R, R) -> ()

    Zero, with a gradient of zero, if no pair was measured.
    """
    known = ~measured.isnan()
    if not known.any():
        return 0.0 * predicted.sum()
    return F.poisson_nll_loss(predicted[known], measured[known], log_input=False)
