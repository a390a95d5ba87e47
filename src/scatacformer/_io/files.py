"""Files are either whole or not there; what is read of them is checked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import reading, writing

_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d{1,10})\.partial")
_NUMBERED = re.compile("-[0-9a-f]{32}$")
_PROBE, _ALIVE = "mode", ".in-use"
_DEEPEST = 100  # levels of a JSON file; ours have less than 10
_LARGEST_JSON = 1 << 28  # bytes: a registry of a million names takes 20 MB


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name in the folder of ``path`` to write to; renamed to ``path`` when the block ends well, removed otherwise.

    What a process that was killed has left of the same file is removed first. Raises OSError that names ``path`` and
    says how much room there is where the file cannot be written, whichever library writes it; the earlier file is whole
    then."""
    remove_dead_partials(path.parent, path.name)
    partial = partial_of(path)
    try:
        with writing(path):
            yield partial
            put_in_place(partial, path)
    finally:
        remove(partial)


def partial_of(path: Path) -> Path:
    """The name under which this process writes ``path``."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def remove_dead_partials(folder: Path, *names: str, alone: bool = False) -> None:
    """Remove what processes that no longer run have left of the files ``names`` in ``folder``; of any file without
    names.

    ``alone``: no other process can be writing there, whether one of that number runs or not.
    """
    for path in _entries(folder):
        if (found := _PARTIAL.fullmatch(path.name)) is None or (not alone and _in_use(path, int(found["pid"]))):
            continue
        name = found["name"]
        while inner := _PARTIAL.fullmatch(name):  # a whole file that was written within another
            name = inner["name"]
        name = _NUMBERED.sub("", name)
        if not names or name in (*names, _PROBE):
            with contextlib.suppress(PermissionError):  # somebody else's: theirs to remove
                remove(path)


@contextmanager
def scratch_folder(parent: str | os.PathLike | None = None, name: str = "scatacformer") -> Iterator[Path]:
    """A folder for what is needed meanwhile, in ``parent`` (default: the system's); removed when the block ends.

    That of a process that was killed is removed by the next one.
    """
    import fcntl

    parent = Path(tempfile.gettempdir() if parent is None else parent)
    remove_dead_partials(parent, name)
    folder = partial_of(parent / f"{name}-{uuid.uuid4().hex}")
    folder.mkdir(mode=0o700)
    try:
        with (folder / _ALIVE).open("w") as alive:  # says that it is in use, whatever numbers processes have elsewhere
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
    finally:
        remove(folder)


def holds_nothing(folder: Path) -> bool:
    """Whether a folder is not there, or holds no more than partial files and empty folders of ours."""
    return all(
        _PARTIAL.fullmatch(path.name) or path.name == ".lock" or (path.is_dir() and holds_nothing(path))
        for path in _entries(folder)
    )


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a file or folder that is written, once its bytes are on the disk: after a power cut there is one or the
    other.

    The file gets the mode that any new file of this user has: some writers make files that only their owner can read.
    """
    if partial.is_dir():
        sync_folder(partial)
    else:
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        with contextlib.suppress(PermissionError):  # a file system without modes
            partial.chmod(_usual_mode(path.parent))
    os.replace(partial, path)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    with writing(folder, "What was written before is there"):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def refuse_to_replace(folder: Path, names: Iterable[str], overwrite: bool) -> None:
    """ValueError if files of a model would be overwritten without permission, and for a file instead of the folder."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a model is saved to a folder.")
    there = [name for name in names if (folder / name).exists()]
    if there and not overwrite:
        raise ValueError(f"{folder} already holds {', '.join(there)}; choose another folder, or overwrite=True.")


def inside(folder: Path, name: Any, named_by: Path) -> Path:
    """The path of ``name`` in ``folder``. ValueError for a name that leads out of it, by ``..``, from the root or by a
    link."""
    parts = PurePosixPath(name).parts if isinstance(name, str) and "\0" not in name else ()
    if not parts or ".." in parts or parts[0].startswith("/"):
        raise ValueError(
            f"{named_by} names the file {name!r}, which is not in {folder}. Nothing outside a folder is read; "
            "copy the whole folder again."
        )
    path = folder.joinpath(*parts)
    # the hub's cache holds the files of snapshots/<commit>/ as links into blobs/
    allowed = (folder, folder.parent / "blobs", folder.parent.parent / "blobs")
    if not any(path.resolve().is_relative_to(there.resolve()) for there in allowed):
        raise ValueError(
            f"{path}, named by {named_by}, is a link that leads out of {folder}. Put the file itself there."
        )
    return path


def read_json(path: Path, remedy: str = "Copy it again") -> dict[str, Any]:
    """The JSON object in a file. ValueError that ends with ``remedy`` for anything else, and for one nested too
    deeply."""
    with reading(path, "JSON", remedy):
        if (size := path.stat().st_size) > _LARGEST_JSON:
            raise ValueError(f"it has {size:,} bytes, expected at most {_LARGEST_JSON:,}.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is truncated or not JSON: {error}. {remedy}") from None
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds a {type(content).__name__}, expected an object. {remedy}")
        _refuse_deep(content)
    return content


def sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _in_use(path: Path, pid: int) -> bool:
    """Whether the process that made a partial file or scratch folder still runs."""
    alive = path / _ALIVE
    if not alive.exists():
        return _runs(pid)
    import fcntl

    try:
        with alive.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _runs(pid: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(pid, 0)  # signal 0 only checks whether the process exists
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _usual_mode(folder: Path) -> int:
    """The mode of a new file here, determined by creating one: reading the umask would change it for all threads."""
    probe = folder / f".{_PROBE}-{uuid.uuid4().hex}.{os.getpid()}.partial"
    handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(handle).st_mode & 0o777
    finally:
        os.close(handle)
        probe.unlink(missing_ok=True)


def _refuse_deep(content: Any) -> None:
    """ValueError if objects and lists are nested more than 100 deep."""
    level = [content]
    for _ in range(_DEEPEST):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"its values are nested more than {_DEEPEST} deep.")
