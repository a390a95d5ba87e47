"""Lift-over of regions from one assembly to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from scipy import sparse

from scatacformer.cells import counts_of, match_columns
from scatacformer.genome import Lift, Vocabulary, lift_regions, vocabulary_of

from ._match_vocabulary import with_bins

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData


@overload
def lift_vocabulary(
    regions: Vocabulary, chain: str | Path, target: Any = ..., *, min_share: float = ..., max_resize: float = ...
) -> Lift: ...
@overload
def lift_vocabulary(
    regions: AnnData,
    chain: str | Path,
    target: Any = ...,
    *,
    min_share: float = ...,
    max_resize: float = ...,
    layer: str | None = ...,
) -> AnnData: ...
def lift_vocabulary(
    regions: Vocabulary | AnnData,
    chain: str | Path,
    target: Vocabulary | Any | None = None,
    *,
    min_share: float = 0.5,
    max_resize: float = 2.0,
    layer: str | None = None,
) -> Lift | AnnData:
    """Lift regions, or cells × regions, to another assembly by a chain file.

    A region follows the single chain that aligns most of its bp with the other assembly, and becomes the interval from
    the first to the last bp aligned there, on either strand. Otherwise it is lost, and counted as

    - ``unmapped``: the chains align less than ``min_share`` of it;
    - ``split``: they align enough of it, but no single one does;
    - ``resized``: its interval is more than ``max_resize`` times as wide as it was, or as narrow;
    - ``scaffold``: it maps to an unplaced, alternative or patch sequence;
    - ``collision``: it lands on another region, by more than half of the narrower, though they were apart: both are lost;
    - ``outside``: ``target`` has no region where it maps to.

    Parameters
    ----------
    regions
        A :class:`Vocabulary`, or cells × regions in memory or backed, with the positions of the regions in ``.var``. It
        is not modified.
    chain
        Chain file of UCSC from their assembly to the other (``hg19ToHg38.over.chain.gz``), plain or gzip.
    target
        Vocabulary to map to, such as the bins of a model (or the model, the folder that it was saved to, or a BED
        file): a region becomes the one that its interval
        overlaps most, and those that become the same are merged. Default: the intervals themselves, of many widths.
    min_share
        Minimum share of a region's bp that must be aligned. (UCSC's liftOver uses 0.95 within a species, 0.1 between
        species.)
    max_resize
        Maximum factor by which the width of a region may change.
    layer
        Of an AnnData, the layer with the counts; ``.X`` by default.

    Returns
    -------
    Lift or AnnData
        Of a vocabulary, a :class:`~scatacformer.genome.Lift`: the other vocabulary, the token id there of each region,
        and why regions are lost. Of an AnnData a new one: ``.X`` CSR (n_cells, n_regions) with the sum of the counts of
        merged regions; copies of ``.obs``, ``.obsm``, ``.obsp``, ``.uns``; the numbers of lost regions, and the share
        of open entries lost with them, in ``.uns["scatacformer"]["lift_vocabulary"]``.

    Raises
    ------
    FileNotFoundError
        The chain file does not exist.
    ValueError
        The file is truncated or not a chain file; it is for other assemblies than those of the regions and the target,
        or for the other direction; no region can be lifted.

    Notes
    -----
    Some 1 s for 606,219 bins and a chain file of a million blocks. Differences between assemblies (gaps
    filled, duplications resolved) are not a signal of the cells: exclude regions with a ``share`` well below 1 from
    comparisons between lifted and native data.
    """
    try:
        found = None if target is None else vocabulary_of(target)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"target must be a Vocabulary, a model that has one, or the path of either; found {type(target).__name__}. "
            f"{error}"
        ) from None
    if isinstance(regions, Vocabulary):
        return lift_regions(regions, chain, found, min_share=min_share, max_resize=max_resize)
    if not hasattr(regions, "var"):
        raise ValueError(f"Expected a Vocabulary or an AnnData; found {type(regions).__name__}.")
    source = Vocabulary.from_var(regions.var, assembly=regions.uns.get("assembly"))
    X = counts_of(regions, layer)
    lift = lift_regions(source, chain, found, min_share=min_share, max_resize=max_resize)
    kept = np.flatnonzero(lift.token_ids >= 0)
    ones = np.ones(len(kept), dtype=np.float32)
    becomes = sparse.csr_matrix((ones, (kept, lift.token_ids[kept])), (source.n_bins, lift.target.n_bins))
    counts, n_open, n_lost = match_columns(X, becomes)
    report = lift.report | {"share_open_lost": int(n_lost.sum()) / max(n_open, 1), "from": source.assembly or ""}
    lifted = with_bins(regions, counts, lift.target, lift_vocabulary=report)
    if lift.target.assembly is None:
        lifted.uns.pop("assembly", None)  # it no longer applies
    return lifted
