"""Sharding of the encoder across processes by FSDP2; everything else is replicated, and files are as from one
process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from scatacformer.nn import Encoder

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from scatacformer.nn import ScAtacNetwork


class ShardedEncoder(DDPStrategy):
    """Lightning's DDP without the wrapper: each process holds its shard of the encoder, its gradients and its moments.

    A block's weights are gathered before it is used, and its gradients are sharded afterwards; everything else is
    replicated in every process, and its gradients are combined by the plan. Checkpoints contain full tensors, so that
    one process or DDP can resume from them. After training, the encoder is full again.
    ``bf16``: see :func:`shard`.
    """

    def __init__(self, bf16: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bf16, self._failed = bf16, False

    def configure_ddp(self) -> None:
        """Shard instead of wrapping; the optimizer is created afterwards, with the shards."""
        shard(self._network.encoder, self.root_device.type, self.world_size, self.bf16)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Full weights, on the first process; all processes must call this."""
        assert self.lightning_module is not None
        weights = whole_weights(self.lightning_module)
        return weights if self.is_global_zero else {}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Full moments, on the first process; all processes must call this."""
        state: dict[str, Any] = dict(super().optimizer_state(optimizer))
        moments = {n: {k: whole(v) for k, v in values.items()} for n, values in state["state"].items()}
        return state | {"state": moments if self.is_global_zero else {}}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each process keeps its shard of the full moments."""
        states = []
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            names = [n for group in state["param_groups"] for n in group["params"]]
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            like = dict(zip(names, parameters, strict=True))
            moments = {n: {k: part(v, like[n]) for k, v in values.items()} for n, values in state["state"].items()}
            states.append(state | {"state": moments})
        super().load_optimizer_state_dict({"optimizer_states": states})

    def on_exception(self, exception: BaseException) -> None:
        """Other processes may have ended: nothing is gathered any more."""
        self._failed = True
        super().on_exception(exception)

    def teardown(self) -> None:
        """Gather the full encoder while processes can still communicate."""
        if not self._failed:
            unshard(self._network)
        super().teardown()

    @property
    def _network(self) -> ScAtacNetwork:
        assert self.lightning_module is not None
        module: Any = self.lightning_module.module
        return module


def shard(encoder: Encoder, device: str, n_processes: int, bf16: bool = False) -> None:
    """Shard the encoder's matrices and biases, in place, with one unit per block, so that one or two blocks are full at
    a time.

    ``bf16``: they are transferred and used in bfloat16, to which autocast would round them as well, but keep the
    rounded copy until the backward pass. Layer norms, a thousandth of a block's numbers, are used in float32 and
    replicated.
    """
    norms = {p for module in encoder.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()}
    mesh = init_device_mesh(device, (n_processes,))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32 if bf16 else None,
        cast_forward_inputs=False,
    )  # fmt: skip
    for unit in (
        *encoder.blocks,
        encoder,
    ):  # the encoder itself has nothing to shard: it determines the order of the blocks
        fully_shard(unit, mesh=mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=norms)


def unshard(network: ScAtacNetwork) -> None:
    """Replace a sharded encoder by a plain one with the same weights; all processes must call this."""
    if not any(isinstance(p, DTensor) for p in network.encoder.parameters()):
        return
    with torch.device("meta"):
        encoder = Encoder(network.config)
    encoder.load_state_dict(whole_weights(network.encoder), assign=True)
    network.encoder = encoder


def whole_weights(module: nn.Module) -> dict[str, Any]:
    """``state_dict()``, with full copies of sharded weights on the CPU; all processes must call this."""
    return {name: whole(value) for name, value in module.state_dict().items()}


def whole(value: Any) -> Any:
    """A sharded tensor, gathered on the CPU; anything else unchanged."""
    if not isinstance(value, DTensor):
        return value
    divided: Any = value.detach()
    return divided.full_tensor().cpu()


def part(value: Any, like: nn.Parameter) -> Any:
    """Shard of a full tensor for this process, sharded like the parameter; a tensor of another shape unchanged."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    # every process has read the same file: nothing to transfer
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
