"""``sf.settings``: seed, messages, progress bars and threads, for the whole session."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger("scatacformer")
# scanpy's levels 0 to 4, and the names of both packages
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "hint": logging.INFO}
_LEVELS |= {"debug": logging.DEBUG}
_SCANPY = (logging.ERROR, logging.WARNING, logging.INFO, logging.INFO, logging.DEBUG)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Settings:
    """Settings of the session, as in scanpy and scvi-tools: ``sf.settings.seed = 1``.

    They are defaults: an argument of a function or model takes precedence.
    """

    def __init__(self) -> None:
        self._seed: int | None = None
        self._progress = True
        self._n_threads: int | None = None

    @property
    def seed(self) -> int | None:
        """Seed of models that are created without one. With None it is ``scvi.settings.seed``, or 0. No global random
        state is seeded."""
        return self._seed

    @seed.setter
    def seed(self, value: int | None) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ValueError(f"settings.seed is {value!r}; expected a whole number of at least 0, or None.")
        self._seed = value

    @property
    def verbosity(self) -> int:
        """Level of the messages on stderr, as in Python's ``logging``; 20 (``"info"``) by default. Set it to a level,
        a name (``"error"``, ``"warning"``, ``"info"``, ``"debug"``) or scanpy's 0 to 4."""
        return logger.level

    @verbosity.setter
    def verbosity(self, value: int | str) -> None:
        level: int | None = None
        if isinstance(value, str):
            level = _LEVELS.get(value.lower())
        elif isinstance(value, int) and not isinstance(value, bool):
            level = _SCANPY[value] if 0 <= value < len(_SCANPY) else value if 10 <= value <= 50 else None
        if level is None:
            raise ValueError(
                f"settings.verbosity is {value!r}; expected one of {', '.join(_LEVELS)}, scanpy's 0 to 4, or a level of "
                "logging (10 to 50)."
            )
        logger.setLevel(level)

    @property
    def progress(self) -> bool:
        """Whether progress bars are shown, on a terminal or in a notebook."""
        return self._progress

    @progress.setter
    def progress(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise ValueError(f"settings.progress is {value!r}; expected True or False.")
        self._progress = value

    @property
    def n_threads(self) -> int | None:
        """Number of threads of torch, numba and linear algebra; None, the default, leaves it to them. Set it before the
        first computation."""
        return self._n_threads

    @n_threads.setter
    def n_threads(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"settings.n_threads is {value!r}; expected a whole number of at least 1.")
        self._n_threads = value
        for name in _THREADS:  # for libraries that are not loaded yet
            os.environ[name] = str(value)
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(value)
        if (numba := sys.modules.get("numba")) is not None:
            with torch_threads_kept():
                numba.set_num_threads(min(value, numba.config.NUMBA_NUM_THREADS))
        else:  # numba refuses another value once it is loaded
            os.environ["NUMBA_NUM_THREADS"] = str(value)
        if "numpy" in sys.modules:
            import threadpoolctl

            threadpoolctl.threadpool_limits(value)

    def pick_seed(self, seed: int | None) -> int:
        """The seed of a model: the given one, or that of the session.

        Parameters
        ----------
        seed
            The argument of the model; None if it was not given.
        """
        if seed is None:
            seed = self._seed
        if seed is None and (scvi := sys.modules.get("scvi")) is not None:
            seed = scvi.settings.seed
        return int(seed or 0)

    def __repr__(self) -> str:
        level = logging.getLevelName(self.verbosity).lower()
        threads = "default of the libraries" if self._n_threads is None else self._n_threads
        return f"Settings(seed={self._seed}, verbosity={level!r}, progress={self._progress}, n_threads={threads})"


@contextmanager
def torch_threads_kept() -> Iterator[None]:
    """Within the block numba may start its threads, which sets torch's number of threads to numba's (both use OpenMP);
    afterwards torch has the number that it had."""
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    try:
        yield
    finally:
        if torch is not None and torch.get_num_threads() != before:
            torch.set_num_threads(before)


class _OnStderr(logging.StreamHandler):
    """Messages on stderr, unless the application has set up logging itself."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)  # the stream is looked up for each message

    @property
    def stream(self) -> Any:
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        others = any(handler is not self for handler in logger.handlers)
        if not others and not (logger.propagate and logging.getLogger().handlers):
            super().emit(record)


def show_messages() -> None:
    """Let the messages of the package reach stderr from level INFO; called when the package is imported."""
    if not any(isinstance(handler, _OnStderr) for handler in logger.handlers):
        logger.addHandler(_OnStderr())
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


settings = Settings()
