"""Checkpoints are resumed only if they are undamaged and from the same training."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scatacformer._io import check_zip, in_words


def check_checkpoint(path: Path, fingerprint: Mapping[str, Any], otherwise: str = "Train anew") -> None:
    """Raise ValueError for a checkpoint that is damaged, or was written by another training.

    Parameters
    ----------
    path
        A file that ``fit`` wrote.
    fingerprint
        What a resumed training must have in common with the one before: cells, split, seed, rates, ...; plain numbers,
        strings and lists.
    otherwise
        What to do otherwise, for the error.

    Raises
    ------
    ValueError
        The file is truncated or damaged (torch stores a checksum for each tensor but does not verify it); it is not a
        checkpoint of this package; or the fingerprint differs, with the old and the new value.
    """
    before, now = fingerprint_of(path, otherwise), plain(fingerprint)
    changed = [name for name in now if now[name] != before.get(name)]
    if changed:
        name = changed[0]
        others = f" ({', '.join(changed[1:])} differ too)" if changed[1:] else ""
        raise ValueError(
            f"{path} cannot be resumed: {name} was {_short(before.get(name))} and is {_short(now[name])}{others}. "
            f"Set it back, or {otherwise[0].lower()}{otherwise[1:]}."
        )


def fingerprint_of(path: Path, otherwise: str = "Train anew") -> dict[str, Any]:
    """The fingerprint of the training that wrote a checkpoint; ValueError for a file that is damaged or another
    thing."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not an archive.")
        check_zip(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ValueError(
            f"{path} is truncated, damaged, or not a checkpoint ({in_words(error)}). {otherwise}."
        ) from error
    state = content.get("scatacformer") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f"{path} is not a checkpoint of scatacformer. {otherwise}.")
    return state["fingerprint"]


def plain(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """As returned by JSON: tuples become lists. TypeError for values that JSON does not support."""
    return json.loads(json.dumps(dict(fingerprint)))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."
