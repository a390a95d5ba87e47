"""Which motifs occur in which sequences, and how strongly: a score for each region and motif, or cluster of motifs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scatacformer._settings import torch_threads_kept

from .fasta import Fasta, codes_of

if TYPE_CHECKING:
    from scatacformer.genome import Vocabulary

    from .motifs import Motifs

# 11 bytes a base, and 12 a region and motif
_BASES_AT_ONCE, _SCORES_AT_ONCE = 4_000_000, 16_000_000


@dataclass(frozen=True)
class ScanSettings:
    """How hits are found and combined.

    Parameters
    ----------
    p_value
        A window is a hit if a random sequence of equal bases scores as high with at most this probability, on one
        strand, and its score is above 0 bits. At 1e-4, FIMO's default, about one in ten regions of 500 bp has a hit of
        a given motif by chance.
    reduce
        The score of a motif in a region: the ``"sum"`` of its hits on both strands, or the ``"max"``. A palindrome is a
        hit on both.
    cluster_reduce
        The score of a cluster: the ``"sum"`` over its motifs or the ``"max"``.
    pseudocount
        See :meth:`Motifs.log_odds`.

    Raises
    ------
    ValueError
        A p-value that is not in 0 ... 0.05, an unknown option, or a negative pseudocount.
    """

    p_value: float = 1e-4
    reduce: Literal["sum", "max"] = "sum"
    cluster_reduce: Literal["sum", "max"] = "sum"
    pseudocount: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.p_value <= 0.05:
            raise ValueError(f"p_value is {self.p_value!r}; expected above 0 and at most 0.05.")
        for name in ("reduce", "cluster_reduce"):
            if getattr(self, name) not in ("sum", "max"):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected 'sum' or 'max'.")
        if not 0 <= self.pseudocount < np.inf:
            raise ValueError(f"pseudocount is {self.pseudocount!r}; expected 0 or more.")


def scan_regions(
    regions: Vocabulary,
    fasta: Fasta,
    motifs: Motifs,
    settings: ScanSettings | None = None,
    *,
    progress: bool = True,
) -> np.ndarray:
    """Scores of motifs in regions of the genome, (n_regions, n_columns) float32, in bits, 0 without a hit.

    Memory: the result, and about 250 MB. A window that contains an N is not a hit, soft-masked (lower-case) bases are
    read as upper case, and a region narrower than a motif has no hit of it.

    Parameters
    ----------
    regions
        Their positions, in any order.
    fasta
        The genome.
    motifs
        The motifs; their clusters are the columns, or they themselves.
    settings
        How hits are found and combined.
    progress
        Show a bar.

    Raises
    ------
    ValueError
        The file lacks a chromosome of the regions or has it shorter; a pseudocount of 0 with probabilities of 0.

    Warns
    -----
    UserWarning
        Motifs that are too short to reach the p-value.
    """
    ends = np.zeros(regions.n_chroms, dtype=np.int64)
    np.maximum.at(ends, regions.chrom, regions.end)
    fasta.check(dict(zip(regions.chrom_names, ends.tolist(), strict=True)))
    order = regions.genome_order  # a disk is read from front to back
    width = (regions.end - regions.start).astype(np.int64)

    def read(rows: np.ndarray) -> list[np.ndarray]:
        names = regions.chrom_names
        spans = zip(regions.chrom[rows].tolist(), regions.start[rows].tolist(), regions.end[rows].tolist(), strict=True)
        return [fasta.codes(names[chrom], start, end) for chrom, start, end in spans]

    return _scan(read, order, width, motifs, settings or ScanSettings(), progress)


def scan_sequences(
    sequences: Sequence[str | np.ndarray], motifs: Motifs, settings: ScanSettings | None = None
) -> np.ndarray:
    """Scores of motifs in sequences, (n_sequences, n_columns) float32; as :func:`scan_regions` has them.

    Parameters
    ----------
    sequences
        Each a string of bases, or codes 0-3 for A, C, G, T and 4 for N.
    motifs
        The motifs.
    settings
        How hits are found and combined.

    Raises
    ------
    ValueError
        There are no sequences.
    """
    if not len(sequences):
        raise ValueError("There are no sequences to scan; expected at least one.")
    codes = [codes_of(one) if isinstance(one, str) else np.asarray(one, dtype=np.uint8) for one in sequences]
    width = np.array([len(one) for one in codes], dtype=np.int64)

    def read(rows: np.ndarray) -> list[np.ndarray]:
        return [codes[row] for row in rows.tolist()]

    return _scan(read, np.arange(len(codes)), width, motifs, settings or ScanSettings(), progress=False)


def score_thresholds(motifs: Motifs, settings: ScanSettings | None = None) -> np.ndarray:
    """The least score of a hit of each motif, (n_motifs,) float64, in bits; infinite where no hit is rare enough."""
    from . import hits

    settings = settings or ScanSettings()
    weights, offsets = _weights(motifs, settings)
    thresholds = hits.all_thresholds(weights, offsets, settings.p_value)
    best = np.add.reduceat(weights.max(axis=1).astype(np.int64), offsets[:-1])
    return np.where(thresholds <= best, thresholds * hits.STEP, np.inf)


@torch_threads_kept()
def _scan(
    read: Callable[[np.ndarray], list[np.ndarray]],
    order: np.ndarray,
    width: np.ndarray,
    motifs: Motifs,
    settings: ScanSettings,
    progress: bool,
) -> np.ndarray:
    from scatacformer._io import tqdm

    from . import hits

    weights, offsets = _weights(motifs, settings)
    thresholds = hits.all_thresholds(weights, offsets, settings.p_value)
    _warn_of_short(motifs, weights, offsets, thresholds, settings.p_value)
    by_column = np.argsort(motifs.column_of, kind="stable")
    first_of_column = np.searchsorted(motifs.column_of[by_column], np.arange(len(motifs.columns)))
    merge: Any = np.add if settings.cluster_reduce == "sum" else np.maximum
    out = np.zeros((len(order), len(motifs.columns)), dtype=np.float32)
    with tqdm(
        total=len(order),
        desc=f"scanning for {len(motifs):,} motifs",
        unit="region",
        unit_scale=True,
        delay=2,
        disable=None if progress else True,
    ) as bar:
        for rows in _pieces(order, width, len(motifs)):
            bounds = np.concatenate([[0], np.cumsum(width[rows])])
            words, next_n = hits.index_bases(np.concatenate(read(rows)))
            scores = hits.scan_all(
                weights, offsets, thresholds, words, next_n, bounds, settings.reduce == "max"
            )  # (n_motifs, n_rows), whole numbers: sums do not depend on their order
            out[rows] = (merge.reduceat(scores[by_column], first_of_column, axis=0) * hits.STEP).T
            bar.update(len(rows))
    return out


def _weights(motifs: Motifs, settings: ScanSettings) -> tuple[np.ndarray, np.ndarray]:
    """(weights of all motifs one below the other; where each begins, and the end)."""
    from . import hits

    weights = [hits.whole_weights(log_odds) for log_odds in motifs.log_odds(settings.pseudocount)]
    return np.concatenate(weights), np.concatenate([[0], np.cumsum(motifs.widths)])


def _warn_of_short(
    motifs: Motifs, weights: np.ndarray, offsets: np.ndarray, thresholds: np.ndarray, p_value: float
) -> None:
    best = np.add.reduceat(weights.max(axis=1).astype(np.int64), offsets[:-1])
    if (never := thresholds > best).any():
        first = int(np.argmax(never))
        warnings.warn(
            f"{int(never.sum()):,} of {len(motifs):,} motifs cannot reach p <= {p_value:g}: even their best sequence "
            f"is more frequent (first: {motifs.names[first]}, {motifs.widths[first]} positions). Their scores are 0; "
            "raise p_value to find them.",
            UserWarning,
            stacklevel=4,
        )


def _pieces(order: np.ndarray, width: np.ndarray, n_motifs: int) -> Iterator[np.ndarray]:
    """Rows to be scanned together: few enough for memory to be bounded, at least one."""
    stops = np.cumsum(width[order])
    first = 0
    while first < len(order):
        done = stops[first - 1] if first else 0
        by_bases = int(np.searchsorted(stops, done + _BASES_AT_ONCE, "right"))
        stop = max(first + 1, min(by_bases, first + max(1, _SCORES_AT_ONCE // n_motifs)))
        yield order[first:stop]
        first = stop
