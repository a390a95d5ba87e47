"""From any regions to the bins of a vocabulary."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from tqdm.auto import tqdm

from scatacformer.genome import Vocabulary, overlap_matrix

from ._rows import counts_of, iter_rows

if TYPE_CHECKING:
    from anndata import AnnData

# Regions of at most so many bins have their columns renamed, once for their first bin, once for their second, …; wider
# ones take a sparse product. 2,000 cells with 8,000 open peaks on one core: 0.3 s against 0.5 s.
_MAX_RENAMED = 4


def match_vocabulary(
    adata: AnnData,
    vocabulary: Vocabulary | Any,
    *,
    layer: str | None = None,
) -> AnnData:
    """The same cells over the bins of a vocabulary: each region's counts go to every bin that it overlaps.

    A bin's count is the sum over the regions that overlap it; it is open if one of them is.

    Parameters
    ----------
    adata
        Cells × regions, bins or peaks, sorted or not, in memory or backed (read in pieces). `.var` says where the
        regions lie: see :meth:`Vocabulary.from_var`. A view is fine. It is not changed.
    vocabulary
        A :class:`Vocabulary`, or a model, which has one.
    layer
        Layer with the counts; `.X` by default.

    Returns
    -------
    AnnData
        New object: `.X` CSR (n_cells, n_bins) in the type of the counts (narrow integers become int32); `.var` the
        bins; copies of `.obs`, `.obsm`, `.obsp` and `.uns`. What belongs to the regions (`.varm`, `.varp`, other
        layers) stays behind.
        `.uns["scatacformer"]["match_vocabulary"]` says how many regions, and which share of the open entries, lie
        outside the vocabulary and are lost, and how many regions cover more than one bin.

    Raises
    ------
    ValueError
        No region overlaps a bin; the assemblies differ; `.var` does not say where the regions lie.

    Warns
    -----
    UserWarning
        More than 5 % of the regions or of the open entries are outside the vocabulary.
    """
    if adata.n_obs == 0:
        raise ValueError("adata has no cells.")
    target = vocabulary if isinstance(vocabulary, Vocabulary) else getattr(vocabulary, "vocabulary", None)
    if not isinstance(target, Vocabulary):
        raise ValueError(f"Expected a Vocabulary, or a model that has one; found {type(vocabulary).__name__}.")
    regions = Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly"))
    _check_same_assembly(regions, target)
    bins_of_region = overlap_matrix(regions, target)
    n_bins_of_region = np.diff(bins_of_region.indptr)
    if not n_bins_of_region.any():
        raise ValueError(
            f"None of the {regions.n_bins:,} regions overlaps any of the {target.n_bins:,} bins of the vocabulary. "
            f"Regions: {_example(regions)}; bins: {_example(target)}. "
            "Are chromosomes named alike (chr1 or 1), and is it the same assembly?"
        )

    X = counts_of(adata, layer)
    to_bins = _Matcher(bins_of_region)
    is_outside = n_bins_of_region == 0
    n_open, n_outside = 0, 0
    data, indices, n_per_cell = [], [], []
    with tqdm(total=X.shape[0], unit="cell", desc="matching bins", delay=1, disable=None) as bar:
        for _, rows in iter_rows(X):
            binned = to_bins(rows)
            data.append(binned.data)
            indices.append(binned.indices)
            n_per_cell.append(np.diff(binned.indptr))
            n_open += rows.nnz
            n_outside += int(is_outside[rows.indices].sum()) if is_outside.any() else 0
            bar.update(rows.shape[0])
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(n_per_cell), dtype=np.int64)])
    matched = sparse.csr_matrix((np.concatenate(data), np.concatenate(indices), indptr), (X.shape[0], target.n_bins))
    del data, indices

    report = {
        "n_regions": regions.n_bins,
        "n_regions_outside": int(is_outside.sum()),
        "n_regions_over_several_bins": int((n_bins_of_region > 1).sum()),
        "share_open_outside": n_outside / max(n_open, 1),
    }
    if max(report["n_regions_outside"] / regions.n_bins, report["share_open_outside"]) > 0.05:
        outside = int(np.argmax(is_outside))
        warnings.warn(
            f"{report['n_regions_outside']:,} of {regions.n_bins:,} regions, with {report['share_open_outside']:.1%} "
            f"of the open entries, lie outside the vocabulary and are left out (first: {regions.names[outside]}).",
            UserWarning,
            stacklevel=2,
        )
    return _with_bins(adata, matched, target, report)


def _check_same_assembly(regions: Vocabulary, target: Vocabulary) -> None:
    if regions.assembly is not None and target.assembly is not None and regions.assembly != target.assembly:
        raise ValueError(
            f"The regions are of {regions.assembly} (adata.uns['assembly']), the vocabulary is of {target.assembly}: "
            "positions mean different places. Lift the regions over, or bin the fragments aligned to "
            f"{target.assembly}; if adata.uns['assembly'] is wrong, correct it."
        )


class _Matcher:
    """(n_rows, n_regions) -> (n_rows, n_bins), canonical CSR, some rows at a time."""

    def __init__(self, bins_of_region: sparse.csr_matrix) -> None:
        self.bins_of_region = bins_of_region
        # The first bin of each region, the second of those that have one, … (n_regions,), -1: none.
        self.columns: list[np.ndarray] = []
        n_bins_of_region = np.diff(bins_of_region.indptr)
        if n_bins_of_region.max() <= _MAX_RENAMED:
            for nth in range(n_bins_of_region.max()):
                column = np.full(len(n_bins_of_region), -1, dtype=np.int32)
                has_nth = n_bins_of_region > nth
                column[has_nth] = bins_of_region.indices[bins_of_region.indptr[:-1][has_nth] + nth]
                self.columns.append(column)
        self.in_order = bool(np.all(bins_of_region.indices[1:] >= bins_of_region.indices[:-1]))

    def __call__(self, rows: sparse.csr_matrix) -> sparse.csr_matrix:
        if rows.dtype.kind in "iu":
            rows = rows.astype(np.result_type(rows.dtype, np.int32), copy=False)  # 200 + 200 is not 144
        if not self.columns:
            return self._canonical(rows @ self.bins_of_region.astype(rows.dtype))
        first, *others = (
            self._canonical(_rename_columns(rows, column, self.bins_of_region.shape[1])) for column in self.columns
        )
        return sum(others, start=first)

    def _canonical(self, binned: sparse.csr_matrix) -> sparse.csr_matrix:
        if not self.in_order:
            # There and back by columns sorts by counting: a third of the time of sorting each row.
            binned = binned.tocsc().tocsr()
        binned.sum_duplicates()
        return binned


def _rename_columns(rows: sparse.csr_matrix, column: np.ndarray, n_bins: int) -> sparse.csr_matrix:
    indices = column[rows.indices]
    inside = indices >= 0
    if inside.all():
        # Copied: these may be the caller's own arrays, and what is made here gets sorted and summed in place.
        return sparse.csr_matrix((rows.data.copy(), indices, rows.indptr.copy()), shape=(rows.shape[0], n_bins))
    indptr = np.concatenate([[0], np.cumsum(inside)])[rows.indptr]
    return sparse.csr_matrix((rows.data[inside], indices[inside], indptr), shape=(rows.shape[0], n_bins))


def _with_bins(adata: AnnData, X: sparse.csr_matrix, target: Vocabulary, report: dict[str, Any]) -> AnnData:
    from anndata import AnnData

    uns = copy.deepcopy(dict(adata.uns))
    if target.assembly is not None:
        uns["assembly"] = target.assembly
    uns["scatacformer"] = {**uns.get("scatacformer", {}), "match_vocabulary": report}
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
