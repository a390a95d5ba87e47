"""Low-rank adapters (LoRA) of the encoder's linear layers during training, by peft."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

ADAPTED = ("qkv", "out", "up", "down")


@dataclass(frozen=True)
class LoraPlan:
    """Rank, scale and target modules of the adapters, with peft's names; checked when created."""

    r: int = 8
    lora_alpha: float = 16.0
    target_modules: tuple[str, ...] = ADAPTED

    def __post_init__(self) -> None:
        if self.r < 1 or self.lora_alpha <= 0:
            raise ValueError(
                f"r is {self.r} and lora_alpha is {self.lora_alpha}; expected r of at least 1 and lora_alpha above 0."
            )
        if isinstance(self.target_modules, str):
            raise ValueError(f"target_modules is {self.target_modules!r}; expected a list of {ADAPTED}.")
        unknown = [name for name in self.target_modules if name not in ADAPTED]
        if unknown or not self.target_modules:
            raise ValueError(f"target_modules is {list(self.target_modules)}; expected names among {ADAPTED}.")
        _peft()

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> LoraPlan:
        """The plan given by ``settings``; ValueError for an unknown name."""
        known = [f.name for f in fields(cls)]
        if unknown := [name for name in settings if name not in known]:
            raise ValueError(f"lora_kwargs has the unknown key {unknown[0]!r}; its keys are {', '.join(known)}.")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return asdict(self) | {"target_modules": list(self.target_modules)}


@contextmanager
def adapted(encoder: nn.Module, plan: LoraPlan | None, seed: int) -> Iterator[None]:
    """Add low-rank adapters to the encoder, which start at zero and are merged into its weights at the end.

    They are merged however the training ends, because an encoder wrapped by peft could not be saved like others.
    """
    if plan is None:
        yield
        return
    peft = _peft()
    config = peft.LoraConfig(r=plan.r, lora_alpha=plan.lora_alpha, target_modules=list(plan.target_modules))
    # with a seed of their own: the caller's random state is unchanged, and the result does not depend on it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, encoder)
    try:
        yield
    finally:
        merge(encoder)


def merge(encoder: nn.Module) -> None:
    """Merge the adapters into the weights and restore the plain layers."""
    from peft.tuners.lora import LoraLayer

    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()
                setattr(parent, name, child.get_base_layer())
    if hasattr(encoder, "peft_config"):
        del encoder.peft_config


def is_adapter(name: str) -> bool:
    """Whether a parameter of the network is one of the low-rank changes."""
    return ".lora_" in name


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ImportError("LoRA needs peft: pip install 'scatacformer[lora]'.") from None
    return peft
