"""Expression of genes mapped to the regions that contain their TSS: GET's targets."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scatacformer.pseudobulk import (
    as_vocabulary,
    check_values,
    expression_of_regions,
    genes_of_regions,
    log_tpm,
    table_of,
)

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("scatacformer")


def map_expression(
    regions: AnnData,
    rna: AnnData,
    gtf: str | Path,
    extend: int = 300,
    cutoff: float = 0.05,
    *,
    layer: str | None = None,
    values: Literal["counts", "log_tpm"] = "counts",
    tss: Literal["transcript", "gene"] = "transcript",
    accessibility_layer: str = "acpm",
) -> dict[str, int]:
    """Map the expression of genes to the regions that contain their TSS, separately for each strand.

    Rules: a gene is assigned to every region that lies within ``extend`` bp of one of its transcription start sites, so
    it may be assigned to several regions. If several genes are assigned to a region on the same strand, the target is
    the mean of their log10(TPM + 1). Where the accessibility of a region in a group is below ``cutoff``, the target is
    0. Genes that are not in the annotation, have no strand, or have no region are skipped and counted in the report.

    Parameters
    ----------
    regions
        Groups × regions with accessibility, as :func:`scatacformer.pp.pseudobulk` makes them.
    rna
        Groups × genes. Groups are matched by name; there may be more, in any order.
    gtf
        GTF file of GENCODE, Ensembl or RefSeq, of the assembly of the regions, plain or gzip.
    extend
        Largest distance in bp between a TSS and a region that it is assigned to.
    cutoff
        Lowest accessibility (aCPM, 0 ... 1) at which expression is not set to 0.
    layer
        Layer of ``rna``; ``.X`` by default.
    values
        What the layer holds: ``"counts"`` (or TPM), from which log10(counts / total × 1e6 + 1) is taken; or
        ``"log_tpm"``, which is used unchanged.
    tss
        ``"transcript"``: the starts of all transcripts of a gene; ``"gene"``: the one furthest upstream.
    accessibility_layer
        Layer of ``regions`` with the accessibility.

    Returns
    -------
    dict
        The report: how many genes are not in the annotation, have no region, have several starts or regions, and how
        many regions have several genes on a strand. Written: ``.layers["exp_pos"]`` and ``.layers["exp_neg"]``, CSR
        float32; ``.varm["tss"]``, (n_regions, 2) bool, which regions contain a TSS on + and on -;
        ``.uns["gene_tss"]``, a table of genes and their regions (``gene``, ``region``, ``chrom``, ``tss``, ``strand``);
        ``.uns["scatacformer"]["map_expression"]``, the report and the arguments.

    Raises
    ------
    ValueError
        A group has no RNA; values that are NaN or negative, or ``"log_tpm"`` above 7; half of the genes or more are not
        in the annotation; no gene starts in a region; there is no such layer.
    FileNotFoundError
        There is no such annotation.
    """
    if getattr(regions, "is_view", False):
        raise ValueError("regions is a view of another AnnData: pass regions.copy().")
    if accessibility_layer not in regions.layers:
        raise ValueError(
            f"regions has no layer {accessibility_layer!r}. Layers: {', '.join(regions.layers) or 'none'}. Make it with "
            "sf.pp.pseudobulk."
        )
    missing = [name for name in regions.obs_names if name not in rna.obs_names]
    if missing:
        raise ValueError(
            f"{len(missing)} of {regions.n_obs} groups have no expression in rna (first: {missing[0]!r}; rna has "
            f"{', '.join(map(repr, rna.obs_names[:4]))}, ...). Leave them out, or name the groups alike."
        )
    expression = _expression(rna, list(regions.obs_names), layer, values)
    vocabulary = as_vocabulary(regions)
    genes = genes_of_regions(vocabulary, gtf, list(rna.var_names), extend=extend, tss=tss)
    layers = expression_of_regions(expression, genes, regions.layers[accessibility_layer], cutoff)
    holds = np.zeros((regions.n_vars, 2), dtype=bool)
    holds[genes.region, genes.strand] = True
    regions.layers["exp_pos"], regions.layers["exp_neg"] = layers
    regions.varm["tss"] = holds
    regions.uns["gene_tss"] = table_of(genes, list(rna.var_names), vocabulary)
    notes = {**genes.report, "extend": extend, "cutoff": cutoff, "tss": tss}
    regions.uns["scatacformer"] = {**regions.uns.get("scatacformer", {}), "map_expression": notes}
    logger.info(
        "%d of %d genes start in one of %d regions; not in the annotation: %d, without a region: %d",
        genes.report["n_genes_with_region"],
        genes.report["n_genes"],
        genes.report["n_regions_with_tss"],
        genes.report["n_genes_not_in_gtf"],
        genes.report["n_genes_without_region"],
    )
    return dict(genes.report)


def _expression(rna: AnnData, groups: list[str], layer: str | None, values: str) -> np.ndarray:
    """log10(TPM + 1) of the groups, (n_groups, n_genes) float32."""
    if values not in ("counts", "log_tpm"):
        raise ValueError(f"values is {values!r}; expected 'counts' or 'log_tpm'.")
    if layer is not None and layer not in rna.layers:
        raise ValueError(f"rna has no layer {layer!r}. Layers: {', '.join(rna.layers) or 'none'}.")
    matrix: Any = rna.X if layer is None else rna.layers[layer]
    matrix = matrix[rna.obs_names.get_indexer(groups)]
    dense = np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float64)
    check_values(dense, "expression of rna")
    if values == "counts":
        return log_tpm(dense)
    if dense.max(initial=0) > 7:
        raise ValueError(
            f"log10(TPM + 1) is at most 6; found {dense.max():.4g}. Take the layer that holds it, or values='counts'."
        )
    return dense.astype(np.float32)
