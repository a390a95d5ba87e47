"""Embedding of tokens: the factorised bin table, the special tokens, and the weighted pool of a cell's bins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NetworkConfig
from .dna import DnaProjection


class BinEmbedding(nn.Module):
    """A table of ``n_bins`` x ``d_embed`` numbers, and a projection to ``d_model`` or a second table of that width.

    The pooled cell is the mean of its bins' rows, weighted by ``pool_weight`` and shrunk if the evidence is weak. When
    initialised from the data, it is the leave-self-out spectral embedding of the cells (formulas in
    ``scatacformer.cells.start.spectral``). Gradients of the table are sparse: a step updates only the rows that it
    read."""

    pool_weight: Tensor
    norm_weight: Tensor
    eigenvalue: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(config.n_bins, config.d_embed, sparse=True)
        self.full, self.full_rows = config.embedding == "full", config.decoder_input == "full"
        if self.full:
            self.tokens = nn.Embedding(config.n_bins, config.d_model, sparse=True)
        else:
            self.project = nn.Linear(config.d_embed, config.d_model)
        self.cls = nn.Parameter(torch.randn(config.d_model) * 0.02) if config.cls_token else None
        self.eos = nn.Parameter(torch.randn(config.n_eos, config.d_model) * 0.02)
        self.from_pool = nn.Linear(config.d_embed, config.d_model)
        self.eos_in_sentence = config.decoder != "cross_attention"
        self.n_special = config.n_special
        self.register_buffer("pool_weight", torch.ones(config.n_bins))
        self.register_buffer("norm_weight", torch.ones(config.n_bins))
        self.register_buffer("eigenvalue", torch.ones(config.d_embed))  # 1: no shrinkage
        nn.init.normal_(self.table.weight, std=0.02)
        self.dna = DnaProjection(config) if config.d_dna else None  # initialised to zero: uses no random numbers

    def token_rows(self, bins: Tensor) -> Tensor:
        """Vectors of the bins for the encoder.  (len(bins), d_model)"""
        tokens = self.tokens(bins) if self.full else self.project(self.table(bins))
        return tokens if self.dna is None else tokens + self.dna.tokens(bins)

    def decoder_rows(self, bins: Tensor) -> Tensor:
        """Vectors of the bins for the decoder.  (len(bins), d_row)"""
        if self.full_rows:
            return self.token_rows(bins)
        return self.table(bins) if self.dna is None else self.table(bins) + self.dna.rows(bins)

    @torch.no_grad()
    def start_tokens(self, seed: int) -> None:
        """Initialise a full-size table like a factorised one: the small table through a random projection."""
        if not self.full:
            return
        d_embed, d_model = self.table.weight.shape[1], self.tokens.weight.shape[1]
        projection = torch.rand(d_embed, d_model, generator=torch.Generator().manual_seed(seed))
        projection = ((2 * projection - 1) / d_embed**0.5).to(self.table.weight)  # as initialised by nn.Linear
        torch.matmul(self.table.weight, projection, out=self.tokens.weight.data)

    def pool(self, bins: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Shrunken weighted mean of the rows of each cell's bins.  (n_cells, d_embed); zero for a cell without bins."""
        weight = self.pool_weight[bins]
        total = F.embedding_bag(
            bins, self.table.weight, cu_seqlens[:-1].long(), mode="sum", per_sample_weights=weight, sparse=True
        )  # (n_cells, d_embed)
        lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).long()
        cell = torch.repeat_interleave(torch.arange(len(lengths), device=bins.device), lengths)
        sums = weight.new_zeros(len(lengths), 2)
        sums.index_add_(0, cell, torch.stack([weight, self.norm_weight[bins]], 1))
        mass, norm = sums.clamp_min(1e-12).unbind(1)  # (n_cells,) each
        evidence = (mass / norm).clamp_min(1.0)[:, None]  # d / n + 1
        # dimensions that are not used may have eigenvalues below 0: no division by 0 in these
        shrinkage = ((evidence - 1) * self.eigenvalue + 1).clamp_min(1e-2)
        return total / mass[:, None] * evidence / shrinkage

    def queries(self, pooled: Tensor) -> Tensor:
        """The ``<eos>`` if they are outside the sentence.  (n_cells, n_eos, d_model)"""
        return self.from_pool(pooled)[:, None] + self.eos

    def sentences(self, pooled: Tensor, bins: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
        """Token vectors of each sentence: ``<cls>`` if present, ``<eos>`` unless they are outside, and the bins.

        Returns ``(n_cells * n_special + n_bins_read, d_model)`` and the boundaries ``(n_cells + 1,)`` int32.
        """
        n_cells, special = len(pooled), self.n_special
        eos = self.eos if self.eos_in_sentence else self.eos[:0]
        first = eos if self.cls is None else torch.cat([self.cls[None], eos])
        head = self.from_pool(pooled)[:, None] + first  # (n_cells, special, d_model)
        tokens = self.token_rows(bins)  # (n_bins_read, d_model)
        cells = torch.arange(n_cells + 1, device=bins.device, dtype=cu_seqlens.dtype)
        boundaries = cu_seqlens + special * cells
        at = torch.arange(len(bins), device=bins.device)
        lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).long()
        at = at + special * (1 + torch.repeat_interleave(cells[:-1].long(), lengths))
        x = tokens.new_empty(int(n_cells * special + len(bins)), tokens.shape[1])
        first = boundaries[:-1].long()[:, None] + torch.arange(special, device=bins.device)
        x = x.index_copy(0, first.flatten(), head.flatten(0, 1).to(x.dtype)).index_copy(0, at, tokens)
        return x, boundaries
