"""Links between genes and bins as a network for SnapATAC2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scatacformer._io import optional, snapatac2
from scatacformer.genome import check_links

from ._links import refuse_twice

if TYPE_CHECKING:
    from rustworkx import PyDiGraph


def links_to_snapatac2(links: pd.DataFrame) -> PyDiGraph:
    """A network of edges from regions to genes, as ``snapatac2.tl.init_network_from_annotation`` builds them.

    Parameters
    ----------
    links
        Result of ``get_gene_bin_links``, or a subset of its rows, for example those with a small ``q``. Every link
        becomes a Python object of about 350 bytes.

    Returns
    -------
    PyDiGraph
        Nodes are ``snapatac2.tl.NodeData`` of type ``"region"`` or ``"gene"``; the ids of genes are in upper case, as
        SnapATAC2 looks them up. Edges are ``snapatac2.tl.LinkData`` with the absolute ``distance`` (bp), and ``score``,
        ``p`` and ``q`` as further attributes, so that ``snapatac2.pl.network_scores(network, "score")`` draws them.

    Raises
    ------
    ValueError
        A column is missing, a link occurs twice, or two genes have the same name in upper case.
    ImportError
        snapatac2 or rustworkx is not installed.
    """
    rustworkx = optional("rustworkx", "this graph", "scatacformer[graph]")
    snap = snapatac2("this graph")

    links = check_links(links)
    refuse_twice(links)
    of_gene, genes = pd.factorize(links["gene"])
    of_region, regions = pd.factorize(links["region"])
    upper = pd.Index([str(gene).upper() for gene in genes], dtype=object)
    if (twice := upper.duplicated()).any():
        name = upper[int(twice.argmax())]
        raise ValueError(
            f"SnapATAC2 compares gene names in upper case, in which {int(twice.sum())} of {len(upper):,} are the same as "
            f"another: {', '.join(str(gene) for gene in genes if str(gene).upper() == name)}. Rename or drop them."
        )
    graph = rustworkx.PyDiGraph()
    region_nodes = list(graph.add_nodes_from([snap.tl.NodeData(str(region), "region") for region in regions]))
    gene_nodes = list(graph.add_nodes_from([snap.tl.NodeData(gene, "gene") for gene in upper]))
    edges = []
    numbers = (links[column].tolist() for column in ("distance", "score", "p", "q"))
    for region, gene, distance, score, p, q in zip(of_region.tolist(), of_gene.tolist(), *numbers, strict=True):
        link = snap.tl.LinkData(abs(distance))
        link.score, link.p, link.q = score, p, q
        edges.append((region_nodes[region], gene_nodes[gene], link))
    graph.add_edges_from(edges)
    return graph
