"""A folder of several files that is whole or old: whoever is killed while writing it leaves what was there before.

Each file is written beside the earlier one, under a name that holds the SHA-256 of its content
(``model.safetensors.3f2a9c0d1e2b4f5a``). One small file, the pointer (``config.json``), lists them with their SHA-256;
it is written last, and with it the folder is the new one. Only then are the new files given their plain names, which
the earlier ones had, and what the pointer no longer lists is removed. A reader takes the file that the pointer lists,
under whichever of its two names it is found."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from .errors import writing
from .files import (
    inside,
    partial_of,
    put_in_place,
    read_json,
    refuse_to_replace,
    remove,
    remove_dead_partials,
    sha256,
    sync_folder,
    whole_file,
)

logger = logging.getLogger("scatacformer")
T = TypeVar("T")
SUMS = "sha256"  # the key of the pointer: file name -> SHA-256
OWN_SUM = "checksum"  # the same of everything else in the pointer
_DIGITS = 16
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


class FolderWriter:
    """What :func:`whole_folder` hands out: files are written through it, and the pointer at the end."""

    def __init__(self, plain: Mapping[str, Path]) -> None:
        self._plain = plain
        self.sums: dict[str, str] = {}
        """SHA-256 of what was written so far, by name."""
        self.content: dict[str, Any] | None = None

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A path to write the file ``name``, one of those that the folder owns, to. It becomes that file at the end."""
        plain = self._plain[name]
        partial = partial_of(plain)
        try:
            with writing(plain, "What was there before is whole"):
                yield partial
                self.sums[name] = sha256(partial)
                put_in_place(partial, _content_named(plain, self.sums[name]))
        finally:
            remove(partial)

    def point(self, content: Mapping[str, Any]) -> None:
        """Content of the pointer, in addition to the names and SHA-256 of the files, which are added as
        ``"sha256"``, and to a checksum of all of it, ``"checksum"``."""
        self.content = dict(content)


@contextmanager
def whole_folder(
    folder: Path,
    pointer: str,
    owns: Sequence[str],
    *,
    prefix: str = "",
    overwrite: bool = False,
    beside: Sequence[str] = (),
) -> Iterator[FolderWriter]:
    """Write the files of a folder so that at every moment it holds all of the old ones or all of the new ones.

    Parameters
    ----------
    folder
        Created if it does not exist; removed again if nothing was written.
    pointer
        Name of the JSON file that lists the others. :meth:`FolderWriter.point` says what else is in it.
    owns
        All names that such a folder may hold besides the pointer. Those that are not written this time are removed once
        the new folder is in place: an earlier ``adata.h5ad`` does not survive beside another model.
    prefix
        Put before each name, the pointer's too. The pointer lists names without it.
    overwrite
        Whether a folder with a pointer may be replaced.
    beside
        Pointers of other things that may share files with this one (a tokenizer beside a model). Where they list other
        content for a file that is to be written, nothing is written.

    Raises
    ------
    ValueError
        There is a pointer and ``overwrite`` is false; a file lies where the folder is to be; a pointer ``beside``
        differs.
    RuntimeError
        Another process is writing this folder.
    OSError
        A file cannot be written: which, and how much room there is.
    """
    refuse_to_replace(folder, [prefix + pointer], overwrite)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    plain = {name: folder / (prefix + name) for name in owns}
    shared = [] if prefix else [name for name in beside if name != pointer]
    try:
        with alone(folder) as locked:
            refuse_to_replace(folder, [prefix + pointer], overwrite)  # who had the lock before may have written it
            _finish(folder, [prefix + pointer, *shared], plain, locked)
            writer = FolderWriter(plain)
            try:
                yield writer
                _refuse_to_break(folder, shared, writer.sums)
                _write_pointer(folder / (prefix + pointer), writer)
                _put_plain(plain, writer.sums)
                for name in plain.keys() - writer.sums.keys() - _listed(folder, shared).keys():
                    plain[name].unlink(missing_ok=True)
                sync_folder(folder)
            except BaseException:
                # where the pointer is in place, the new files are the folder's; else they are nobody's
                listed = _listed(folder, [prefix + pointer])
                for name, digest in writer.sums.items():
                    between = _content_named(plain[name], digest)
                    # one whose content has not changed may lie there under both names
                    if listed.get(name) != digest or plain[name].exists() and sha256(plain[name]) == digest:
                        between.unlink(missing_ok=True)
                raise
    except BaseException:
        if made:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
        raise


def listed_file(folder: Path, name: str, sums: Mapping[str, Any], prefix: str = "") -> Path:
    """Where the file ``name`` of a folder lies, whose pointer lists ``sums``; its plain name where they do not list
    it."""
    plain = inside(folder, prefix + name, folder)
    digest = sums.get(name)
    if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest):
        between = _content_named(plain, digest)
        if between.exists():  # whoever wrote it was killed before it got its plain name
            return between
    return plain


def refuse_altered(path: Path, content: Mapping[str, Any]) -> None:
    """ValueError if ``content``, read from the pointer ``path``, is not what was written: a number in it may have
    changed. Pointers that other programs wrote have no checksum."""
    if OWN_SUM in content and content[OWN_SUM] != _own_sum(content):
        raise ValueError(f"{path} is damaged or was altered: its content differs from its checksum. Copy it again.")


def read_whole(pointer: Path, read: Callable[[], T], attempts: int = 5) -> T:
    """What ``read`` returns, of a folder that was not replaced meanwhile: where its pointer changed, it is read
    again."""
    for attempt in range(attempts):
        before = _bytes_of(pointer)
        try:
            found = read()
        except (ValueError, OSError):
            if _bytes_of(pointer) == before or attempt == attempts - 1:
                raise
            continue
        if _bytes_of(pointer) == before:
            return found
    raise OSError(f"{pointer.parent} was replaced {attempts} times while it was read. Read it when it is complete.")


@contextmanager
def alone(target: Path, doing: str = "writing") -> Iterator[bool]:
    """Within the block no other process (or thread) is in such a block for this folder, or for this file in a folder.
    RuntimeError where one is.

    The lock goes when the process ends, however it ends. False is handed out where the file system has no locks.
    """
    import fcntl

    path = target / ".lock" if target.is_dir() else target.with_name(f".{target.name}.lock")
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno not in _WITHOUT_LOCKS:
                raise RuntimeError(f"Another process is {doing} {target}. Wait for it, or end it.") from None
            logger.warning("%s is on a file system without locks: let only one process write it at a time", target)
            yield False
            return
        if _is_same(handle, path):
            break
        os.close(handle)  # whoever had it has removed it meanwhile
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        fcntl.flock(handle, fcntl.LOCK_UN)  # also for processes that inherited it
        os.close(handle)


def _content_named(path: Path, digest: str) -> Path:
    return path.with_name(f"{path.name}.{digest[:_DIGITS]}")


def _own_sum(content: Mapping[str, Any]) -> str:
    """SHA-256 of a pointer's values, whatever the order of its keys and the white space."""
    plain = json.loads(json.dumps({name: value for name, value in content.items() if name != OWN_SUM}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _write_pointer(path: Path, writer: FolderWriter) -> None:
    """With this the folder is the new one."""
    if writer.content is None:
        raise RuntimeError(f"nothing was said of what {path} is to hold.")
    content = writer.content | {SUMS: writer.sums}
    text = json.dumps(content | {OWN_SUM: _own_sum(content)}, indent=1, allow_nan=True)
    sync_folder(path.parent)
    with whole_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _put_plain(plain: Mapping[str, Path], sums: Mapping[str, str]) -> None:
    for name, digest in sums.items():
        between = _content_named(plain[name], digest)
        if between.exists():
            os.replace(between, plain[name])


def _finish(folder: Path, pointers: Sequence[str], plain: Mapping[str, Path], locked: bool) -> None:
    """What a killed writer has left: files that a pointer lists get their plain names, all others are removed."""
    listed = _listed(folder, reversed(pointers))
    _put_plain(plain, {name: digest for name, digest in listed.items() if name in plain})
    names = {path.name for path in plain.values()}
    for path in list(folder.iterdir()):
        stem, _, digits = path.name.rpartition(".")
        if stem in names and re.fullmatch(f"[0-9a-f]{{{_DIGITS}}}", digits):
            path.unlink(missing_ok=True)
    remove_dead_partials(folder, *names, *pointers, alone=locked)


def _listed(folder: Path, pointers: Any) -> dict[str, str]:
    """File name -> SHA-256 of all the pointers that are there and can be read."""
    listed: dict[str, str] = {}
    for pointer in pointers:
        try:
            sums = read_json(folder / pointer).get(SUMS)
        except (ValueError, OSError):
            continue
        if isinstance(sums, dict):
            listed |= {k: v for k, v in sums.items() if isinstance(v, str) and re.fullmatch("[0-9a-f]{64}", v)}
    return listed


def _refuse_to_break(folder: Path, beside: Sequence[str], sums: Mapping[str, str]) -> None:
    for pointer in beside:
        listed = _listed(folder, [pointer])
        if differs := [name for name in sums if name in listed and listed[name] != sums[name]]:
            raise ValueError(
                f"{folder} also holds what {pointer} describes, with another {differs[0]}: writing this here would "
                "damage it. Choose another folder."
            )


def _is_same(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(handle)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
