"""Links between genes and bins as a graph for scglue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scatacformer._io import optional
from scatacformer.genome import check_links

from ._links import refuse_twice

if TYPE_CHECKING:
    import pandas as pd
    from networkx import MultiDiGraph


def links_to_glue(links: pd.DataFrame) -> MultiDiGraph:
    """A graph of edges from genes to regions, as ``scglue.genomics.regulatory_inference`` returns it.

    Parameters
    ----------
    links
        Result of ``get_gene_bin_links``, or a subset of its rows, for example those with a small ``q``.

    Returns
    -------
    MultiDiGraph
        Nodes are names of genes and of regions. Each edge has ``dist`` (bp, absolute), ``weight`` (scglue's prior, 1 at
        the transcription start site and decreasing as (1 + dist / 1 kb)^-0.75), ``sign`` (of the score, 1 or -1),
        ``type`` ``"fwd"``, ``score``, ``pval`` and ``qval``.

    Raises
    ------
    ValueError
        A column is missing, or a link occurs twice.
    ImportError
        networkx is not installed.
    """
    nx = optional("networkx", "this graph", "scatacformer[graph]")

    links = check_links(links)
    refuse_twice(links)
    dist = np.abs(links["distance"].to_numpy())
    attributes = {
        "dist": dist.tolist(),
        "weight": ((1 + dist / 1000) ** -0.75).tolist(),
        "sign": np.where(links["score"].to_numpy() < 0, -1, 1).tolist(),
        "score": links["score"].tolist(),
        "pval": links["p"].tolist(),
        "qval": links["q"].tolist(),
    }
    graph = nx.MultiDiGraph()
    rows = zip(links["gene"].astype(str), links["region"].astype(str), *attributes.values(), strict=True)
    graph.add_edges_from(
        (gene, region, {**dict(zip(attributes, values, strict=True)), "type": "fwd"}) for gene, region, *values in rows
    )
    return graph
