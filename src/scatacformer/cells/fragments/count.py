"""Fragments counted into bins by snapatac2: which chromosomes and barcodes count, and what is warned of."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from scatacformer.genome import Vocabulary, assembly_name, fitting_assemblies, naming_hint

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from .scan import FragmentScan


def check_chromosomes(
    path: Path, scan: FragmentScan, genome: str | Path | Mapping[str, int], sizes: Mapping[str, int]
) -> None:
    what = assembly_name(genome) or ("the given sizes" if isinstance(genome, Mapping) else str(genome))
    unknown = [name for name in scan.furthest_end if name not in sizes]
    n_unknown = sum(scan.fragments_per_chrom[name] for name in unknown)
    if n_unknown == scan.n_fragments:
        raise ValueError(
            f"No chromosome of {path} is one of {what}: it has {', '.join(unknown[:5])}{', …' * (len(unknown) > 5)}; "
            f"expected {', '.join(list(sizes)[:3])}, …. {naming_hint(unknown, sizes)}"
            "Pass the genome that the fragments were aligned to; its sizes as a dict, if its names are different."
        )
    reach = {name: end for name, end in scan.furthest_end.items() if end > 0 and name in sizes}
    beyond = [name for name, end in reach.items() if end > sizes[name]]
    if beyond:
        first = beyond[0]
        fitting = fitting_assemblies(reach)
        raise ValueError(
            f"Fragments of {path} end beyond {len(beyond)} of {len(reach)} chromosomes of {what} (first: {first} has "
            f"{sizes[first]:,} bp, and a fragment ends at {reach[first]:,}). They were aligned to another assembly; "
            + (f"they fit {' or '.join(fitting)}." if fitting else "they fit none of the assemblies known here.")
        )
    if n_unknown > 0.05 * scan.n_fragments:
        warnings.warn(
            f"{n_unknown:,} of {scan.n_fragments:,} fragments lie on chromosomes that {what} does not have "
            f"({', '.join(unknown[:5])}{', …' * (len(unknown) > 5)}) and are left out. {naming_hint(unknown, sizes)}",
            UserWarning,
            stacklevel=3,
        )


def warn_of_format(path: Path, scan: FragmentScan) -> None:
    if scan.n_columns == 4:
        warnings.warn(
            f"{path} has four columns; a fragments file has five (chromosome, start, end, barcode, count). "
            "Each line is taken as one fragment and the fourth column as its barcode.",
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


def count_fragments(
    path: Path,
    cells: list[str],
    counted: dict[str, int],
    vocabulary: Vocabulary,
    counting: str,
    sorted_by_barcode: bool,
    temp_dir: str | Path | None,
) -> csr_matrix:
    """Counts of snapatac2, (n_cells, n_bins), CSR, float32, in the order of the cells and of the vocabulary."""
    import snapatac2 as snap

    with tempfile.TemporaryDirectory(dir=temp_dir, prefix="scatacformer_") as folder:
        tiles = count_tiles(path, cells, counted, vocabulary.bin_size, counting, sorted_by_barcode, folder)
    X = tiles.X.tocsr().astype(np.float32)
    # snapatac2 orders chromosomes by the alphabet (chr1, chr10, …)
    column = vocabulary.lookup(Vocabulary.from_var(tiles.var))
    row = pd.Index(tiles.obs_names).get_indexer(cells)
    if (column < 0).any() or len(column) != vocabulary.n_bins or (row < 0).any():
        raise RuntimeError(f"snapatac2 {snap.__version__} returned other bins or cells than it was asked for.")
    if not np.array_equal(row, np.arange(len(row))):
        X = X[row]
    X.indices = column.astype(X.indices.dtype)[X.indices]
    X.has_sorted_indices = False
    X.sort_indices()
    return X


def count_tiles(
    path: Path,
    cells: list[str],
    counted: dict[str, int],
    bin_size: int | None,
    counting: str,
    sorted_by_barcode: bool,
    folder: str,
    file: Path | None = None,
) -> Any:
    """snapatac2's AnnData of cells × bins, in its own order of both; in memory, or in `file`.

    What it writes besides lies in `folder`.
    """
    import snapatac2 as snap

    bar = tqdm(total=2, desc=f"counting {len(cells):,} cells", delay=1, disable=None)
    with bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Transforming to str index")
        fragments = None
        try:
            fragments = snap.pp.import_fragments(
                path,
                counted,
                file=Path(folder) / "fragments.h5ad",  # on disk: as fast as in memory, whatever the file's size
                min_num_fragments=0,
                sorted_by_barcode=sorted_by_barcode,
                whitelist=cells,
                tempdir=Path(folder),
            )
            bar.update()
            tiles = snap.pp.add_tile_matrix(
                fragments,
                bin_size=bin_size,
                inplace=False,
                exclude_chroms=None,
                counting_strategy=counting,
                file=file,
            )
            bar.update()
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # what a failure in Rust raises is no Exception
                raise
            raise RuntimeError(f"snapatac2 {snap.__version__} failed on {path}: {error}") from None
        finally:
            if fragments is not None:
                fragments.close()
    return tiles
