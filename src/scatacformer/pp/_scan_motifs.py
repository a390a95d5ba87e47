"""Motif scores of each region."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scatacformer.pseudobulk import as_vocabulary
from scatacformer.sequence import Fasta, Motifs, ScanSettings, count_kmers, kmer_names, scan_regions

if TYPE_CHECKING:
    from anndata import AnnData

    from scatacformer.genome import Vocabulary


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
    kmers: int | None = None,
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
    kmers
        Length of k-mers (1 to 6) whose counts are added as further columns: a k-mer and its reverse complement are one
        column, ``"AACGT/ACGTT"``, with the square root of their count. They describe the composition of a region
        beside its motifs; with 5, there are 512. None: motifs alone.
    key_added
        Where to write.

    Returns
    -------
    None
        Written: ``.varm[key_added]``, (n_regions, n_columns) float32, in bits (k-mers: square roots of counts);
        ``.uns[key_added]``: the ``names`` of the columns; ``scale`` (n_columns,), the largest score of each column (1
        where it is 0), which models divide by; ``motifs``, the matrices; ``checksum``; and the settings of the scan, so
        that other regions and sequences can be scanned in the same way.

    Raises
    ------
    ValueError
        The file lacks a chromosome of the regions, or has it shorter; the motifs or clusters are invalid (a duplicate
        name, a position that carries no information or does not sum to 1, a motif without a cluster); ``kmers`` is not
        1 ... 6; ``regions`` is a view.
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
    names = [*found.columns, *([] if kmers is None else kmer_names(kmers))]
    found.log_odds(pseudocount)  # refuse what cannot be scored before the genome is opened
    opened = fasta if isinstance(fasta, Fasta) else Fasta(fasta)
    where = as_vocabulary(regions)
    scores = scan_regions(where, opened, found, settings)
    if kmers is not None:
        scores = np.concatenate([scores, _kmer_roots(where, opened, kmers)], axis=1)
    largest = scores.max(axis=0, initial=0)
    regions.varm[key_added] = scores
    regions.uns[key_added] = {
        "names": np.array(names, dtype=object),
        "scale": np.where(largest > 0, largest, 1).astype(np.float32),
        "motifs": found.to_dict(),
        "checksum": found.checksum,
        "p_value": p_value,
        "reduce": reduce,
        "cluster_reduce": cluster_reduce,
        "pseudocount": pseudocount,
    } | ({} if kmers is None else {"kmers": kmers})


def _kmer_roots(regions: Vocabulary, fasta: Fasta, k: int) -> np.ndarray:
    """Square roots: the spread of a count is then about the same where there are few and many."""
    order = regions.genome_order  # a disk is read from front to back
    spans = zip(regions.chrom[order].tolist(), regions.start[order].tolist(), regions.end[order].tolist(), strict=True)
    out = np.empty((len(order), len(kmer_names(k))), dtype=np.float32)
    out[order] = count_kmers((fasta.codes(regions.chrom_names[chrom], start, end) for chrom, start, end in spans), k)
    return np.sqrt(out, out=out)


def _read(motifs: Any) -> Motifs:
    if isinstance(motifs, Motifs):
        return motifs
    if isinstance(motifs, str) and motifs.lower() == "jaspar":
        return Motifs.from_jaspar()
    return Motifs.from_file(motifs)
