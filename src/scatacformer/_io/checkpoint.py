"""Checkpoints that other programs wrote with ``torch.save``: tensors alone, checked."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import in_words, reading
from .tensors import check_finite, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

_INSIDE = ("state_dict", "model")  # where others put the state dict


def read_checkpoint(path: Path, what: str) -> dict[str, Tensor]:
    """Name -> tensor of a state dict in a file of torch or safetensors, on the CPU. Nothing in it is executed.

    Of a dict with ``state_dict`` or ``model``, the state dict in it; entries that are not tensors are left out.

    Parameters
    ----------
    path
        The file.
    what
        What is expected in it, for errors: ``"a checkpoint of GET"``.

    Raises
    ------
    ValueError
        Not such a file; it holds code; its bytes are not those that were written, by the checksums that torch stores and
        does not verify; numbers that are not finite. All name the file.
    FileNotFoundError
        There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}.")
    if path.suffix == ".safetensors":
        found = read_tensors(path)
    else:
        with reading(path, what):
            check_zip(path)
            found = _tensors_of(_load(path), path, what)
    check_finite(path, found)
    return found


def check_zip(path: Path) -> None:
    """ValueError for a zip archive, as torch writes it, that is damaged or compressed; other files pass.

    torch compresses nothing: an archive that unpacks to more than its size is not a checkpoint."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > 2 * path.stat().st_size + (1 << 20):
            raise ValueError(f"{path} unpacks to {unpacked:,} bytes: it is compressed, and torch writes no such file.")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"{path} is damaged: the checksum of {damaged} does not match. Copy it again.")


def _load(path: Path) -> Any:
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} cannot be read as tensors alone ({in_words(error)}). It is damaged, or holds code, which is not run: "
            "ask its author for a file of tensors alone."
        ) from None


def _tensors_of(content: Any, path: Path, what: str) -> dict[str, Tensor]:
    import torch

    for key in _INSIDE:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    found = content if isinstance(content, dict) else {}
    tensors = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError(f"{path} is not {what}: it holds a {type(content).__name__}, and no state dict.")
    return tensors
