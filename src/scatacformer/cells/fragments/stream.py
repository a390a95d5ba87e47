"""Fragments counted into a file, for data sets that are not to be held in memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scatacformer._io import scratch_folder
from scatacformer.genome import Vocabulary, assembly_name, chrom_sizes, known_sizes

from .check import check_chromosomes, choose_cells, warn_of_format
from .count import count_tiles
from .scan import scan_fragments


@contextmanager
def fragments_on_disk(
    path: Path, vocabulary: Vocabulary, barcodes: Sequence[str] | None, min_bins: int
) -> Iterator[Any]:
    """snapatac2's AnnData of cells × bins as wide as the vocabulary's, in a temporary file that goes with the block.

    ``barcodes`` are the cells; by default all with as many fragments as ``min_bins`` open bins take. Memory: a counter
    for each barcode of the file. Raises what :func:`scatacformer.pp.bin_fragments` does, and ValueError for a
    vocabulary whose bins differ in width or whose chromosome sizes cannot be determined."""
    width = vocabulary.bin_size
    if width is None:
        raise ValueError(
            f"{path} holds fragments, which are counted in bins of one width; the regions of this vocabulary differ in "
            "theirs. Count the fragments in these regions first (snapatac2.pp.make_peak_matrix), and take the .h5ad."
        )
    sizes = known_sizes(vocabulary)[0]
    if missing := [name for name in vocabulary.chrom_names if name not in sizes]:
        raise ValueError(
            f"{path} contains fragments, and the lengths of {', '.join(missing[:5])} cannot be determined: "
            "name the vocabulary's assembly (Vocabulary.from_bed(path, assembly=...))."
        )
    counted = {name: sizes[name] for name in vocabulary.chrom_names}
    if assembly_name(vocabulary.assembly) is None:
        # a size that the bins only suggest may be too large by the last bin
        counted = {name: int(vocabulary.end[vocabulary.bins_of_chrom(name)].max()) for name in counted}
    scan = scan_fragments(path, counted)
    assembly = assembly_name(vocabulary.assembly)
    check_chromosomes(path, scan, assembly or counted, counted if assembly is None else chrom_sizes(assembly), counted)
    warn_of_format(path, scan)
    # a fragment of up to 2 kb opens at most 2 + 2000 / width bins
    least = 1 if barcodes is not None else max(1, min_bins // (2 + 2000 // width))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*barcodes given are left out"
        )  # reported by the caller, with open bins
        cells = choose_cells(path, scan, None if barcodes is None else list(barcodes), least)
    with scratch_folder() as folder:
        out = folder / "tiles.h5ad"
        tiles = count_tiles(path, scan, cells, counted, width, "fragment", str(folder), out)
        try:
            yield tiles
        finally:
            tiles.close()
