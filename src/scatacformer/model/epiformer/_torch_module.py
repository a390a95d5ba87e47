"""A model as a module of torch, for tools that interpret networks of one-hot DNA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from scatacformer.nn import EpiformerConfig


class SignalModule(nn.Module):
    """One-hot DNA ``(B, 4, seq_len)`` to the signal of each track, summed over bins, ``(B, n_tracks)``.

    Parameters
    ----------
    network
        The model's network, which is shared, not copied, and stays in evaluation mode.
    config
        Its sizes.
    scale
        ``(n_tracks,)`` of the network, the signal per unit of its output.
    rows
        Numbers of the tracks.
    width
        bp in the middle of the window over which the signal is summed.
    """

    scale: Tensor
    rows: Tensor

    def __init__(
        self, network: nn.Module, config: EpiformerConfig, scale: np.ndarray, rows: np.ndarray, width: int
    ) -> None:
        super().__init__()
        self.network, self.seq_len = network.eval(), config.seq_len
        n_bins = width // config.bin_size
        first = (config.n_outputs - n_bins) // 2
        self.bins = slice(first, first + n_bins)
        self.register_buffer("rows", torch.from_numpy(np.asarray(rows, dtype=np.int64)))
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale, dtype=np.float32)[rows]))
        self.to(next(network.parameters()).device)
        self.eval()

    def forward(self, sequence: Tensor) -> Tensor:
        """Sequences multiplied by exp(conservation), if the model was trained with a conservation track."""
        if sequence.dim() != 3 or sequence.shape[1:] != (4, self.seq_len):
            raise ValueError(
                f"the sequences have the shape {tuple(sequence.shape)}; expected (n, 4, {self.seq_len}), bases in the "
                "order A, C, G, T."
            )
        return self.network(sequence.float())[:, self.rows, self.bins].sum(-1) * self.scale

    def train(self, mode: bool = True) -> SignalModule:
        """Stay in evaluation mode, whatever ``mode`` is: dropout has no place in an interpretation."""
        return super().train(False)
