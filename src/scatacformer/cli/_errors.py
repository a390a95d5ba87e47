"""Errors in the usage or the input, which the user can correct."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # problems of the disk, not of the input


class InputError(Exception):
    """Wrong usage or input; its text says in one line what was found, what was expected and what to do."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


@contextmanager
def as_input_error(prefix: str = "", any_kind: bool = False) -> Iterator[None]:
    """Errors that the library raises while input is read and checked become input errors.

    ``any_kind``: those of all types, as other packages raise them for a damaged file."""
    try:
        yield
    except (InputError, ImportError):
        raise
    except Exception as error:
        if not any_kind and not isinstance(error, ValueError | TypeError | KeyError | OSError | EOFError):
            raise
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        # str of a KeyError is the repr of its message
        text = error.args[0] if isinstance(error, KeyError) and error.args else str(error) or type(error).__name__
        raise InputError(f"{prefix}{text}") from error
