"""Low-rank changes of the encoder's linear layers while it is trained (LoRA), by peft."""

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
    """Rank, scale and place of the changes, by peft's names; checked when it is built."""

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
        _peft()

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> LoraPlan:
        """The plan of ``settings``; ValueError for a name that there is not."""
        known = [f.name for f in fields(cls)]
        if unknown := [name for name in settings if name not in known]:
            raise ValueError(f"lora_kwargs has no {unknown[0]!r}; there are {', '.join(known)}.")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return asdict(self) | {"target_modules": list(self.target_modules)}


@contextmanager
def adapted(encoder: nn.Module, plan: LoraPlan | None, seed: int) -> Iterator[None]:
    """The encoder with its low-rank changes, which start at zero and are merged into its weights at the end.

    Whatever ends the training: an encoder that peft has wrapped would not be saved like any other.
    """
    if plan is None:
        yield
        return
    peft = _peft()
    config = peft.LoraConfig(r=plan.r, lora_alpha=plan.lora_alpha, target_modules=list(plan.target_modules))
    # one after another: the random state stays the caller's, and the result does not depend on it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, encoder)
    try:
        yield
    finally:
        merge(encoder)


def merge(encoder: nn.Module) -> None:
    """Adds the changes to the weights and puts the plain layers back."""
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
