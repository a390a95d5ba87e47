"""Regions of one assembly to those of another, by the blocks of a chain file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .check_assembly import naming_hint
from .chrom_sizes import KNOWN_ASSEMBLIES, assembly_name, chrom_sizes, is_standard
from .formats.chain import Chains, read_chains
from .overlap import OverlapIndex
from .vocabulary import Vocabulary, overlaps_allowed

if TYPE_CHECKING:
    import pandas as pd

OUTCOMES = ("lifted", "unmapped", "split", "resized", "scaffold", "collision", "outside")


@dataclass(frozen=True, eq=False, repr=False)
class Lift:
    """Position of each region of a vocabulary in another assembly.

    Parameters
    ----------
    source
        The regions.
    target
        What they become: their own intervals in the other assembly, in the order of ``source``, or the vocabulary that
        was asked for.
    token_ids
        (source.n_bins,), int64: token id in ``target``; -1 for regions that are lost.
    outcome
        (source.n_bins,), int8, index in ``OUTCOMES``: 0 ``"lifted"``, else why it is lost.
    share
        (source.n_bins,), float32: share of the region's bp that the chain it follows aligns with the other assembly.
    """

    source: Vocabulary
    target: Vocabulary
    token_ids: np.ndarray
    outcome: np.ndarray
    share: np.ndarray

    @property
    def report(self) -> dict[str, int | float]:
        """How many regions there are, are lifted, are lost and why, and share a region of the target with another."""
        counts = np.bincount(self.outcome, minlength=len(OUTCOMES)).tolist()
        kept = self.token_ids[self.token_ids >= 0]
        n_merged = int((np.bincount(kept)[kept] > 1).sum()) if len(kept) else 0
        return {
            "n_regions": self.source.n_bins,
            **{f"n_{name}": count for name, count in zip(OUTCOMES, counts, strict=True)},
            "n_merged": n_merged,
            "share_lost": 1 - counts[0] / self.source.n_bins,
        }

    def to_frame(self) -> pd.DataFrame:
        """A row for each region, by name: ``target`` (name, None if lost), ``token_id``, ``outcome``, ``share``."""
        import pandas as pd

        target = np.full(self.source.n_bins, None, dtype=object)
        kept = self.token_ids >= 0
        target[kept] = self.target.names[self.token_ids[kept]]
        outcome = pd.Categorical.from_codes(self.outcome, list(OUTCOMES))
        columns = {"target": target, "token_id": self.token_ids, "outcome": outcome, "share": self.share}
        return pd.DataFrame(columns, index=pd.Index(self.source.names, dtype=object))

    def __repr__(self) -> str:
        report = self.report
        lost = ", ".join(f"{report[f'n_{name}']:,} {name}" for name in OUTCOMES[1:] if report[f"n_{name}"])
        return (
            f"Lift of {report['n_regions']:,} regions of {self.source.assembly or 'an assembly not named'} to "
            f"{self.target.assembly or 'another'}: {report['n_lifted']:,} lifted, {report['share_lost']:.2%} lost"
            f"{f' ({lost})' if lost else ''}"
        )


def lift_regions(
    source: Vocabulary,
    chain: str | Path,
    target: Vocabulary | None = None,
    *,
    min_share: float = 0.5,
    max_resize: float = 2.0,
) -> Lift:
    """Lift regions by a chain file; :func:`scatacformer.pp.lift_vocabulary` describes the rules and the errors."""
    if not 0 < min_share <= 1:
        raise ValueError(f"min_share is {min_share!r}; expected a share of bp above 0, at most 1.")
    if not max_resize >= 1:
        raise ValueError(f"max_resize is {max_resize!r}; expected a factor of at least 1.")
    chains = read_chains(chain)
    to_assembly = _check_assemblies(Path(chain), chains, source, target)
    chrom, start, end, share, outcome = _lift(chains, source, min_share)
    width = source.end.astype(np.int64) - source.start
    ratio = (end - start) / width
    _lose(outcome, "resized", (ratio > max_resize) | (ratio * max_resize < 1))
    standard = np.array([is_standard(name) for name in chains.target_names])
    _lose(outcome, "scaffold", ~standard[chrom])
    _lose(outcome, "collision", _collides(source, chrom, start, end, outcome == 0))
    token_ids = np.full(source.n_bins, -1, dtype=np.int64)
    if target is not None:
        token_ids = _most_overlapped(target, chains.target_names, chrom, start, end, outcome == 0)
        _lose(outcome, "outside", token_ids < 0)
    kept = np.flatnonzero(outcome == 0)
    if not len(kept):
        counts = np.bincount(outcome, minlength=len(OUTCOMES)).tolist()
        why = ", ".join(f"{n:,} {name}" for name, n in zip(OUTCOMES, counts, strict=True) if n)
        raise ValueError(f"None of the {source.n_bins:,} regions can be lifted by {chain}: {why}.")
    if target is None:
        token_ids[kept] = np.arange(len(kept))
        with overlaps_allowed():
            names = tuple(chains.target_names)
            target = Vocabulary(names, chrom[kept], start[kept], end[kept], to_assembly)
    return Lift(source, target, token_ids, outcome, share)


def _lose(outcome: np.ndarray, why: str, lost: np.ndarray) -> None:
    """Note why regions are lost that were not lost before."""
    outcome[lost & (outcome == 0)] = OUTCOMES.index(why)


def _lift(
    chains: Chains, source: Vocabulary, min_share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Chromosome, start, end, share and outcome of each region, by the chain that aligns most of it."""
    code = {name: number for number, name in enumerate(chains.chrom_names)}
    source_chrom = np.array([code.get(name, -1) for name in source.chrom_names], dtype=np.int64)[source.chrom]
    index = OverlapIndex(chains.chrom[chains.chain], chains.start, chains.end)
    region, block = index.hits(source_chrom, source.start, source.end)
    first = np.maximum(source.start[region], chains.start[block])
    n_bp = np.minimum(source.end[region], chains.end[block]) - first
    at = chains.target_start[block] + first - chains.start[block]  # on the strand of the chain

    # all blocks of a chain in a region together: its bp, and from where to where they reach
    key = region * len(chains.score) + chains.chain[block]
    order = np.argsort(key, kind="stable")
    key, n_bp, at = key[order], n_bp[order], at[order]
    begin = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])[: len(key)])
    outcome = np.full(source.n_bins, OUTCOMES.index("unmapped"), dtype=np.int8)
    chrom, start, end = (np.zeros(source.n_bins, dtype=np.int64) for _ in range(3))
    end += 1
    share = np.zeros(source.n_bins, dtype=np.float32)
    if not len(begin):
        return chrom, start, end, share, outcome
    aligned = np.add.reduceat(n_bp, begin)
    reach_from, reach_to = np.minimum.reduceat(at, begin), np.maximum.reduceat(at + n_bp, begin)
    region, chain = np.divmod(key[begin], len(chains.score))

    # of several chains the one with most bp, then with the better score
    order = np.lexsort((chains.score[chain], aligned, region))
    best = order[np.append(region[order][1:] != region[order][:-1], True)]
    width = source.end.astype(np.int64) - source.start
    found, chain = region[best], chain[best]
    share[found] = aligned[best] / width[found]
    together = np.bincount(region, weights=aligned, minlength=source.n_bins) / width
    outcome[together >= min_share] = OUTCOMES.index("split")
    outcome[found[aligned[best] >= min_share * width[found]]] = 0
    size = np.array([chains.target_sizes[name] for name in chains.target_names])[chains.target_chrom[chain]]
    is_reverse = chains.is_reverse[chain]
    chrom[found] = chains.target_chrom[chain]
    start[found] = np.where(is_reverse, size - reach_to[best], reach_from[best])
    end[found] = np.where(is_reverse, size - reach_from[best], reach_to[best])
    return chrom, start, end, share, outcome


def _collides(
    source: Vocabulary, chrom: np.ndarray, start: np.ndarray, end: np.ndarray, lifted: np.ndarray
) -> np.ndarray:
    """Regions that land on one another, by more than half of the narrower, though they were apart; all of them."""
    at = np.flatnonzero(lifted)
    chrom, start, end = chrom[at], start[at], end[at]
    a, b = OverlapIndex(chrom, start, end).hits(chrom, start, end)
    a, b = a[a < b], b[a < b]
    shared = np.minimum(end[a], end[b]) - np.maximum(start[a], start[b])
    width = end - start
    on_top = 2 * shared > np.minimum(width[a], width[b])
    left, right = at[a], at[b]
    apart = (source.chrom[left] != source.chrom[right]) | (
        np.minimum(source.end[left], source.end[right]) <= np.maximum(source.start[left], source.start[right])
    )
    collides = np.zeros(len(lifted), dtype=bool)
    collides[left[on_top & apart]] = collides[right[on_top & apart]] = True
    # regions that did overlap, and whose difference the other assembly lacks, have become one: the first stays
    same = (start[a] == start[b]) & (end[a] == end[b])
    collides[np.maximum(left, right)[same]] = True
    return collides


def _most_overlapped(
    target: Vocabulary, names: list[str], chrom: np.ndarray, start: np.ndarray, end: np.ndarray, lifted: np.ndarray
) -> np.ndarray:
    """Token id of the target's region that shares most bp with each interval, the first of equals; -1 for none."""
    code = {name: number for number, name in enumerate(target.chrom_names)}
    target_chrom = np.where(lifted, np.array([code.get(name, -1) for name in names], dtype=np.int64)[chrom], -1)
    region, ids = OverlapIndex.of(target).hits(target_chrom, start, end)
    shared = np.minimum(end[region], target.end[ids]) - np.maximum(start[region], target.start[ids])
    order = np.lexsort((-np.arange(len(ids)), shared, region))
    best = order[np.append(region[order][1:] != region[order][:-1], True)] if len(order) else order
    token_ids = np.full(len(start), -1, dtype=np.int64)
    token_ids[region[best]] = ids[best]
    return token_ids


# ── does the chain file match the assemblies?
# ──────────────────────────────────────────────────────────────────────────


def _check_assemblies(path: Path, chains: Chains, source: Vocabulary, target: Vocabulary | None) -> str | None:
    """Raise ValueError for chains of other assemblies; returns the name of the target assembly, if known."""
    leads = (
        f"{path} leads from {_assembly_of(chains.sizes) or 'an assembly that is not known here'} to "
        f"{_assembly_of(chains.target_sizes) or 'another that is not'}"
    )
    _check_side(leads, "regions", source, chains.sizes)
    if target is not None:
        _check_side(leads, "target's regions", target, chains.target_sizes)
        return target.assembly
    return _assembly_of(chains.target_sizes)


def _check_side(leads: str, what: str, vocabulary: Vocabulary, sizes: Mapping[str, int]) -> None:
    shared = [name for name in vocabulary.chrom_names if name in sizes]
    if not shared:
        raise ValueError(
            f"{leads}; no chromosome of the {what} ({', '.join(vocabulary.chrom_names[:3])}, …) is there "
            f"({', '.join(list(sizes)[:3])}, …). {naming_hint(list(vocabulary.chrom_names), sizes)}"
        )
    if (assembly := assembly_name(vocabulary.assembly)) is not None:
        expected = chrom_sizes(assembly)
        for name in shared:
            if expected.get(name, sizes[name]) != sizes[name]:
                raise ValueError(
                    f"{leads}, but the {what} are of {assembly}: there {name} has {expected[name]:,} bp, in the chain "
                    f"file {sizes[name]:,}. Use the chain file for the two assemblies, in the right direction."
                )
    size = np.array([sizes.get(name, 2**31) for name in vocabulary.chrom_names])[vocabulary.chrom]
    beyond = vocabulary.start >= size  # the last bin of a chromosome may be left at full width
    if beyond.any():
        first = int(np.argmax(beyond))
        raise ValueError(
            f"{leads}, but {int(beyond.sum()):,} of {vocabulary.n_bins:,} of the {what} are beyond the ends of its chromosomes "
            f"(first: {vocabulary.names[first]}, and {vocabulary.chrom_names[vocabulary.chrom[first]]} has "
            f"{size[first]:,} bp). Take the chain file of their assembly, in the right direction."
        )


def _assembly_of(sizes: Mapping[str, int]) -> str | None:
    """The known assembly with just these sizes; None if there is none, or several."""
    fitting = []
    for assembly in KNOWN_ASSEMBLIES:
        known = chrom_sizes(assembly, standard_only=True)
        shared = [name for name in sizes if name in known]
        if shared and all(sizes[name] == known[name] for name in shared):
            fitting.append(assembly)
    return fitting[0] if len(fitting) == 1 else None
