"""A fragments file with the counts of cells × bins."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from scatacformer._io import whole_file
from scatacformer.genome import Vocabulary

from ._simulated_cells import simulated_cells

if TYPE_CHECKING:
    from anndata import AnnData


def simulated_fragments(path: str | Path, cells: AnnData | None = None, *, seed: int = 0) -> AnnData:
    """Write a fragments file with the counts of ``cells``.

    Each count becomes one fragment at a random position within its bin, with the length distribution of ATAC-seq
    fragments (nucleosome-free, mono- and dinucleosomal), so that :func:`scatacformer.pp.bin_fragments` recovers the
    counts.

    Parameters
    ----------
    path
        File to write: chromosome, start, end (bp, 0-based, half-open), barcode, count; tab-separated, sorted by
        position, gzip. Written under a temporary name and then renamed.
    cells
        Cells × bins in memory, ``.X`` sparse counts. Default: ``simulated_cells(seed=seed)``.
    seed
        The same seed writes the same file.

    Returns
    -------
    AnnData
        The cells.

    Raises
    ------
    ValueError
        ``.X`` is not sparse or contains values that are not counts; ``.var`` does not give the positions of the bins.
    """
    path = Path(path)
    if cells is None:
        cells = simulated_cells(seed=seed)
    if not sparse.issparse(cells.X):
        raise ValueError(f"cells.X is {type(cells.X).__name__}; expected a sparse matrix of counts.")
    counts = cells.X.tocoo()
    if not (counts.data >= 0).all() or not (counts.data == np.rint(counts.data)).all():
        raise ValueError("cells.X contains values that are not counts; expected integers of at least 0.")
    vocabulary = Vocabulary.from_var(cells.var)
    rng = np.random.default_rng(seed)

    times = counts.data.astype(np.int64)
    cell, bin_id = np.repeat(counts.row, times), np.repeat(counts.col, times)
    width = (vocabulary.end - vocabulary.start)[bin_id].astype(np.int64)
    length = np.minimum(fragment_lengths(len(cell), rng), width)
    start = vocabulary.start[bin_id] + rng.integers(0, width - length + 1)
    order = np.lexsort((length, start, vocabulary.chrom[bin_id]))
    lines = pd.DataFrame(
        {
            "chrom": pd.Categorical.from_codes(vocabulary.chrom[bin_id][order], list(vocabulary.chrom_names)),
            "start": start[order],
            "end": (start + length)[order],
            "barcode": pd.Categorical.from_codes(cell[order], cells.obs_names),
            "count": rng.geometric(0.7, len(order)),  # reads per fragment
        }
    )
    with whole_file(path) as partial, partial.open("wb") as raw:
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as out:
            lines.to_csv(out, sep="\t", header=False, index=False, lineterminator="\n")
    return cells


def fragment_lengths(n: int, rng: np.random.Generator) -> np.ndarray:
    """Lengths in bp, (n,), int64: nucleosome-free (half), mono- and dinucleosomal."""
    kind = rng.choice(3, n, p=[0.5, 0.35, 0.15])
    length = rng.normal(np.array([80, 200, 380])[kind], np.array([25, 25, 40])[kind])
    return np.rint(length).clip(30).astype(np.int64)
