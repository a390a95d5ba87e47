"""The DNA table: numbers of each bin, made over hours, resumed after a kill, whole or not there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer._io import read_json, whole_file

if TYPE_CHECKING:
    from scatacformer.genome import Vocabulary

SECONDS_BETWEEN_SAVES = 10.0


def read_dna_table(path: str | Path, vocabulary: Vocabulary | None = None) -> tuple[np.ndarray, dict[str, Any]]:
    """(table, what it was made of) of a `.npy` file. The table is mapped into memory, (n_bins, d), read only.

    What it was made of stands in a JSON file beside it, as :func:`scatacformer.pp.dna_embeddings` writes it; of a
    file without one nothing is known ({}).

    Raises FileNotFoundError, and ValueError for a file that is no table, that is not finished, or, with `vocabulary`,
    that is of other bins.
    """
    path = Path(path)
    if not path.is_file():
        if _partial(path).exists():
            raise ValueError(f"{path} is not finished: run sf.pp.dna_embeddings with the same arguments, it goes on")
        raise FileNotFoundError(f"there is no DNA table {path}; sf.pp.dna_embeddings makes one")
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a NumPy array (.npy), or is truncated: {error}") from None
    if not isinstance(table, np.ndarray):
        raise ValueError(f"{path} holds several arrays (.npz); expected one, as np.save writes it")
    notes = _read_json(_notes(path), {})
    own = None if vocabulary is None else vocabulary.checksum
    if vocabulary is not None and notes.get("settings", {}).get("vocabulary", own) != own:
        raise ValueError(
            f"the DNA table {path} is of other bins, or of the same in another order ({notes.get('n_bins', 0):,} bins; "
            f"expected {vocabulary.n_bins:,}): make one of these with sf.pp.dna_embeddings"
        )
    return table, notes


class DnaTableWriter:
    """A table that is filled from its first row to its last, and goes on where an earlier process was killed.

    Rows go to a memory-mapped `.<name>.partial` beside `path`, how many are whole to a small JSON file. :meth:`finish`
    renames. A table at `path` that was made of the very same things is `done`.

    Parameters
    ----------
    path
        Where the finished `.npy` will be.
    shape, dtype
        (n_bins, d); float16 or float32.
    made_of
        What the table is made of: a dict for JSON, in it `settings`, which decide the numbers. A table that is there,
        finished or not, of other settings is refused.
    overwrite
        Whether such a table is replaced instead.

    Raises
    ------
    ValueError
        A table of other things is there, and `overwrite` is not set; the message says what differs.
    """

    def __init__(
        self, path: str | Path, shape: tuple[int, int], dtype: str, made_of: dict[str, Any], overwrite: bool = False
    ) -> None:
        self.path, self.made_of = Path(path), json.loads(json.dumps(made_of))
        self.n_done, self.done = 0, False
        self._overwrite = overwrite
        partial, progress = _partial(self.path), _progress(self.path)
        if self.path.exists() and self._is_ours(_read_json(_notes(self.path), {}), self.path):
            self.done, self.n_done = True, shape[0]
            return
        if partial.exists() and progress.exists():
            found = _read_json(progress)
            if self._is_ours(found.get("made_of", {}), partial):
                self.n_done = int(found["n_done"])
        if self.n_done:
            self._rows = np.lib.format.open_memmap(partial, mode="r+")
        else:
            progress.unlink(missing_ok=True)
            self._rows = np.lib.format.open_memmap(partial, mode="w+", dtype=np.dtype(dtype), shape=shape)
            _reserve(partial)
        self.save()

    def append(self, rows: np.ndarray) -> None:
        """The next rows, (n, d). Every ten seconds what there is goes to the disk."""
        self._rows[self.n_done : self.n_done + len(rows)] = rows
        self.n_done += len(rows)
        if time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Bring what there is to the disk: a process that goes on begins after it."""
        self._rows.flush()  # first the rows, then that they are there
        _write_json(_progress(self.path), {"n_done": self.n_done, "made_of": self.made_of})
        self._saved = time.monotonic()

    def close(self) -> None:
        """Save what there is, if it is not finished."""
        if not self.done:
            self.save()

    def finish(self) -> np.ndarray:
        """The whole table under its name, mapped into memory, read only."""
        if not self.done:
            if self.n_done != len(self._rows):
                raise ValueError(f"{self.n_done:,} of {len(self._rows):,} rows are there")
            self.save()
            del self._rows
            self.path.unlink(missing_ok=True)  # of other things: never beside the notes of this one
            _write_json(_notes(self.path), self.made_of)
            os.replace(_partial(self.path), self.path)
            _progress(self.path).unlink()
            self.done = True
        return np.load(self.path, mmap_mode="r", allow_pickle=False)

    def _is_ours(self, found: dict[str, Any], where: Path) -> bool:
        """Whether the settings are the same: what decides the numbers. Where files lay is only told."""
        ours, theirs = self.made_of["settings"], found.get("settings", {})
        differ = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        if differ and not self._overwrite:
            said = "; ".join(
                f"{name}: {_short(theirs.get(name))} there, {_short(ours.get(name))} now" for name in differ
            )
            raise ValueError(
                f"{where} is a table of something else ({said}). Choose another `out`, or replace it (overwrite=True)"
            )
        return not differ


def _reserve(path: Path) -> None:
    """Take the room on the disk now: a full disk later would kill the process, not raise."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


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
    return read_json(path, "Delete it and the table beside it")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
