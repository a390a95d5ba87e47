"""Names of a package that are imported when they are first used, so that importing the package costs nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy(
    package: str, names: Sequence[str], file_of: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package, for its ``__init__``.

    Parameters
    ----------
    package
        Its ``__name__``.
    names
        Its ``__all__``.
    file_of
        Name -> file of the package that has it; names besides those of ``__all__`` can be imported as well.
    """

    def get(name: str) -> Any:
        if name not in file_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{file_of[name]}", package), name)

    return get, lambda: sorted(names)


def one_file_each(names: Sequence[str]) -> dict[str, str]:
    """Name -> file where each name has a file of its own: ``bin_fragments`` is in ``_bin_fragments.py``."""
    return {name: f"_{name}" for name in names}
