"""``<eos>`` outside the sentence: each attends to the encoder's output for its cell, and to no other ``<eos>``."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from scatacformer.nn.attention import varlen_cross_attention

from .config import NetworkConfig


class CrossAttention(nn.Module):
    """x + attention(norm(x), tokens), then x + MLP(norm(x)), and a final norm, separately for every ``<eos>``."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.n_heads, self.backend = config.n_heads, config.attention
        self.norm_1, self.norm_2 = nn.LayerNorm(config.d_model), nn.LayerNorm(config.d_model)
        self.q = nn.Linear(config.d_model, config.d_model, bias=False)
        self.kv = nn.Linear(config.d_model, 2 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)
        self.up = nn.Linear(config.d_model, 4 * config.d_model)
        self.down = nn.Linear(4 * config.d_model, config.d_model)
        self.norm = nn.LayerNorm(config.d_model)
        for layer in (self.q, self.kv, self.up):
            nn.init.normal_(layer.weight, std=0.02)
        for layer in (self.out, self.down):
            # scaled as in the encoder's blocks
            nn.init.normal_(layer.weight, std=0.02 / (2 * config.n_layers) ** 0.5)
        for layer in (self.up, self.down):
            nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
        """``queries`` (n_cells, n_queries, d_model), ``tokens`` (n_tokens, d_model) -> as ``queries``."""
        q = self.q(self.norm_1(queries)).unflatten(-1, (self.n_heads, -1))  # (n_cells, n_queries, n_heads, d_head)
        k, v = self.kv(tokens).unflatten(1, (2, self.n_heads, -1)).unbind(1)  # (n_tokens, n_heads, d_head)
        x = queries + self.out(varlen_cross_attention(q, k, v, cu_seqlens, self.backend).flatten(-2))
        return self.norm(x + self.down(F.gelu(self.up(self.norm_2(x)))))
