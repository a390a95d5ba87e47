"""Analyses that follow the embedding."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

_FILE_OF = {"gene_motifs": "motif_genes"}


def __getattr__(name: str) -> Any:
    if name in __all__:  # one file per verb, imported when the verb is first used
        return getattr(importlib.import_module(f"._{_FILE_OF.get(name, name)}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
