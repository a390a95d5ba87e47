"""Expression targets of regions: which regions contain the TSS of which genes, on which strand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from scatacformer.genome import OverlapIndex, check_reach, gene_starts, match_chroms

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

    from scatacformer.genome import Vocabulary


class GeneRegions(NamedTuple):
    """Genes and the regions that contain their TSS: a row per gene, region and strand, sorted by gene and region."""

    gene: np.ndarray
    """(n,) int64: index into the requested names."""
    region: np.ndarray
    """(n,) int64: column."""
    strand: np.ndarray
    """(n,) int64: 0 for +, 1 for -."""
    tss: np.ndarray
    """(n,) int64: the gene's TSS at the region, bp, 0-based; the one furthest upstream if there are several."""
    report: dict[str, int]
    """Counts of genes that were found, have no region, have several TSSs, ..."""


def genes_of_regions(
    regions: Vocabulary,
    gtf: str | Path,
    names: Sequence[str],
    *,
    extend: int = 300,
    tss: Literal["transcript", "gene"] = "transcript",
) -> GeneRegions:
    """Find the regions within ``extend`` bp of a TSS of each gene.

    Parameters
    ----------
    regions
        Positions of the columns.
    gtf
        GTF file of GENCODE, Ensembl or RefSeq, plain or gzip.
    names
        Names or ids of genes; ids are found with or without their version. Of genes that share a name, the first in the
        file counts.
    extend
        Largest distance in bp between a TSS and its region.
    tss
        ``"transcript"``: the TSSs of all transcripts of a gene; ``"gene"``: the one of the gene's own line, furthest
        upstream.

    Raises
    ------
    ValueError
        Half of the genes or more are not in the file; it shares no chromosome with the regions; no gene has a region.
    FileNotFoundError
    """
    import pandas as pd

    if extend < 0:
        raise ValueError(f"extend is {extend}; expected 0 bp or more.")
    starts = gene_starts(gtf, names, tss=tss)
    found = np.unique(starts["gene"])
    if 2 * len(found) <= len(names):
        absent = next(name for number, name in enumerate(names) if number not in set(found.tolist()))
        raise ValueError(
            f"{len(names) - len(found):,} of {len(names):,} genes are not in {gtf} (first: {absent}). Use the annotation "
            "that the counts were made with, or keep only the genes that it has."
        )
    chroms, chrom = np.unique(starts["chrom"].to_numpy(dtype=str), return_inverse=True)
    code = match_chroms(chroms.tolist(), regions, f"the annotation {gtf}")[chrom]
    place = starts["tss"].to_numpy(dtype=np.int64)
    check_reach(code, place, place + 1, regions, f"the annotation {gtf}")
    strand = starts["strand"].map({"+": 0, "-": 1}).fillna(-1).to_numpy(dtype=np.int64)
    code = np.where(strand < 0, -1, code)
    row, region = OverlapIndex.of(regions).hits(code, np.maximum(place - extend, 0), place + extend + 1)
    if not len(row):
        raise ValueError(
            f"None of {len(found):,} genes of {gtf} starts within {extend} bp of one of {regions.n_bins:,} regions. Are "
            "the regions and the annotation of the same assembly, and are promoters among the regions?"
        )
    gene = starts["gene"].to_numpy(dtype=np.int64)
    table = pd.DataFrame({"gene": gene[row], "region": region, "strand": strand[row], "tss": place[row]})
    # furthest upstream: the lowest position on +, the highest on -
    table["upstream"] = np.where(table["strand"] == 0, table["tss"], -table["tss"])
    table = table.sort_values(["gene", "region", "strand", "upstream"], kind="stable")
    table = table.drop_duplicates(["gene", "region", "strand"])
    per_gene = table.groupby("gene")["region"].nunique()
    per_target = table.groupby(["region", "strand"])["gene"].nunique()
    report = {
        "n_genes": len(names),
        "n_genes_not_in_gtf": len(names) - len(found),
        "n_genes_without_strand": int(len(np.unique(gene[strand < 0]))),
        "n_genes_on_other_chromosomes": int(len(found) - len(np.unique(gene[(code >= 0) | (strand < 0)]))),
        "n_genes_without_region": int(len(found) - len(per_gene)),
        "n_genes_with_region": int(len(per_gene)),
        "n_genes_with_several_tss": int((pd.Series(place).groupby(gene).nunique() > 1).sum()),
        "n_genes_in_several_regions": int((per_gene > 1).sum()),
        "n_regions_with_tss": int(table["region"].nunique()),
        "n_regions_with_tss_on_both_strands": int((table.groupby("region")["strand"].nunique() > 1).sum()),
        "n_targets_of_several_genes": int((per_target > 1).sum()),
    }
    gene, region, strand, place = (table[name].to_numpy(dtype=np.int64) for name in ("gene", "region", "strand", "tss"))
    return GeneRegions(gene, region, strand, place, report)


def expression_of_regions(
    values: np.ndarray, genes: GeneRegions, accessibility: np.ndarray, cutoff: float
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """The expression target of each region on + and on -, (n_groups, n_regions) float32 CSR each.

    The mean over the genes that have their TSS in the region on that strand; 0 where the accessibility of the region in
    the group is below ``cutoff``.

    Parameters
    ----------
    values
        (n_groups, n_genes), log10(TPM + 1).
    genes
        Genes and their regions.
    accessibility
        (n_groups, n_regions), aCPM.
    cutoff
        Lowest accessibility at which expression is not set to 0.
    """
    from scipy import sparse

    n_regions = accessibility.shape[1]
    layers = []
    for strand in (0, 1):
        here = genes.strand == strand
        share = sparse.csr_matrix(
            (np.ones(int(here.sum())), (genes.gene[here], genes.region[here])), shape=(values.shape[1], n_regions)
        )
        n_genes = np.asarray(share.sum(axis=0)).ravel()
        share.data /= n_genes[share.indices]
        targets = sparse.csr_matrix(sparse.csr_matrix(values.astype(np.float64)) @ share)
        group = np.repeat(np.arange(targets.shape[0]), np.diff(targets.indptr))
        targets.data[np.asarray(accessibility[group, targets.indices]).ravel() < cutoff] = 0
        targets.eliminate_zeros()
        targets.sort_indices()
        layers.append(targets.astype(np.float32))
    return layers[0], layers[1]


def table_of(genes: GeneRegions, names: Sequence[str], regions: Vocabulary) -> pd.DataFrame:
    """The rows as a table: ``gene``, ``region`` (name), ``chrom``, ``tss`` (bp, 0-based), ``strand``."""
    import pandas as pd

    return pd.DataFrame(
        {
            "gene": np.asarray(names, dtype=object)[genes.gene],
            "region": np.asarray(regions.names, dtype=object)[genes.region],
            "chrom": np.asarray(regions.chrom_names, dtype=object)[regions.chrom[genes.region]],
            "tss": genes.tss,
            "strand": np.array(["+", "-"], dtype=object)[genes.strand],
        },
        index=pd.Index([str(number) for number in range(len(genes.gene))]),
    )
