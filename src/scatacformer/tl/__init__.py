"""Analyses that follow the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._lazy import lazy, one_file_each

if TYPE_CHECKING:
    from ._enrich_motif_genes import enrich_motif_genes
    from ._label_agreement import label_agreement
    from ._links_to_bedpe import links_to_bedpe
    from ._links_to_glue import links_to_glue
    from ._links_to_mudata import links_to_mudata
    from ._links_to_muon import links_to_muon
    from ._links_to_snapatac2 import links_to_snapatac2
    from ._motif_causal import motif_causal
    from ._motif_correlation import motif_correlation
    from ._motif_genes import gene_motifs, motif_genes
    from ._motifs_in_attribution import motifs_in_attribution
    from ._perturb_bins import perturb_bins
    from ._potential_trends import potential_trends
    from ._tf_interactions import tf_interactions
    from ._variant_enrichment import variant_enrichment

__all__ = [
    "enrich_motif_genes",
    "gene_motifs",
    "label_agreement",
    "links_to_bedpe",
    "links_to_glue",
    "links_to_mudata",
    "links_to_muon",
    "links_to_snapatac2",
    "motif_causal",
    "motif_correlation",
    "motif_genes",
    "motifs_in_attribution",
    "perturb_bins",
    "potential_trends",
    "tf_interactions",
    "variant_enrichment",
]


__getattr__, __dir__ = lazy(__name__, __all__, one_file_each(__all__) | {"gene_motifs": "_motif_genes"})
