"""Attention over packed cell sentences, behind one function.

A minibatch of sentences is packed into one sequence of tokens with boundaries ``cu_seqlens``; a token attends to all
tokens of its own cell and to no others. The output does not depend on the backend, except for rounding.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

logger = logging.getLogger("scatacformer")

BACKENDS = ("flash", "varlen", "grouped", "padded")


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    backend: str = "auto",
) -> Tensor:
    """Scaled dot-product attention within each packed sentence.

    Parameters
    ----------
    q, k, v
        ``(n_tokens, n_heads, d_head)``.
    cu_seqlens
        ``(n_cells + 1,)`` int32, boundaries of the cells in the packed rows; the first is 0, the last ``n_tokens``.
    backend
        ``"flash"`` (flash-attn; CUDA, fp16 or bf16), ``"varlen"`` (torch's kernel; the same restrictions),
        ``"grouped"`` (one call for all cells with the same number of tokens: the fastest on a CPU), ``"padded"`` (one
        masked call: any device), or ``"auto"``.

    Returns
    -------
    ``(n_tokens, n_heads, d_head)``, the dtype of ``q``.

    Raises
    ------
    ValueError
        An unknown backend, or one that cannot run on this device and dtype.
    """
    name = choose_backend(q.device, q.dtype) if backend == "auto" else check_backend(backend, q.device, q.dtype)
    return _IMPLEMENTATIONS[name](q, k, v, cu_seqlens)


def varlen_cross_attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, backend: str = "auto") -> Tensor:
    """Attention of the queries of each cell to the tokens of its sentence; queries do not attend to each other.

    ``q`` (n_cells, n_queries, n_heads, d_head); ``k``, ``v`` (n_tokens, n_heads, d_head) and the others
    as in :func:`varlen_attention`. Returns (n_cells, n_queries, n_heads, d_head), zero for a cell without tokens.
    """
    name = choose_backend(q.device, q.dtype) if backend == "auto" else check_backend(backend, q.device, q.dtype)
    if not len(k):
        return torch.zeros_like(q)
    return _CROSS[name](q, k, v, cu_seqlens)


def choose_backend(device: torch.device, dtype: torch.dtype) -> str:
    """The fastest backend for this device and dtype; logged the first time that it is chosen."""
    half = dtype in (torch.float16, torch.bfloat16)
    if device.type == "cuda" and half and _has_flash():
        name = "flash"
    elif device.type == "cuda" and half and _has_varlen(torch.cuda.get_device_capability(device)):
        name = "varlen"
    elif device.type == "cpu":
        name = "grouped"
    else:
        name = "padded"
    _log_choice(name, device.type, str(dtype))
    return name


def check_backend(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """``name`` itself; ValueError if the backend is unknown or not available for this device and dtype."""
    if name not in BACKENDS:
        raise ValueError(f"attention backend {name!r} is unknown; choose one of {('auto', *BACKENDS)}.")
    if name in ("flash", "varlen"):
        if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"attention backend {name!r} needs a CUDA device and fp16 or bf16, found {device.type} and {dtype}. "
                "Use backend='auto', or train with precision='bf16-mixed' on a GPU."
            )
        if name == "flash" and not _has_flash():
            raise ValueError(
                "attention backend 'flash' needs flash-attn. Install it with pip install flash-attn, or use backend='auto'."
            )
    return name


def _flash(q: Tensor, k: Tensor, v: Tensor, cu: Tensor) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    longest = _longest(cu)
    return flash_attn_varlen_func(q, k, v, cu, cu, longest, longest)


def _varlen(q: Tensor, k: Tensor, v: Tensor, cu: Tensor) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    longest = _longest(cu)
    return cast("Tensor", varlen_attn(q, k, v, cu, cu, longest, longest))  # a tuple only if more outputs are requested


def _grouped(q: Tensor, k: Tensor, v: Tensor, cu: Tensor) -> Tensor:
    # one unmasked call for all cells of the same length. With a call per cell, the backward pass is 7x slower for cells
    # of the same length (64 cells of 152 tokens, two cores); with padding and a mask it is 2x slower
    lengths = (cu[1:] - cu[:-1]).long()
    order = torch.argsort(lengths, stable=True)
    sorted_lengths = lengths[order]
    unique, counts = torch.unique_consecutive(sorted_lengths, return_counts=True)
    groups = [(n, m) for n, m in zip(unique.tolist(), counts.tolist(), strict=True) if n]
    if not groups:
        return v
    if len(groups) == 1 and bool((lengths > 0).all()):
        return _one_length(q, k, v, *groups[0])
    # tokens of all cells, shortest cell first
    first = torch.repeat_interleave(cu[:-1].long()[order], sorted_lengths)
    ends = torch.cumsum(sorted_lengths, 0)
    within = torch.arange(len(q), device=q.device) - torch.repeat_interleave(ends - sorted_lengths, sorted_lengths)
    take = first + within  # (n_tokens,)
    sizes = [n * m for n, m in groups]
    qs, ks, vs = (x.index_select(0, take).split(sizes) for x in (q, k, v))
    parts = zip(qs, ks, vs, groups, strict=True)
    out = torch.cat([_one_length(q, k, v, length, n) for q, k, v, (length, n) in parts])
    back = torch.empty_like(take)
    back[take] = torch.arange(len(take), device=take.device)
    return out.index_select(0, back)


def _one_length(q: Tensor, k: Tensor, v: Tensor, length: int, n_cells: int) -> Tensor:
    q, k, v = (x.unflatten(0, (n_cells, length)).transpose(1, 2) for x in (q, k, v))  # (n_cells, n_heads, length, d)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)


def _padded(q: Tensor, k: Tensor, v: Tensor, cu: Tensor) -> Tensor:
    lengths = (cu[1:] - cu[:-1]).long()
    n_cells, longest = len(lengths), _longest(cu)
    cell = torch.repeat_interleave(torch.arange(n_cells, device=q.device), lengths)
    place = torch.arange(len(q), device=q.device) - cu[:-1].long()[cell]
    # (n_cells, n_heads, longest, d_head) each
    q, k, v = (
        x.new_zeros(n_cells, longest, *x.shape[1:]).index_put((cell, place), x).transpose(1, 2) for x in (q, k, v)
    )
    mask = torch.arange(longest, device=q.device) < lengths[:, None]  # (n_cells, longest)
    # a cell without tokens attends to the padding, so that no softmax is over an empty set
    mask = (mask | (lengths == 0)[:, None])[:, None, None, :]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2)[cell, place]


def _cross_kernel(q: Tensor, k: Tensor, v: Tensor, cu: Tensor, kernel: str) -> Tensor:
    n_cells, n_queries = q.shape[:2]
    cu_q = torch.arange(n_cells + 1, device=cu.device, dtype=cu.dtype) * n_queries
    if kernel == "flash":
        from flash_attn import flash_attn_varlen_func as attend
    else:
        from torch.nn.attention.varlen import varlen_attn as attend
    out = attend(q.flatten(0, 1), k, v, cu_q, cu, n_queries, _longest(cu)).unflatten(0, (n_cells, n_queries))
    # the kernels do not define the output for a cell without keys
    return out.masked_fill((cu[1:] == cu[:-1])[:, None, None, None], 0.0)


def _cross_flash(q: Tensor, k: Tensor, v: Tensor, cu: Tensor) -> Tensor:
    return _cross_kernel(q, k, v, cu, "flash")


def _cross_varlen(q: Tensor, k: Tensor, v: Tensor, cu: Tensor) -> Tensor:
    return _cross_kernel(q, k, v, cu, "varlen")


def _cross_grouped(q: Tensor, k: Tensor, v: Tensor, cu: Tensor) -> Tensor:
    # one call for all cells of the same length, as in _grouped
    lengths = (cu[1:] - cu[:-1]).long()
    order = torch.argsort(lengths, stable=True)
    unique, counts = torch.unique_consecutive(lengths[order], return_counts=True)
    if len(unique) == 1:  # all of the same length, which is not zero because there are tokens: no sorting needed
        keys = [x.unflatten(0, (len(q), -1)).transpose(1, 2) for x in (k, v)]
        return F.scaled_dot_product_attention(q.transpose(1, 2), *keys).transpose(1, 2)
    out, done = [], 0
    for length, count in zip(unique.tolist(), counts.tolist(), strict=True):
        cells = order[done : done + count]
        done += count
        here = q.index_select(0, cells)
        if length:
            at = (cu[:-1].long()[cells][:, None] + torch.arange(length, device=q.device)).flatten()
            keys = [x.index_select(0, at).unflatten(0, (count, length)).transpose(1, 2) for x in (k, v)]
            out.append(F.scaled_dot_product_attention(here.transpose(1, 2), *keys).transpose(1, 2))
        else:
            out.append(torch.zeros_like(here))
    return torch.cat(out).index_select(0, torch.argsort(order))


def _cross_padded(q: Tensor, k: Tensor, v: Tensor, cu: Tensor) -> Tensor:
    lengths = (cu[1:] - cu[:-1]).long()
    cell = torch.repeat_interleave(torch.arange(len(lengths), device=q.device), lengths)
    place = torch.arange(len(k), device=q.device) - cu[:-1].long()[cell]
    shape = (len(lengths), _longest(cu))
    keys, values = (x.new_zeros(*shape, *x.shape[1:]).index_put((cell, place), x).transpose(1, 2) for x in (k, v))
    mask = torch.arange(shape[1], device=q.device) < lengths[:, None]
    empty = lengths == 0  # the result is zero because keys and values are
    mask = (mask | empty[:, None])[:, None, None, :]
    return F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, attn_mask=mask).transpose(1, 2)


def _longest(cu: Tensor) -> int:
    return int((cu[1:] - cu[:-1]).max())


@cache
def _has_flash() -> bool:
    return importlib.util.find_spec("flash_attn") is not None


@cache
def _has_varlen(capability: tuple[int, int]) -> bool:
    # torch's kernel is FlashAttention-2: Ampere and later
    return capability >= (8, 0) and importlib.util.find_spec("torch.nn.attention.varlen") is not None


@cache
def _log_choice(name: str, device: str, dtype: str) -> None:
    logger.debug("attention backend: %s (%s, %s)", name, device, dtype)


_IMPLEMENTATIONS = {"flash": _flash, "varlen": _varlen, "grouped": _grouped, "padded": _padded}
_CROSS = {"flash": _cross_flash, "varlen": _cross_varlen, "grouped": _cross_grouped, "padded": _cross_padded}
