"""Regions in any of the shapes that people have them in -> chromosome, start, end."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from numbers import Real
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scatacformer.genome import Vocabulary, as_positions, find_columns, parse_region_names, read_bed

_REGION_NAME = re.compile(r"\s*[^\s:].*?[:_-][\d,]+[-_][\d,]+\s*")
_THOUSANDS = r"\d{1,3}(?:,\d{3})+"
_AS_COPIED = re.compile(rf"(.+[:_-])(\d+|{_THOUSANDS})([-_])(\d+|{_THOUSANDS})")  # from a genome browser
_ATTRIBUTES = (("chr", "start", "end"), ("chrom", "start", "end"), ("Chromosome", "Start", "End"))
_WANTED = (
    "Expected 'chr1:0-5000' or 'chr1:12,000-18,000', ('chr1', 0, 5000), an object with chr, start and end (gtars' Region), a list of these, a "
    "DataFrame with the columns chrom, start, end or Chromosome, Start, End, or the path of a BED file."
)


class Regions(NamedTuple):
    """Intervals, in the order given; overlaps and repeats stay."""

    chrom_names: list[str]  # by first appearance
    chrom: np.ndarray  # (n_regions,) int64, index in chrom_names
    start: np.ndarray  # (n_regions,) int64, bp
    end: np.ndarray  # (n_regions,) int64, bp, >= start


def codes_in(vocabulary: Vocabulary, regions: Regions) -> np.ndarray:
    """Chromosome of each region as the vocabulary numbers them, (n_regions,) int64; -1: none of its."""
    code = {name: number for number, name in enumerate(vocabulary.chrom_names)}
    return np.array([code.get(name, -1) for name in regions.chrom_names], dtype=np.int64)[regions.chrom]


def is_batch(regions: Any) -> bool:
    """Whether this is a list of lists of regions (or of tables, files, …) rather than a list of regions."""
    if isinstance(regions, np.ndarray) and regions.ndim:
        regions = regions.tolist()
    if not isinstance(regions, list | tuple) or not regions or _is_region(regions):
        return False
    first = regions[0]
    if isinstance(first, str):
        return _REGION_NAME.fullmatch(first) is None and Path(first).is_file()
    return not _is_region(first) and (isinstance(first, os.PathLike) or isinstance(first, Iterable))


def as_regions(regions: Any) -> Regions:
    """Read regions: names, tuples, objects, tables, BED files.

    Raises
    ------
    ValueError
        The input is none of these; a position is negative or not an integer; a region ends before it starts.
    FileNotFoundError
        A path of no file.
    """
    if isinstance(regions, Vocabulary):
        return Regions(
            list(regions.chrom_names), *(a.astype(np.int64) for a in (regions.chrom, regions.start, regions.end))
        )
    names, start, end = _columns(regions)
    starts, ends = as_positions(start, "start"), as_positions(end, "end")
    if (ends < starts).any():
        first = int(np.argmax(ends < starts))
        raise ValueError(
            f"{int((ends < starts).sum()):,} of {len(starts):,} regions end before they start "
            f"(first: region {first:,}, {names[first]}:{starts[first]}-{ends[first]}). Expected start <= end, 0-based."
        )
    if not len(starts):
        return Regions([], *(np.zeros(0, dtype=np.int64) for _ in range(3)))
    import pandas as pd

    codes, unique = pd.factorize(np.asarray(names, dtype=object))
    if (codes < 0).any():
        raise ValueError(f"Region {int(np.argmax(codes < 0)):,} has no chromosome.")
    return Regions([str(name) for name in unique], codes.astype(np.int64), starts, ends)


def _columns(regions: Any) -> tuple[Any, ...]:
    """Chromosome names, starts and ends, each (n_regions,)."""
    if isinstance(regions, str):
        if _REGION_NAME.fullmatch(regions):
            return _columns_of_names([regions])
        if not Path(regions).is_file():
            raise ValueError(f"{regions!r} is neither a region nor a file that exists. {_WANTED}")
    if isinstance(regions, str | os.PathLike):
        return read_bed(Path(regions))[:3]
    if hasattr(regions, "obs_names") and hasattr(regions, "var_names"):
        raise ValueError("This is an AnnData: use tokenizer.tokenize_anndata(adata), or tokenizer(adata.var).")
    table = regions if hasattr(regions, "columns") else getattr(regions, "df", None)  # pyranges 0 keeps one inside
    if hasattr(table, "columns"):
        return _columns_of_table(table)
    if isinstance(regions, np.ndarray) and regions.ndim:
        regions = regions.tolist()
    if _is_region(regions):
        regions = [regions]
    if not isinstance(regions, Iterable):
        raise ValueError(f"Cannot read regions from a {type(regions).__name__}. {_WANTED}")
    return _columns_of_list(list(regions))


def _columns_of_table(table: Any) -> tuple[Any, Any, Any]:
    found = find_columns(table)
    if any(column is None for column in found):
        try:
            return parse_region_names(table.index)  # an adata.var without columns
        except ValueError:
            shown = [str(name) for name in table.columns][:12]
            raise ValueError(f"The table has the columns {shown}. {_WANTED}") from None
    chrom, start, end = (table[column] for column in found)
    return np.asarray(chrom, dtype=object), start.to_numpy(), end.to_numpy()


def _columns_of_list(regions: list[Any]) -> tuple[Any, ...]:
    if not regions:
        return [], np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if all(type(region) in (tuple, list) and len(region) >= 3 for region in regions):
        names = [region[0] for region in regions]
        if all(isinstance(name, str) for name in names):
            return names, [region[1] for region in regions], [region[2] for region in regions]
    if all(isinstance(region, str) for region in regions):
        return _columns_of_names(regions)
    try:
        # three lists of values: a list of a million tuples keeps the garbage collector busy for as long again
        getters = [attrgetter(name) for name in _attributes(regions[0]) or _ATTRIBUTES[0]]
        return tuple([get(region) for region in regions] for get in getters)
    except AttributeError:  # of several kinds
        pass
    for number, region in enumerate(regions):
        if not _is_region(region):
            kind = "a string among others that are none" if isinstance(region, str) else f"{region!r:.60}"
            raise ValueError(f"Region {number:,} is {kind}. {_WANTED}")
    found = [_attributes(region) for region in regions]
    parts = [attrgetter(*names)(region) if names else region for names, region in zip(found, regions, strict=True)]
    return [part[0] for part in parts], [part[1] for part in parts], [part[2] for part in parts]


def _columns_of_names(names: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        return parse_region_names(names)
    except ValueError:  # only then are they looked at one by one
        pass
    try:
        return parse_region_names([_without_thousands(name) for name in names])
    except ValueError as error:
        raise ValueError(f"Cannot read regions: {error} {_WANTED}") from None


def _without_thousands(name: str) -> str:
    """``chr1:12,000-18,000`` as ``chr1:12000-18000``; white space around it goes as well."""
    name = name.strip()
    match = _AS_COPIED.fullmatch(name)
    if match is None:
        return name
    return match[1] + match[2].replace(",", "") + match[3] + match[4].replace(",", "")


def _is_region(region: Any) -> bool:
    """Whether this is one region: ("chr1", 0, 5000) or an object with chromosome, start and end."""
    if _attributes(region):
        return True
    if not isinstance(region, tuple | list) or len(region) < 3 or not isinstance(region[0], str):
        return False
    # as text where the lines of a file were split
    return all(isinstance(x, Real) or (isinstance(x, str) and x.isdecimal()) for x in region[1:3])


def _attributes(region: Any) -> tuple[str, str, str] | None:
    """Names of the attributes with the position of an object (or a row of ``itertuples``); None for others and
    tables."""
    if isinstance(region, str) or hasattr(region, "columns"):
        return None
    return next((names for names in _ATTRIBUTES if all(hasattr(region, name) for name in names)), None)
