"""From the regions of a data set to the bins of the vocabulary, and whether both are of the same assembly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scatacformer.genome import Vocabulary, assembly_name, check_reach, identify_assembly, match_chroms, overlap_matrix

if TYPE_CHECKING:
    import pandas as pd


def check_assembly_of(assembly: str | None, vocabulary: Vocabulary, what: str) -> None:
    """Raise ValueError if the assembly of a data set is another than that of the vocabulary, by name or by its ends."""
    stated, own = assembly_name(assembly) or assembly, identify_assembly(vocabulary)
    if stated is not None and own is not None and stated != own:
        raise ValueError(
            f"{what} is of {stated}, the vocabulary is of {own}: positions mean different places. Leave it out, or "
            f"take the data set aligned to {own}; if the assembly is named wrongly, give it its own (assembly=...)."
        )


def regions_of_var(var: pd.DataFrame, vocabulary: Vocabulary, assembly: str | None, what: str) -> Vocabulary:
    """Positions of the columns of a data set, with the vocabulary's names of chromosomes.

    Besides what :meth:`Vocabulary.from_var` reads: HuBMAP's ``chrom``, ``bin_start``, ``bin_stop``, whose stop is the
    last base. Raises ValueError for another assembly than the vocabulary's, by its name or by the ends of bins of one
    width, and for regions beyond their chromosome.
    """
    import pandas as pd

    check_assembly_of(assembly, vocabulary, what)
    if {"chrom", "bin_start", "bin_stop"} <= set(var.columns):
        # starts are text there, some as 1e+05; stops are the last base of the bin
        start = var["bin_start"].astype(float)
        chrom = var["chrom"].astype(str)
        var = pd.DataFrame({"chrom": chrom, "start": start, "end": var["bin_stop"].astype(float) + 1}, index=var.index)
    try:
        regions = Vocabulary.from_var(var, assembly)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    code = match_chroms(regions.chrom_names, vocabulary, what)
    names = tuple(
        vocabulary.chrom_names[c] if c >= 0 else name for c, name in zip(code, regions.chrom_names, strict=True)
    )
    if len(set(names)) == len(names):
        regions = Vocabulary(names, regions.chrom, regions.start, regions.end, regions.assembly)
    widest = int((regions.end - regions.start).max())  # some tools leave a last bin at full width
    check_reach(vocabulary.codes_of(regions)[regions.chrom], regions.start, regions.end, vocabulary, what, slack=widest)
    try:
        found = identify_assembly(regions)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    check_assembly_of(found, vocabulary, what)
    return regions


class BinMap:
    """Renames the columns of a data set to token ids, cells at a time.

    A region that equals a bin becomes that bin; any other opens every bin that it overlaps. Regions
    outside the vocabulary are left out.
    """

    def __init__(self, regions: Vocabulary, vocabulary: Vocabulary, what: str) -> None:
        self.n_bins = vocabulary.n_bins
        exact = vocabulary.lookup(regions)
        self.n_exact = int((exact >= 0).sum())
        n_of = (exact >= 0).astype(np.int64)  # bins of each region
        self._bins = exact
        if self.n_exact < regions.n_bins:
            overlaps = overlap_matrix(regions, vocabulary)
            n_of = np.where(exact >= 0, 1, np.diff(overlaps.indptr))
            by_overlap = np.repeat(exact < 0, np.diff(overlaps.indptr))
            self._bins = np.empty(n_of.sum(), np.int64)
            is_exact = np.repeat(exact >= 0, n_of)
            self._bins[is_exact], self._bins[~is_exact] = exact[exact >= 0], overlaps.indices[by_overlap]
        self.n_outside = int((n_of == 0).sum())
        if self.n_outside == regions.n_bins:
            raise ValueError(
                f"{what}: none of its {regions.n_bins:,} regions overlaps any of the {self.n_bins:,} bins of the "
                f"vocabulary (regions: {regions.names[0]}, ...; bins: {vocabulary.names[0]}, ...). "
                "Is it the same assembly?"
            )
        self.n_over_several = int((n_of > 1).sum())
        self._n_of, self._bins = n_of, self._bins.astype(np.int32)
        self._first = np.concatenate([[0], np.cumsum(n_of)[:-1]])
        self._one_each = bool((n_of == 1).all())

    def __call__(self, indptr: np.ndarray, regions: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """(indptr, sorted bins without repeats as int32, open entries outside the vocabulary) of some cells."""
        if self._one_each:
            bins = self._bins[regions]
            # most data sets have exactly these bins, in order: without sorting, this is ten times as fast
            rises = np.ones(max(len(bins) + 1, 2), bool)
            rises[1:-1] = bins[1:] > bins[:-1]
            rises[indptr] = True
            if rises.all():
                return indptr, bins, 0
        cell = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        n_of = self._n_of[regions]
        n_outside = int((n_of == 0).sum())
        cell = np.repeat(cell, n_of)
        at = np.arange(len(cell)) - np.repeat(np.cumsum(n_of) - n_of, n_of) + np.repeat(self._first[regions], n_of)
        key = _sorted_once(cell * self.n_bins + self._bins[at])
        cell, bins = np.divmod(key, self.n_bins)
        n_per_cell = np.bincount(cell, minlength=len(indptr) - 1)
        return np.concatenate([[0], np.cumsum(n_per_cell)]), bins.astype(np.int32), n_outside


def _sorted_once(keys: np.ndarray) -> np.ndarray:
    keys.sort()  # 50 times faster than np.unique in the pinned numpy
    return keys[np.diff(keys, prepend=-1) > 0]
