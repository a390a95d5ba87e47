"""The encoder divided among processes by FSDP2; everything else whole in each of them, and files as of one process."""

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
    """Lightning's DDP without the wrapper: each process keeps its part of the encoder, its gradients and its moments.

    A block's weights are gathered before it is used, and its gradients divided after; what is not the encoder is whole
    in every process, and its gradients are brought together by the plan. Checkpoints hold whole tensors, whatever wrote
    them, so that one process or DDP may go on from them. When training has ended the encoder is whole again.
    ``bf16``: see :func:`shard`.
    """

    def __init__(self, bf16: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bf16, self._failed = bf16, False

    def configure_ddp(self) -> None:
        """In the place of the wrapper; the optimizer is made after it, of the parts."""
        shard(self._network.encoder, self.root_device.type, self.world_size, self.bf16)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Weights as of one process; all processes must ask, the first gets them."""
        assert self.lightning_module is not None
        weights = whole_weights(self.lightning_module)
        return weights if self.is_global_zero else {}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Moments as of one process; all processes must ask, the first gets them."""
        state: dict[str, Any] = dict(super().optimizer_state(optimizer))
        moments = {n: {k: whole(v) for k, v in values.items()} for n, values in state["state"].items()}
        return state | {"state": moments if self.is_global_zero else {}}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Of whole moments each process keeps its part."""
        states = []
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            names = [n for group in state["param_groups"] for n in group["params"]]
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            like = dict(zip(names, parameters, strict=True))
            moments = {n: {k: part(v, like[n]) for k, v in values.items()} for n, values in state["state"].items()}
            states.append(state | {"state": moments})
        super().load_optimizer_state_dict({"optimizer_states": states})

    def on_exception(self, exception: BaseException) -> None:
        """The other processes may be gone: nothing is gathered any more."""
        self._failed = True
        super().on_exception(exception)

    def teardown(self) -> None:
        """The encoder whole again, while processes can still talk."""
        if not self._failed:
            unshard(self._network)
        super().teardown()

    @property
    def _network(self) -> ScAtacNetwork:
        assert self.lightning_module is not None
        module: Any = self.lightning_module.module
        return module


def shard(encoder: Encoder, device: str, n_processes: int, bf16: bool = False) -> None:
    """Divides the encoder's matrices and biases, in place: a unit a block, so that a block or two at a time are whole.

    ``bf16``: they travel and are used in bfloat16, which they are rounded to by autocast as well, which would keep what
    it has rounded until backward. Layer norms, a thousandth of a block's numbers, are used in float32 and stay whole.
    """
    norms = {p for module in encoder.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()}
    mesh = init_device_mesh(device, (n_processes,))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32 if bf16 else None,
        cast_forward_inputs=False,
    )  # fmt: skip
    for unit in (*encoder.blocks, encoder):  # the encoder has nothing of its own to divide: it sets the blocks' order
        fully_shard(unit, mesh=mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=norms)


def unshard(network: ScAtacNetwork) -> None:
    """Puts a plain encoder of the same weights in the place of a divided one; all processes must take part."""
    if not any(isinstance(p, DTensor) for p in network.encoder.parameters()):
        return
    with torch.device("meta"):
        encoder = Encoder(network.config)
    encoder.load_state_dict(whole_weights(network.encoder), assign=True)
    network.encoder = encoder


def whole_weights(module: nn.Module) -> dict[str, Any]:
    """``state_dict()``, of divided weights whole copies on the CPU; all processes must take part."""
    return {name: whole(value) for name, value in module.state_dict().items()}


def whole(value: Any) -> Any:
    """A divided tensor gathered and brought to the CPU; anything else as it is."""
    if not isinstance(value, DTensor):
        return value
    divided: Any = value.detach()
    return divided.full_tensor().cpu()


def part(value: Any, like: nn.Parameter) -> Any:
    """Of a whole tensor the part of this process, divided as the parameter is; what is of another shape as it is."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    # every process has read the same file: no need to send
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
