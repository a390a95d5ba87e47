"""Weights read from a file, and held against the network that is to take them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .errors import reading
from .files import whole_file

if TYPE_CHECKING:
    from torch import Tensor

_SUM = "sha256"  # in the metadata


class TensorShape(NamedTuple):
    """Entry of a tensor in the header of a safetensors file."""

    shape: tuple[int, ...]
    dtype: str
    """As safetensors writes it: ``"F32"``, ``"BF16"``, ``"I64"``, ``"BOOL"``."""


def tensor_shapes(path: Path) -> dict[str, TensorShape]:
    """Shape and dtype of each tensor of a safetensors file, from its header only: no memory is allocated for the
    values.

    Raises ValueError for a file that is truncated or is not safetensors, and for what git-lfs leaves in its place.
    """
    from safetensors import safe_open

    refuse_pointer(path)
    with reading(path, "a safetensors file", f"It has {path.stat().st_size:,} bytes. Download it again"):
        with safe_open(path, framework="numpy") as file:  # checks the header against the size of the file
            slices = {name: file.get_slice(name) for name in file.keys()}
            return {name: TensorShape(tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, by name.

    Raises ValueError for a file that is truncated or is none, for what git-lfs leaves in its place, and where
    :func:`write_tensors` wrote other bytes.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    refuse_pointer(path)
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            notes = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is truncated or not a safetensors file ({error}; {path.stat().st_size:,} bytes). Download it again."
        ) from None
    if _SUM in notes and notes[_SUM] != _sum_of(tensors, notes):
        raise ValueError(f"{path} is damaged or was altered: its content differs from its checksum. Copy it again.")
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **notes: str) -> None:
    """Write a safetensors file, whole or not at all, with ``notes`` and a checksum of everything in its metadata."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        save_file(plain, partial, metadata=notes | {_SUM: _sum_of(plain, notes)})


def _sum_of(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    """SHA-256 of names, shapes, dtypes and bytes of all tensors, and of the notes."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]
    digest.update("".join(f"{name}={notes[name]}\n" for name in sorted(notes) if name != _SUM).encode())
    return digest.hexdigest()


def refuse_pointer(path: Path) -> None:
    """ValueError for what git leaves in place of a large file where git-lfs is not installed."""
    with path.open("rb") as file:
        if file.read(20).startswith(b"version https://git"):
            raise ValueError(
                f"{path} is a pointer of git-lfs and not the weights: git lfs pull, or from_pretrained(id)."
            )


def check_tensors(path: Path, found: Mapping[str, Iterable[int]], expected: Mapping[str, Iterable[int]]) -> None:
    """ValueError that names the first few tensors, by name -> shape, in which ``path`` and its configuration differ."""
    have, want = ({name: tuple(shape) for name, shape in shapes.items()} for shapes in (found, expected))
    what = [f"{name} is missing" for name in sorted(want.keys() - have.keys())]
    what += [f"{name} is not of this network" for name in sorted(have.keys() - want.keys())]
    what += [
        f"{name} is {have[name]}; expected {want[name]}"
        for name in sorted(have.keys() & want.keys())
        if have[name] != want[name]
    ]
    if what:
        raise ValueError(
            f"the weights of {path} are not of the network that config.json describes: {'; '.join(what[:4])}"
            f"{f' and {len(what) - 4} more' if len(what) > 4 else ''}."
        )


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """ValueError that names the first tensor with a number that is NaN or infinite."""
    for name, tensor in tensors.items():
        # the sum takes no memory, and is finite where all numbers are (but for overflow, which the second look finds)
        if not bool(tensor.sum().isfinite()) and not bool(tensor.isfinite().all()):
            raise ValueError(f"{path}: {name} holds numbers that are not finite.")
