"""Errors of libraries that read or write files, as one sentence: which file, what was found, what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WRITERS = re.compile(r"PytorchStreamWriter|inline_container|unexpected pos|file write failed|Problems closing file")
_ERRNO = re.compile(r"errno = (\d+)|os error (\d+)|\[Errno (\d+)\]")  # of h5py; of Rust; of Python
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# names of panics of libraries written in Rust, which are not an Exception
_PANICS = ("PanicException",)


@contextmanager
def reading(path: str | os.PathLike, expected: str, remedy: str = "Copy it again") -> Iterator[None]:
    """Within the block, any error of a library becomes a ValueError that names ``path``.

    ``{path} is not {expected}, or is damaged: {what was found}. {remedy}``. Errors that already name the file or
    report that it does not exist or is not readable, and unrelated errors (an interruption, a missing package) pass.
    """
    try:
        yield
    except (ImportError, Warning):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ not in _PANICS:
            raise  # an interruption, or the end of the process
        if isinstance(error, ValueError | OSError) and _names(error, path):
            raise
        raise ValueError(
            f"{os.fspath(path)} is not {expected}, or is damaged: {in_words(error).rstrip('.')}. {remedy.rstrip('.')}."
        ) from None


@contextmanager
def writing(path: str | os.PathLike, kept: str | None = None) -> Iterator[None]:
    """Within the block, a write that fails becomes an OSError that names ``path`` and the free space on its disk.

    ``kept`` describes what still exists; default: the earlier file, if there is one.
    """
    try:
        yield
    except Exception as error:
        number = _failed_write(error, path)
        if number is None:
            raise
        target = Path(path)
        if kept is None:
            kept = "The earlier file is whole" if target.exists() else "Nothing was written"
        raise OSError(number, f"{target} could not be written: {_why(number, error, target)}. {kept}") from error


def in_words(error: BaseException, longest: int = 200) -> str:
    """The first line of an error's message, for a sentence of ours."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "").rstrip(".")
    if isinstance(error, RecursionError):
        return "its values are nested too deeply"
    if isinstance(error, MemoryError):
        return "it needs more memory than is available"
    if isinstance(error, KeyError):
        return f"it has no {text}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start:,} is not UTF-8 text"
    if not text:
        return type(error).__name__
    text = text if len(text) <= longest else text[:longest] + "…"
    return text if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}"


def _names(error: Exception, path: str | os.PathLike) -> bool:
    named = [str(error), *(str(name) for name in (getattr(error, "filename", None),) if name is not None)]
    return any(os.fspath(path) in text for text in named)


def _failed_write(error: Exception, path: str | os.PathLike) -> int | None:
    """The system's error number if ``error`` means that ``path`` could not be written; None for all others."""
    text = str(error)
    if isinstance(error, OSError):
        if error.filename is not None and Path(str(error.filename)).parent != Path(path).parent:
            return None  # of a file that is read meanwhile
        if error.errno is not None:
            return None if f"{os.fspath(path)} could not be written" in text else error.errno
    if type(error).__name__ != "SafetensorError" and not isinstance(error, OSError | RuntimeError):
        return None
    found = _ERRNO.search(text)
    if found:
        return int(next(number for number in found.groups() if number))
    if "No space left" in text:
        return errno.ENOSPC
    return errno.EIO if _WRITERS.search(text) else None


def _why(number: int, error: Exception, path: Path) -> str:
    reason = os.strerror(number) if number != errno.EIO else in_words(error)
    if number not in _FULL and number != errno.EIO:
        return reason
    folder = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
    return f"{reason} ({shutil.disk_usage(folder).free:,} bytes are free in {folder}). Make room and write it again"
