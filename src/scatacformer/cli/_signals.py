"""SIGTERM ends the program in order: incomplete files are removed, a line is printed, and the exit status is 143."""

from __future__ import annotations

import re
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._messages import logger

TERMINATED, INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT


class Terminated(BaseException):
    """Raised on SIGTERM. It is not an Exception, so that error handlers do not catch it."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within the block, SIGTERM raises :class:`Terminated`, unless a training sets its own handler."""
    here = threading.current_thread() is threading.main_thread()  # handlers can be set only there
    before = signal.getsignal(signal.SIGTERM) if here else None
    if before is not signal.SIG_DFL:  # ignored on purpose, or set by other code
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def status_of(end: SystemExit) -> int:
    """The exit status of a SystemExit, with that of Ctrl-C if a library converted a KeyboardInterrupt."""
    if isinstance(end.__context__, KeyboardInterrupt):  # Lightning does so
        return INTERRUPTED
    if end.code is None:
        return 0
    return end.code if isinstance(end.code, int) else 1


@contextmanager
def ctrl_c_stops(resume: str | None = None) -> Iterator[None]:
    """Within the block, Ctrl-C in a training ends the command. A script keeps the best weights so far instead.

    ``resume``: the command that resumes the training, for the message if it has left a checkpoint."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="training was stopped by Ctrl-C", category=UserWarning)
        try:
            yield
        except UserWarning as stopped:
            if resume is not None:
                logger.warning("%s", re.sub(r"(pre)?train\(resume=True\)", resume, str(stopped)))
            raise KeyboardInterrupt from stopped


def _raise(number: int, frame: Any) -> None:
    raise Terminated
