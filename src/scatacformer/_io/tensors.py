"""Weights read from a file, and held against the network that is to take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .errors import reading

if TYPE_CHECKING:
    from torch import Tensor


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

    Raises ValueError for a file that is truncated or is none, and for what git-lfs leaves in its place.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    refuse_pointer(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is truncated or not a safetensors file ({error}; {path.stat().st_size:,} bytes). Download it again."
        ) from None


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
