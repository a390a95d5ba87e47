"""Ctrl-C and SIGTERM during training: training ends after the current step, and nothing that was learned is lost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TERMINATED = 143  # exit status of a process that SIGTERM ended: 128 + 15


class Interrupt:
    """Signals received from the user or the scheduler since training began.

    ``asked`` is 0, ``signal.SIGINT`` or ``signal.SIGTERM``. While ``stepping`` is False (data are prepared, no step has
    been made), a signal ends training at once.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.stepping = self.broken = False
        self._before: dict[int, Any] = {}

    def watch(self) -> None:
        """Handle both signals from here on; call again if a library has replaced the handlers."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python delivers signals to the main thread only
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if number not in self._before:
                if before is None:  # a handler that was not set in Python cannot be restored
                    continue
                self._before[number] = before
            signal.signal(number, self._handle)

    def release(self) -> None:
        """Restore the previous handlers."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def _handle(self, number: int, frame: Any) -> None:
        if self.broken:  # what is being cleaned up is not disturbed
            return
        if not self.stepping or (number == signal.SIGINT and self.asked == signal.SIGINT):
            self.broken = True
            raise BrokenOff(number)
        self.asked = self.asked if self.asked == signal.SIGTERM else number
        again = "; press it again to stop immediately" if number == signal.SIGINT else ""
        print(f"{_NAME[number]}: training ends after this step{again}", file=sys.stderr, flush=True)


class BrokenOff(BaseException):
    """Raised by the handler. Lightning turns KeyboardInterrupt into ``SystemExit(1)``, and lets anything else pass."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Watch for both signals within the block.

    Raises
    ------
    KeyboardInterrupt
        A second Ctrl-C, or one before the first step.
    SystemExit
        With status 143: SIGTERM before the first step.
    """
    interrupt = Interrupt()
    interrupt.watch()
    try:
        yield interrupt
    except BrokenOff as broken:
        if broken.number == signal.SIGTERM:
            terminate("SIGTERM before the first step: nothing was trained")
        raise KeyboardInterrupt from None
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # converted by Lightning
            raise KeyboardInterrupt from None
        raise
    finally:
        interrupt.release()


def terminate(line: str) -> None:
    """End the process with status 143 after a line on stderr."""
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(TERMINATED)


_NAME: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
