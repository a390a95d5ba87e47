"""Registries, histories and indices as JSON and back: nothing that is opened can run code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

_MOST_LETTERS = 1 << 28  # of all texts of an array, each as long as the longest: NumPy keeps them so


def encode(value: Any) -> Any:
    """Dicts, lists, numbers, strings, NumPy arrays and DataFrames to what ``json`` can write. TypeError for others."""
    if isinstance(value, dict):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    if isinstance(value, np.ndarray):
        return {"__array__": [encode(v) for v in value.tolist()], "dtype": str(value.dtype)}
    if isinstance(value, pd.DataFrame):
        columns = {str(c): [encode(v) for v in value[c].tolist()] for c in value}
        return {"__frame__": columns, "index": value.index.tolist(), "name": value.index.name}
    if isinstance(value, np.generic):
        return encode(value.item())
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"cannot save a {type(value).__name__}: {value!r:.80}.")


def decode(value: Any) -> Any:
    """The inverse of :func:`encode` (tuples come back as lists)."""
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "__array__" in value:
        return _array(value["__array__"], str(value.get("dtype")))
    if "__frame__" in value:
        return pd.DataFrame(value["__frame__"], index=pd.Index(value["index"], name=value["name"]))
    return {k: decode(v) for k, v in value.items()}


def _array(values: Any, dtype: str) -> np.ndarray:
    """The array of a list. Its dtype is used only for numbers: that of strings determines the memory of each."""
    if dtype == "object":
        return np.array(values, dtype=object)
    if dtype.startswith(("<U", "U", "str")):
        longest = max((len(v) for v in values if isinstance(v, str)), default=0)
        if longest * len(values) > _MOST_LETTERS:
            raise ValueError(
                f"an array of {len(values):,} texts, the longest of {longest:,} letters, is not one of ours."
            )
        return np.array(values, dtype=str)
    if dtype.lstrip("<>=|")[:1] not in ("b", "i", "u", "f"):
        raise ValueError(f"an array of {dtype[:40]!r} is not one that is saved; expected numbers or texts.")
    return np.array(values, dtype=dtype)
