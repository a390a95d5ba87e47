"""A pre-norm transformer encoder over packed sentences: no positions, so the order of the tokens does not matter."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from scatacformer.nn.attention import varlen_attention, varlen_cross_attention

from .config import NetworkConfig


class Encoder(nn.Module):
    """``n_layers`` blocks and a final layer norm.  (n_tokens, d_model) -> (n_tokens, d_model)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, cu_seqlens: Tensor, read: Tensor | None = None) -> Tensor:
        """``cu_seqlens``: (n_cells + 1,) int32 boundaries of the cells in ``x``.

        ``read`` (n_cells, n_read): the tokens of each cell whose output is returned, (n_cells, n_read, d_model). The
        last block computes only these: all tokens serve as keys and values, but only the ``read`` ones as queries and
        in the MLP."""
        for block in self.blocks[:-1]:
            x = block(x, cu_seqlens)
        return self.norm(self.blocks[-1](x, cu_seqlens, read))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.n_heads, self.backend = config.n_heads, config.attention
        self.norm_1, self.norm_2 = nn.LayerNorm(config.d_model), nn.LayerNorm(config.d_model)
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)
        self.up = nn.Linear(config.d_model, 4 * config.d_model)
        self.down = nn.Linear(4 * config.d_model, config.d_model)
        for layer in (self.qkv, self.up):
            nn.init.normal_(layer.weight, std=0.02)
        for layer in (self.out, self.down):
            # residual branches are scaled by depth, as in GPT-2
            nn.init.normal_(layer.weight, std=0.02 / (2 * config.n_layers) ** 0.5)
        for layer in (self.up, self.down):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, cu_seqlens: Tensor, read: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(1, (3, self.n_heads, -1)).unbind(1)  # (n_tokens, n_heads, d_head)
        if read is None:
            attended = varlen_attention(q, k, v, cu_seqlens, self.backend)
        else:
            x, q = (t.index_select(0, read.flatten()).unflatten(0, read.shape) for t in (x, q))
            attended = varlen_cross_attention(q, k, v, cu_seqlens, self.backend)
        x = x + self.out(attended.flatten(-2))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))
