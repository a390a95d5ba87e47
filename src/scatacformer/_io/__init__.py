"""Files that are whole or not there, tensors without code, folders of the hub, JSON, model cards."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .card import model_card
    from .files import put_in_place, read_json, refuse_to_replace, sha256, whole_file
    from .hub import folder_of
    from .plain import decode, encode
    from .tensors import check_finite, check_tensors, read_tensors, refuse_pointer

__all__ = [
    "check_finite",
    "check_tensors",
    "decode",
    "encode",
    "folder_of",
    "model_card",
    "put_in_place",
    "read_json",
    "read_tensors",
    "refuse_pointer",
    "refuse_to_replace",
    "sha256",
    "whole_file",
]
_FILE_OF = {
    "check_finite": "tensors",
    "check_tensors": "tensors",
    "decode": "plain",
    "encode": "plain",
    "folder_of": "hub",
    "model_card": "card",
    "put_in_place": "files",
    "read_json": "files",
    "read_tensors": "tensors",
    "refuse_pointer": "tensors",
    "refuse_to_replace": "files",
    "sha256": "files",
    "whole_file": "files",
}


def __getattr__(name: str) -> Any:
    if name in _FILE_OF:  # imported when first used
        return getattr(importlib.import_module(f".{_FILE_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
