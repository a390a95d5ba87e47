"""Bins in a window around the transcription start sites of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .match_chroms import match_chroms
from .overlap import _expand

if TYPE_CHECKING:
    from .genes import Genes
    from .vocabulary import Vocabulary


class WindowPairs(NamedTuple):
    """Pairs of a gene and a bin; those of gene g are ``indptr[g] : indptr[g + 1]``, by ascending token id."""

    indptr: np.ndarray
    """(n_genes + 1,), int64."""
    bins: np.ndarray
    """(n_pairs,), int32, token ids."""
    distance: np.ndarray
    """(n_pairs,), int64, bp, from the transcription start to the nearest base of the bin; negative upstream."""


def window_pairs(genes: Genes, vocabulary: Vocabulary, window: int = 1_200_000) -> WindowPairs:
    """All pairs of a gene and a bin with at most ``window`` bp between them, on either side of the start.

    The distance is from the transcription start site to the nearest base of the bin: 0 if the bin contains it, negative
    upstream and positive downstream on the gene's own strand ("." counts as "+"). Genes without a known position, or on
    a chromosome without bins, have no pairs. Chromosomes called ``1`` in one and ``chr1`` in the other are the same.

    Raises
    ------
    ValueError
        ``window`` is negative, or no gene with a known position is on a chromosome with bins.
    """
    from scipy.sparse import csr_matrix

    if window < 0 or window != int(window):
        raise ValueError(f"window is {window!r}; expected a whole number of bp from 0.")
    window = int(window)
    code = chrom_codes(genes, vocabulary)  # (n_genes,)
    row = np.flatnonzero(code >= 0)
    lowest = genes.tss[row] - window  # first base that is near enough; the last is tss + window
    # A bin is near if it starts among those bases, or starts before them and reaches the first. Both cases are a
    # contiguous stretch in sorted order, so bins need be neither sorted nor free of overlaps. The shift keeps positions
    # before the chromosome from reaching into the one before it.
    chrom, start, end = (array.astype(np.int64) for array in (vocabulary.chrom, vocabulary.start, vocabulary.end))
    step = int(max(end.max(), genes.tss[row].max(initial=0))) + 2 * window + 2
    here, of_bin = code[row] * step + window, chrom * step + window
    by_start = np.argsort(of_bin + start, kind="stable")
    key = (of_bin + start)[by_start]
    first = np.searchsorted(key, here + lowest)
    gene_a, at = _expand(first, np.searchsorted(key, here + lowest + 2 * window, "right"))
    bin_a = by_start[at]
    by_gene = np.argsort(here + lowest, kind="stable")
    key = (here + lowest)[by_gene]
    bin_b, at = _expand(np.searchsorted(key, of_bin + start, "right"), np.searchsorted(key, of_bin + end))
    gene_b = by_gene[at]

    rows, cols = row[np.concatenate([gene_a, gene_b])], np.concatenate([bin_a, bin_b])
    shape = (genes.n_genes, vocabulary.n_bins)
    matrix = csr_matrix((np.ones(len(rows), dtype=np.int8), (rows, cols)), shape=shape)
    matrix.sort_indices()
    gene, bins = np.repeat(np.arange(genes.n_genes), np.diff(matrix.indptr)), matrix.indices
    tss = genes.tss[gene]
    # at most one of the two is not 0
    distance = np.maximum(start[bins] - tss, 0) + np.minimum(end[bins] - 1 - tss, 0)
    distance *= np.where(genes.strand == "-", -1, 1)[gene]
    return WindowPairs(matrix.indptr.astype(np.int64), bins.astype(np.int32), distance)


def chrom_codes(genes: Genes, vocabulary: Vocabulary) -> np.ndarray:
    """Code of each gene's chromosome in the vocabulary, (n_genes,), int64; -1 where unknown or without bins.

    Names are matched by :func:`match_chroms`. Raises ValueError if no gene has a position, or none is on a chromosome
    with bins."""
    if not genes.known.any():
        raise ValueError(
            f"None of {genes.n_genes:,} genes has a known position. Read positions from an annotation: "
            "scatacformer.genome.Genes.from_gtf(path, rna.var_names)."
        )
    of_name = match_chroms(genes.chrom_names, vocabulary, "The table of genes")
    return np.append(of_name, -1)[genes.chrom]  # the -1 of a gene that is not known is the last
