"""Low-rank changes of linear layers (LoRA; Hu et al. 2021): learned beside the weights, which stay as they are.

A layer's output becomes ``W x + scale * B A x``, A (rank, in) and B (out, rank). They are parameters of the layer,
``lora_a`` and ``lora_b``, so that the names of all other tensors are the same with and without.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ADAPTED = ("qkv", "out", "up", "down")
A, B, HOOK, SCALE = "lora_a", "lora_b", "_lora_hook", "_lora_scale"


def add_lora(layers: Iterable[nn.Linear], rank: int, generator: torch.Generator, scale: float = 1.0) -> int:
    """Add low-rank changes to linear layers; returns how many numbers they have.

    They start at zero: the network computes what it did before. The layers' own weights no longer learn.

    Parameters
    ----------
    layers
        The layers that get changes.
    rank
        Rank of the changes, at least 1.
    generator
        Of A, which is sampled as peft samples it (uniformly; He et al. 2015 with a = sqrt(5)).
    scale
        What the changes are multiplied with; peft's ``lora_alpha / r``.

    Raises
    ------
    ValueError
        A rank below 1; no layers; a layer that has changes already.
    """
    layers = list(layers)
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"the rank of low-rank changes is {rank!r}; expected a whole number of at least 1.")
    if not layers:
        raise ValueError("there is no linear layer to give low-rank changes to.")
    if any(hasattr(layer, A) for layer in layers):
        raise ValueError("a layer has low-rank changes already: remove_lora(module, merge=...) first.")
    n_learning = 0
    for layer in layers:
        n_out, n_in = layer.weight.shape
        for n in (rank * n_in, n_out * rank):  # peft samples both matrices once before it starts them
            torch.rand(n, generator=generator)
        a = nn.init.kaiming_uniform_(torch.empty(rank, n_in), a=math.sqrt(5), generator=generator)
        layer.weight.requires_grad_(False)
        _attach(layer, a, torch.zeros(n_out, rank), scale)
        n_learning += rank * (n_in + n_out)
    return n_learning


def has_lora(module: nn.Module) -> bool:
    """Whether any layer has low-rank changes."""
    return any(hasattr(layer, A) for _, layer in linear_layers(module))


def is_adapter(name: str) -> bool:
    """Whether the parameter of a name is part of a low-rank change."""
    return name.rpartition(".")[2] in (A, B)


def lora_state(module: nn.Module) -> dict[str, Tensor]:
    """The low-rank changes alone, by the names that ``module.state_dict()`` gives them."""
    return {name: value for name, value in module.state_dict().items() if is_adapter(name)}


def load_lora(module: nn.Module, state: Mapping[str, Tensor], scale: float = 1.0) -> None:
    """Add the low-rank changes of :func:`lora_state` to a module without any.

    Raises ValueError for names or shapes that do not fit the module.
    """
    found = {name.removesuffix(f".{A}"): value for name, value in state.items() if name.endswith(f".{A}")}
    layers = {name: layer for name, layer in linear_layers(module) if name in found}
    expected = {f"{name}.{end}" for name in layers for end in (A, B)}
    if not state or expected != set(state):
        strange = sorted(expected ^ set(state)) or ["nothing"]
        raise ValueError(
            f"these are not low-rank changes of this module: {len(strange)} names differ, first {strange[0]}."
        )
    for name, layer in layers.items():
        a, b = state[f"{name}.{A}"], state[f"{name}.{B}"]
        if a.shape != (len(a), layer.weight.shape[1]) or b.shape != (layer.weight.shape[0], len(a)):
            raise ValueError(
                f"the low-rank change of {name} is of another module: {tuple(b.shape)} x {tuple(a.shape)}, and its weight "
                f"{tuple(layer.weight.shape)}."
            )
    for name, layer in layers.items():
        _attach(layer, state[f"{name}.{A}"], state[f"{name}.{B}"], scale)


@torch.no_grad()
def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """``module.state_dict()`` as it is once the low-rank changes are merged; the module stays as it is."""
    state = {name: value for name, value in module.state_dict().items() if not is_adapter(name)}
    for name, layer in linear_layers(module):
        if hasattr(layer, A):
            state[f"{name}.weight" if name else "weight"] = layer.weight + _change(layer)
    return state


@torch.no_grad()
def remove_lora(module: nn.Module, merge: bool) -> None:
    """Remove the low-rank changes. ``merge`` adds them to the weights; without it the weights are what they were."""
    for _, layer in linear_layers(module):
        if not hasattr(layer, A):
            continue
        if merge:
            weight: Tensor = layer.weight
            weight += _change(layer)
        getattr(layer, HOOK).remove()
        for name in (A, B, HOOK, SCALE):
            delattr(layer, name)


@dataclass(frozen=True)
class LoraOptions:
    """Rank, scale and target layers of the low-rank changes of the encoder, with peft's names; checked when created."""

    r: int = 8
    lora_alpha: float = 16.0
    target_modules: tuple[str, ...] = ADAPTED

    def __post_init__(self) -> None:
        if self.r < 1 or self.lora_alpha <= 0:
            raise ValueError(f"expected r of at least 1 and lora_alpha > 0, found {self.r} and {self.lora_alpha}.")
        if isinstance(self.target_modules, str):
            raise ValueError(f"target_modules is {self.target_modules!r}; expected a list of {ADAPTED}.")
        unknown = [name for name in self.target_modules if name not in ADAPTED]
        if unknown or not self.target_modules:
            raise ValueError(f"target_modules is {list(self.target_modules)}; expected among {ADAPTED}.")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> LoraOptions:
        """The options given by ``settings``; ValueError for an unknown name."""
        known = [f.name for f in fields(cls)]
        if unknown := [name for name in settings if name not in known]:
            raise ValueError(f"lora_kwargs has no {unknown[0]!r}; there are {', '.join(known)}.")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return asdict(self) | {"target_modules": list(self.target_modules)}


@contextmanager
def adapted(encoder: nn.Module, options: LoraOptions | None, seed: int) -> Iterator[None]:
    """The encoder with low-rank changes, which are merged into its weights at the end, however training ends.

    A model that was fine-tuned in this way is saved like any other.
    """
    if options is None:
        yield
        return
    layers = [layer for name, layer in linear_layers(encoder) if name.rpartition(".")[2] in options.target_modules]
    add_lora(layers, options.r, torch.Generator().manual_seed(seed), options.lora_alpha / options.r)
    try:
        yield
    finally:
        remove_lora(encoder, merge=True)


def linear_layers(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of a module, by name."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            yield name, layer


def _attach(layer: nn.Linear, a: Tensor, b: Tensor, scale: float) -> None:
    weight = layer.weight
    for name, value in ((A, a), (B, b)):
        layer.register_parameter(name, nn.Parameter(value.detach().clone().to(weight.device, weight.dtype)))
    setattr(layer, SCALE, scale)
    setattr(layer, HOOK, layer.register_forward_hook(_add_low_rank))


def _change(layer: nn.Linear) -> Tensor:
    """What merging adds to the weight.  (out, in)"""
    return (getattr(layer, B) @ getattr(layer, A)) * getattr(layer, SCALE)


def _add_low_rank(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    low = F.linear(F.linear(inputs[0], getattr(layer, A)), getattr(layer, B))
    return output + low * getattr(layer, SCALE)
