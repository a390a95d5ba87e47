"""All metrics for two embeddings of the same cells, in one call."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ._check import check_same_cells, checked_embedding, checked_labels, unit_rows
from ._hypersphere import alignment, uniformity
from ._mixing import batch_asw, seurat_alignment_score
from ._neighbors import checked_k
from ._pairing import foscttm
from ._structure import cell_type_asw, graph_connectivity, mean_average_precision, neighbor_conservation


def paired_report(
    rna: ArrayLike,
    atac: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    rna_before: ArrayLike | None = None,
    atac_before: ArrayLike | None = None,
    normalize: bool = True,
    k: int | None = None,
    chunk_size: int = 1024,
    seed: int = 0,
) -> pd.Series:
    """All metrics of this module for embeddings of two modalities in one space.

    There is no overall score: the scores in papers scale each metric by the best and worst of the methods compared, so
    that the score of an embedding depends on the other methods.

    Parameters
    ----------
    rna, atac
        Embeddings, (n_cells, n_dims); rows are the same cells. For two DataFrames, the index is compared.
    labels
        Cell types, (n_cells,).
    rna_before, atac_before
        Embeddings of each modality by itself, for example principal components and LSI, (n_cells, n_dims); both or
        none.
    normalize
        Scale rows to length 1 first, as in the Attune paper, so that distances follow the cosine. False: lengths
        matter, except in ``alignment`` and ``uniformity``, which are defined on the sphere.
    k
        Number of neighbours in ``seurat_alignment_score``, ``mean_average_precision`` and ``neighbor_conservation``;
        None: 1 % of the 2 n_cells rows.
    chunk_size
        As in :func:`foscttm`.
    seed
        As in :func:`seurat_alignment_score`.

    Returns
    -------
    pandas.Series
        ``foscttm`` (0 best, 1/2 chance), ``alignment`` (0 best), ``uniformity_rna``, ``uniformity_atac`` (0 collapsed),
        ``seurat_alignment_score`` (1 best). With ``labels``: ``foscttm_within_labels`` (unless every label has one
        cell), ``mean_average_precision``, ``cell_type_asw``, ``batch_asw``, ``graph_connectivity`` (followed both ways,
        as in the paper), 1 best. With ``rna_before`` and ``atac_before``: ``neighbor_conservation``, the mean of both,
        1 best. Metrics of both modalities together use their concatenated rows, (2 n_cells, n_dims): a cell's match is
        among its neighbours and has its label, so ``mean_average_precision`` of well paired cells is high for few
        neighbours.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        Different cells or dimensions; NaN; a cell of zeros; missing labels or only one; ``k`` too large; one of
        ``rna_before`` and ``atac_before`` without the other.
    """
    check_same_cells(rna, atac, ("rna", "atac"))
    if (rna_before is None) != (atac_before is None):
        raise ValueError("only one of rna_before and atac_before is given; expected both or none.")
    if rna_before is not None and atac_before is not None:
        check_same_cells(rna, rna_before, ("rna", "rna_before"))
        check_same_cells(atac, atac_before, ("atac", "atac_before"))
    rna, atac = checked_embedding(rna, "rna"), checked_embedding(atac, "atac")
    if rna.shape != atac.shape:
        raise ValueError(
            f"rna has {rna.shape[1]} dimensions, atac has {atac.shape[1]}; expected embeddings in the same space."
        )
    if normalize:
        rna, atac = unit_rows(rna, "rna"), unit_rows(atac, "atac")
    n_cells = len(rna)
    k = checked_k(k, 2 * n_cells)
    codes = None if labels is None else checked_labels(labels, n_cells)
    both, modality = np.concatenate([rna, atac]), np.repeat([0, 1], n_cells)

    report = {
        "foscttm": foscttm(rna, atac, chunk_size=chunk_size),
        "alignment": alignment(rna, atac),
        "uniformity_rna": uniformity(rna, chunk_size=chunk_size),
        "uniformity_atac": uniformity(atac, chunk_size=chunk_size),
        "seurat_alignment_score": seurat_alignment_score(both, modality, k, seed=seed),
    }
    if codes is not None:
        twice = np.tile(codes, 2)
        if np.bincount(codes).max() > 1:
            report["foscttm_within_labels"] = foscttm(rna, atac, within=codes, chunk_size=chunk_size)
        report |= {
            "mean_average_precision": mean_average_precision(both, twice, k),
            "cell_type_asw": cell_type_asw(both, twice),
            "batch_asw": batch_asw(both, twice, modality),
            "graph_connectivity": graph_connectivity(both, twice, min(14, 2 * n_cells - 1), directed=False),
        }
    if rna_before is not None and atac_before is not None:
        kept = [neighbor_conservation(*pair, k) for pair in ((rna_before, rna), (atac_before, atac))]
        report["neighbor_conservation"] = float(np.mean(kept))
    return pd.Series(report, name="paired_report", dtype=np.float64)
