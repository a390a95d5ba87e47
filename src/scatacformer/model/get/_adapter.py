"""Low-rank changes of the region embedding and the encoder (LoRA): kept beside the weights, which stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from scatacformer.nn import GETNetwork


class LowRank(nn.Module):
    """weight + b @ a, with b zero at first: training starts from the network as it is.  (out, in) -> (out, in)"""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        start = torch.randn(rank, n_in, generator=generator) / n_in**0.5
        self.a = nn.Parameter(start.to(weight.device, weight.dtype))
        self.b = nn.Parameter(torch.zeros(n_out, rank, device=weight.device, dtype=weight.dtype))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def add_adapter(network: GETNetwork, rank: int, seed: int) -> None:
    """Low-rank changes of all linear layers but the head's; all else but the head is frozen.

    Raises ValueError for a rank below 1, and where there is an adapter already.
    """
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise ValueError(f"lora is the rank of the changes, a whole number of at least 1, or None; found {rank!r}")
    if has_adapter(network):
        raise ValueError("the model has an adapter already: merge_adapter() or remove_adapter() first")
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for _, layer in _layers(network):
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank, generator))
    for parameter in network.head.parameters():
        parameter.requires_grad_(True)


def remove_adapter(network: GETNetwork, merge: bool) -> None:
    """Without the changes the weights are what they were, bit for bit; merged, the changes are added to them for good."""
    for _, layer in _layers(network):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=merge)
    for parameter in network.parameters():
        parameter.requires_grad_(True)


def has_adapter(network: GETNetwork) -> bool:
    """Whether there are low-rank changes."""
    return any(parametrize.is_parametrized(layer, "weight") for _, layer in _layers(network))


def adapter_state(network: GETNetwork) -> dict[str, Tensor]:
    """What an adapter is: the low-rank changes by layer, and the head."""
    found = {}
    for name, layer in _layers(network):
        if not parametrize.is_parametrized(layer, "weight"):
            raise ValueError("the model has no adapter: train(lora=8) makes one")
        change = layer.parametrizations["weight"][0]
        found |= {f"{name}.a": change.a.detach(), f"{name}.b": change.b.detach()}
    return found | {f"head.{name}": value.detach() for name, value in network.head.named_parameters()}


def load_adapter_state(network: GETNetwork, state: Mapping[str, Tensor]) -> None:
    """Put an adapter in. ValueError where its tensors are not of this network."""
    ranks = {len(value) for name, value in state.items() if name.endswith(".a")}
    if len(ranks) != 1:
        raise ValueError(f"this is no adapter: expected changes of one rank, found ranks {sorted(ranks)}")
    expected = {name: value.shape for name, value in network.head.named_parameters(prefix="head")}
    rank = ranks.pop()
    for name, layer in _layers(network):
        n_out, n_in = layer.weight.shape
        expected |= {f"{name}.a": torch.Size((rank, n_in)), f"{name}.b": torch.Size((n_out, rank))}
    found = {name: value.shape for name, value in state.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        raise ValueError(
            f"the adapter is of another network: {len(wrong)} tensors differ (first: {wrong[0]}, "
            f"{tuple(found.get(wrong[0], ()))} in the file, {tuple(expected.get(wrong[0], ()))} expected)"
        )
    add_adapter(network, rank, seed=0)
    with torch.no_grad():
        for name, layer in _layers(network):
            change = layer.parametrizations["weight"][0]
            change.a.copy_(state[f"{name}.a"])
            change.b.copy_(state[f"{name}.b"])
        for name, parameter in network.head.named_parameters(prefix="head"):
            parameter.copy_(state[name])


def plain_state(network: GETNetwork) -> dict[str, Tensor]:
    """The network's weights under their plain names, with the changes of an adapter in them."""
    state = {}
    for name, value in network.state_dict().items():
        if ".parametrizations.weight." not in name:
            state[name] = value
    for name, layer in _layers(network):
        state[f"{name}.weight"] = layer.weight.detach()
    return state


def _layers(network: GETNetwork) -> Iterator[tuple[str, nn.Linear]]:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear) and name != "head":
            yield name, layer
