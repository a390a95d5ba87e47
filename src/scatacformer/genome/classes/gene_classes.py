"""Intervals of promoters, exons, introns, untranslated regions and transcript ends, from transcripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from scatacformer.genome.formats.gtf_transcripts import Parts, Transcripts

GENE_CLASSES = ("promoter", "exon", "intron", "5' UTR", "3' UTR", "TTS", "ncRNA")
_TTS = (100, 1000)  # bp before and after the last base, as in HOMER


class Intervals(NamedTuple):
    """0-based, half-open, bp; all arrays (n_intervals,), int64. In any order, with or without overlaps."""

    chrom: np.ndarray
    start: np.ndarray
    end: np.ndarray


def gene_intervals(found: Transcripts, promoter: tuple[int, int]) -> dict[str, Intervals]:
    """Intervals of each of ``GENE_CLASSES``, and of ``"gene"``: entire genes and transcripts.

    ``promoter``: bp before and after the transcription start site, both inclusive. Starts and ends of every transcript
    and of every gene are used, on their strand.
    """
    exons, is_minus = found.exons, found.is_minus
    n_transcripts = len(is_minus)
    chrom = np.zeros(n_transcripts, dtype=np.int64)
    chrom[found.coding.owner] = found.coding.chrom
    chrom[exons.owner] = exons.chrom
    first, last = _reach(exons, n_transcripts)
    has_exons = first < last
    body = Intervals(
        np.concatenate([chrom[has_exons], found.genes.chrom]),
        np.concatenate([first[has_exons], found.genes.start]),
        np.concatenate([last[has_exons], found.genes.end]),
    )
    minus = np.concatenate([is_minus[has_exons], found.gene_is_minus])
    five_prime, three_prime = _untranslated(exons, found.coding, is_minus)
    return {
        "promoter": _around(body.chrom, np.where(minus, body.end - 1, body.start), minus, promoter),
        "exon": Intervals(exons.chrom, exons.start, exons.end),
        "intron": _introns(exons),
        "5' UTR": five_prime,
        "3' UTR": three_prime,
        "TTS": _around(body.chrom, np.where(minus, body.start, body.end - 1), minus, _TTS),
        "ncRNA": Intervals(*exons.of(found.is_non_coding[exons.owner])[1:]),
        "gene": body,
    }


def _reach(parts: Parts, n_owners: int) -> tuple[np.ndarray, np.ndarray]:
    """First base and end of all parts of each owner, (n_owners,) each; first > end for an owner without parts."""
    first, last = np.full(n_owners, np.iinfo(np.int64).max), np.full(n_owners, -1)
    np.minimum.at(first, parts.owner, parts.start)
    np.maximum.at(last, parts.owner, parts.end)
    return first, last


def _around(chrom: np.ndarray, base: np.ndarray, minus: np.ndarray, window: tuple[int, int]) -> Intervals:
    before, after = np.where(minus, window[1], window[0]), np.where(minus, window[0], window[1])
    return Intervals(chrom, np.maximum(base - before, 0), base + after + 1)


def _introns(exons: Parts) -> Intervals:
    """The intervals between the exons of the same transcript."""
    exons = exons.of(np.lexsort((exons.start, exons.owner)))
    # the maximum end so far within the transcript: overlapping exons have no gap
    furthest = np.maximum.accumulate((exons.owner << 32) | exons.end) & 0xFFFFFFFF
    gap = np.flatnonzero((exons.owner[1:] == exons.owner[:-1]) & (exons.start[1:] > furthest[:-1]))
    return Intervals(exons.chrom[gap], furthest[gap], exons.start[gap + 1])


def _untranslated(exons: Parts, coding: Parts, is_minus: np.ndarray) -> tuple[Intervals, Intervals]:
    """(5′, 3′): the parts of the exons before and after the translated part, which includes stop codons."""
    first, last = _reach(coding, len(is_minus))
    exons = exons.of((first < last)[exons.owner])
    first, last, minus = first[exons.owner], last[exons.owner], is_minus[exons.owner]
    left = Intervals(exons.chrom, exons.start, np.minimum(exons.end, first))
    right = Intervals(exons.chrom, np.maximum(exons.start, last), exons.end)

    def joined(of_left: np.ndarray, of_right: np.ndarray) -> Intervals:
        of_left, of_right = of_left & (left.start < left.end), of_right & (right.start < right.end)
        return Intervals(*(np.concatenate([a[of_left], b[of_right]]) for a, b in zip(left, right, strict=True)))

    return joined(~minus, minus), joined(minus, ~minus)
