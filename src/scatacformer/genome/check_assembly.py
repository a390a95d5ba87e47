"""Check that bins are within the chromosomes of an assembly, and find the known assemblies that fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .beyond_ends import percent, too_many_beyond
from .chrom_sizes import KNOWN_ASSEMBLIES, assembly_name, chrom_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def check_assembly(
    chrom_names: Sequence[str],
    chrom: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    bin_size: int | None,
    genome: str | Path | Mapping[str, int],
) -> None:
    """Raise ValueError if bins are on unknown chromosomes or extend beyond them; the message names assemblies that fit.

    A few that end beyond theirs are only warned of: see :func:`too_many_beyond`.

    Parameters
    ----------
    chrom_names, chrom, start, end, bin_size
        The fields of a :class:`Vocabulary`.
    genome
        As for :func:`chrom_sizes`.
    """
    sizes = chrom_sizes(genome)
    what = assembly_name(genome) or ("the given sizes" if isinstance(genome, Mapping) else str(genome))
    size_of_code = np.array([sizes.get(name, -1) for name in chrom_names], dtype=np.int64)
    size = size_of_code[chrom]  # (n_bins,)
    n_bins = len(size)
    if (size < 0).any():
        names = [name for name in chrom_names if name not in sizes]
        raise ValueError(
            f"{int((size < 0).sum()):,} of {n_bins:,} bins are on chromosomes that {what} does not have: "
            f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}. "
            f"{naming_hint(names, sizes)}{_say(_fitting(chrom_names, chrom, end))}"
        )
    beyond = _beyond(start, end, size, bin_size)
    if not beyond.any():
        return
    first = int(np.argmax(beyond))
    name = chrom_names[chrom[first]]
    found = (
        f"{int(beyond.sum()):,} of {n_bins:,} bins end beyond their chromosome in {what} "
        f"(first: {name}:{start[first]}-{end[first]}, where {name} has {sizes[name]:,} bp; in all "
        f"{percent(beyond.mean())})."
    )
    fitting = _fitting(chrom_names, chrom, end)
    n_over_end = int((beyond & (start < size)).sum())
    n_chroms = len(np.unique(chrom[beyond]))
    if too_many_beyond(int(beyond.sum()) - n_over_end, n_over_end, n_bins, n_chroms, bool(fitting)):
        raise ValueError(f"{found} The assembly is not {what}, or the positions are not in bp. {_say(fitting)}")
    warnings.warn(f"{found} They stay as they are.", UserWarning, stacklevel=3)


def naming_hint(names: list[str], sizes: Mapping[str, int]) -> str:
    """What to do about chromosomes named ``1`` where ``chr1`` is expected, or the other way round; else an empty
    string."""
    if any(f"chr{name}" in sizes for name in names):
        return f"They are named without 'chr': {names[0]!r} where {'chr' + names[0]!r} is expected. "
    if any(name.startswith("chr") and name[3:] in sizes for name in names):
        return f"They are named with 'chr': {names[0]!r} where {names[0][3:]!r} is expected. "
    return ""


def _beyond(start: np.ndarray, end: np.ndarray, size: np.ndarray, bin_size: int | None) -> np.ndarray:
    """Bins that reach beyond the end of their chromosome, (n_bins,), bool."""
    # Some tools leave the last bin of a chromosome at full width: not a sign of a wrong assembly.
    reaches = end > size
    return reaches & ((start >= size) | (start % bin_size != 0)) if bin_size else reaches


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


def _fitting(chrom_names: Sequence[str], chrom: np.ndarray, end: np.ndarray) -> list[str]:
    furthest = np.zeros(len(chrom_names), dtype=np.int64)
    np.maximum.at(furthest, chrom, end)
    return fitting_assemblies(dict(zip(chrom_names, furthest.tolist(), strict=True)))


def _say(fitting: list[str]) -> str:
    if not fitting:
        return f"They fit none of the known assemblies ({', '.join(KNOWN_ASSEMBLIES)})."
    return f"These bins fit {' or '.join(fitting)}."
