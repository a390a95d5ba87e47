"""Contrastive loss for two modalities of the same cells in one space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """NT-Xent of matched rows, both directions summed; nats per cell.

    A cell's match is compared with the other cells of both modalities: 2 n - 1 terms (Chen et al. 2020, eq. 1, without
    the cell itself). ``a``, ``b``: (n, k), of any length; cosines are used. If all rows are identical, the loss is
    2 log(2 n - 1). Raises ValueError if the shapes differ or there are fewer than two cells.
    """
    if a.shape != b.shape or len(a) < 2:
        raise ValueError(
            f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}; expected the same two or more cells in both."
        )
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    itself = torch.eye(len(a), dtype=torch.bool, device=a.device)
    cross = a @ b.T / temperature  # (n, n)
    own_a = (a @ a.T / temperature).masked_fill(itself, -torch.inf)
    own_b = (b @ b.T / temperature).masked_fill(itself, -torch.inf)
    target = torch.arange(len(a), device=a.device)
    return F.cross_entropy(torch.cat([cross, own_a], 1), target) + F.cross_entropy(
        torch.cat([cross.T, own_b], 1), target
    )
