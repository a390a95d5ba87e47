"""Chromosomes of a genome in thousands of pieces, gathered into few groups of some size."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .vocabulary import Vocabulary


class ChromGroups(NamedTuple):
    """Which chromosomes belong together."""

    names: tuple[str, ...]  # of each group
    group_of_chrom: np.ndarray  # (n_chroms,) int64


def gather_chroms(vocabulary: Vocabulary, max_groups: int = 64) -> ChromGroups:
    """Gather small chromosomes into groups, where a genome has more than ``max_groups`` chromosomes.

    A chromosome with at least ``1 / max_groups`` of all bins is a group of its own. The others are gathered in their
    order into groups of at least that size (a single group of them may be smaller), so that there are at most
    ``max_groups`` of both. The groups are in the order of their first chromosomes, after which they are named.

    Parameters
    ----------
    vocabulary
        The bins.
    max_groups
        With at most this many chromosomes, each is a separate group, whatever its size.

    Raises
    ------
    ValueError
        ``max_groups`` is below 1.
    """
    if max_groups < 1:
        raise ValueError(f"max_groups is {max_groups}; expected at least 1.")
    n_chroms = vocabulary.n_chroms
    if n_chroms <= max_groups:
        return ChromGroups(vocabulary.chrom_names, np.arange(n_chroms))
    n_bins = np.diff(vocabulary.chrom_offsets)  # (n_chroms,)
    members: list[list[int]] = []  # of each group
    before: list[int] = []  # the last group of small ones that is full
    small: list[int] = []  # the one that is being filled
    for chrom in range(n_chroms):
        if n_bins[chrom] * max_groups >= vocabulary.n_bins:
            members.append([chrom])
            continue
        if not small:
            members.append(small)
        small.append(chrom)
        if n_bins[small].sum() * max_groups >= vocabulary.n_bins:
            before, small = small, []
    if small and before:  # too few are left over for a group
        members.remove(small)
        before.extend(small)
    group = np.empty(n_chroms, dtype=np.int64)
    names: list[str] = []
    for number, chroms in enumerate(members):
        group[chroms] = number
        name = vocabulary.chrom_names[chroms[0]]
        names.append(name if len(chroms) == 1 else f"{name}_and_{len(chroms) - 1}_others")
    return ChromGroups(tuple(names), group)
