"""Fragments counted into bins by snapatac2."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scatacformer._io import scratch_folder, snapatac2, tqdm
from scatacformer.genome import Vocabulary

from .copy_plain import copy_plain

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from .scan import FragmentScan


def count_fragments(
    path: Path,
    scan: FragmentScan,
    cells: list[str],
    counted: dict[str, int],
    vocabulary: Vocabulary,
    counting: str,
    temp_dir: str | Path | None,
) -> csr_matrix:
    """Counts of snapatac2, (n_cells, n_bins), CSR, float32, in the order of the cells and of the vocabulary."""
    snap = snapatac2("counting fragments")

    with scratch_folder(temp_dir) as folder:
        tiles = count_tiles(path, scan, cells, counted, vocabulary.bin_size, counting, str(folder))
    X = tiles.X.tocsr().astype(np.float32)
    # snapatac2 orders chromosomes by the alphabet (chr1, chr10, …)
    column = vocabulary.lookup(Vocabulary.from_var(tiles.var))
    row = pd.Index(tiles.obs_names).get_indexer(cells)
    if (column < 0).any() or len(column) != vocabulary.n_bins or (row < 0).any():
        raise RuntimeError(
            f"snapatac2 {snap.__version__} returned different bins or cells than requested. Please report this."
        )
    if not np.array_equal(row, np.arange(len(row))):
        X = X[row]
    X.indices = column.astype(X.indices.dtype)[X.indices]
    X.has_sorted_indices = False
    X.sort_indices()
    return X


def count_tiles(
    path: Path,
    scan: FragmentScan,
    cells: list[str],
    counted: dict[str, int],
    bin_size: int | None,
    counting: str,
    folder: str,
    file: Path | None = None,
) -> Any:
    """snapatac2's AnnData of cells × bins, in its own order of both; in memory, or in ``file``.

    Its temporary files are in ``folder``, and so is a copy of the fragments if it cannot read the file directly.
    """
    snap = snapatac2("counting fragments")

    bar = tqdm(total=2, desc=f"counting {len(cells):,} cells", delay=1, disable=None)
    with bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Transforming to str index")
        fragments = None
        try:
            # more columns, other counts, empty lines and fragments beyond an end make snapatac2 panic
            is_plain = scan.is_plain and not scan.misplaced.n
            fragments = snap.pp.import_fragments(
                path if is_plain else copy_plain(path, cells, counted, Path(folder)),
                counted,
                file=Path(folder) / "fragments.h5ad",  # on disk: as fast as in memory, whatever the file's size
                min_num_fragments=0,
                sorted_by_barcode=scan.barcodes_contiguous,
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
            if type(error).__name__ != "PanicException":  # a panic in Rust is not an Exception
                raise
            raise RuntimeError(f"snapatac2 {snap.__version__} failed on {path}: {error}") from None
        finally:
            if fragments is not None:
                fragments.close()
    return tiles
