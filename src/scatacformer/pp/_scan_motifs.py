"""Motif scores of each region."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scatacformer.pseudobulk import as_vocabulary
from scatacformer.sequence import Fasta, Motifs, ScanSettings, scan_regions

if TYPE_CHECKING:
    from anndata import AnnData


def scan_motifs(
    regions: AnnData,
    fasta: str | Path | Fasta,
    motifs: Literal["jaspar"] | str | Path | Motifs = "jaspar",
    clusters: str | Path | Mapping[str, Any] | None = None,
    *,
    p_value: float = 1e-4,
    reduce: Literal["sum", "max"] = "sum",
    cluster_reduce: Literal["sum", "max"] = "sum",
    pseudocount: float = 0.1,
    key_added: str = "motif",
) -> None:
    """Score each region for each motif, or cluster of motifs.

    Both strands are scanned. A hit is a window whose log-odds score (in bits, against a uniform background) reaches the
    p-value threshold. A window that contains an N is not a hit, soft-masked (lower-case) bases are read as upper case,
    and a region narrower than a motif has no hit of it. Memory: the result (4 bytes per region and column) and about
    250 MB.

    Parameters
    ----------
    regions
        AnnData with regions as variables, located by ``.var``, in any order.
    fasta
        FASTA file of the assembly of the regions.
    motifs
        ``"jaspar"``: the CORE motifs of vertebrates that pyjaspar has (extra ``motif``); the path of a MEME, JASPAR or
        HOMER file; or :class:`scatacformer.sequence.Motifs`.
    clusters
        Cluster of each motif; the scores of a cluster become one column. A tab-separated table of motif and cluster
        with a header line, or a mapping. Default: each motif has its own column.
    p_value
        Largest p-value of a hit: the probability that a random window scores as high, on one strand.
    reduce
        Score of a motif in a region: the ``"sum"`` of its hits, or the ``"max"``.
    cluster_reduce
        Score of a cluster: the ``"sum"`` over its motifs, or the ``"max"``.
    pseudocount
        Pseudocount added to each position of a motif, relative to its number of sites.
    key_added
        Where to write.

    Returns
    -------
    None
        Written: ``.varm[key_added]``, (n_regions, n_columns) float32, in bits; ``.uns[key_added]``: the ``names`` of
        the columns; ``scale`` (n_columns,), the largest score of each column (1 where it is 0), which models divide by;
        ``motifs``, the matrices; ``checksum``; and the settings of the scan, so that other regions and sequences can be
        scanned in the same way.

    Raises
    ------
    ValueError
        The file lacks a chromosome of the regions, or has it shorter; the motifs or clusters are invalid (a duplicate
        name, a position that carries no information or does not sum to 1, a motif without a cluster); ``regions`` is a
        view.
    ImportError
        ``"jaspar"``, and pyjaspar is not installed.

    Examples
    --------
    >>> sf.pp.scan_motifs(regions, "hg38.fa", motifs="archetypes.meme", clusters="clusters.txt")  # doctest: +SKIP
    """
    if getattr(regions, "is_view", False):
        raise ValueError("regions is a view of another AnnData: pass regions.copy().")
    settings = ScanSettings(p_value, reduce, cluster_reduce, pseudocount)
    found = _read(motifs)
    if clusters is not None:
        found = found.with_clusters(clusters)
    found.log_odds(pseudocount)  # refuse what cannot be scored before the genome is opened
    opened = fasta if isinstance(fasta, Fasta) else Fasta(fasta)
    scores = scan_regions(as_vocabulary(regions), opened, found, settings)
    largest = scores.max(axis=0, initial=0)
    regions.varm[key_added] = scores
    regions.uns[key_added] = {
        "names": np.array(found.columns, dtype=object),
        "scale": np.where(largest > 0, largest, 1).astype(np.float32),
        "motifs": found.to_dict(),
        "checksum": found.checksum,
        "p_value": p_value,
        "reduce": reduce,
        "cluster_reduce": cluster_reduce,
        "pseudocount": pseudocount,
    }


def _read(motifs: Any) -> Motifs:
    if isinstance(motifs, Motifs):
        return motifs
    if isinstance(motifs, str) and motifs.lower() == "jaspar":
        return Motifs.from_jaspar()
    return Motifs.from_file(motifs)
