"""What a minibatch of cells holds: the tensors that the network reads, and those that its loss reads as well.

Packed values come with their boundaries: those of cell i are ``bins[cu_seqlens[i]:cu_seqlens[i + 1]]``.
``scatacformer.cells`` makes these minibatches; this room declares them, because it is the one that reads them.
"""

# no `from __future__ import annotations`: NotRequired would be a string, and every key required at run time
from typing import NotRequired, TypedDict

from torch import Tensor


class Minibatch(TypedDict):
    """What :meth:`ScAtacNetwork.encode` reads."""

    cells: Tensor  # (n_cells,) int64, row numbers in the data
    bins: Tensor  # (n_kept,) int64, all kept bins, packed: they are pooled
    cu_seqlens: Tensor  # (n_cells + 1,) int32, boundaries of ``bins``
    tokens: Tensor  # (n_tokens,) int64, those of ``bins`` that the encoder reads, packed
    token_cu_seqlens: Tensor  # (n_cells + 1,) int32, boundaries of ``tokens``
    depth: Tensor  # (n_cells,) float32, number of open bins of the cell that is predicted
    batch: Tensor  # (n_cells,) int64, batch of the cell that is predicted
    own_batch: NotRequired[Tensor]  # (n_cells,) int64, batch of the cell that is read; absent: the same as ``batch``


class TrainingMinibatch(Minibatch):
    """What :meth:`ScAtacNetwork.loss` reads: ``sampled`` and ``closed``, or ``open_cell`` and ``open_bins``."""

    target_bins: Tensor  # (n_targets,) int64, the removed bins to be predicted
    target_cell: Tensor  # (n_targets,) int64, the cell of each, a row of the minibatch
    log_rate: Tensor  # (n_cells,) float32, log of the share of a cell's open bins that are among the targets
    state_bins: Tensor  # (n_states,) int64, open bins whose state, kept or removed, is to be predicted
    state_cell: Tensor  # (n_states,) int64, the cell of each
    state_kept: Tensor  # (n_states,) bool, whether it is kept
    sampled: NotRequired[Tensor]  # (n_sampled,) int64, bins sampled by frequency, sorted by group
    closed: NotRequired[Tensor]  # (n_cells, n_sampled) bool, whether a sampled bin is closed in a cell
    open_cell: NotRequired[Tensor]  # (n_open,) int64, with all closed bins in the loss: the cell of each open bin
    open_bins: NotRequired[Tensor]  # (n_open,) int64, all open bins of the cells that are predicted
