"""Epiformer written plainly, one module after the other, with no regard to time or memory: what ours is held to.

It expands the relative positions to (L, L, d_head) and has the names of the published tensors, so that weights move
between the two. Tests compare the numbers, ``epiformer.py --speed`` the seconds.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainEpiformer(nn.Module):
    """``config`` has the sizes of :class:`scatacformer.nn.EpiformerConfig` as attributes."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        ratio = (config.d_model / config.d_stem) ** (1 / 6)
        channels = [round(config.d_stem * ratio**i) for i in range(7)]
        self.conv = nn.Module()
        self.conv.stem = nn.Sequential(nn.Conv1d(4, channels[0], 15, padding=7), Residual(channels[0]), nn.MaxPool1d(2))
        self.conv.tower = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Sequential(nn.BatchNorm1d(a), nn.GELU(), nn.Conv1d(a, b, 5, padding=2)),
                    Residual(b),
                    nn.MaxPool1d(2),
                )
                for a, b in zip(channels[:-1], channels[1:], strict=True)
            )
        )
        self.trans = nn.Module()
        self.trans.layers = nn.ModuleList([Layer(config) for _ in range(config.n_layers)])
        width = config.d_model
        self.ptw = nn.Module()
        self.ptw.conv = nn.Sequential(
            nn.BatchNorm1d(width), nn.GELU(), nn.Conv1d(width, 2 * width, 1), nn.Dropout(config.head_dropout)
        )
        self.ptw.linear = nn.Sequential(nn.Linear(2 * width, config.n_tracks))
        self.crop = config.crop

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv.tower(self.conv.stem(x)).transpose(1, 2)
        n, width = h.shape[1:]
        place = torch.arange(n)[:, None]
        rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        positions = torch.zeros(n, width)
        positions[:, 0::2] = torch.sin(place * rate)
        positions[:, 1::2] = torch.cos(place * rate)
        h = h + positions
        for layer in self.trans.layers:
            h = layer(h)
        h = h[:, self.crop : n - self.crop]
        h = self.ptw.conv(h.transpose(1, 2)).transpose(1, 2)
        return F.softplus(self.ptw.linear(h)).transpose(1, 2)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.module = nn.Sequential(nn.BatchNorm1d(width), nn.GELU(), nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.module(x)


class Layer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.d_model
        self.mha = Attention(config)
        self.linear_net = nn.Sequential(
            nn.Linear(width, config.d_feedforward),
            nn.Dropout(config.dropout),
            SiluTimesInput(),
            nn.Linear(config.d_feedforward, width),
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.mha(x)))
        return self.norm2(x + self.dropout(self.linear_net(x)))


class SiluTimesInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x) * x


class Attention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width, self.n_heads = config.d_model, config.n_heads
        self.max_bins = config.seq_len // config.bin_size
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.distance_embedding = nn.Embedding(2 * self.max_bins - 1, width // self.n_heads)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, n, width = x.shape
        d_head = width // self.n_heads
        q = self.query(x).view(batch, n, self.n_heads, d_head).transpose(1, 2)
        k = self.key(x).view(batch, n, self.n_heads, d_head).transpose(1, 2)
        v = self.value(x).view(batch, n, self.n_heads, d_head).transpose(1, 2)
        scores = torch.matmul(q, k.transpose(-1, -2))
        place = torch.arange(n)
        relative = self.distance_embedding(place[:, None] - place[None, :] + self.max_bins - 1)  # (n, n, d_head)
        scores = (scores + torch.einsum("bhld,lrd->bhlr", q, relative)) / math.sqrt(d_head)
        weights = self.dropout(scores.softmax(-1))
        return torch.matmul(weights, v).transpose(1, 2).reshape(batch, n, width)
