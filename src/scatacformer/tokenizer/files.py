"""The folder of a tokenizer: a vocabulary as BED, and which special tokens follow it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scatacformer._io import folder_of, listed_file, read_json, read_whole, refuse_altered, whole_folder
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
    """Vocabulary, layout of the special tokens and meaning of ``<eos>``, from a folder or a repository on the Hub."""
    folder = folder_of(
        name,
        [CONFIG, VOCABULARY, UNIVERSE, MODEL_CONFIG],
        "a tokenizer is a folder. For a BED file: Tokenizer.from_bed(path).",
        **hub,
    )
    if (folder / CONFIG).exists() and "scatacformer_format" in read_json(folder / CONFIG):
        return read_whole(folder / CONFIG, lambda: _read_ours(folder, read_json(folder / CONFIG)))
    if (folder / UNIVERSE).exists():
        return read_universe(folder / UNIVERSE), "gtars", None
    if (folder / VOCABULARY).exists():  # of a saved model, whose ids these are
        config = read_json(folder / MODEL_CONFIG) if (folder / MODEL_CONFIG).exists() else {}
        vocabulary = read_universe(folder / VOCABULARY, config.get("assembly"))
        if isinstance(expected := config.get("vocabulary"), str):
            _check(folder / VOCABULARY, vocabulary, expected, MODEL_CONFIG)
        state = config.get("state")
        attributes = state.get("attributes") if isinstance(state, dict) else None
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
        raise FileNotFoundError(f"The BED file {path} does not exist. Check the path.")
    with overlaps_allowed():
        return Vocabulary.from_bed(path, assembly)


def write_tokenizer(folder: Path, vocabulary: Vocabulary, special: SpecialTokens, for_gtars: bool) -> None:
    """Write the folder, which is the old tokenizer or the new one at every moment.

    Raises ValueError for a file in place of the folder, for a model in it that has other regions, and for ``for_gtars``
    with special tokens that are not theirs; RuntimeError where another process is writing the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a tokenizer is saved to a folder.")
    if for_gtars and special.layout != "gtars":
        raise ValueError(
            "gtars numbers the special tokens in its own way: save a tokenizer with special_tokens='gtars'."
        )
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
    _refuse_other_model(folder, vocabulary)
    beside_model = (folder / MODEL_CONFIG).exists()  # databio's models have the same universe.bed.gz
    owns = [VOCABULARY] + ([] if beside_model and not for_gtars else [UNIVERSE])
    with whole_folder(folder, CONFIG, owns, overwrite=True, beside=[MODEL_CONFIG]) as new:
        with new.file(VOCABULARY) as path:
            vocabulary.to_bed(path, packed=True)
        if for_gtars:  # which takes no header line
            with overlaps_allowed(), new.file(UNIVERSE) as path:
                dataclasses.replace(vocabulary, assembly=None).to_bed(path, packed=True)
        new.point(config)


def _refuse_other_model(folder: Path, vocabulary: Vocabulary) -> None:
    """A model's folder may hold the tokenizer of that model; that of other regions would take its vocabulary away."""
    if not (folder / MODEL_CONFIG).exists():
        return
    named = read_json(folder / MODEL_CONFIG).get("vocabulary")
    if isinstance(named, str) and named != vocabulary.checksum:
        raise ValueError(f"{folder} holds a model of other regions than this tokenizer's. Choose another folder.")


def _read_ours(folder: Path, config: Mapping[str, Any]) -> tuple[Vocabulary, Layout, list[str] | None]:
    path = folder / CONFIG
    if not isinstance(config.get("scatacformer_format"), int) or config["scatacformer_format"] > FORMAT:
        raise ValueError(
            f"{path} has format {config.get('scatacformer_format')!r}, expected at most {FORMAT}; update scatacformer."
        )
    layout = config.get("special_tokens")
    if not isinstance(layout, str) or layout not in LAYOUTS:
        raise ValueError(f"{path} names special tokens {layout!r}; expected one of {', '.join(LAYOUTS)}.")
    sums = config.get("sha256")
    file = listed_file(folder, VOCABULARY, sums if isinstance(sums, dict) else {})
    if not file.exists():
        raise ValueError(f"{folder / VOCABULARY} is missing; copy the whole folder.")
    vocabulary = read_universe(file, config.get("assembly"))
    _check(file, vocabulary, config.get("vocabulary"), CONFIG)
    refuse_altered(path, config)
    return vocabulary, layout, _eos_names(config.get("eos_names"))


def _eos_names(found: object) -> list[str] | None:
    return [str(name) for name in found] if isinstance(found, list) else None


def _check(path: Path, vocabulary: Vocabulary, expected: object, named_by: str) -> None:
    if vocabulary.checksum != expected:
        raise ValueError(
            f"{path} ({vocabulary.n_bins:,} regions) is not the vocabulary that {named_by} names: its checksum differs. "
            "Token ids would mean other regions; copy the whole folder again."
        )
