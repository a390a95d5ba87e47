"""Links between genes and bins as a BEDPE file, for genome browsers."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd

from scatacformer._io import whole_file
from scatacformer.genome import check_links


def links_to_bedpe(links: pd.DataFrame, path: str | Path) -> None:
    """Write links from regions to transcription start sites, sorted; gzip-compressed if the name ends in ``.gz``.

    Parameters
    ----------
    links
        Result of ``get_gene_bin_links``, or a subset of its rows, for example those with a small ``q``.
    path
        ``links.bedpe``: BEDPE, as read by bioframe, bedtools and IGV: chrom, start and end of the region, the same of
        the transcription start (1 bp), the gene, the score, the strand of the region (``.``) and of the gene.
        ``links.links`` or ``links.arcs``: for pyGenomeTracks, which expects the score in the seventh column and no
        name.

    Raises
    ------
    ValueError
        A column is missing, or the name has another ending.
    FileNotFoundError
        The folder does not exist.
    """
    path = Path(path)
    links = check_links(links)
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in (".bedpe", ".links", ".arcs"):
        raise ValueError(f"Cannot write {path}: the name must end in .bedpe, .links or .arcs, with or without .gz.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"Cannot write {path}: there is no folder {path.parent}.")
    chrom = links["chrom"].astype(str)
    table = pd.DataFrame(
        {
            "chrom1": chrom,
            "start1": links["start"],
            "end1": links["end"],
            "chrom2": chrom,
            "start2": links["tss"],
            "end2": links["tss"] + 1,
            "name": links["gene"].astype(str),
            "score": links["score"],
            "strand1": ".",
            "strand2": links["strand"].astype(str),
        }
    )
    table = table.sort_values(["chrom1", "start1", "end1", "start2", "name"], kind="stable")
    if kind != ".bedpe":
        table = table[[*table.columns[:6], "score"]]
    content = table.to_csv(sep="\t", header=False, index=False, na_rep=".", lineterminator="\n").encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # no time stamp: the same links give the same bytes
    with whole_file(path) as partial:
        partial.write_bytes(content)
