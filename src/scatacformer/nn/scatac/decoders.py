"""From a cell and an ``<eos>`` to the state of a bin: closed, kept or removed.

Every decoder returns two logits for a cell i and a bin b that ``<eos_c>`` reads: ``open``, and ``kept`` given that it
is open. The three states follow::

    P(closed) = 1 - s(open)     P(kept) = s(open) s(kept)     P(removed) = s(open) (1 - s(kept)),   s = sigmoid

so that accessibility, P(kept) + P(removed), is s(open). ``open`` depends on ``<cls>`` and ``<eos_c>``; ``kept``, which
concerns only what was in the input, depends on ``<eos_c>`` alone, so that ``<cls>`` does not encode the noise of its
cell.

Bins with the same ``<eos>`` form a group: a chromosome, or the bins with the same classes of genomic region. If a bin
has several ``<eos>``, its logits are the mean over them (``readers``: groups x ``<eos>``, the weight of each)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NetworkConfig

# maximum size of the MLP's hidden layer when bins are predicted: 1 GiB in float32
MAX_HIDDEN = 2**28


class Context(NamedTuple):
    """Input of a decoder for the cells of a minibatch."""

    query: Tensor  # (n_cells, n_groups, d); for the MLP (n_cells, n_eos, d)
    kept_query: Tensor  # (n_cells, n_groups, d)
    shift: Tensor  # (n_cells,): depth and cell, added to ``open``
    batch: Tensor  # (n_cells,) int64

    def detach(self) -> Context:
        return Context(*(t.detach() for t in self))


def state_logits(open_logit: Tensor, kept_logit: Tensor) -> Tensor:
    """Logits of (closed, kept, removed).  (...,) and (...,) -> (..., 3)."""
    closed = torch.zeros_like(open_logit)
    return torch.stack([closed, open_logit + F.logsigmoid(kept_logit), open_logit + F.logsigmoid(-kept_logit)], -1)


class Decoder(nn.Module):
    """The common part of the decoders: bias per bin and batch, depth of the cell, iteration over groups of bins."""

    readers: Tensor | None
    linear = True  # linear in the query: the mean of the logits is the logit of the mean query

    def __init__(self, config: NetworkConfig, readers: Tensor | None = None) -> None:
        super().__init__()
        self.n_eos = config.n_eos
        self.register_buffer("readers", None if readers is None else readers.float())
        # one bias per bin and batch: batch effects on single bins need not be in the embedding
        self.bias = nn.Embedding(config.n_bins, config.n_batch, sparse=True)
        nn.init.zeros_(self.bias.weight)
        self.cell_shift = nn.Linear(config.d_embed, 1, bias=False)
        nn.init.zeros_(self.cell_shift.weight)
        self.kept_shift = nn.Parameter(torch.zeros(()))

    def context(self, z: Tensor, eos: Tensor | None, log_depth: Tensor, batch: Tensor) -> Context:
        """``z`` (n_cells, d_embed), ``eos`` (n_cells, n_eos, d_model) or None: only the cell; ``log_depth`` (n_cells,)
        is the log of the number of open bins relative to the mean of the training cells."""
        query, kept_query = self.queries(z, eos)  # one for each <eos>
        if self.readers is not None:
            query = self.readers @ query if self.linear else query
            kept_query = self.readers @ kept_query
        return Context(query, kept_query, self.cell_shift(z).squeeze(-1) + log_depth, batch)

    def pairs(self, context: Context, rows: Tensor, bins: Tensor, cell: Tensor, group: Tensor) -> Tensor:
        """``open`` logits of single (cell, bin) pairs; ``rows`` are the bin vectors.  (n_pairs,)"""
        bias = self.bias(bins).gather(1, context.batch[cell][:, None]).squeeze(1)
        return self.scores_of_pairs(context.query, rows, cell, group) + bias + context.shift.index_select(0, cell)

    def kept_pairs(self, context: Context, rows: Tensor, cell: Tensor, group: Tensor) -> Tensor:
        """``kept`` logits of single pairs.  (n_pairs,)"""
        return (_of_pair(context.kept_query, cell, group) * rows).sum(-1) + self.kept_shift

    def block(self, context: Context, rows: Tensor, bins: Tensor, group: Tensor) -> Tensor:
        """``open`` logits of every cell at the same bins, which must be sorted by group.  (n_cells, n_bins)"""
        bias = self.bias(bins).T.index_select(0, context.batch)  # (n_cells, n_bins)
        return self.scores_of_block(context.query, rows, group) + bias + context.shift[:, None]

    def kept_block(self, context: Context, rows: Tensor, group: Tensor) -> Tensor:
        """``kept`` logits of every cell at the same bins.  (n_cells, n_bins)"""
        return torch.cat([q @ part.T for q, part in _by_run(context.kept_query, rows, group)], 1) + self.kept_shift

    def queries(self, z: Tensor, eos: Tensor | None) -> tuple[Tensor, Tensor]:
        """Query of every ``<eos>`` of a cell for the logits ``open`` and ``kept``.  (n_cells, n_eos, d) each"""
        raise NotImplementedError

    def score_pairs(self, query: Tensor, rows: Tensor) -> Tensor:
        """Score of each query with its own row.  (n_pairs, d) and (n_pairs, d_row) -> (n_pairs,)"""
        raise NotImplementedError

    def score_block(self, query: Tensor, rows: Tensor) -> Tensor:
        """Score of every query with every row.  (n_cells, d) and (n_bins, d_row) -> (n_cells, n_bins)"""
        raise NotImplementedError

    def scores_of_pairs(self, query: Tensor, rows: Tensor, cell: Tensor, group: Tensor) -> Tensor:
        """Mean score over the ``<eos>`` of each bin.  (n_pairs,)"""
        return self.score_pairs(_of_pair(query, cell, group), rows)

    def scores_of_block(self, query: Tensor, rows: Tensor, group: Tensor) -> Tensor:
        """The same for every cell at bins sorted by group.  (n_cells, n_bins)"""
        return torch.cat([self.score_block(q, part) for q, part in _by_run(query, rows, group)], 1)


class BilinearDecoder(Decoder):
    """bin vector . (U z + V <eos_c>) + bias: about a hundred times faster than the MLP over a genome on a CPU."""

    def __init__(self, config: NetworkConfig, readers: Tensor | None = None) -> None:
        super().__init__(config, readers)
        self.from_cell = _zero_linear(config.d_embed, config.d_row)
        self.from_eos = _zero_linear(config.d_model, config.d_row)
        self.kept_from_eos = _zero_linear(config.d_model, config.d_row)

    def queries(self, z: Tensor, eos: Tensor | None) -> tuple[Tensor, Tensor]:
        query = self.from_cell(z)[:, None].expand(-1, self.n_eos, -1)  # (n_cells, n_eos, d_row)
        if eos is None:
            return query, torch.zeros_like(query)
        return query + self.from_eos(eos), self.kept_from_eos(eos)

    def score_pairs(self, query: Tensor, rows: Tensor) -> Tensor:
        return (query * rows).sum(-1)

    def score_block(self, query: Tensor, rows: Tensor) -> Tensor:
        return query @ rows.T


class MLPDecoder(Decoder):
    """The cell and ``<eos_c>``, as d_decoder numbers (full size: d_model), and the bin vector through an MLP.

    The first layer over the concatenation is split: the contribution of the cell is computed once per cell and
    ``<eos>``, that of the bin once per bin, and only their sum is computed for every pair, or for every pair and
    ``<eos>`` if a bin has several."""

    linear = False

    def __init__(self, config: NetworkConfig, readers: Tensor | None = None) -> None:
        super().__init__(config, readers)
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
        d = self.from_cell(z)[:, None].expand(-1, self.n_eos, -1)  # (n_cells, n_eos, d_decoder)
        kept = d.new_zeros(*d.shape[:2], self.kept_from_eos.out_features)
        if eos is not None:
            d, kept = d + self.from_eos(eos), self.kept_from_eos(eos)
        return self.first_cell(d), kept  # (n_cells, n_eos, 2 d_decoder), (n_cells, n_eos, d_row)

    def score_pairs(self, query: Tensor, rows: Tensor) -> Tensor:
        return self._tail(query + self.first_bin(rows))

    def score_block(self, query: Tensor, rows: Tensor) -> Tensor:
        first = self.first_bin(rows)  # (n_bins, 2 d_decoder)
        at_once = max(MAX_HIDDEN // max(query.numel(), 1), 1)
        if len(rows) <= at_once or torch.is_grad_enabled():  # with gradients, all of it is stored in any case
            return self._tail(query[:, None] + first)  # from (n_cells, n_bins, 2 d_decoder)
        return torch.cat([self._tail(query[:, None] + part) for part in first.split(at_once)], 1)

    def scores_of_pairs(self, query: Tensor, rows: Tensor, cell: Tensor, group: Tensor) -> Tensor:
        if self.readers is None:
            return super().scores_of_pairs(query, rows, cell, group)
        shares = self.readers[group]  # (n_pairs, n_eos)
        pair, eos = shares.nonzero(as_tuple=True)  # pair by pair: (n_readings,) each
        score = self.score_pairs(_of_pair(query, cell[pair], eos), rows.index_select(0, pair))
        return shares.new_zeros(len(rows)).index_add(0, pair, shares[pair, eos] * score)

    def scores_of_block(self, query: Tensor, rows: Tensor, group: Tensor) -> Tensor:
        if self.readers is None:
            return super().scores_of_block(query, rows, group)
        shares = self.readers[group]  # (n_bins, n_eos)
        eos, at = shares.T.nonzero(as_tuple=True)  # the bins of each <eos> in turn
        total = shares.new_zeros(len(query), len(rows))
        for c, s in _runs(eos):
            score = self.score_block(query[:, c], rows.index_select(0, at[s]))
            total = total.index_add(1, at[s], shares[at[s], c] * score)
        return total  # (n_cells, n_bins)

    def _tail(self, x: Tensor) -> Tensor:
        return self.last(F.gelu(self.second(F.gelu(x)))).squeeze(-1)


def make_decoder(config: NetworkConfig, readers: Tensor | None = None) -> Decoder:
    """The decoder given by ``config.decoder``. ``readers`` (n_groups, n_eos) or None: one ``<eos>`` per group."""
    # cross_attention differs only in how the <eos> are computed
    decoders = {"bilinear": BilinearDecoder, "mlp": MLPDecoder, "cross_attention": BilinearDecoder}
    return decoders[config.decoder](config, readers)


def check_readers(config: NetworkConfig, group: Tensor, readers: Tensor | None) -> None:
    """ValueError unless every bin has a group, and the ``<eos>`` of every group have weights that sum to 1."""
    if len(group) != config.n_bins:
        raise ValueError(f"group has {len(group)} entries; expected one for each of {config.n_bins} bins.")
    if readers is not None and (readers.ndim != 2 or readers.shape[1] != config.n_eos):
        raise ValueError(
            f"readers has shape {tuple(readers.shape)}; expected (n_groups, {config.n_eos}), with n_eos columns."
        )
    n_groups = config.n_eos if readers is None else len(readers)
    if group.min() < 0 or group.max() >= n_groups:
        raise ValueError(f"group has values from {group.min()} to {group.max()}; expected 0 ... {n_groups - 1}.")
    if readers is not None and ((readers < 0).any() or ((readers.sum(1) - 1).abs() > 1e-5).any()):
        raise ValueError(
            "readers has negative values or rows that do not sum to 1; expected the weight of each <eos> in each group."
        )


def _zero_linear(n_in: int, n_out: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def _of_pair(query: Tensor, cell: Tensor, group: Tensor) -> Tensor:
    """The query of each (cell, group).  (n_pairs, d). A single flat index is used because indexing by two
    tensors sums the gradient in an order that differs between runs, also on a CPU."""
    return query.flatten(0, 1).index_select(0, cell * query.shape[1] + group)


def _by_run(query: Tensor, rows: Tensor, group: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The query (n_cells, d) and the rows (n, d_row) of each run of a group.

    All are split at once: the gradient of a slice is as large as the sliced tensor, and there may be a thousand groups.
    """
    runs = _runs(group)
    queries, parts = query.unbind(1), rows.split([s.stop - s.start for _, s in runs])
    return [(queries[g], part) for (g, _), part in zip(runs, parts, strict=True)]


def _runs(group: Tensor) -> list[tuple[int, slice]]:
    """Start and end of each number in a sorted sequence."""
    codes, counts = torch.unique_consecutive(group, return_counts=True)
    ends = torch.cumsum(counts, 0).tolist()
    return [(c, slice(e - n, e)) for c, e, n in zip(codes.tolist(), ends, counts.tolist(), strict=True)]
