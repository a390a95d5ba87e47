"""Keyword arguments of ``train`` as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

Record = TypeVar("Record")


def options_of(kind: type[Record], settings: Mapping[str, Any] | None, argument: str) -> Record:
    """The record of the settings in ``argument``, such as ``"plan_kwargs"``; TypeError for names that it does not
    have."""
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    if unknown := sorted(set(settings or {}) - set(known)):
        raise TypeError(f"{argument} takes {', '.join(known)}; found {', '.join(map(repr, unknown))}.")
    return kind(**(settings or {}))
