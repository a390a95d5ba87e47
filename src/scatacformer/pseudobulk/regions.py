"""Locations of regions, and checks that windows of neighbouring regions can be cut from them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from scatacformer.genome import Vocabulary, overlaps_allowed


def as_vocabulary(regions: Any, what: str = "regions") -> Vocabulary:
    """Locations of regions as a vocabulary, from an AnnData, a table such as ``adata.var``, a BED file or a vocabulary.

    Raises
    ------
    ValueError
        It is none of these, or has no locations.
    FileNotFoundError
        There is no such file.
    """
    if isinstance(regions, Vocabulary):
        return regions
    with overlaps_allowed():
        if isinstance(regions, str | os.PathLike):
            return Vocabulary.from_bed(regions)  # type: ignore[arg-type]
        if hasattr(regions, "var") and hasattr(regions, "uns"):
            return Vocabulary.from_var(regions.var, assembly=regions.uns.get("assembly"))
        if hasattr(regions, "columns") and hasattr(regions, "index"):
            return Vocabulary.from_var(regions)
    raise ValueError(
        f"{what} must be an AnnData, a table with the columns chrom, start, end, the path of a BED file, or a Vocabulary; "
        f"found {type(regions).__name__}."
    )


def refuse_overlaps(regions: Vocabulary, what: str = "regions") -> None:
    """Raise ValueError where regions overlap one another."""
    order = regions.genome_order
    chrom, start, end = regions.chrom[order], regions.start[order], regions.end[order].astype(np.int64)
    furthest = np.maximum.accumulate((chrom.astype(np.int64) << 32) | end)
    overlaps = ((chrom.astype(np.int64) << 32) | start)[1:] < furthest[:-1]
    if overlaps.any():
        first = int(np.argmax(overlaps))
        raise ValueError(
            f"{int(overlaps.sum()):,} of {regions.n_bins:,} {what} overlap another (first: "
            f"{regions.names[order[first]]} and {regions.names[order[first + 1]]}): their shared bases would count twice. "
            "Merge them (bioframe.merge), or keep one of each, and count again."
        )


def refuse_unsorted(regions: Vocabulary, what: str = "regions") -> None:
    """Raise ValueError where regions are not in the order of their chromosome."""
    order = regions.genome_order
    if (unsorted := order != np.arange(regions.n_bins)).any():
        first = int(np.argmax(unsorted))
        raise ValueError(
            f"The {what} are not sorted by chromosome and start (first out of order: {regions.names[first]}). Sort them: "
            "adata = adata[:, Vocabulary.from_var(adata.var).genome_order].copy()."
        )
