"""Which assembly a vocabulary belongs to: by its name, and by where its bins end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .chrom_sizes import KNOWN_ASSEMBLIES, assembly_name, chrom_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .vocabulary import Vocabulary


def identify_assembly(vocabulary: Vocabulary) -> str | None:
    """Name of the assembly that a vocabulary belongs to, None if it cannot be determined.

    That is ``vocabulary.assembly`` if it has one. Otherwise, bins of one width show it: the last bin of a chromosome is
    cut off where the chromosome ends, or, where a tool left it at full width, contains that end. An assembly is
    returned if it is the only known one that all these ends agree with. Regions of different widths (peaks), and bins
    that do not reach the end of a chromosome, are not identified.

    Parameters
    ----------
    vocabulary
        Bins or other regions, named ``chr1`` or ``1``.

    Raises
    ------
    ValueError
        The vocabulary is named after one known assembly and its bins end where the chromosomes of another one do.
    """
    named, seen = vocabulary.assembly, _by_ends(vocabulary)
    if named is None or assembly_name(named) is None:
        return seen or named
    if seen is not None and seen != named:
        raise ValueError(
            f"The assembly is named {named}, but the bins end where the chromosomes of {seen} end. "
            f"If it is {seen}, set adata.uns['assembly'] = {seen!r}; otherwise use bins of {named}."
        )
    return named


def check_same_assembly(regions: Vocabulary, target: Vocabulary) -> None:
    """Raise ValueError if two vocabularies belong to different assemblies, according to :func:`identify_assembly`.

    Parameters
    ----------
    regions
        The regions of cells.
    target
        The vocabulary that they are to be brought to.
    """
    of_regions, of_target = regions.assembly, target.assembly
    if of_regions is None or of_target is None or of_regions == of_target:  # otherwise their names differ already
        of_regions, of_target = identify_assembly(regions), identify_assembly(target)
    if of_regions is None or of_target is None or of_regions == of_target:
        return
    how, remedy = "their ends are those of its chromosomes", ""
    if regions.assembly == of_regions:
        how, remedy = "adata.uns['assembly']", "; if adata.uns['assembly'] is wrong, correct it"
    raise ValueError(
        f"The regions are of {of_regions} ({how}), the vocabulary is of {of_target}: positions mean different places. "
        f"Lift the regions over (sf.pp.lift_vocabulary), or bin the fragments aligned to {of_target}{remedy}."
    )


def _by_ends(vocabulary: Vocabulary) -> str | None:
    """The only known assembly that agrees with the ends of bins of one width."""
    width = vocabulary.bin_size
    if width is None:
        return None
    furthest = np.zeros(vocabulary.n_chroms, dtype=np.int64)
    np.maximum.at(furthest, vocabulary.chrom, vocabulary.end)
    cut_off = np.zeros(vocabulary.n_chroms, dtype=bool)  # the last bin is narrower
    cut_off[vocabulary.chrom[(vocabulary.end - vocabulary.start) < width]] = True
    ends = {
        name: (int(end), bool(cut)) for name, end, cut in zip(vocabulary.chrom_names, furthest, cut_off, strict=True)
    }
    fitting = [known for known in KNOWN_ASSEMBLIES if _agrees(ends, chrom_sizes(known), width)]
    return fitting[0] if len(fitting) == 1 else None


def _agrees(ends: Mapping[str, tuple[int, bool]], sizes: Mapping[str, int], width: int) -> bool:
    """Whether bins end where the chromosomes of an assembly do: every one that is cut off, else most of the last
    ones."""
    n_cut, n_last, n_known = 0, 0, 0
    for name, (end, cut) in ends.items():
        size = sizes.get(name, sizes.get(f"chr{name}", 0))
        if not size:
            continue  # a scaffold or a decoy that the table lacks
        last = -(-size // width) * width
        if end > last or (cut and end != size):
            return False
        n_known += 1
        n_cut += cut
        n_last += end in (size, last)
    return n_known > 0 and (n_cut > 0 or (n_last >= 3 and n_last > n_known / 2))
