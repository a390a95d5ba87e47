"""The vocabulary that a user means: itself, a model's, or one in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .chrom_sizes import assembly_name
from .vocabulary import Vocabulary, overlaps_allowed

# of saved models, tokenizers and corpora; of databio's models
_FILES = ("vocabulary.bed.gz", "universe.bed.gz")


def vocabulary_of(source: Vocabulary | str | os.PathLike | Any) -> Vocabulary:
    """The :class:`Vocabulary` that ``source`` is or has.

    Parameters
    ----------
    source
        A vocabulary; a model, tokenizer or corpus, which has one; the folder that one of these was saved to; or a BED
        file.

    Raises
    ------
    FileNotFoundError
        No such folder or file, or no vocabulary in the folder.
    ValueError
        Anything else.
    """
    if isinstance(source, str | os.PathLike) and not (assembly_name(source) and not Path(source).exists()):
        return _read(Path(source))
    found = source if isinstance(source, Vocabulary) else getattr(source, "vocabulary", None)
    if not isinstance(found, Vocabulary):
        named = f"the name of an assembly; take its bins: Vocabulary.from_chrom_sizes({source!r})"
        raise ValueError(
            "Expected a Vocabulary, a model, or the path of a model's folder or of a BED file; found "
            f"{named if assembly_name(source) else type(source).__name__}."
        )
    return found


def _read(path: Path) -> Vocabulary:
    if not path.exists():
        raise FileNotFoundError(f"{path} is neither the folder of a model nor a BED file. Check the path.")
    if path.is_dir():
        # several models can share a folder, with a prefix before the name
        files = [file for name in _FILES for file in sorted(path.glob(f"*{name}"))]
        if not files or (len(files) > 1 and files[0].name not in _FILES):
            found = ", ".join(sorted(file.name for file in path.iterdir())[:5]) or "nothing"
            raise FileNotFoundError(
                f"{path} holds {found}; expected one vocabulary ({' or '.join(_FILES)}), as in the folder of a model."
            )
        path = files[0]
    with overlaps_allowed():
        return Vocabulary.from_bed(path)
