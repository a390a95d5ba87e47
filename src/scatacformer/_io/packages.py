"""Packages that only some functions need, imported when they are used."""

from __future__ import annotations

import importlib
import logging
from typing import Any


def optional(package: str, what: str, install: str | None = None) -> Any:
    """The module ``package``; ImportError that names the task ``what`` and the command that installs it if it is missing.

    ``install`` is what ``pip install`` takes; default: the name of the package.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.split(".")[0]:
            raise
        raise ImportError(
            f"{what} needs {package}, which is not installed: pip install '{install or package}'."
        ) from None


def snapatac2(what: str) -> Any:
    """The module snapatac2, which only fragments and its own graphs need.

    Importing it sets the level of the root logger and gives it a handler; both are put back."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        return optional("snapatac2", what)
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
