"""What is refused and what is warned of, once a fragments file has been scanned; and which barcodes are cells."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from scatacformer.genome import assembly_name, naming_hint

if TYPE_CHECKING:
    from pathlib import Path

    from .scan import FragmentScan

# A chromosome this short with this many times the median density of fragments is an organelle, whatever its name:
# mitochondria have 100 to 10,000 times as many copies as the nuclear genome.
_ORGANELLE_BP, _ORGANELLE_DENSITY = 1_000_000, 50


def check_chromosomes(
    path: Path,
    scan: FragmentScan,
    genome: str | Path | Mapping[str, int],
    sizes: Mapping[str, int],
    counted: Mapping[str, int],
) -> None:
    """Refuse fragments of another genome; warn of fragments that are left out, and of organelles that are counted.

    Parameters
    ----------
    path
        The fragments file, for messages.
    scan
        What :func:`scan_fragments` found in it.
    genome
        As the user gave it, for messages.
    sizes
        Length in bp of all chromosomes of the genome.
    counted
        Those that get bins.

    Raises
    ------
    ValueError
        No chromosome is one of the genome, or more than a few fragments end beyond theirs.
    """
    what = assembly_name(genome) or ("the given sizes" if isinstance(genome, Mapping) else str(genome))
    unknown = [name for name in scan.fragments_per_chrom if name not in sizes]
    n_unknown = sum(scan.fragments_per_chrom[name] for name in unknown)
    if n_unknown and n_unknown == sum(scan.fragments_per_chrom.values()):
        raise ValueError(
            f"No chromosome of {path} is one of {what}: it has {', '.join(unknown[:5])}{', …' * (len(unknown) > 5)}; "
            f"expected {', '.join(list(sizes)[:3])}, …. {naming_hint(unknown, sizes)}"
            "Pass the genome that the fragments were aligned to; its sizes as a dict, if its names are different."
        )
    scan.misplaced.judge(path, what, counted, stacklevel=3)
    if n_unknown > 0.05 * scan.n_fragments:
        warnings.warn(
            f"{n_unknown:,} of {scan.n_fragments:,} fragments are on chromosomes that {what} does not have "
            f"({', '.join(unknown[:5])}{', …' * (len(unknown) > 5)}) and are left out. {naming_hint(unknown, sizes)}",
            UserWarning,
            stacklevel=3,
        )
    _warn_of_organelles(scan, counted)


def _warn_of_organelles(scan: FragmentScan, counted: Mapping[str, int]) -> None:
    found = {name: scan.fragments_per_chrom.get(name, 0) for name in counted}
    density = {name: n / counted[name] for name, n in found.items()}
    typical = float(np.median([one for one in density.values() if one > 0] or [0]))
    dense = [
        name
        for name, size in counted.items()
        if size < _ORGANELLE_BP
        and density[name] > _ORGANELLE_DENSITY * typical
        and found[name] > 0.01 * scan.n_fragments
    ]
    if dense:
        share = sum(found[name] for name in dense) / scan.n_fragments
        warnings.warn(
            f"{share:.0%} of all fragments are on {', '.join(dense)}, which is short: probably the DNA of mitochondria "
            "or plastids, whose share reflects the quality of a cell rather than its type. To leave it out: "
            f"exclude_chroms=(*scatacformer.genome.DEFAULT_EXCLUDED, {', '.join(map(repr, dense))}).",
            UserWarning,
            stacklevel=4,
        )


def warn_of_format(path: Path, scan: FragmentScan) -> None:
    """Warn of a file that is read, but is not a fragments file as Cell Ranger writes it."""
    unusual = None
    if scan.n_columns == 4:
        unusual = "has four columns; a fragments file has five"
    elif scan.n_columns > 5:
        unusual = f"has {scan.n_columns} columns; a fragments file has five"
    elif not scan.has_counts:
        unusual = "has a fifth column that does not hold whole numbers; a fragments file has five columns"
    if unusual is not None:
        warnings.warn(
            f"{path} {unusual} (chromosome, start, end, barcode, count). Each line is read as one fragment and the "
            "fourth column as its barcode.",
            UserWarning,
            stacklevel=3,
        )
    if scan.unsorted_at is not None and not scan.barcodes_contiguous:
        warnings.warn(
            f"{path} is not sorted by position (first at fragment {scan.unsorted_at:,}). It is sorted here, and the "
            "counts are right; but if files of several samples were joined, barcodes that they share have become one "
            "cell: then bin each sample by itself, and join them with anndata.concat.",
            UserWarning,
            stacklevel=3,
        )
    if scan.n_empty:
        warnings.warn(
            f"{scan.n_empty:,} of {scan.n_fragments:,} fragments of {path} end at or before their start and are left "
            "out.",
            UserWarning,
            stacklevel=3,
        )


def choose_cells(path: Path, scan: FragmentScan, wanted: list[str] | None, min_fragments: int) -> list[str]:
    """The barcodes with ``min_fragments``: all, sorted by name, or those in ``wanted``, in that order.

    Raises ValueError if there are none; warns about wanted barcodes that are left out.
    """
    per_barcode = scan.fragments_per_barcode
    if wanted is not None:
        found = [barcode for barcode in wanted if barcode in per_barcode]
        if not found:
            raise ValueError(
                f"None of the {len(wanted):,} barcodes given is in {path}: given {wanted[:3]}, the file has "
                f"{list(per_barcode)[:3]}. Look for a suffix such as '-1', or for the barcodes of another sample."
            )
        cells = [barcode for barcode in found if per_barcode[barcode] >= min_fragments]
        if cells and len(cells) < len(wanted):
            n_few, n_absent = len(found) - len(cells), len(wanted) - len(found)
            warnings.warn(
                f"{n_few + n_absent:,} of {len(wanted):,} barcodes given are left out: {n_absent:,} are not in {path}, "
                f"{n_few:,} have fewer than {min_fragments:,} fragments.",
                UserWarning,
                stacklevel=3,
            )
    else:
        found = list(per_barcode)
        cells = sorted(barcode for barcode in found if per_barcode[barcode] >= min_fragments)
    if not cells:
        counts = np.array([per_barcode[barcode] for barcode in found])
        quantiles = ", ".join(f"{int(value):,}" for value in np.quantile(counts, [0, 0.5, 0.9, 0.99, 1]))
        raise ValueError(
            f"None of {len(found):,} barcodes of {path} has {min_fragments:,} fragments on the counted chromosomes. "
            f"Fragments per barcode (minimum, median, 90 %, 99 %, maximum): {quantiles}. Lower min_fragments."
        )
    return cells
