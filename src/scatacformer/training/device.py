"""The device of the weights, from the arguments used in scvi-tools."""

from __future__ import annotations

import torch


def check_accelerator(accelerator: str) -> str:
    """``"auto"`` resolved to ``"cuda"`` or ``"cpu"``; any other name is returned unchanged.

    Raises ValueError if a GPU is requested but torch finds none.
    """
    if accelerator == "auto":  # not Apple's GPU, which does not support row-sparse gradients
        return "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"accelerator={accelerator!r} needs a CUDA device, and torch finds none; use accelerator='cpu' or 'auto'."
        )
    return accelerator


def pick_device(accelerator: str, device: int | str = "auto") -> torch.device:
    """The device given by ``accelerator`` (``"auto"``, ``"cpu"``, ``"gpu"``) and the number ``device``.

    Raises ValueError if a GPU is requested but torch finds none.
    """
    accelerator = check_accelerator(accelerator)
    if accelerator in ("gpu", "cuda"):
        number = 0 if device == "auto" else int(str(device).rsplit(":", 1)[-1])
        return torch.device("cuda", number)
    return torch.device(accelerator)
