"""Messages during a run: one line each on stderr, so that stdout has only the result."""

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
    """Log messages and warnings of this package go to stderr; those of other libraries are suppressed.

    Lines have a time stamp in a log file, but not on a terminal, where progress bars show the time. ``quiet`` keeps
    only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s" if sys.stderr.isatty() else "%(asctime)s %(message)s"))
    # the command line chooses the resolution itself: its user needs no advice
    handler.addFilter(lambda record: getattr(record, "about", None) != "leiden")
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
    """Suppress log messages of Lightning and scvi-tools about TPUs and trackers, if these are imported."""
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
