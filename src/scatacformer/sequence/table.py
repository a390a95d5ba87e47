"""The DNA table: numbers of each bin, made over hours, resumed after a kill, whole or not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from scatacformer._io import (
    listed_file,
    read_json,
    read_whole,
    reading,
    refuse_altered,
    sha256,
    whole_file,
    whole_folder,
    writing,
)

if TYPE_CHECKING:
    from scatacformer.genome import Vocabulary

SECONDS_BETWEEN_SAVES = 10.0


def read_dna_table(path: str | Path, vocabulary: Vocabulary | None = None) -> tuple[np.ndarray, dict[str, Any]]:
    """(Table, description of its inputs) of a ``.npy`` file. The table is memory-mapped, (n_bins, d), read only.

    The description is in a JSON file next to it, written by :func:`scatacformer.pp.dna_embeddings`; it is empty ({})
    for a file without one.

    Raises FileNotFoundError, and ValueError for a file that is not a table, is incomplete, or, with ``vocabulary``,
    that is of other bins.
    """
    path = Path(path)
    table, notes = read_whole(_notes(path), lambda: _table_and_notes(path))
    own = None if vocabulary is None else vocabulary.checksum
    if vocabulary is not None and _settings(notes).get("vocabulary", own) != own:
        raise ValueError(
            f"the DNA table {path} is of other bins, or of the same in another order ({notes.get('n_bins', 0)} bins; "
            f"expected {vocabulary.n_bins:,}): make one of these with sf.pp.dna_embeddings."
        )
    return table, notes


def _table_and_notes(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    notes = _read_json(_notes(path), {})
    file = _file_of(path, notes)
    if not file.is_file():
        if _partial(path).exists():
            raise ValueError(f"{path} is incomplete. Run sf.pp.dna_embeddings with the same arguments to resume.")
        raise FileNotFoundError(f"the DNA table {path} does not exist. Compute one with sf.pp.dna_embeddings.")
    refuse_altered(_notes(path), notes)
    sums, _ = notes.pop("sha256", None), notes.pop("checksum", None)
    with reading(file, "a NumPy array (.npy)", "Make it again with sf.pp.dna_embeddings"):
        if isinstance(sums, dict) and path.name in sums and sha256(file) != sums[path.name]:
            raise ValueError(f"its checksum differs from the one in {_notes(path).name}")
        table = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(table, np.ndarray):
            raise ValueError("it holds several arrays (.npz).")
        if table.ndim != 2 or table.dtype.kind != "f":
            raise ValueError(f"it is {table.dtype} of shape {table.shape}, expected (n_bins, d) of floating point.")
    return table, notes


class DnaTableWriter:
    """A table that is filled row by row, and resumes where an earlier process was killed.

    Rows are written to a memory-mapped ``.<name>.partial`` next to ``path``, and their number to a small JSON file.
    :meth:`finish` puts it in the place of an earlier table, which is whole until then. A table at ``path`` that was
    with the same inputs is ``done``.

    Parameters
    ----------
    path
        Where the finished ``.npy`` will be.
    shape, dtype
        (n_bins, d); float16 or float32.
    made_of
        Inputs of the table: a dict for JSON, with ``settings``, which determine the numbers. An existing complete or
        incomplete table with other settings raises an error.
    overwrite
        Whether such a table is replaced instead.

    Raises
    ------
    ValueError
        A table with other inputs exists, and ``overwrite`` is not set; the message names the differences.
    RuntimeError
        Another process is making this table.
    """

    def __init__(
        self, path: str | Path, shape: tuple[int, int], dtype: str, made_of: dict[str, Any], overwrite: bool = False
    ) -> None:
        self.path, self.made_of = Path(path), json.loads(json.dumps(made_of))
        self.n_done, self.done = 0, False
        self._overwrite = overwrite
        partial, progress = _partial(self.path), _progress(self.path)
        notes = _read_json(_notes(self.path), {})
        if _file_of(self.path, notes).exists() and self._is_ours(notes, self.path):
            self.done, self.n_done = True, shape[0]
            return
        self._lock = _lock(partial, self.path)
        try:
            rows = None
            if progress.exists():
                found = _read_json(progress)
                if self._is_ours(found.get("made_of", {}), partial):
                    rows = _begun(partial, np.dtype(dtype), shape)
                    self.n_done = _rows_done(found.get("n_done"), shape[0]) if rows is not None else 0
            if rows is None or not self.n_done:
                progress.unlink(missing_ok=True)
                with writing(self.path):
                    rows = _new(partial, np.dtype(dtype), shape)
            self._rows = rows
            self.save()
        except BaseException:
            self._lock.close()
            raise

    def append(self, rows: np.ndarray) -> None:
        """The next rows, (n, d). Every ten seconds what there is goes to the disk."""
        self._rows[self.n_done : self.n_done + len(rows)] = rows
        self.n_done += len(rows)
        if time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Flush the rows to disk: a resuming process starts after them."""
        self._rows.flush()  # first the rows, then that they are there
        _write_json(_progress(self.path), {"n_done": self.n_done, "made_of": self.made_of})
        self._saved = time.monotonic()

    def close(self) -> None:
        """Save the rows if the table is incomplete, and release it for other processes."""
        if not self.done:
            self.save()
            self._lock.close()

    def finish(self) -> np.ndarray:
        """The whole table under its name, mapped into memory, read only."""
        if not self.done:
            if self.n_done != len(self._rows):
                raise ValueError(f"{self.n_done:,} of {len(self._rows):,} rows are there.")
            self.save()
            del self._rows
            with whole_folder(self.path.parent, _notes(self.path).name, [self.path.name], overwrite=True) as new:
                with new.file(self.path.name) as file:
                    _link(_partial(self.path), file)
                new.point(self.made_of)
            # until here a process that is killed leaves all of it to the next one
            _partial(self.path).unlink()
            _progress(self.path).unlink()
            self._lock.close()
            self.done = True
        return read_dna_table(self.path)[0]

    def _is_ours(self, found: dict[str, Any], where: Path) -> bool:
        """Whether the settings, which determine the numbers, are the same. Paths of files are not compared."""
        ours, theirs = self.made_of["settings"], _settings(found)
        differ = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        if differ and not self._overwrite:
            said = "; ".join(
                f"{name}: {_short(theirs.get(name))} there, {_short(ours.get(name))} now" for name in differ
            )
            raise ValueError(
                f"{where} is a table with other inputs ({said}). Choose another path for out, or replace it with overwrite=True."
            )
        return not differ


def _lock(partial: Path, path: Path) -> BinaryIO:
    """The file for the rows, locked until the process ends. RuntimeError if another process has the lock."""
    import fcntl

    with writing(path):
        file = partial.open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise RuntimeError(f"Another process is making {path}. Wait for it, or choose another `out`.") from None
    except OSError:  # a file system without locks
        pass
    return file


def _begun(partial: Path, dtype: np.dtype, shape: tuple[int, int]) -> np.memmap | None:
    """The rows of an earlier process; None if they are not a table with these inputs, so that it starts again."""
    try:
        rows = np.lib.format.open_memmap(partial, mode="r+")
    except (ValueError, OSError):
        return None
    return rows if rows.dtype == dtype and rows.shape == shape else None


def _new(partial: Path, dtype: np.dtype, shape: tuple[int, int]) -> np.memmap:
    """The file as a table of zeros, all of its room taken on the disk: a full disk later would kill the process."""
    with partial.open("r+b") as file:  # the file that is locked
        file.truncate(0)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)) * dtype.itemsize)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return np.lib.format.open_memmap(partial, mode="r+")


def _rows_done(found: Any, n: int) -> int:
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 < found <= n else 0


def _link(partial: Path, file: Path) -> None:
    """The same file under a second name; a copy where the file system has no such links."""
    try:
        os.link(partial, file)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.copyfile(partial, file)


def _file_of(path: Path, notes: dict[str, Any]) -> Path:
    """Path of the table that the notes describe."""
    sums = notes.get("sha256")
    return path if path.is_symlink() or not isinstance(sums, dict) else listed_file(path.parent, path.name, sums)


def _settings(notes: dict[str, Any]) -> dict[str, Any]:
    found = notes.get("settings", {})
    return found if isinstance(found, dict) else {}


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _progress(path: Path) -> Path:
    return path.with_name(f".{path.name}.progress.json")


def _notes(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) > 40 else text


def _read_json(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    if default is not None and not path.exists():
        return default
    return read_json(path, "Delete it and the table next to it")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
