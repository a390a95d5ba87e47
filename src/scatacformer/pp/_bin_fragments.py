"""Counting of a fragments file in genomic bins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scatacformer.cells.fragments import (
    check_chromosomes,
    choose_cells,
    count_fragments,
    read_barcodes,
    scan_fragments,
    warn_of_format,
)
from scatacformer.genome import DEFAULT_EXCLUDED, Vocabulary, chrom_sizes, identify_assembly

if TYPE_CHECKING:
    from anndata import AnnData


def bin_fragments(
    path: str | Path,
    genome: str | Path | Mapping[str, int] | Any,
    bin_size: int = 5000,
    *,
    barcodes: str | Path | Iterable[str] | None = None,
    min_fragments: int | None = None,
    exclude_chroms: Collection[str] = DEFAULT_EXCLUDED,
    counting: Literal["fragment", "insertion", "paired-insertion"] = "fragment",
    temp_dir: str | Path | None = None,
) -> AnnData:
    """Count the fragments of each cell in genomic bins, using snapatac2.

    Parameters
    ----------
    path
        Fragments file: chromosome, start, end (bp, 0-based, half-open), barcode, count; tab-separated, plain, gzip or
        bgzip, sorted in any way. Lines that begin with ``#`` are skipped.
    genome
        Assembly (``"hg38"``), file of chromosome sizes, mapping of name to length, or a genome of snapatac2: see
        :func:`scatacformer.genome.chrom_sizes`.
    bin_size
        Width of a bin in bp.
    barcodes
        Cells to keep, in this order: barcodes, or a file with one in the first column of each line (optionally
        ``.gz``); from a table of Cell Ranger (``singlecell.csv``, ``per_barcode_metrics.csv``), those called as cells.
        Default: all with at least ``min_fragments``.
    min_fragments
        Minimum number of fragments of a barcode on the counted chromosomes. Default: 200; 1 if ``barcodes`` are
        given.
    exclude_chroms
        Chromosomes without bins, in upper or lower case: mitochondria, plastids and chrY by default. Scaffolds never
        have bins.
    counting
        ``"fragment"``: a fragment counts once in each bin it overlaps. ``"insertion"``: each of its two ends counts in
        its bin. ``"paired-insertion"``: the same, but once if both ends share a bin.
    temp_dir
        Folder for temporary files (about as large as the fragments of the cells); the system's by default. They are
        removed in any case.

    Returns
    -------
    AnnData
        ``.X`` CSR (n_cells, n_bins) of counts, float32: whole numbers, in the type that scanpy and scvi-tools compute
        with. ``.var`` all bins of ``Vocabulary.from_chrom_sizes(genome, bin_size)``, empty ones too, so that data sets
        of an assembly share their columns. ``.obs["n_fragments"]``, ``.uns["assembly"]`` if it has a name, and what was
        left out in ``.uns["scatacformer"]["bin_fragments"]``. Cells are in the order of ``barcodes``, else sorted by
        name.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        The file is not of the type given by its name, is truncated, or has lines that are not fragments; its
        chromosomes have other names, or fragments extend beyond their ends (wrong assembly); no barcode remains. All
        errors are raised before counting.

    Notes
    -----
    The file is read twice: once to check it, once to count. Memory: the cells' fragments stay on disk; in memory are a
    counter per barcode and 8 bytes per open bin of each cell.
    """
    if counting not in ("fragment", "insertion", "paired-insertion"):
        raise ValueError(f"counting is {counting!r}; expected 'fragment', 'insertion' or 'paired-insertion'.")
    if not isinstance(path, str | PathLike):
        raise ValueError(
            f"path is {type(path).__name__}; expected the path of one fragments file. Bin the files one by one, and "
            "concatenate the cells: anndata.concat({name: sf.pp.bin_fragments(path, genome) for name, path in paths.items()}, "
            "label='sample', index_unique='_', uns_merge='same')."
        )
    path = Path(path)
    vocabulary = Vocabulary.from_chrom_sizes(genome, bin_size, exclude=exclude_chroms)
    wanted = None if barcodes is None else read_barcodes(barcodes)
    if min_fragments is None:
        min_fragments = 200 if wanted is None else 1
    all_sizes = chrom_sizes(genome)
    counted = {name: all_sizes[name] for name in vocabulary.chrom_names}

    scan = scan_fragments(path, counted)
    check_chromosomes(path, scan, genome, all_sizes, counted)
    warn_of_format(path, scan)
    cells = choose_cells(path, scan, wanted, max(1, int(min_fragments)))
    X = count_fragments(path, scan, cells, counted, vocabulary, counting, temp_dir)

    from anndata import AnnData

    n_fragments = np.array([scan.fragments_per_barcode[cell] for cell in cells], dtype=np.int64)
    adata = AnnData(X, obs=pd.DataFrame({"n_fragments": n_fragments}, index=cells), var=vocabulary.to_frame())
    if (assembly := identify_assembly(vocabulary)) is not None:  # sizes of a known assembly are sufficient
        adata.uns["assembly"] = assembly
    adata.uns["scatacformer"] = {
        "bin_fragments": {
            "bin_size": int(bin_size),
            "counting": counting,
            "min_fragments": int(min_fragments),
            "n_barcodes": len(scan.fragments_per_barcode),
            "n_fragments": scan.n_fragments,
            "n_fragments_outside": scan.n_fragments - sum(scan.fragments_per_barcode.values()),
            "n_fragments_misplaced": scan.misplaced.n,
            "n_fragments_of_cells": int(n_fragments.sum()),
        }
    }
    return adata
