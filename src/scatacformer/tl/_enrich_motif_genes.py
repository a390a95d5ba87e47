"""Gene set enrichment among the genes that a motif acts on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def enrich_motif_genes(
    gbm: AnnData,
    gene_sets: str | Path | Mapping[str, Sequence[str]],
    group: str | None = None,
    *,
    motifs: Sequence[str] | None = None,
    n_top: int = 1000,
    min_size: int = 5,
    max_size: int = 1000,
) -> pd.DataFrame:
    """Gene sets that are over-represented among the genes with a motif's highest scores, by gseapy, without a download.

    The background consists of all genes of ``gbm``: genes that were not in the model cannot be found, and including
    them would make every set look enriched. Hypergeometric test; q values by Benjamini and Hochberg over the sets of
    each motif.

    Parameters
    ----------
    gbm
        (gene, group) × motifs, as ``GET.get_gene_by_motif`` returns it.
    gene_sets
        A GMT file, or a mapping of set to genes.
    group
        Use the scores of this group; None: the mean over groups.
    motifs
        Motifs to test; None: all.
    n_top
        Number of genes with the highest scores to test; at most half of all genes.
    min_size, max_size
        Gene sets with fewer or more genes in ``gbm`` are skipped.

    Returns
    -------
    pandas.DataFrame
        ``motif, gene_set, n_overlap, n_set, odds_ratio, p, q, genes``, sorted by motif and p.

    Raises
    ------
    ImportError
        gseapy is not installed.
    KeyError
        A motif or the group is not in ``gbm``.
    ValueError
        No gene set of the required size.
    """
    import pandas as pd

    gseapy = _gseapy()
    motifs = list(gbm.var_names) if motifs is None else list(motifs)
    if absent := [name for name in motifs if name not in gbm.var_names]:
        raise KeyError(f"gbm has no motif {absent[0]!r}; its motifs are {', '.join(gbm.var_names[:5])}, ...")
    scores = _gene_scores(gbm, group)
    genes = set(scores.index)
    sets = _read_sets(gene_sets)
    sized = {name: sorted(genes.intersection(members)) for name, members in sets.items()}
    sized = {name: members for name, members in sized.items() if min_size <= len(members) <= max_size}
    if not sized:
        raise ValueError(
            f"none of {len(sets):,} gene sets has {min_size} to {max_size} of the {len(genes):,} genes of gbm. "
            "Check that both use gene symbols of the same species."
        )
    n_top = min(n_top, len(genes) // 2)
    found = []
    for motif in motifs:
        top = scores[motif].sort_values(ascending=False, kind="stable").index[:n_top]
        table = gseapy.enrich(list(top), sized, background=sorted(genes), outdir=None, no_plot=True).results
        if table is None or not len(table):
            continue
        overlap = table["Overlap"].str.split("/", expand=True).astype(int)
        part = pd.DataFrame(
            {
                "motif": motif,
                "gene_set": table["Term"],
                "n_overlap": overlap[0],
                "n_set": overlap[1],
                "odds_ratio": table["Odds Ratio"],
                "p": table["P-value"],
                "q": table["Adjusted P-value"],
                "genes": table["Genes"],
            }
        )
        found.append(part.sort_values("p", kind="stable"))
    if not found:
        columns = ["motif", "gene_set", "n_overlap", "n_set", "odds_ratio", "p", "q", "genes"]
        return pd.DataFrame(columns=columns)
    return pd.concat(found, ignore_index=True)


def _gene_scores(gbm: AnnData, group: str | None) -> pd.DataFrame:
    """Genes × motifs: the scores of a group, or the mean over groups; the mean for a gene with several rows."""
    import pandas as pd

    from ._gene_by_motif import motif_rows, motif_values

    if "gene" not in gbm.obs:
        raise KeyError("gbm.obs has no column 'gene': expected the AnnData of GET.get_gene_by_motif.")
    values = motif_values(gbm, group)
    gene = gbm.obs["gene"].astype(str).to_numpy()[motif_rows(gbm, group)]
    return pd.DataFrame(values, index=gene, columns=gbm.var_names).groupby(level=0, sort=True).mean()


def _read_sets(gene_sets: str | Path | Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    if isinstance(gene_sets, Mapping):
        return {name: set(members) for name, members in gene_sets.items()}
    path = Path(gene_sets)
    sets: dict[str, set[str]] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        fields = line.split("\t")
        if not line.strip():
            continue
        if len(fields) < 3:
            raise ValueError(
                f"{path}, line {number}: found {line[:60]!r}; expected a set, a description and genes, separated by tabs."
            )
        sets.setdefault(fields[0], set()).update(gene.split(",")[0] for gene in fields[2:] if gene)
    return sets


def _gseapy():  # type: ignore[no-untyped-def]
    try:
        import gseapy
    except ImportError:
        raise ImportError(
            "gene set enrichment needs gseapy. Install it with pip install 'scatacformer[enrichment]'."
        ) from None
    return gseapy
