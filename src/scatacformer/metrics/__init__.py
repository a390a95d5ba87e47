"""Metrics for embeddings, for the pairing of modalities and for predicted expression, as used in other papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._lazy import lazy

if TYPE_CHECKING:
    from ._enhancers import auprc, crispri_benchmark, enhancer_scores, powerlaw_contact
    from ._expression import genewise_correlation, mean_genewise_correlation, rmse
    from ._hypersphere import alignment, uniformity
    from ._mixing import batch_asw, seurat_alignment_score
    from ._pairing import foscttm
    from ._report import paired_report
    from ._structure import cell_type_asw, graph_connectivity, mean_average_precision, neighbor_conservation

_FILE_OF = {
    "alignment": "_hypersphere",
    "auprc": "_enhancers",
    "batch_asw": "_mixing",
    "cell_type_asw": "_structure",
    "crispri_benchmark": "_enhancers",
    "enhancer_scores": "_enhancers",
    "foscttm": "_pairing",
    "genewise_correlation": "_expression",
    "graph_connectivity": "_structure",
    "mean_average_precision": "_structure",
    "mean_genewise_correlation": "_expression",
    "neighbor_conservation": "_structure",
    "paired_report": "_report",
    "powerlaw_contact": "_enhancers",
    "rmse": "_expression",
    "seurat_alignment_score": "_mixing",
    "uniformity": "_hypersphere",
}

__all__ = [
    "alignment",
    "auprc",
    "batch_asw",
    "cell_type_asw",
    "crispri_benchmark",
    "enhancer_scores",
    "foscttm",
    "genewise_correlation",
    "graph_connectivity",
    "mean_average_precision",
    "mean_genewise_correlation",
    "neighbor_conservation",
    "paired_report",
    "powerlaw_contact",
    "rmse",
    "seurat_alignment_score",
    "uniformity",
]

__getattr__, __dir__ = lazy(__name__, __all__, _FILE_OF)
