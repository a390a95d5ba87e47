"""SIGTERM ends the program in order: what is half written is removed, a line says so, the exit status is 143."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TERMINATED, INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT


class Terminated(BaseException):
    """SIGTERM has come. Not an Exception: nothing that handles errors takes it for one."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within the block SIGTERM raises :class:`Terminated`, but where a training has a handler of its own."""
    here = threading.current_thread() is threading.main_thread()  # only there may a handler be set
    before = signal.getsignal(signal.SIGTERM) if here else None
    if before is not signal.SIG_DFL:  # ignored on purpose, or somebody else's
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def status_of(end: SystemExit) -> int:
    """The exit status of a SystemExit, with that of Ctrl-C where a library made one of a KeyboardInterrupt."""
    if isinstance(end.__context__, KeyboardInterrupt):  # Lightning does so
        return INTERRUPTED
    if end.code is None:
        return 0
    return end.code if isinstance(end.code, int) else 1


def _raise(number: int, frame: Any) -> None:
    raise Terminated
