"""Locations of regions, and checks that windows of neighbouring regions can be cut from them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from scatacformer.genome import Vocabulary, overlaps_allowed, vocabulary_of


def as_vocabulary(regions: Any, what: str = "regions") -> Vocabulary:
    """Locations of regions as a vocabulary.

    Parameters
    ----------
    regions
        An AnnData or a table such as ``adata.var``; or what :func:`scatacformer.genome.vocabulary_of` takes: a
        vocabulary, a model, the folder of a model, or a BED file.
    what
        What the regions are called in errors.

    Raises
    ------
    ValueError
        It is none of these, or has no locations.
    FileNotFoundError
        There is no such file or folder.
    """
    if isinstance(regions, Vocabulary | str | os.PathLike) or hasattr(regions, "vocabulary"):
        return vocabulary_of(regions)
    with overlaps_allowed():
        if hasattr(regions, "var") and hasattr(regions, "uns"):
            return Vocabulary.from_var(regions.var, assembly=regions.uns.get("assembly"))
        if hasattr(regions, "columns") and hasattr(regions, "index"):
            return Vocabulary.from_var(regions)
    raise ValueError(
        f"{what} must be an AnnData, a table with the columns chrom, start, end, the path of a BED file, a Vocabulary, or "
        f"a model that has one; found {type(regions).__name__}."
    )


def refuse_overlaps(regions: Vocabulary, what: str = "regions") -> None:
    """Raise ValueError if regions overlap one another; ``what`` is what they are called."""
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
    """Raise ValueError if regions are not sorted by chromosome and position; ``what`` is what they are called."""
    order = regions.genome_order
    if (unsorted := order != np.arange(regions.n_bins)).any():
        first = int(np.argmax(unsorted))
        raise ValueError(
            f"The {what} are not sorted by chromosome and start (first out of order: {regions.names[first]}). Sort them: "
            "adata = adata[:, Vocabulary.from_var(adata.var).genome_order].copy()."
        )
