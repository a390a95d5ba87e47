"""Losses of the network: removed bins of a cell against closed ones, and kept against removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .decoders import Context, Decoder


class MeanLoss(NamedTuple):
    """A loss, and what it is a mean over: whoever divides a minibatch adds up ``mean * n`` of its parts."""

    mean: Tensor  # (), nats
    n: Tensor  # (), bins or cells, weighted where the loss is; 0: there was nothing


def sampled_open_loss(
    open_pairs: Tensor, pair_log_rate: Tensor, open_block: Tensor, block_log_rate: Tensor, closed: Tensor
) -> Tensor:
    """Removed bins against closed bins sampled by frequency; nats per removed bin.

    Case-control logistic regression (King & Zeng 2001, eq. 7; the same as noise-contrastive estimation, Gutmann &
    Hyvaerinen 2010): if an open bin is sampled with rate r and a closed one with rate g, the odds in the sample are
    odds(open) r / g, so log r - log g is added to every logit and ``open`` remains the log-odds for the whole genome.

    Parameters
    ----------
    open_pairs, pair_log_rate
        ``(n_pairs,)``: logits of the removed bins, and log r - log g for each.
    open_block, block_log_rate, closed
        ``(n_cells, n_sampled)`` logits, log r - log g, and whether the bin is closed in the cell (others are ignored).
    """
    positive = F.softplus(-(open_pairs + pair_log_rate)).sum()
    negative = (F.softplus(open_block + block_log_rate) * closed).sum()
    return (positive + negative) / max(len(open_pairs), 1)


def exhaustive_open_loss(
    decoder: Decoder,
    context: Context,
    rows: Callable[[Tensor], Tensor],
    bins: Tensor,
    group: Tensor,
    open_pairs: Tensor,
    pair_weight: Tensor,
    not_closed: tuple[Tensor, Tensor],
    chunk_size: int = 65_536,
) -> Tensor:
    """Removed bins, weighted by 1 / r, against all closed bins; nats per removed bin (weighted).

    ``rows`` returns the decoder's vectors of bins; ``bins`` (n_bins,) and ``group`` are all bins, sorted by group;
    ``not_closed`` are the cells and the positions in ``bins`` of the open ones. The logits are computed in chunks, also
    in the backward pass (checkpointing): memory is n_cells x chunk_size for any number of bins."""
    cell, place = not_closed
    total = F.softplus(-open_pairs) @ pair_weight

    def chunk_loss(part: slice, *tensors: Tensor) -> Tensor:
        logits = decoder.block(Context(*tensors), rows(bins[part]), bins[part], group[part])
        loss = F.softplus(logits)
        inside = (place >= part.start) & (place < part.stop)
        return loss.sum() - loss[cell[inside], place[inside] - part.start].sum()

    for start in range(0, len(bins), chunk_size):
        part = slice(start, min(start + chunk_size, len(bins)))
        total = total + checkpoint(chunk_loss, part, *context, use_reentrant=False)
    return total / pair_weight.sum().clamp_min(1.0)


def kept_loss(kept_logit: Tensor, kept: Tensor) -> Tensor:
    """Kept against removed, over open bins; nats per bin.  (n_pairs,) logits and bools."""
    if not len(kept_logit):
        return torch.zeros((), device=kept_logit.device)
    return F.binary_cross_entropy_with_logits(kept_logit, kept.to(kept_logit.dtype))
