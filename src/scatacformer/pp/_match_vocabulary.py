"""Mapping of any regions to the bins of a vocabulary."""

from __future__ import annotations

import copy
import warnings
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer.cells import counts_of, match_columns
from scatacformer.genome import Vocabulary, check_same_assembly, overlap_matrix, vocabulary_of

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse


def match_vocabulary(
    adata: AnnData,
    vocabulary: Vocabulary | str | PathLike | Any,
    *,
    layer: str | None = None,
) -> AnnData:
    """The same cells over the bins of a vocabulary: each region's counts go to every bin that it overlaps.

    A bin's count is the sum over the regions that overlap it; it is open if one of them is.

    Parameters
    ----------
    adata
        Cells × regions, bins or peaks, sorted or not, in memory or backed (read in pieces). ``.var`` has the
        positions of the regions; see :meth:`Vocabulary.from_var`. Views are supported. It is not modified.
    vocabulary
        A :class:`Vocabulary`; a model, which has one; the folder that a model was saved to; or a BED file.
    layer
        Layer with the counts; ``.X`` by default.

    Returns
    -------
    AnnData
        New object: ``.X`` CSR (n_cells, n_bins) in the type of the counts (booleans and narrow integers become int32),
        and the same in ``.layers[layer]`` if a layer was given, as expected by a model of that layer; ``.var`` the
        bins; copies of ``.obs``, ``.obsm``, ``.obsp`` and ``.uns``. Annotations of the regions (``.varm``, ``.varp``,
        other layers) are not copied. ``.uns["scatacformer"]["match_vocabulary"]`` contains the number of regions, and
        the share of the open entries, that are outside the vocabulary and lost, and the number of regions that cover
        more than one bin.

    Raises
    ------
    ValueError
        No region overlaps a bin; the assemblies differ; ``.var`` does not contain the positions of the regions.

    Warns
    -----
    UserWarning
        More than 5 % of the regions or of the open entries are outside the vocabulary.
    """
    if adata.n_obs == 0:
        raise ValueError("adata has no cells.")
    target = vocabulary_of(vocabulary)
    regions = Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly"))
    check_same_assembly(regions, target)
    bins_of_region = overlap_matrix(regions, target)
    n_bins_of_region = np.diff(bins_of_region.indptr)
    if not n_bins_of_region.any():
        raise ValueError(
            f"None of the {regions.n_bins:,} regions overlaps any of the {target.n_bins:,} bins of the vocabulary. "
            f"Regions: {_example(regions)}; bins: {_example(target)}. "
            "Check the names of the chromosomes (chr1 or 1) and the assembly."
        )

    matched, n_open, n_outside = match_columns(counts_of(adata, layer), bins_of_region)
    is_outside = n_bins_of_region == 0
    report = {
        "n_regions": regions.n_bins,
        "n_regions_outside": int(is_outside.sum()),
        "n_regions_over_several_bins": int((n_bins_of_region > 1).sum()),
        "share_open_outside": int(n_outside.sum()) / max(n_open, 1),
    }
    if max(report["n_regions_outside"] / regions.n_bins, report["share_open_outside"]) > 0.05:
        outside = int(np.argmax(is_outside))
        warnings.warn(
            f"{report['n_regions_outside']:,} of {regions.n_bins:,} regions, with {report['share_open_outside']:.1%} "
            f"of the open entries, are outside the vocabulary and left out (first: {regions.names[outside]}).",
            UserWarning,
            stacklevel=2,
        )
    found = with_bins(adata, matched, target, match_vocabulary=report)
    if layer is not None:
        found.layers[layer] = matched.copy()
    return found


def with_bins(adata: AnnData, X: sparse.csr_matrix, target: Vocabulary, **reports: dict[str, Any]) -> AnnData:
    """A new AnnData of the same cells over other bins; ``reports`` go to ``.uns["scatacformer"]``."""
    from anndata import AnnData

    uns = copy.deepcopy(dict(adata.uns))
    if target.assembly is not None:
        uns["assembly"] = target.assembly
    uns["scatacformer"] = {**uns.get("scatacformer", {}), **reports}
    return AnnData(
        X,
        obs=adata.obs.copy(),
        var=target.to_frame(),
        uns=uns,
        obsm={key: value.copy() for key, value in adata.obsm.items()},
        obsp={key: value.copy() for key, value in adata.obsp.items()},
    )


def _example(vocabulary: Vocabulary) -> str:
    return f"{', '.join(vocabulary.names[:2])}, … on {', '.join(vocabulary.chrom_names[:3])}, …"
