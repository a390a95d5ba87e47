"""Training in several processes: sums over them, and combination of gradients that DDP or FSDP do not handle."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def n_processes() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of ``values`` over all processes, in each of them; the values themselves for one process."""
    if n_processes() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def is_loss_of_a_process(error: BaseException) -> bool:
    """Whether an error means that another process has ended or does not respond."""
    # gloo raises plain RuntimeErrors that begin with a position in its source
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in ("/gloo/", "nccl"))


def row_parameters(module: nn.Module, prefix: str = "") -> dict[str, nn.Parameter]:
    """Tables with row-sparse gradients, by name."""
    found = {}
    for name, table in module.named_modules():
        if isinstance(table, nn.Embedding | nn.EmbeddingBag) and table.sparse:
            assert isinstance(table.weight, nn.Parameter)
            found[f"{prefix}{name}.weight"] = table.weight
    return found


@torch.no_grad()
def average_rows(parameters: Iterable[nn.Parameter]) -> None:
    """The mean over processes of row-sparse gradients, in each of them.

    Indices and values of all processes are gathered as dense arrays of the maximum length, and summed: only the rows
    that were read are transferred, and it works with NCCL, which cannot sum sparse tensors, as well as with gloo.
    """
    world = n_processes()
    if world == 1:
        return
    for p in parameters:
        grad = None if p.grad is None else p.grad.coalesce()
        n_mine = torch.tensor([-1 if grad is None else grad.indices().shape[1]], device=p.device)
        counts = [torch.empty_like(n_mine) for _ in range(world)]
        dist.all_gather(counts, n_mine)
        n_rows = [int(n) for n in torch.cat(counts).tolist()]
        longest = max(n_rows)
        if longest < 0:  # not a parameter of this stage
            continue
        rows = torch.zeros(longest, dtype=torch.int64, device=p.device)
        values = torch.zeros(longest, *p.shape[1:], dtype=p.dtype, device=p.device)
        if grad is not None:
            rows[: n_rows[dist.get_rank()]] = grad.indices()[0]
            values[: n_rows[dist.get_rank()]] = grad.values()
        all_rows, all_values = ([torch.empty_like(x) for _ in range(world)] for x in (rows, values))
        dist.all_gather(all_rows, rows)
        dist.all_gather(all_values, values)
        indices = torch.cat([r[: max(n, 0)] for r, n in zip(all_rows, n_rows, strict=True)])[None]
        together = torch.cat([v[: max(n, 0)] for v, n in zip(all_values, n_rows, strict=True)]) / world
        p.grad = torch.sparse_coo_tensor(indices, together, p.shape, check_invariants=False).coalesce()


@torch.no_grad()
def average_whole(parameters: Iterable[nn.Parameter]) -> None:
    """The mean over processes of dense gradients, in each of them, as in DDP.

    A parameter without a gradient in any process remains without one.
    """
    parameters, world = list(parameters), n_processes()
    if world == 1 or not parameters:
        return
    used = sum_over_processes(torch.tensor([p.grad is not None for p in parameters], device=parameters[0].device).int())
    parameters = [p for p, n in zip(parameters, used.tolist(), strict=True) if n]
    if not parameters:
        return
    grads = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    dist.all_reduce(grads)
    for p, grad in zip(parameters, (grads / world).split([p.numel() for p in parameters]), strict=True):
        p.grad = grad.view_as(p)
