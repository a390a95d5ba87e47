"""Reading the classes of the bins from a GTF file, a HOMER table, BED and other interval files."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer.genome.formats.big_files import big_file_kind, bigwig_means, read_bigbed
from scatacformer.genome.formats.gtf_transcripts import read_gtf_transcripts
from scatacformer.genome.formats.homer import read_homer
from scatacformer.genome.intervals import read_bed
from scatacformer.genome.match_chroms import check_reach, check_stated_assembly, match_chroms

from .gene_classes import GENE_CLASSES, Intervals, gene_intervals

if TYPE_CHECKING:
    from pathlib import Path

    from scatacformer.genome.vocabulary import Vocabulary

_SLACK = 1000  # bp: widened peaks can extend past the end of a chromosome; genes cannot


class Needed:
    """The bins, and the minimum number of bases of each in a class."""

    def __init__(self, vocabulary: Vocabulary, shares: dict[Any, float]) -> None:
        self.vocabulary, self.shares = vocabulary, shares
        self.width = (vocabulary.end - vocabulary.start).astype(np.int64)

    def members(self, name: str, intervals: Intervals) -> np.ndarray:
        """Which bins have a class, (n_bins,), bool; the chromosomes of the intervals are codes, -1: ignored."""
        share = self.shares.get(name, self.shares.get(None, 0.0))
        return covered_bases(self.vocabulary, intervals) >= np.maximum(np.ceil(share * self.width), 1)


def covered_bases(vocabulary: Vocabulary, intervals: Intervals) -> np.ndarray:
    """Number of bases of each bin in any of the intervals, (n_bins,), int64.

    Intervals may overlap and be in any order; ``intervals.chrom`` are codes of the vocabulary, -1: none. Time is
    proportional to (bins + intervals) × log(intervals), whatever their widths."""
    chrom, start, end = (column[intervals.chrom >= 0] for column in intervals)
    if not len(chrom):
        return np.zeros(vocabulary.n_bins, dtype=np.int64)
    order = np.argsort(chrom << 32 | start, kind="stable")
    start = (chrom << 32 | start)[order]
    end = np.maximum.accumulate(
        (chrom << 32 | end)[order]
    )  # maximum end so far: overlapping or adjacent intervals are merged
    is_new = start[1:] > end[:-1]
    start, end = start[np.append(True, is_new)], end[np.append(is_new, True)]
    before = np.concatenate([[0], np.cumsum(end - start)])  # bases before each merged interval

    def covered_before(position: np.ndarray) -> np.ndarray:
        n = np.searchsorted(start, position)  # merged intervals that start before it
        last = np.maximum(n - 1, 0)
        return before[n] - np.where(n > 0, np.maximum(end[last] - position, 0), 0)

    offset = vocabulary.chrom.astype(np.int64) << 32
    return covered_before(offset | vocabulary.end) - covered_before(offset | vocabulary.start)


def of_gtf(path: str | Path, needed: Needed, promoter: tuple[int, int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(Members of each class, bins without a gene.)"""
    what = f"The GTF file {path}"
    found = read_gtf_transcripts(path)
    check_stated_assembly(found.assembly, needed.vocabulary, what)
    code = match_chroms(found.chrom_names, needed.vocabulary, what)
    for parts in (found.genes, found.exons):
        check_reach(code[parts.chrom], parts.start, parts.end, needed.vocabulary, what)
    intervals = {
        name: Intervals(code[chrom], start, end)
        for name, (chrom, start, end) in gene_intervals(found, promoter).items()
    }
    members = {name: needed.members(name, intervals[name]) for name in GENE_CLASSES}
    near = [covered_bases(needed.vocabulary, intervals[name]) > 0 for name in ("gene", "promoter", "TTS")]
    for name in [name for name, of_class in members.items() if not of_class.any()]:
        why = {
            "ncRNA": "" if found.has_types else " (no gene_type or gene_biotype says which genes are)",
            "5' UTR": "" if found.coding.owner.size else " (there are no lines of type CDS)",
            "3' UTR": "" if found.coding.owner.size else " (there are no lines of type CDS)",
        }.get(name, "" if found.exons.owner.size else " (there are no lines of type exon)")
        warnings.warn(f"{what} has no {name} in any bin{why}. The class is left out.", UserWarning, stacklevel=3)
        del members[name]
    return members, ~np.logical_or.reduce(near)


def of_homer(path: str | Path, needed: Needed) -> dict[str, np.ndarray]:
    what = f"HOMER's table {path}"
    table = read_homer(path)
    check_stated_assembly(table.assembly, needed.vocabulary, what)
    chrom = match_chroms(table.chrom_names, needed.vocabulary, what)[table.regions.chrom]
    regions = table.regions._replace(chrom=chrom)
    check_reach(chrom, regions.start, regions.end, needed.vocabulary, what, _SLACK)
    absent = covered_bases(needed.vocabulary, regions) == 0
    if absent.mean() > 0.05:
        warnings.warn(
            f"{what} has no region in {int(absent.sum()):,} of {len(absent):,} bins (first: "
            f"{needed.vocabulary.names[int(absent.argmax())]}); they count as intergenic. To annotate every bin, run "
            "annotatePeaks.pl on the bins themselves: vocabulary.to_bed('bins.bed').",
            UserWarning,
            stacklevel=3,
        )
    order = sorted(table.class_names, key=lambda name: (name not in GENE_CLASSES, (*GENE_CLASSES, name).index(name)))
    members = {}
    for name in order:
        of_class = table.code == table.class_names.index(name)
        members[name] = needed.members(name, Intervals(*(column[of_class] for column in regions)))
    return {name: of_class for name, of_class in members.items() if of_class.any()}


def of_file(name: str, path: str | Path, needed: Needed, thresholds: dict[Any, float]) -> np.ndarray:
    what = f"The class {name!r} ({path})"
    vocabulary = needed.vocabulary
    kind = big_file_kind(path)
    if kind == "bigWig":
        if (least := thresholds.get(name, thresholds.get(None))) is None:
            raise ValueError(
                f"{what} is a bigWig file, whose values need a threshold. Pass threshold={{{name!r}: 0.5}}: bins with a "
                "mean of at least that are in the class."
            )
        members = bigwig_means(path, vocabulary, what) >= least
        if not members.any():
            raise ValueError(f"{what} has no bins with a mean of at least {least}. Lower threshold[{name!r}].")
        return members
    if kind == "bigBed":
        intervals = read_bigbed(path, vocabulary, what)
    else:
        intervals = _read_bed(path, vocabulary, what)
    members = needed.members(name, intervals)
    if not members.any():
        some = covered_bases(vocabulary, intervals).any()
        why = "overlap no bin" if not some else "cover too little of every bin; lower min_share"
        raise ValueError(
            f"{what} has no bins: its {len(intervals.start):,} intervals {why}. Otherwise leave out the class."
        )
    return members


def _read_bed(path: str | Path, vocabulary: Vocabulary, what: str) -> Intervals:
    import pandas as pd

    names, start, end, assembly = read_bed(path)
    check_stated_assembly(assembly, vocabulary, what)
    if (bad := (start < 0) | (end < start)).any():
        first = int(bad.argmax())
        raise ValueError(
            f"{what}: {int(bad.sum()):,} of {len(bad):,} intervals do not have 0 <= start <= end (first: "
            f"{names[first]}:{start[first]}-{end[first]}). Expected a BED file."
        )
    code, chrom_names = pd.factorize(names)
    chrom = match_chroms([str(chrom) for chrom in chrom_names], vocabulary, what)[code]
    check_reach(chrom, start, end, vocabulary, what, _SLACK)
    return Intervals(chrom, start, end)
