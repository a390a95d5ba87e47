"""A function run in a process that is killed at its k-th step on the disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

STEPS = ("replace", "fsync", "unlink", "open", "mkdir")


def run_killed_at(k: int, write: Callable[[], object]) -> bool:
    """Whether `write` was killed (SIGKILL) just before the k-th call that changes the disk; False: it ended before."""
    pid = os.fork()
    if pid == 0:
        _count_down(k)
        try:
            write()
        except BaseException:  # noqa: BLE001 of whatever kind: this process ends here
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), "the child failed by itself"
    return os.WIFSIGNALED(status)


def _count_down(k: int) -> None:
    left = [k]

    def counted(step):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*args, **kwargs)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
