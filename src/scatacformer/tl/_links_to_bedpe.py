"""Links between genes and bins as a BEDPE file, for genome browsers."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd

from scatacformer._io import whole_file
from scatacformer.genome import check_links


def links_to_bedpe(links: pd.DataFrame, path: str | Path) -> None:
    """Write links from regions to the starts of genes, sorted; whole or not at all, gzip if the name ends in `.gz`.

    Parameters
    ----------
    links
        What `get_gene_bin_links` returned, or rows of it: those with a small `q`, say.
    path
        `links.bedpe`: BEDPE, as bioframe, bedtools and IGV read it: chrom, start and end of the region, the same of the
        transcription start (1 bp), the gene, the score, the strand of the region (`.`) and of the gene.
        `links.links` or `links.arcs`: for pyGenomeTracks, which wants the score in the seventh column and no name.

    Raises
    ------
    ValueError
        A column is missing, or the name ends otherwise.
    FileNotFoundError
        There is no such folder.
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
        content = gzip.compress(content, mtime=0)  # no time of day: same links, same bytes
    with whole_file(path) as partial:
        partial.write_bytes(content)
