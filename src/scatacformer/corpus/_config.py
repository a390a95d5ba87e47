"""A corpus described in a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from scatacformer._io import reading

from ._entry import CorpusEntry, check_keys, check_type
from ._recipes import LAYOUTS

_KINDS: dict[str, tuple[type, ...]] = dict.fromkeys(("folder", "genome", "chrom_sizes", "vocabulary"), (str,))
_KINDS |= dict.fromkeys(("bin_size", "min_bins", "max_bins"), (int,))
_TOP = (*_KINDS, "source")


def read_config(path: str | Path) -> dict[str, Any]:
    """Arguments of :meth:`Corpus.build` from a TOML file, whose relative paths start from its own folder.

    Keys: ``folder``; ``genome`` (or ``chrom_sizes``, a file) and ``bin_size``, or ``vocabulary`` (a BED file);
    ``min_bins``, ``max_bins``; and a table ``[[source]]`` for each data set, with the fields of :class:`CorpusEntry`.
    With ``layout = "hubmap"``, ``"catlas"`` or ``"10x"``, a source's ``path`` is a folder of data sets of that public
    source.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; not TOML; unknown or missing keys, with the one that was probably meant.
    """
    path = Path(path).absolute()
    if not path.is_file():
        raise FileNotFoundError(f"The file {path} does not exist. Check the path.")
    with reading(path, "TOML", "Correct it"):
        try:
            config = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not TOML: {error}.") from None
    check_keys(config, _TOP, str(path))
    if missing := [key for key in ("folder", "source") if key not in config]:
        raise ValueError(f"{path} lacks {' and '.join(missing)}: expected the folder of the corpus and its sources.")
    for name, value in config.items():
        if name != "source":
            check_type(f"{path}: {name}", value, *_KINDS[name])
    sources = config.pop("source")
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        raise ValueError(f"{path}: each data set is a table of its own, under [[source]] with two brackets.")
    known = [*(field.name for field in fields(CorpusEntry)), "layout"]
    for number, source in enumerate(sources, 1):
        check_keys(source, known, f"{path}, source {number}")
        if "path" not in source:
            raise ValueError(f"{path}, source {number}, lacks path.")
        for name in ("path", "barcodes", "layout"):
            if name in source:
                check_type(f"{path}, source {number}: {name}", source[name], str)
    for table, names in (
        (config, ("folder", "vocabulary", "chrom_sizes")),
        *((s, ("path", "barcodes")) for s in sources),
    ):
        for name in names:
            if name in table:
                table[name] = path.parent / table[name]
    if "chrom_sizes" in config:
        if "genome" in config:
            raise ValueError(f"{path} has genome and chrom_sizes: give one.")
        config["genome"] = config.pop("chrom_sizes")
    entries: list[Any] = []
    for number, source in enumerate(sources, 1):
        try:
            entries += _entries(source)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, source {number}: {error}") from None
    return config | {"sources": entries}


def _entries(source: dict[str, Any]) -> list[Any]:
    layout = source.pop("layout", None)
    if layout is None:
        return [CorpusEntry(**source)]
    if layout not in LAYOUTS:
        raise ValueError(f"The layout {layout!r} of {source['path']} is not known; known: {', '.join(LAYOUTS)}.")
    return list(LAYOUTS[layout](source.pop("path"), **source))
