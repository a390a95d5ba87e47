"""Low-rank changes of the region embedding and the encoder (LoRA): kept beside the weights, which stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scatacformer.nn import add_lora, has_lora, is_adapter, load_lora, lora_state, merged_state, remove_lora

if TYPE_CHECKING:
    from scatacformer.nn import GETNetwork


def add_adapter(network: GETNetwork, rank: int, seed: int) -> None:
    """Low-rank changes of all linear layers but the head's; all else but the head is frozen.

    Raises ValueError for a rank below 1, and where there is an adapter already.
    """
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise ValueError(f"lora is {rank!r}; expected the rank of the changes, a whole number of at least 1, or None.")
    if has_adapter(network):
        raise ValueError("the model has an adapter already: merge_adapter() or remove_adapter() first.")
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    add_lora([layer for _, layer in _layers(network)], rank, torch.Generator().manual_seed(seed))
    for parameter in network.head.parameters():
        parameter.requires_grad_(True)


def remove_adapter(network: GETNetwork, merge: bool) -> None:
    """Without the changes the weights are what they were, bit for bit; merged, the changes are added to them for
    good."""
    remove_lora(network, merge)
    for parameter in network.parameters():
        parameter.requires_grad_(True)


def has_adapter(network: GETNetwork) -> bool:
    """Whether there are low-rank changes."""
    return has_lora(network)


def adapter_state(network: GETNetwork) -> dict[str, Tensor]:
    """What an adapter is: the low-rank changes by layer, and the head."""
    if not has_lora(network):
        raise ValueError("the model has no adapter: train(lora=8) makes one.")
    return lora_state(network) | {f"head.{name}": value.detach() for name, value in network.head.named_parameters()}


def load_adapter_state(network: GETNetwork, state: Mapping[str, Tensor]) -> None:
    """Put an adapter in. ValueError where its tensors are not of this network."""
    changes = {name: value for name, value in state.items() if is_adapter(name)}
    ranks = {len(value) for name, value in changes.items() if name.endswith("lora_a")}
    if len(ranks) != 1:
        raise ValueError(f"this is no adapter: expected changes of one rank, found ranks {sorted(ranks)}.")
    expected = {name: value.shape for name, value in network.head.named_parameters(prefix="head")}
    rank = ranks.pop()
    for name, layer in _layers(network):
        n_out, n_in = layer.weight.shape
        expected |= {f"{name}.lora_a": torch.Size((rank, n_in)), f"{name}.lora_b": torch.Size((n_out, rank))}
    found = {name: value.shape for name, value in state.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        raise ValueError(
            f"the adapter is of another network: {len(wrong)} tensors differ (first: {wrong[0]}, "
            f"{tuple(found.get(wrong[0], ()))} in the file, {tuple(expected.get(wrong[0], ()))} expected)."
        )
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    load_lora(network, changes)
    with torch.no_grad():
        for name, parameter in network.head.named_parameters(prefix="head"):
            parameter.copy_(state[name])
            parameter.requires_grad_(True)


def plain_state(network: GETNetwork) -> dict[str, Tensor]:
    """The network's weights under their plain names, with the changes of an adapter in them."""
    return merged_state(network)


def _layers(network: GETNetwork) -> Iterator[tuple[str, nn.Linear]]:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear) and name != "head":
            yield name, layer
