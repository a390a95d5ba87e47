"""Description of a data set of a corpus."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

_FRAGMENTS = (".tsv", ".bed", ".tsv.gz", ".bed.gz", ".tsv.bgz", ".bed.bgz")
_ENDINGS = (".h5ad", ".h5mu", ".zarr", *_FRAGMENTS)


_IN_WORDS: dict[type, str] = {
    str: "a text", os.PathLike: "a path", int: "a whole number", list: "tables, each under [[source]]",
}  # fmt: skip
_TEXT, _PATH, _NUMBER = (str, type(None)), (str, os.PathLike, type(None)), (int, np.integer, type(None))
_IN_WORDS[np.integer] = _IN_WORDS[int]
_KINDS: dict[str, tuple[type, ...]] = {
    "path": _PATH[:2], "barcodes": _PATH, "min_bins": _NUMBER, "max_bins": _NUMBER,
} | dict.fromkeys(
    ("name", "organ", "assembly", "batch_key", "labels_key", "organ_key", "layer", "modality", "barcode_key",
     "barcode_prefix", "is_cell_key"), _TEXT,
)  # fmt: skip


@dataclass(frozen=True)
class CorpusEntry:
    """One data set of a corpus: the location of its cells, and their annotation.

    Parameters
    ----------
    path
        ``.h5ad``, ``.h5mu`` or zarr store of cells × regions, or a fragments file (``.tsv.gz``, ``.bed.gz``, ...).
    name
        Letters, digits, ``.``, ``_``, ``-``; default: the file's name without its ending. Names differ within a corpus.
    organ
        Organ of all cells.
    assembly
        Assembly of the regions or fragments, if not given in the file (``.uns["assembly"]``).
    batch_key, labels_key, organ_key
        Columns of ``.obs``, or of the table ``barcodes``, with the sample, the cell type and the organ of each cell.
    layer, modality
        Layer with the counts (default: ``.X``); modality of a ``.h5mu`` (default: ``"atac"``).
    barcodes
        Cells to keep: a file with a barcode in each line, or a table with a header (``.csv``, ``.tsv``, ``.gz`` too).
    barcode_key, barcode_prefix, is_cell_key
        In such a table: the column with the barcodes (default: the first); what stands before each barcode there but
        not in ``path`` (rows without it are of other samples, and left out); and the column that is 1 or true for
        cells.
    min_bins, max_bins
        Minimum and maximum number of open bins of a cell; default: those of :meth:`Corpus.build`.
    """

    path: str | Path
    name: str | None = None
    organ: str | None = None
    assembly: str | None = None
    batch_key: str | None = None
    labels_key: str | None = None
    organ_key: str | None = None
    layer: str | None = None
    modality: str | None = None
    barcodes: str | Path | None = None
    barcode_key: str | None = None
    barcode_prefix: str | None = None
    is_cell_key: str | None = None
    min_bins: int | None = None
    max_bins: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            check_type(f"The {field.name} of a data set", getattr(self, field.name), *_KINDS[field.name])
        object.__setattr__(self, "path", Path(self.path).absolute())
        if self.barcodes is not None:
            object.__setattr__(self, "barcodes", Path(self.barcodes).absolute())
        if self.name is None:
            object.__setattr__(self, "name", _stem(Path(self.path)))
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", str(self.name)):
            raise ValueError(f"The name of a data set is of letters, digits, '.', '_' and '-'; found {self.name!r}.")
        if self.organ is not None and self.organ_key is not None:
            raise ValueError(f"{self.name}: give organ or organ_key, not both.")
        of_table = ("barcode_key", "barcode_prefix", "is_cell_key")
        if self.barcodes is None and (idle := [name for name in of_table if getattr(self, name) is not None]):
            raise ValueError(
                f"{self.name}: {', '.join(idle)} describes the table barcodes, which is not given. Pass barcodes=, or leave it out."
            )

    @property
    def kind(self) -> str:
        """``"h5ad"``, ``"h5mu"``, ``"zarr"`` or ``"fragments"``, by the name. Raises FileNotFoundError, ValueError."""
        path = Path(self.path)
        for file in (path, Path(self.barcodes) if self.barcodes is not None else path):
            if not file.exists():
                raise FileNotFoundError(f"The file {file} of the data set {self.name} does not exist. Check the path.")
        name = path.name.lower()
        if path.is_dir():
            if name.endswith(".zarr") or any((path / file).exists() for file in ("zarr.json", ".zgroup")):
                return "zarr"
            raise ValueError(f"{path} is a folder, and no zarr store. Name the files in it that hold cells.")
        if name.endswith(_FRAGMENTS):
            return "fragments"
        if name.endswith((".h5ad", ".h5mu")):
            return name[-4:]
        raise ValueError(
            f"The name of {path} does not show its format; expected an ending among {', '.join(_ENDINGS)}."
        )

    def settings(self) -> dict[str, Any]:
        """All fields, as JSON holds them."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}


def as_entries(sources: Iterable[str | Path | Mapping[str, Any] | CorpusEntry]) -> list[CorpusEntry]:
    """Entries of paths, of mappings with their fields, or as they are.

    Raises ValueError for unknown fields, for names or paths that come twice, and for no source at all.
    """
    if isinstance(sources, str | Path | Mapping | CorpusEntry):
        sources = [sources]
    entries = [_as_entry(source) for source in sources]
    if not entries:
        raise ValueError("A corpus needs at least one data set; `sources` is empty.")
    for what in ("path", "name"):
        seen: dict[Any, CorpusEntry] = {}
        for entry in entries:
            value = getattr(entry, what)
            # samples in the same file are distinguished by their barcodes
            key = (value, entry.barcode_prefix, entry.modality) if what == "path" else str(value).lower()
            if key in seen:
                raise ValueError(
                    f"The {what} {value} comes twice. "
                    + (
                        "List each file once."
                        if what == "path"
                        else f"Name the data sets: {seen[key].path} and {entry.path} need names of their own."
                    )
                )
            seen[key] = entry
    return entries


def check_type(what: str, value: Any, *kinds: type) -> None:
    """Raise ValueError for a value of another type; a bool is not a number."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(dict.fromkeys(_IN_WORDS[kind] for kind in kinds if kind is not type(None)))
        raise ValueError(f"{what} is {value!r:.60}; expected {expected}.")


def check_keys(found: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise ValueError for a key that is not known, with the one that was probably meant."""
    known = list(known)
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            meant = f"Did you mean {close[0]!r}? " if close else ""
            raise ValueError(f"{where} has the unknown key {key!r}. {meant}Known: {', '.join(known)}.")


def _as_entry(source: str | Path | Mapping[str, Any] | CorpusEntry) -> CorpusEntry:
    if isinstance(source, CorpusEntry):
        return source
    if isinstance(source, Mapping):
        check_keys(source, [field.name for field in fields(CorpusEntry)], f"The source {source.get('path', '')}")
        if "path" not in source:
            raise ValueError(f"A source needs a path; found {dict(source)}.")
        return CorpusEntry(**source)
    return CorpusEntry(source)


def _stem(path: Path) -> str:
    name = path.name
    ending = next((ending for ending in sorted(_ENDINGS, key=len)[::-1] if name.lower().endswith(ending)), "")
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name[: len(name) - len(ending)]) or path.name
