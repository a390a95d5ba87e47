"""Public data sets, downloaded once into a cache and checked."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scatacformer._io import sha256, whole_file

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("scatacformer")

CACHE = "SCATACFORMER_DATA"  # names the folder of the cache, if it is not the user's
_10X = "https://cf.10xgenomics.com/samples"
_ARC = f"{_10X}/cell-arc/1.0.0/pbmc_granulocyte_sorted_10k/pbmc_granulocyte_sorted_10k"
_GEO = "https://ftp.ncbi.nlm.nih.gov/geo/series/GSE96nnn/GSE96769/suppl"


@dataclass(frozen=True)
class Remote:
    """A file of a public data set. ``checksum`` None: its publisher states none, and none is known here."""

    url: str
    checksum: str | None = None


FILES = {
    "atac_pbmc_500_fragments.tsv.gz": Remote(
        f"{_10X}/cell-atac/2.0.0/atac_pbmc_500_nextgem/atac_pbmc_500_nextgem_fragments.tsv.gz",
        "sha256:196c5d7ee0169957417e9f4d5502abf1667ef99453328f8d290d4a7f3b205c6c",
    ),
    "atac_pbmc_5k_fragments.tsv.gz": Remote(
        f"{_10X}/cell-atac/2.0.0/atac_pbmc_5k_nextgem/atac_pbmc_5k_nextgem_fragments.tsv.gz",
        "sha256:5fe44c0f8f76ce1534c1ae418cf0707ca5ef712004eee77c3d98d2d4b35ceaec",
    ),
    "pbmc_10k_multiome_fragments.tsv.gz": Remote(
        f"{_ARC}_atac_fragments.tsv.gz", "md5:a959ef83dfb9cae6ff73ab0147d547d1"
    ),
    "pbmc_10k_multiome_matrix.h5": Remote(f"{_ARC}_filtered_feature_bc_matrix.h5"),
    "buenrostro_2018_counts.txt.gz": Remote(f"{_GEO}/GSE96769_scATACseq_counts.txt.gz"),
    "buenrostro_2018_peaks.bed.gz": Remote(f"{_GEO}/GSE96769_PeakFile_20160207.bed.gz"),
}


class MultiomeFiles(NamedTuple):
    """Files of a multiome."""

    fragments: Path
    """Fragments of the ATAC."""
    matrix: Path
    """Cell Ranger's ``.h5`` with counts of genes and peaks, which ``muon.read_10x_h5`` reads."""


def pbmc500() -> Path:
    """Fragments of about 500 blood cells (10x Genomics, hg38).

    Downloaded once, into the folder that the environment variable ``SCATACFORMER_DATA`` names, or into the user's cache,
    and checked by its checksum.

    Returns
    -------
    Path
        The fragments file, for :func:`scatacformer.pp.bin_fragments`.

    Raises
    ------
    OSError
        The file cannot be downloaded.
    ValueError
        What was downloaded has another checksum.
    """
    return fetch("atac_pbmc_500_fragments.tsv.gz")


def pbmc5k() -> Path:
    """Fragments of about 5,000 blood cells (10x Genomics, hg38); as :func:`pbmc500`.

    Returns
    -------
    Path
        The fragments file.
    """
    return fetch("atac_pbmc_5k_fragments.tsv.gz")


def pbmc10k_multiome() -> MultiomeFiles:
    """RNA and ATAC of about 10,000 blood cells (10x Genomics, granulocytes removed, hg38); as :func:`pbmc500`.

    The checksum of the fragments is known. That of the matrix is not: it is recorded at the first download, and later
    changes are noticed.

    Returns
    -------
    MultiomeFiles
        Paths of the fragments and of the matrix of genes and peaks.
    """
    return MultiomeFiles(fetch("pbmc_10k_multiome_fragments.tsv.gz"), fetch("pbmc_10k_multiome_matrix.h5"))


def buenrostro2018() -> AnnData:
    """Blood progenitors sorted by type, cells × 491,437 peaks of hg19 (Buenrostro et al., Cell 2018; GEO GSE96769).

    Downloaded once, as by :func:`pbmc500`. GEO states no checksums: they are recorded at the first download, and later
    changes are noticed.

    Returns
    -------
    AnnData
        ``.X`` CSR, float32 counts; ``.obs["cell_type"]``, the sorted type that the cell's name contains, NaN without
        one; ``.var`` with ``chrom``, ``start``, ``end``; ``.uns["assembly"]``.

    Raises
    ------
    OSError
        A file cannot be downloaded.
    ValueError
        A file is not what it was at the first download, or is damaged.
    """
    return _read_buenrostro(fetch("buenrostro_2018_counts.txt.gz"), fetch("buenrostro_2018_peaks.bed.gz"))


def fetch(name: str) -> Path:
    """The path of a file of :data:`FILES` in the cache, downloaded if it is not there."""
    import pooch

    remote = FILES[name]
    folder = Path(os.environ.get(CACHE) or pooch.os_cache("scatacformer"))
    noted = folder / f"{name}.sha256"
    known = remote.checksum
    if known is None and noted.is_file():
        known = f"sha256:{noted.read_text(encoding='utf-8').strip()}"
    path = folder / name
    if path.is_file() and known is not None and not pooch.hashes.hash_matches(path, known):
        raise ValueError(
            f"{path} is not what was downloaded before, or what its publisher had: its checksum is not {known}. Remove "
            "it, and it is downloaded again."
        )
    if not path.is_file():
        logger.info("downloading %s into %s", remote.url, folder)
        _download(remote.url, known, path)
    if known is None:
        with whole_file(noted) as partial:
            partial.write_text(sha256(path) + "\n", encoding="utf-8")
    return path


def _download(url: str, checksum: str | None, path: Path) -> None:
    import pooch
    import requests

    quiet = pooch.get_logger()
    level = quiet.level
    quiet.setLevel("ERROR")  # pooch advises to note the checksum, which is done here
    try:
        pooch.retrieve(url, checksum, fname=path.name, path=path.parent)
    except requests.RequestException as error:
        raise OSError(
            f"{url} could not be downloaded ({type(error).__name__}: {error}). Download it by other means and put it at "
            f"{path}, or name the folder that has it in the environment variable {CACHE}."
        ) from error
    except ValueError as error:
        raise ValueError(f"{url} is not the file that is expected: {error}.") from error
    finally:
        quiet.setLevel(level)


_TYPES = ("HSC", "MPP", "LMPP", "CMP", "GMP", "MEP", "CLP", "pDC", "mono", "UNK")


def _read_buenrostro(counts: Path, peaks: Path) -> AnnData:
    """Counts: a line ``#<tab>name;name;...``, then peak, cell and count, from 1. Peaks: BED."""
    import gzip

    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    from scatacformer._io import reading

    with reading(counts, "GSE96769's table of counts"):
        with gzip.open(counts, "rt", encoding="utf-8") as lines:
            names = [name for name in re.split(r"[\t;]", next(lines).lstrip("#").strip()) if name]
        table = pd.read_csv(counts, sep="\t", skiprows=1, header=None, dtype=np.int64).to_numpy()
    with reading(peaks, "GSE96769's table of peaks"):
        var = pd.read_csv(peaks, sep="\t", header=None, usecols=[0, 1, 2], names=["chrom", "start", "end"])
    peak, cell, count = table.T
    shape = (len(names), len(var))
    if not len(table) or peak.min() < 1 or cell.min() < 1 or cell.max() > shape[0] or peak.max() > shape[1]:
        raise ValueError(
            f"{counts} has entries beyond its {shape[0]:,} cells and the {shape[1]:,} peaks of {peaks}. Remove both files, "
            "and they are downloaded again."
        )
    X = sparse.coo_matrix((count.astype(np.float32), (cell - 1, peak - 1)), shape=shape).tocsr()
    var.index = pd.Index(var["chrom"] + ":" + var["start"].astype(str) + "-" + var["end"].astype(str))
    found = [next((part for part in re.split(r"[-_.]", name) if part in _TYPES), None) for name in names]
    obs = pd.DataFrame({"cell_type": pd.Categorical(found, categories=_TYPES)}, index=names)
    return AnnData(X, obs=obs, var=var, uns={"assembly": "hg19"})
