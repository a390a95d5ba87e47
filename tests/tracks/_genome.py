"""A made-up genome that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

SIZES = {"chr1": 6000, "chr2": 4100, "chr3": 900}


def write_fasta(path: Path, sequences: dict[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in sequences.items()))
    return path
