"""The union of a data set's regions and those of a model."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from scatacformer.genome import Vocabulary, check_same_assembly, overlap_matrix
from scatacformer.pseudobulk import as_vocabulary, refuse_overlaps

logger = logging.getLogger("scatacformer")


def union_regions(new: Any, reference: Any) -> Vocabulary:
    """Union of two region sets: all reference regions, and the new regions that overlap none of them, sorted.

    Where the two overlap, the reference's coordinates win, so that a model trained on the reference is applied to the
    same regions. The share of regions that are new is logged. Count the cells in the result with
    :func:`scatacformer.pp.match_vocabulary`.

    Parameters
    ----------
    new
        Regions of the new data, in any order: an AnnData, a table such as ``adata.var``, the path of a BED file, or a
        :class:`scatacformer.genome.Vocabulary`.
    reference
        Reference regions, in any of these forms; or a model with a vocabulary, or the folder that one was saved to.

    Returns
    -------
    Vocabulary
        Chromosomes in the order of the reference, then those that only the new regions have; sorted by start within
        each.

    Raises
    ------
    ValueError
        Regions of one set overlap one another; the two share no chromosome, or are of different assemblies.

    Examples
    --------
    >>> regions = sf.pp.union_regions(adata, "peaks_of_the_model.bed")  # doctest: +SKIP
    >>> adata = sf.pp.match_vocabulary(adata, regions)  # doctest: +SKIP
    """
    added, kept = as_vocabulary(new, "new"), as_vocabulary(reference, "reference")
    refuse_overlaps(added, "new regions")
    refuse_overlaps(kept, "regions of the reference")
    check_same_assembly(added, kept)
    code = kept.codes_of(added)
    if (code < 0).all():
        raise ValueError(
            f"The new regions and the reference share no chromosome: {', '.join(added.chrom_names[:5])} and "
            f"{', '.join(kept.chrom_names[:5])}. Use the same names (chr1 or 1)."
        )
    is_new = np.diff(overlap_matrix(added, kept).indptr) == 0
    n_new = int(is_new.sum())
    logger.info(
        "%s of %s new regions (%.1f %%) overlap none of the %s regions of the reference and are added",
        f"{n_new:,}",
        f"{added.n_bins:,}",
        100 * n_new / added.n_bins,
        f"{kept.n_bins:,}",
    )
    names = [*kept.chrom_names, *(name for name in added.chrom_names if name not in kept.chrom_names)]
    at = np.array([names.index(name) for name in added.chrom_names])
    chrom = np.concatenate([kept.chrom, at[added.chrom[is_new]]])
    start = np.concatenate([kept.start, added.start[is_new]])
    end = np.concatenate([kept.end, added.end[is_new]])
    order = np.lexsort((end, start, chrom))
    return Vocabulary(tuple(names), chrom[order], start[order], end[order], kept.assembly or added.assembly)
