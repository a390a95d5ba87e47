"""Where weights go, as scvi-tools' arguments name it."""

from __future__ import annotations

import torch


def pick_device(accelerator: str, device: int | str) -> torch.device:
    """``accelerator`` ``"auto"``: the GPU if there is one; ``"cpu"``; ``"gpu"`` or ``"cuda"`` and its number."""
    if accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if accelerator in ("auto", "gpu", "cuda"):
        number = 0 if device == "auto" else int(str(device).rsplit(":", 1)[-1])
        return torch.device("cuda", number)
    return torch.device(accelerator)
