"""What is the user's to mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """Wrong usage or input; its text says in one line what was found, what was expected and what to do."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


@contextmanager
def as_input_error(prefix: str = "") -> Iterator[None]:
    """What the library refuses while input is read and checked is the input's fault, not the program's."""
    try:
        yield
    except (ValueError, TypeError, KeyError, OSError, EOFError) as error:
        # a KeyError's own text is the repr of its message
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise InputError(f"{prefix}{text}") from error
