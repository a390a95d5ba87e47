"""Do these bins lie on that assembly?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .chrom_sizes import KNOWN_ASSEMBLIES, assembly_name, chrom_sizes

if TYPE_CHECKING:
    from pathlib import Path

    from .vocabulary import Vocabulary


def check_assembly(vocabulary: Vocabulary, genome: str | Path | Mapping[str, int]) -> None:
    """Raise ValueError if bins lie on unknown chromosomes or end beyond theirs; say which assembly fits instead."""
    sizes = chrom_sizes(genome)
    what = assembly_name(genome) or ("the given sizes" if isinstance(genome, Mapping) else str(genome))
    unknown, beyond = _misfits(vocabulary, sizes)
    if unknown.any():
        names = [name for name in vocabulary.chrom_names if name not in sizes]
        raise ValueError(
            f"{int(unknown.sum()):,} of {vocabulary.n_bins:,} bins lie on chromosomes that {what} does not have: "
            f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}. "
            f"{naming_hint(names, sizes)}{_what_fits(vocabulary)}"
        )
    if beyond.any():
        first = int(np.argmax(beyond))
        chrom = vocabulary.chrom_names[vocabulary.chrom[first]]
        raise ValueError(
            f"{int(beyond.sum()):,} of {vocabulary.n_bins:,} bins end beyond their chromosome in {what} "
            f"(first: {vocabulary.names[first]}, where {chrom} has {sizes[chrom]:,} bp). "
            f"The assembly is not {what}, or the positions are not in bp. {_what_fits(vocabulary)}"
        )


def naming_hint(names: list[str], sizes: Mapping[str, int]) -> str:
    """What to do about chromosomes named `1` where `chr1` is expected, or the other way round; else an empty string."""
    if any(f"chr{name}" in sizes for name in names):
        return f"They are named without 'chr': {names[0]!r} where {'chr' + names[0]!r} is expected. "
    if any(name.startswith("chr") and name[3:] in sizes for name in names):
        return f"They are named with 'chr': {names[0]!r} where {names[0][3:]!r} is expected. "
    return ""


def _misfits(vocabulary: Vocabulary, sizes: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Bins on unknown chromosomes, and bins beyond the end of theirs; each (n_bins,), bool."""
    size_of_code = np.array([sizes.get(name, -1) for name in vocabulary.chrom_names], dtype=np.int64)
    size = size_of_code[vocabulary.chrom]
    # Some tools leave the last bin of a chromosome at full width: no sign of a wrong assembly.
    reaches = vocabulary.end > size
    if vocabulary.bin_size:
        reaches &= (vocabulary.start >= size) | (vocabulary.start % vocabulary.bin_size != 0)
    return size < 0, (size >= 0) & reaches


def fitting_assemblies(furthest_end: Mapping[str, int]) -> list[str]:
    """Known assemblies that have all these chromosomes, none shorter than the position (bp) given for it.

    If the positions are the very ends of the chromosomes in some of them, only those.
    """
    fitting, exact = [], []
    for assembly in KNOWN_ASSEMBLIES:
        sizes = chrom_sizes(assembly)
        if all(end <= sizes.get(name, -1) for name, end in furthest_end.items()):
            fitting.append(assembly)
            # bins side by side end where the chromosomes end: that is a signature, where peaks may fit several
            if all(end == sizes[name] for name, end in furthest_end.items()):
                exact.append(assembly)
    return exact or fitting


def _what_fits(vocabulary: Vocabulary) -> str:
    furthest = np.zeros(vocabulary.n_chroms, dtype=np.int64)
    np.maximum.at(furthest, vocabulary.chrom, vocabulary.end)
    fitting = fitting_assemblies(dict(zip(vocabulary.chrom_names, furthest.tolist(), strict=True)))
    if not fitting:
        return f"They fit none of the assemblies known here ({', '.join(KNOWN_ASSEMBLIES)})."
    return f"These bins fit {' or '.join(fitting)}."
