"""The folder of a tokenizer: a vocabulary as BED, and which special tokens follow it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scatacformer._io import folder_of, read_json, whole_file
from scatacformer.genome import Vocabulary, overlaps_allowed

from .special_tokens import LAYOUTS, Layout, SpecialTokens

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
CONFIG, VOCABULARY, UNIVERSE, MODEL_CONFIG = (
    "tokenizer_config.json",
    "vocabulary.bed.gz",
    "universe.bed.gz",
    "config.json",
)


def read_tokenizer(name: str | Path, **hub: Any) -> tuple[Vocabulary, Layout, list[str] | None]:
    """Vocabulary, order of the special tokens and what `<eos>` stand for, of a folder or a repository of the hub."""
    folder = folder_of(
        name,
        [CONFIG, VOCABULARY, UNIVERSE, MODEL_CONFIG],
        "a tokenizer is a folder. For a BED file: Tokenizer.from_bed(path).",
        **hub,
    )
    if (folder / CONFIG).exists():
        config = read_json(folder / CONFIG)
        if "scatacformer_format" in config:
            return _read_ours(folder, config)
    if (folder / UNIVERSE).exists():
        return read_universe(folder / UNIVERSE), "gtars", None
    if (folder / VOCABULARY).exists():  # beside a saved model, whose ids these are
        config = read_json(folder / MODEL_CONFIG) if (folder / MODEL_CONFIG).exists() else {}
        vocabulary = read_universe(folder / VOCABULARY, config.get("assembly"))
        if isinstance(expected := config.get("vocabulary"), str):
            _check(folder / VOCABULARY, vocabulary, expected, MODEL_CONFIG)
        attributes = config.get("attributes")
        return (
            vocabulary,
            "scatacformer",
            _eos_names(attributes.get("eos_names_") if isinstance(attributes, dict) else None),
        )
    found = sorted(path.name for path in folder.iterdir())[:8]
    raise ValueError(
        f"{name} holds no tokenizer: expected {CONFIG} with {VOCABULARY}, or databio's {UNIVERSE}; found "
        f"{', '.join(found) or 'nothing'}."
    )


def read_universe(path: str | Path, assembly: str | None = None) -> Vocabulary:
    """The regions of a BED file; those that overlap one another need no warning here."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no BED file {path}.")
    with overlaps_allowed():
        return Vocabulary.from_bed(path, assembly)


def write_tokenizer(folder: Path, vocabulary: Vocabulary, special: SpecialTokens, for_gtars: bool) -> None:
    """Write each file whole; the configuration last, so that a folder with one is complete."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a tokenizer is saved to a folder.")
    if for_gtars and special.layout != "gtars":
        raise ValueError(
            "gtars numbers the special tokens in its own way: save a tokenizer with special_tokens='gtars'."
        )
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary.to_bed(folder / VOCABULARY)
    if for_gtars:  # which takes no header line
        with overlaps_allowed():
            dataclasses.replace(vocabulary, assembly=None).to_bed(folder / UNIVERSE)
    config = {
        "scatacformer_format": FORMAT,
        "tokenizer_class": "scatacformer.Tokenizer",
        "special_tokens": special.layout,
        "assembly": vocabulary.assembly,
        "n_regions": vocabulary.n_bins,
        "vocab_size": vocabulary.n_bins + len(special.ids),
        "vocabulary": vocabulary.checksum,
    }
    if special.layout == "scatacformer":
        config["eos_names"] = special.eos_names
    with whole_file(folder / CONFIG) as partial:
        partial.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _read_ours(folder: Path, config: Mapping[str, Any]) -> tuple[Vocabulary, Layout, list[str] | None]:
    path = folder / CONFIG
    if not isinstance(config["scatacformer_format"], int) or config["scatacformer_format"] > FORMAT:
        raise ValueError(
            f"{path} has format {config['scatacformer_format']!r}, expected at most {FORMAT}; update scatacformer."
        )
    if (layout := config.get("special_tokens")) not in LAYOUTS:
        raise ValueError(f"{path} names special tokens {layout!r}; expected one of {', '.join(LAYOUTS)}.")
    if not (folder / VOCABULARY).exists():
        raise ValueError(f"{folder / VOCABULARY} is missing; copy the whole folder.")
    vocabulary = read_universe(folder / VOCABULARY, config.get("assembly"))
    _check(folder / VOCABULARY, vocabulary, config.get("vocabulary"), CONFIG)
    return vocabulary, cast("Layout", layout), _eos_names(config.get("eos_names"))


def _eos_names(found: object) -> list[str] | None:
    return [str(name) for name in found] if isinstance(found, list) else None


def _check(path: Path, vocabulary: Vocabulary, expected: object, named_by: str) -> None:
    if vocabulary.checksum != expected:
        raise ValueError(
            f"{path} ({vocabulary.n_bins:,} regions) is not the vocabulary that {named_by} names: its checksum differs. "
            "Token ids would mean other regions; copy the whole folder again."
        )
