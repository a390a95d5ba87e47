"""Atacformer's network (databio): a post-norm transformer over packed sentences of regions.

Modules have the names of the published tensors, so that files can be loaded and saved unchanged. Source of the
architecture: ``geniml.atacformer`` 0.8.4, whose layers are torch's ``nn.TransformerEncoderLayer``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import varlen_attention

SPECIAL_TOKENS = ("unk", "pad", "mask", "cls", "eos", "bos", "sep")  # in this order after the regions


@dataclass(frozen=True)
class AtacformerConfig:
    """Sizes of an Atacformer, by the names of its ``config.json``; the defaults are those of the published models.

    ``vocab_size`` counts the regions and the seven special tokens. Raises ValueError for sizes that do not fit
    together."""

    vocab_size: int
    hidden_size: int = 192
    intermediate_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    max_position_embeddings: int = 8192
    use_pos_embeddings: bool = False
    pad_token_id: int | None = None
    norm_eps: float = 1e-5  # of the discriminator's norm only; that of the layers is 1e-5
    discriminator_hidden_size: int | None = None

    def __post_init__(self) -> None:
        for name in (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "max_position_embeddings",
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")
        if self.n_regions < 1:
            raise ValueError(f"vocab_size is {self.vocab_size}; expected seven special tokens and at least one region.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}; expected a multiple of the {self.num_attention_heads} attention heads."
            )
        pad = self.n_regions + SPECIAL_TOKENS.index("pad") if self.pad_token_id is None else self.pad_token_id
        if not 0 <= pad < self.vocab_size:
            raise ValueError(f"pad_token_id is {pad}; expected one of the {self.vocab_size:,} token ids.")
        object.__setattr__(self, "pad_token_id", pad)

    @property
    def n_regions(self) -> int:
        """Number of regions: token ids 0 to n_regions - 1."""
        return self.vocab_size - len(SPECIAL_TOKENS)

    @property
    def special_ids(self) -> dict[str, int]:
        """Token ids of unk, pad, mask, cls, eos, bos and sep."""
        ids = {name: self.n_regions + i for i, name in enumerate(SPECIAL_TOKENS)}
        return ids if self.pad_token_id is None else ids | {"pad": self.pad_token_id}

    def to_dict(self) -> dict[str, Any]:
        """As in ``config.json``; with the discriminator's width only if it is set."""
        content = asdict(self)
        if self.discriminator_hidden_size is None:
            del content["discriminator_hidden_size"]
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> AtacformerConfig:
        """From a dictionary; unknown keys are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in content.items() if name in known})


class AtacformerNetwork(nn.Module):
    """Packed token ids to the last hidden states, and to the logits for replaced tokens.

    ``dropout`` applies to the residual branches in training. Unlike in geniml, attention weights have no dropout, which
    would disable the fast kernels. Gradients of the region table are sparse, so that a step updates a few thousand rows
    and not all 171 million numbers.
    """

    def __init__(
        self,
        config: AtacformerConfig,
        discriminator: bool = False,
        seed: int = 0,
        attention: str = "auto",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config, attention, dropout)
        self.discriminator = Discriminator(config) if discriminator else None
        self.initialise(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Sample all weights: N(0, 0.02), the joint projection of query, key and value as in torch; biases are zero."""
        if self.embeddings.token_embeddings.weight.is_meta:
            return
        for name, parameter in self.named_parameters():
            if name.endswith("in_proj_weight"):
                nn.init.xavier_uniform_(parameter, generator=generator)
            elif parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02, generator=generator)
            elif not name.endswith("norm.weight") and "norm1.weight" not in name and "norm2.weight" not in name:
                nn.init.zeros_(parameter)
        self.embeddings.token_embeddings.weight[self.config.pad_token_id] = 0

    def add_discriminator(self, seed: int = 0) -> None:
        """Add a new head for replaced tokens, on the device of the network."""
        head = Discriminator(self.config)
        generator = torch.Generator().manual_seed(seed)
        for layer in (head.dense, head.classifier):
            nn.init.normal_(layer.weight, std=0.02, generator=generator)
            nn.init.zeros_(layer.bias)
        self.discriminator = head.to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embeddings.token_embeddings.weight.device

    def forward(self, tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Last hidden states.  ``tokens`` (n_tokens,) ids, ``cu_seqlens`` (n_cells + 1,) int32 -> (n_tokens,
        hidden)."""
        return self.encoder(self.embeddings(tokens, cu_seqlens), cu_seqlens)

    def embed(self, tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Mean of each cell's last hidden states.  (n_cells, hidden); zero for a cell without tokens."""
        return mean_pool(self(tokens, cu_seqlens), cu_seqlens)

    def replaced_logits(self, tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Log-odds that each token replaces another one.  (n_tokens,)"""
        if self.discriminator is None:
            raise RuntimeError("the network has no head for replaced tokens. Add one with add_discriminator().")
        return self.discriminator(self(tokens, cu_seqlens))


def mean_pool(x: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Mean over each cell's tokens.  (n_tokens, d) -> (n_cells, d); zero for a cell without tokens."""
    lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).long()
    cell = torch.repeat_interleave(torch.arange(len(lengths), device=x.device), lengths)
    total = x.new_zeros(len(lengths), x.shape[1]).index_add(0, cell, x)
    return total / lengths.clamp_min(1)[:, None]


class Discriminator(nn.Module):
    """Was this token replaced?  (n_tokens, hidden) -> (n_tokens,) logits."""

    def __init__(self, config: AtacformerConfig) -> None:
        super().__init__()
        width = config.discriminator_hidden_size or config.hidden_size
        self.dense = nn.Linear(config.hidden_size, width)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.classifier = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.norm(F.gelu(self.dense(x)))).squeeze(-1)


class _Embeddings(nn.Module):
    def __init__(self, config: AtacformerConfig) -> None:
        super().__init__()
        self.token_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, sparse=True)
        # geniml has this table in either case and expects it in its files
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.use_positions = config.use_pos_embeddings

    def forward(self, tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
        x = self.token_embeddings(tokens)  # (n_tokens, hidden)
        if self.use_positions:
            lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).long()
            first = torch.repeat_interleave(cu_seqlens[:-1].long(), lengths)
            x = x + self.position_embeddings(torch.arange(len(tokens), device=tokens.device) - first)
        return x


class _Encoder(nn.Module):
    def __init__(self, config: AtacformerConfig, attention: str, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config, attention, dropout) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, cu_seqlens: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, cu_seqlens)
        return x


class _Layer(nn.Module):
    """norm(x + attention(x)), then norm(x + MLP(x)); ReLU."""

    def __init__(self, config: AtacformerConfig, attention: str, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.self_attn = _SelfAttention(config, attention)
        self.linear1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.linear2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.norm1, self.norm2 = nn.LayerNorm(config.hidden_size), nn.LayerNorm(config.hidden_size)

    def forward(self, x: Tensor, cu_seqlens: Tensor) -> Tensor:
        x = self.norm1(x + self._drop(self.self_attn(x, cu_seqlens)))
        return self.norm2(x + self._drop(self.linear2(self._drop(F.relu(self.linear1(x))))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class _SelfAttention(nn.Module):
    def __init__(self, config: AtacformerConfig, attention: str) -> None:
        super().__init__()
        self.n_heads, self.backend = config.num_attention_heads, attention
        self.in_proj_weight = nn.Parameter(torch.empty(3 * config.hidden_size, config.hidden_size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * config.hidden_size))
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, cu_seqlens: Tensor) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.unflatten(1, (3, self.n_heads, -1)).unbind(1)  # (n_tokens, n_heads, d_head) each
        return self.out_proj(varlen_attention(q, k, v, cu_seqlens, self.backend).flatten(1))
