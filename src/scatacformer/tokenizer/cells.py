"""Fragments files and AnnData -> the token ids of each cell."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scatacformer.cells import counts_of, match_columns
from scatacformer.cells.fragments import FragmentBlock, Misplaced, iter_fragments, read_barcodes
from scatacformer.genome import (
    Vocabulary,
    assembly_name,
    check_same_assembly,
    chrom_sizes,
    naming_hint,
    overlaps_allowed,
)

from .tokenized_cells import TokenizedCells

if TYPE_CHECKING:
    from anndata import AnnData

    from scatacformer.genome import OverlapIndex


def tokenize_fragments(
    path: Path, barcodes: str | Path | Iterable[str] | None, vocabulary: Vocabulary, index: OverlapIndex
) -> TokenizedCells:
    """One pass over the file; see :meth:`Tokenizer.tokenize_fragments`."""
    wanted = None if barcodes is None else read_barcodes(barcodes)
    cell_of: dict[str, int] = {} if wanted is None else {name: number for number, name in enumerate(wanted)}
    sizes = chrom_sizes(vocabulary.assembly) if vocabulary.assembly and assembly_name(vocabulary.assembly) else {}
    misplaced = Misplaced()
    chrom_of = {name: number for number, name in enumerate(vocabulary.chrom_names)}
    cells_of_hits, tokens, unknown = [], [], []  # of each block
    n_fragments = np.zeros(len(cell_of), dtype=np.int64)
    chroms_seen: dict[str, None] = {}
    n_reversed = 0
    for block in iter_fragments(path, "tokenizing fragments"):
        chroms_seen.update(dict.fromkeys(block.chrom_names))
        inside = misplaced.take(block, sizes)
        cell = _cells(block, cell_of, grow=wanted is None)
        chrom = np.array([chrom_of.get(name, -1) for name in block.chrom_names], dtype=np.int64)[block.chrom]
        start, end = block.start, block.end
        is_reversed = end < start
        if is_reversed.any() or not inside.all():
            n_reversed += int(is_reversed.sum())
            chrom = np.where(is_reversed | ~inside, -1, chrom)
        if wanted is not None and (cell < 0).any():
            kept = np.flatnonzero(cell >= 0)
            cell, chrom, start, end = cell[kept], chrom[kept], start[kept], end[kept]
        rows, ids = index.hits(chrom, start, end)
        cells_of_hits.append(cell[rows])
        tokens.append(ids.astype(np.int32))
        is_unknown = np.bincount(rows, minlength=len(cell)) == 0
        unknown.append(np.bincount(cell[is_unknown], minlength=len(cell_of)))
        n_here = np.bincount(cell, minlength=len(cell_of))
        n_here[: len(n_fragments)] += n_fragments
        n_fragments = n_here
    _check_found(path, vocabulary, chroms_seen, wanted, cell_of, n_fragments)
    misplaced.judge(path, str(vocabulary.assembly), sizes, stacklevel=3)
    if n_reversed:
        warnings.warn(
            f"{n_reversed:,} fragments of {path} end before their start; they count as unknown.",
            UserWarning,
            stacklevel=3,
        )
    names = np.array(list(cell_of), dtype=object)
    n_unknown = sum(np.pad(one, (0, len(names) - len(one))) for one in unknown)
    kept = np.argsort(names) if wanted is None else np.flatnonzero(n_fragments)
    if len(kept) < len(names):
        absent = names[n_fragments == 0]
        warnings.warn(
            f"{len(absent):,} of {len(names):,} barcodes given are not in {path} and are left out (first: {absent[0]}).",
            UserWarning,
            stacklevel=3,
        )
    row_of_cell = np.full(len(names), -1, dtype=np.int32)
    row_of_cell[kept] = np.arange(len(kept), dtype=np.int32)
    row, column = row_of_cell[np.concatenate(cells_of_hits)], np.concatenate(tokens)
    # a file in order of position is counted into rows that are in order: a fifth of the time of sorting
    hits = (np.ones(len(row), dtype=np.int32), (row, column))
    X = sparse.coo_matrix(hits, shape=(len(kept), vocabulary.n_bins)).tocsr()  # sums what is there several times
    return TokenizedCells(X, names[kept], np.asarray(n_unknown, dtype=np.int64)[kept], vocabulary)


def tokenize_anndata(adata: AnnData, layer: str | None, vocabulary: Vocabulary, index: OverlapIndex) -> TokenizedCells:
    """One sparse product for all cells; see :meth:`Tokenizer.tokenize_anndata`."""
    if not hasattr(adata, "obs_names") or hasattr(adata, "mod"):
        hint = ': pass one of its modalities, such as mdata["atac"]' if hasattr(adata, "mod") else ""
        raise TypeError(f"Expected an AnnData; found {type(adata).__name__}{hint}")
    if adata.n_obs == 0:
        raise ValueError("adata has no cells.")
    with overlaps_allowed():
        regions = Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly"))
    check_same_assembly(regions, vocabulary)
    rows, ids = index.hits(vocabulary.codes_of(regions)[regions.chrom], regions.start, regions.end)
    if not len(rows):
        hint = naming_hint(list(regions.chrom_names), dict.fromkeys(vocabulary.chrom_names, 0))
        raise ValueError(
            f"None of the {regions.n_bins:,} regions of adata overlaps any of the {vocabulary.n_bins:,} of the "
            f"tokenizer. {hint}Regions: {regions.names[0]}, …; the tokenizer's: {vocabulary.names[0]}, …."
        )
    shape = (regions.n_bins, vocabulary.n_bins)
    tokens_of_region = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, ids)), shape)
    X, _, n_outside = match_columns(counts_of(adata, layer), tokens_of_region)
    return TokenizedCells(X, adata.obs_names.to_numpy(dtype=object), n_outside, vocabulary)


def _cells(block: FragmentBlock, cell_of: dict[str, int], grow: bool) -> np.ndarray:
    """Number of each fragment's cell, (n_fragments,), int32; -1 for others, which get a number with ``grow``."""
    if grow:
        codes = [cell_of.setdefault(name, len(cell_of)) for name in block.barcode_names]
    else:
        codes = [cell_of.get(name, -1) for name in block.barcode_names]
    return np.array(codes, dtype=np.int32)[block.barcode]


def _check_found(
    path: Path,
    vocabulary: Vocabulary,
    chroms_seen: Iterable[str],
    wanted: list[str] | None,
    cell_of: Mapping[str, int],
    n_fragments: np.ndarray,
) -> None:
    """Raise ValueError for files without chromosomes of the vocabulary or without the requested barcodes."""
    known = dict.fromkeys(vocabulary.chrom_names, 0)
    seen = list(chroms_seen)
    if not set(seen) & set(known):
        raise ValueError(
            f"No chromosome of {path} is one of the tokenizer's: it has {', '.join(seen[:5])}; expected "
            f"{', '.join(list(known)[:5])}. {naming_hint(seen, known)}"
        )
    if wanted is not None and not n_fragments.any():
        raise ValueError(
            f"None of the {len(wanted):,} barcodes is in {path} (first: {wanted[:3]}). Check for a suffix such as "
            "'-1', or for the barcodes of another sample."
        )
