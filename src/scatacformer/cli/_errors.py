"""Errors in the usage or the input, which the user can correct."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """Wrong usage or input; its text says in one line what was found, what was expected and what to do."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


@contextmanager
def as_input_error(prefix: str = "") -> Iterator[None]:
    """Errors that the library raises while input is read and checked become input errors."""
    try:
        yield
    except (ValueError, TypeError, KeyError, OSError, EOFError) as error:
        # str of a KeyError is the repr of its message
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise InputError(f"{prefix}{text}") from error
