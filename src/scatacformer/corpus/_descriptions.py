"""The JSON files of a corpus, which describe its content and are checked when read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scatacformer._io import inside, read_json, whole_file
from scatacformer.genome import Vocabulary

from ._shard import COLUMNS, DTYPES

FORMAT = 1
CORPUS, VOCABULARY, README, DATASETS = "corpus.json", "vocabulary.bed.gz", "README.md", "datasets"
DESCRIPTION = "dataset.json"
_DIGITS = 16
_OF_CORPUS = {"datasets": list, "n_bins": int, "n_cells": int, "n_tokens": int, "vocabulary": str, "organs": dict}
_OF_DATA_SET = {
    "name": str,
    "n_cells": int,
    "n_tokens": int,
    "names": dict,
    "checksums": dict,
    "entry": dict,
    "source": dict,
}
_OF_FILE = {"path": str, "size": int, "mtime_ns": int, "sha256": str}


def read_card(folder: Path) -> dict[str, Any]:
    """``corpus.json`` of a corpus. ValueError for one that is damaged, of a later format, or leads out of the
    folder."""
    path = folder / CORPUS
    card = _read(path, "Build it again.")
    _check(path, card, _OF_CORPUS, "Build it again.")
    for data_set in card["datasets"]:
        check_description(path, data_set, "Build it again.")
        inside(folder / DATASETS, data_set["name"], path)
    return card


def read_vocabulary(folder: Path, card: Mapping[str, Any]) -> Vocabulary:
    """The bins of a corpus. ValueError for those of another."""
    path = folder / VOCABULARY
    vocabulary = Vocabulary.from_bed(path)
    if (vocabulary.checksum, vocabulary.n_bins) != (card["vocabulary"], card["n_bins"]):
        raise ValueError(f"{path} changed since the corpus was built. Build it again.")
    return vocabulary


def read_description(folder: Path) -> dict[str, Any]:
    """``dataset.json`` of a data set. ValueError for one that is damaged."""
    path, remedy = folder / DESCRIPTION, f"Remove the folder {folder} and build again; the others are kept."
    description = _read(path, remedy)
    check_description(path, description, remedy)
    return description


def check_description(path: Path, data_set: Any, remedy: str) -> None:
    """ValueError, naming ``path``, for what does not describe a data set."""
    if not isinstance(data_set, dict):
        raise ValueError(f"{path} is damaged: a data set is {data_set!r:.60}, expected an object. {remedy}")
    _check(path, data_set, _OF_DATA_SET, remedy)
    names, sums = data_set["names"], data_set["checksums"]
    texts = all(
        isinstance(names.get(column), list) and all(isinstance(n, str) for n in names[column]) for column in COLUMNS
    )
    hashes = set(sums) == {f"{name}.npy" for name in DTYPES} and all(
        isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in sums.values()
    )
    if not texts or not hashes or min(data_set["n_cells"], data_set["n_tokens"]) < 0:
        what = "n_cells or n_tokens" if texts and hashes else "checksums" if texts else "names"
        raise ValueError(f"{path} is damaged: {what} of {data_set['name']} are not valid. {remedy}")
    for what in ("source", "table"):
        if data_set.get(what) is not None:
            _check(path, data_set[what], _OF_FILE, remedy)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def content_named(plain: Path, data_set: Mapping[str, Any]) -> Path:
    """The name of a data set's folder until the card lists it, next to an earlier one with the plain name."""
    digest = hashlib.sha256(json.dumps(data_set["checksums"], sort_keys=True).encode()).hexdigest()
    return plain.with_name(f"{plain.name}~{digest[:_DIGITS]}")


def plain_name(path: Path) -> str:
    """The name of the data set in a folder; names of data sets hold no ``~``."""
    return path.name.partition("~")[0]


def data_set_folder(folder: Path, data_set: Mapping[str, Any]) -> Path:
    """Folder of a data set that is listed in the card of the corpus."""
    plain = folder / DATASETS / data_set["name"]
    between = content_named(plain, data_set)
    return between if between.exists() else plain  # whoever built it was killed before it got its plain name


def _read(path: Path, remedy: str) -> dict[str, Any]:
    content = read_json(path, remedy)
    if not isinstance(number := content.get("format"), int):
        raise ValueError(f"{path} is damaged: it is not the JSON that a corpus has (it has no format). {remedy}")
    if number != FORMAT:
        raise ValueError(f"{path} is of format {number}, and this version reads format {FORMAT}. Update scatacformer.")
    return content


def _check(path: Path, content: Any, types: Mapping[str, type], remedy: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: found {content!r:.60}, expected an object. {remedy}")
    if missing := sorted(types.keys() - content.keys()):
        raise ValueError(f"{path} is damaged: it lacks {missing}. {remedy}")
    for name, kind in types.items():
        if not isinstance(content[name], kind) or isinstance(content[name], bool):
            raise ValueError(f"{path} is damaged: {name} is {content[name]!r:.60}, expected {_KINDS[kind]}. {remedy}")


_KINDS = {int: "a whole number", str: "a text", dict: "an object", list: "a list"}
