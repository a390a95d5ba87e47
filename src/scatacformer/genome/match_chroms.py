"""An annotation's chromosomes among those of the bins, whatever they are called; and is it the same assembly?"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import numpy as np

from .beyond_ends import percent, too_many_beyond
from .check_assembly import fitting_assemblies, naming_hint
from .chrom_sizes import KNOWN_ASSEMBLIES, assembly_name, chrom_sizes
from .seqinfo import sequences_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .vocabulary import Vocabulary


class NoCommonChromosome(ValueError):
    """Two sets of intervals have no chromosome in common."""


def match_chroms(names: Sequence[str], vocabulary: Vocabulary, what: str) -> np.ndarray:
    """Code in the vocabulary of each of an annotation's chromosomes, (n_names,), int64; -1: without bins.

    Names are taken as they are, with ``chr`` before them, without it, or as accessions (``NC_000001.11``), whichever
    way most of them are found. Raises ValueError, calling the annotation ``what``, if none is found in any way."""
    code = {name: number for number, name in enumerate(vocabulary.chrom_names)}
    best = np.full(len(names), -1, dtype=np.int64)
    for spelled in (str, lambda name: f"chr{name}", lambda name: name.removeprefix("chr")):
        found = np.array([code.get(spelled(name), -1) for name in names], dtype=np.int64)
        best = found if (found >= 0).sum() > (best >= 0).sum() else best
    assemblies = KNOWN_ASSEMBLIES if vocabulary.assembly is None else (vocabulary.assembly,)
    for assembly in assemblies if (best < 0).any() else ():
        aliases = _aliases(assembly)
        spellings = [aliases.get(name, name) for name in names]
        found = np.array([code.get(name, code.get(name[3:], -1)) for name in spellings], dtype=np.int64)
        best = found if (found >= 0).sum() > (best >= 0).sum() else best
    if len(names) and (best < 0).all():
        other = next((known for known in KNOWN_ASSEMBLIES if any(name in _aliases(known) for name in names)), None)
        of_other = f"These are names of {other}. " if other and vocabulary.assembly not in (None, other) else ""
        raise NoCommonChromosome(
            f"{what} has no chromosome with bins. Its chromosomes are {', '.join(names[:5])}; the bins are on "
            f"{', '.join(vocabulary.chrom_names[:5])}. {naming_hint(list(names), dict.fromkeys(code, 0))}{of_other}"
            "Is it of the same species and assembly? Rename its chromosomes to those of the bins."
        )
    return best


@functools.cache
def _aliases(assembly: str) -> dict[str, str]:
    """Other names of the chromosomes of a known assembly (``1``, GenBank's and RefSeq's accessions) -> UCSC's name."""
    if (known := assembly_name(assembly)) is None:
        return {}
    return {alias: sequence.name for sequence in sequences_of(known) for alias in sequence.aliases}


def check_stated_assembly(stated: str | None, vocabulary: Vocabulary, what: str) -> None:
    """Raise ValueError if the annotation is labelled with another assembly than that of the bins."""
    stated, own = assembly_name(stated), assembly_name(vocabulary.assembly)
    if stated is not None and own is not None and stated != own:
        raise ValueError(
            f"{what} is labelled as {stated}, but the bins are from {own}, so positions do not correspond. "
            f"Take the annotation of {own}."
        )


def check_reach(
    code: np.ndarray, start: np.ndarray, end: np.ndarray, vocabulary: Vocabulary, what: str, slack: int = 0
) -> None:
    """Raise ValueError if intervals end more than ``slack`` bp beyond their chromosome; the message names assemblies
    that fit.

    ``code``, ``start``, ``end``: (n_intervals,); codes are the vocabulary's, those of -1 are not checked. A few
    intervals beyond the end are only warned of: see :func:`too_many_beyond`. Where the sizes of the chromosomes are not
    known, nothing is checked."""
    sizes, where = known_sizes(vocabulary)
    size = np.append([sizes.get(name, -1) for name in vocabulary.chrom_names], -1)[code]
    beyond = (size >= 0) & (end > size + slack)
    if not beyond.any():
        return
    first = int(np.argmax(beyond))
    name = vocabulary.chrom_names[code[first]]
    furthest = np.full(vocabulary.n_chroms + 1, -1, dtype=np.int64)
    np.maximum.at(furthest, code, end)
    reached = {
        name if name.startswith("chr") else f"chr{name}": int(position)
        for name, position in zip(vocabulary.chrom_names, furthest[:-1], strict=True)
        if position >= 0
    }
    fitting = " or ".join(fitting_assemblies(reached))
    found = (
        f"{what}: {int(beyond.sum()):,} of {len(end):,} intervals end beyond their "
        f"chromosome in {where} (first: {name}:{start[first]}-{end[first]}, where {name} has {sizes[name]:,} bp; in "
        f"all {percent(beyond.mean())})."
    )
    n_over_end = int((beyond & (start < size)).sum())
    n_chroms = len(np.unique(code[beyond]))
    if not too_many_beyond(int(beyond.sum()) - n_over_end, n_over_end, len(end), n_chroms, bool(fitting)):
        warnings.warn(f"{found} The parts beyond the end overlap no bin.", UserWarning, stacklevel=3)
        return
    raise ValueError(
        f"{found} {f'They fit {fitting}. ' if fitting else ''}Take the annotation of the bins' own assembly."
    )


def known_sizes(vocabulary: Vocabulary) -> tuple[dict[str, int], str]:
    """(Sizes in bp of the vocabulary's chromosomes, if known; their source.)

    From the assembly; without one, bins side by side from 0 on show where their chromosome ends, but for a last bin
    that is missing or too wide.
    """
    if (assembly := assembly_name(vocabulary.assembly)) is not None:
        of_assembly = chrom_sizes(assembly)
        spelled = {name: of_assembly.get(name, of_assembly.get(f"chr{name}", -1)) for name in vocabulary.chrom_names}
        return {name: size for name, size in spelled.items() if size > 0}, assembly
    width = (vocabulary.end - vocabulary.start).astype(np.int64)
    furthest, covered, widest = (np.zeros(vocabulary.n_chroms, dtype=np.int64) for _ in range(3))
    np.maximum.at(furthest, vocabulary.chrom, vocabulary.end)
    np.maximum.at(widest, vocabulary.chrom, width)
    np.add.at(covered, vocabulary.chrom, width)
    rows = zip(vocabulary.chrom_names, furthest + widest, covered == furthest, strict=True)
    return {name: int(size) for name, size, is_whole in rows if is_whole}, "the bins, which cover it whole"


def check_sizes(found: Mapping[str, int], code: np.ndarray, vocabulary: Vocabulary, what: str) -> None:
    """Raise ValueError if a file that states the sizes of its chromosomes states others than those of the assembly.

    ``code``: of each of the names in ``found``, as :func:`match_chroms` gives it.
    """
    assembly = assembly_name(vocabulary.assembly)
    if assembly is None:
        return
    sizes, _ = known_sizes(vocabulary)
    for (name, size), of_name in zip(found.items(), code, strict=True):
        expected = sizes.get(vocabulary.chrom_names[of_name], size) if of_name >= 0 else size
        if size != expected:
            raise ValueError(
                f"{what} is of another assembly than the bins: there {name} has {size:,} bp; in {assembly} it "
                f"has {expected:,}. Take the file of {assembly}."
            )
