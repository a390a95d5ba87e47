"""From a cell and a chromosome to the state of a bin: closed, kept or removed.

Both decoders give two logits for a cell i and a bin b of chromosome c: ``open``, and ``kept`` given that it is open.
The three states follow::

    P(closed) = 1 - s(open)     P(kept) = s(open) s(kept)     P(removed) = s(open) (1 - s(kept)),   s = sigmoid

so that accessibility, P(kept) + P(removed), is s(open). ``open`` reads ``<cls>`` and ``<eos_c>``; ``kept``, which asks
only what was in the input, reads ``<eos_c>`` alone and does not pull ``<cls>`` towards the noise of its own cell.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NetworkConfig

# numbers of the MLP's hidden layer that exist at a time where bins are read out: 1 GiB in float32
MAX_HIDDEN = 2**28


class Context(NamedTuple):
    """What a decoder needs to know of the cells of a minibatch."""

    query: Tensor  # (n_cells, n_chroms, d): decoder's own
    kept_query: Tensor  # (n_cells, n_chroms, d)
    shift: Tensor  # (n_cells,): depth and cell, added to ``open``
    batch: Tensor  # (n_cells,) int64

    def detach(self) -> Context:
        return Context(*(t.detach() for t in self))


def state_logits(open_logit: Tensor, kept_logit: Tensor) -> Tensor:
    """Logits of (closed, kept, removed).  (...,) and (...,) -> (..., 3)."""
    closed = torch.zeros_like(open_logit)
    return torch.stack([closed, open_logit + F.logsigmoid(kept_logit), open_logit + F.logsigmoid(-kept_logit)], -1)


class Decoder(nn.Module):
    """What both decoders share: the bias of a bin in a batch, the depth of a cell, the walk over chromosomes."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.n_chroms = config.n_chroms
        # one bias a bin and batch: a batch effect on any single bin need not be in the embedding
        self.bias = nn.Embedding(config.n_bins, config.n_batch, sparse=True)
        nn.init.zeros_(self.bias.weight)
        self.cell_shift = nn.Linear(config.d_embed, 1, bias=False)
        nn.init.zeros_(self.cell_shift.weight)
        self.kept_shift = nn.Parameter(torch.zeros(()))

    def context(self, z: Tensor, eos: Tensor | None, log_depth: Tensor, batch: Tensor) -> Context:
        """``z`` (n_cells, d_embed), ``eos`` (n_cells, n_chroms, d_model) or None: the cell alone; log_depth (n_cells,)
        is the log of the number of open bins over the mean of the cells trained on."""
        query, kept_query = self.queries(z, eos)
        return Context(query, kept_query, self.cell_shift(z).squeeze(-1) + log_depth, batch)

    def pairs(self, context: Context, rows: Tensor, bins: Tensor, cell: Tensor, chrom: Tensor) -> Tensor:
        """``open`` logits of single (cell, bin) pairs; ``rows`` are the table's.  (n_pairs,)"""
        bias = self.bias(bins).gather(1, context.batch[cell][:, None]).squeeze(1)
        query = _of_pair(context.query, cell, chrom)
        return self.score_pairs(query, rows) + bias + context.shift.index_select(0, cell)

    def kept_pairs(self, context: Context, rows: Tensor, cell: Tensor, chrom: Tensor) -> Tensor:
        """``kept`` logits of single pairs.  (n_pairs,)"""
        return (_of_pair(context.kept_query, cell, chrom) * rows).sum(-1) + self.kept_shift

    def block(self, context: Context, rows: Tensor, bins: Tensor, chrom: Tensor) -> Tensor:
        """``open`` logits of every cell at the same bins, which must be sorted by chromosome.  (n_cells, n_bins)"""
        score = torch.cat([self.score_block(context.query[:, c], rows[s]) for c, s in _runs(chrom)], 1)
        bias = self.bias(bins).T.index_select(0, context.batch)  # (n_cells, n_bins)
        return score + bias + context.shift[:, None]

    def kept_block(self, context: Context, rows: Tensor, chrom: Tensor) -> Tensor:
        """``kept`` logits of every cell at the same bins.  (n_cells, n_bins)"""
        return torch.cat([context.kept_query[:, c] @ rows[s].T for c, s in _runs(chrom)], 1) + self.kept_shift


class BilinearDecoder(Decoder):
    """bin row . (U z + V <eos_c>) + bias: about a hundred times cheaper over a genome than the MLP on a CPU."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.from_cell = _zero_linear(config.d_embed, config.d_row)
        self.from_eos = _zero_linear(config.d_model, config.d_row)
        self.kept_from_eos = _zero_linear(config.d_model, config.d_row)

    def queries(self, z: Tensor, eos: Tensor | None) -> tuple[Tensor, Tensor]:
        query = self.from_cell(z)[:, None].expand(-1, self.n_chroms, -1)  # (n_cells, n_chroms, d_row)
        if eos is None:
            return query, torch.zeros_like(query)
        return query + self.from_eos(eos), self.kept_from_eos(eos)

    def score_pairs(self, query: Tensor, rows: Tensor) -> Tensor:
        return (query * rows).sum(-1)

    def score_block(self, query: Tensor, rows: Tensor) -> Tensor:
        return query @ rows.T


class MLPDecoder(Decoder):
    """The cell and ``<eos_c>`` as d_decoder numbers (full size: d_model), beside the bin's row, through an MLP.

    The first layer over the concatenation is split: what comes from the cell is computed once a cell and chromosome,
    what comes from the bin once a bin, and only their sum is made for every pair.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        d = config.d_model if config.decoder_input == "full" else config.d_decoder
        width = 2 * d
        self.from_cell = nn.Linear(config.d_embed, d)
        self.from_eos = nn.Linear(config.d_model, d)
        self.first_cell = nn.Linear(d, width)
        self.first_bin = nn.Linear(config.d_row, width, bias=False)
        self.second = nn.Linear(width, width)
        self.last = _zero_linear(width, 1)
        self.kept_from_eos = _zero_linear(config.d_model, config.d_row)

    def queries(self, z: Tensor, eos: Tensor | None) -> tuple[Tensor, Tensor]:
        d = self.from_cell(z)[:, None].expand(-1, self.n_chroms, -1)  # (n_cells, n_chroms, d_decoder)
        kept = d.new_zeros(*d.shape[:2], self.kept_from_eos.out_features)
        if eos is not None:
            d, kept = d + self.from_eos(eos), self.kept_from_eos(eos)
        return self.first_cell(d), kept  # (n_cells, n_chroms, 2 d_decoder), (n_cells, n_chroms, d_row)

    def score_pairs(self, query: Tensor, rows: Tensor) -> Tensor:
        return self._tail(query + self.first_bin(rows))

    def score_block(self, query: Tensor, rows: Tensor) -> Tensor:
        first = self.first_bin(rows)  # (n_bins, 2 d_decoder)
        at_once = max(MAX_HIDDEN // max(query.numel(), 1), 1)
        if len(rows) <= at_once or torch.is_grad_enabled():  # with a gradient all of it is kept in any case
            return self._tail(query[:, None] + first)  # from (n_cells, n_bins, 2 d_decoder)
        return torch.cat([self._tail(query[:, None] + part) for part in first.split(at_once)], 1)

    def _tail(self, x: Tensor) -> Tensor:
        return self.last(F.gelu(self.second(F.gelu(x)))).squeeze(-1)


def make_decoder(config: NetworkConfig) -> Decoder:
    """The decoder that ``config.decoder`` names."""
    # with cross_attention the <eos> are of another making (nn.cross_attention); a bin is scored the same way
    decoders = {"bilinear": BilinearDecoder, "mlp": MLPDecoder, "cross_attention": BilinearDecoder}
    return decoders[config.decoder](config)


def _zero_linear(n_in: int, n_out: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def _of_pair(query: Tensor, cell: Tensor, chrom: Tensor) -> Tensor:
    """The query of each (cell, chromosome).  (n_pairs, d). By one flat index: indexing by two adds up its gradient in
    an order that changes from run to run, on a CPU too."""
    return query.flatten(0, 1).index_select(0, cell * query.shape[1] + chrom)


def _runs(chrom: Tensor) -> list[tuple[int, slice]]:
    """Where each chromosome begins and ends in a sorted run of bins."""
    codes, counts = torch.unique_consecutive(chrom, return_counts=True)
    ends = torch.cumsum(counts, 0).tolist()
    return [(c, slice(e - n, e)) for c, e, n in zip(codes.tolist(), ends, counts.tolist(), strict=True)]
