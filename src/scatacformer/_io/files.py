"""Files are either whole or not there; what is read of them is checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name in the folder of `path` to write to; renamed to `path` when the block ends well, removed otherwise."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        put_in_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a file that is written, once its bytes are on the disk: after a power cut there is one or the other."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def refuse_to_replace(folder: Path, names: Iterable[str], overwrite: bool) -> None:
    """ValueError where files of a model would be written over unasked, and for a file in place of the folder."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a model is saved to a folder")
    there = [name for name in names if (folder / name).exists()]
    if there and not overwrite:
        raise ValueError(f"{folder} already holds {', '.join(there)}; choose another folder, or overwrite=True")


def read_json(path: Path, remedy: str = "Copy it again") -> dict[str, Any]:
    """The JSON object in a file. ValueError that ends with `remedy` for what is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is truncated or not JSON: {error}. {remedy}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object. {remedy}")
    return content


def sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
