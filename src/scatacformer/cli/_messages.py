"""What the program says while it works: one line each on stderr, so that stdout is the result alone."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger("scatacformer")
_OURS = str(Path(__file__).parents[1])


@contextmanager
def messages_on_stderr(quiet: bool) -> Iterator[None]:
    """Log lines and warnings of this package go to stderr; those of the libraries below are not for the user.

    In a log file each line has its time; on a terminal, where progress bars show it, it has none. ``quiet`` leaves
    warnings alone.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s" if sys.stderr.isatty() else "%(asctime)s %(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = _show
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagate
            logger.setLevel(level)


@contextmanager
def libraries_silent() -> Iterator[None]:
    """No log lines of Lightning and scvi-tools, which tell of TPUs and trackers; only once they are imported."""
    libraries = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "scvi")]
    levels = [library.level for library in libraries]
    for library in libraries:
        library.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.setLevel(level)


def _show(message: Any, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning) and filename.startswith(_OURS):
        logger.warning("warning: %s", " ".join(str(message).split()))
