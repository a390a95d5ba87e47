"""Setup of an AnnData of tracks × output bins for Epiformer, checked before work starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scatacformer.genome import BigWig
from scatacformer.sequence import Fasta
from scatacformer.tracks import WindowData, check_bigwig_sizes, check_signal

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

SETUP = "scatacformer_epiformer"  # key of uns
WINDOWS = "sequence_windows"  # the same; written by sf.pp.sequence_windows
LEAST_WINDOWS = 20


class Genome(NamedTuple):
    """Where DNA and conservation are read."""

    fasta: Fasta
    conservation: BigWig | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """Tracks × bins as the network reads them."""

    adata: AnnData
    genome: Genome
    windows: pd.DataFrame
    data: WindowData

    @property
    def track_names(self) -> list[str]:
        """Of the rows."""
        return [str(name) for name in self.adata.obs_names]

    @property
    def geometry(self) -> dict[str, int]:
        """``seq_len``, ``bin_size`` and ``crop``."""
        return {"seq_len": self.data.seq_len, "bin_size": self.data.bin_size, "crop": self.data.crop}


def open_genome(fasta: str | Path, conservation: str | Path | None) -> Genome:
    """Open both; ValueError if they are from different assemblies."""
    genome = Genome(Fasta(fasta), None if conservation is None else BigWig(conservation))
    if genome.conservation is not None:
        check_bigwig_sizes({"conservation": genome.conservation}, genome.fasta.sizes)
    return genome


def set_up(adata: AnnData, layer: str | None, fasta: str | Path | None, conservation: str | Path | None) -> None:
    """Check the data and record the setup in ``adata.uns``."""
    read = _read_of(adata)
    said = {
        "layer": layer or "",
        "fasta": str(fasta or read["fasta"]),
        "conservation": str(conservation or read["conservation"]),
    }
    adata.uns[SETUP] = said
    try:
        prepare(adata)
    except (ValueError, FileNotFoundError):
        del adata.uns[SETUP]
        raise


def prepare(adata: AnnData, check: bool = True) -> Prepared:
    """The data that were set up. ValueError where they were not, or no longer fit together.

    ``check``: look at the signal too, which is not needed to predict.
    """
    if SETUP not in adata.uns:
        raise ValueError("please set up your AnnData with Epiformer.setup_anndata first.")
    said, read = adata.uns[SETUP], _read_of(adata)
    windows = read["windows"]
    geometry = {name: int(read[name]) for name in ("seq_len", "bin_size", "crop")}
    first = windows["first"].to_numpy(dtype=np.int64)
    _check_columns(adata, windows, first, geometry)
    signal = adata.X if not said["layer"] else adata.layers[said["layer"]]
    if hasattr(signal, "tocsr"):
        raise ValueError("the signal of tracks is dense (n_tracks, n_bins), found a sparse matrix: use .toarray().")
    if check and not hasattr(signal, "file"):  # of a backed AnnData it is read as it is needed
        check_signal(np.asarray(signal), [str(name) for name in adata.obs_names])
    genome = open_genome(said["fasta"], said["conservation"] or None)
    chrom, start = windows["chrom"].to_numpy(dtype=object), windows["start"].to_numpy(dtype=np.int64)
    ends = (windows["start"] + geometry["seq_len"]).groupby(windows["chrom"], observed=True).max()
    genome.fasta.check({str(name): int(end) for name, end in ends.items()}, "the windows")
    data = WindowData(
        genome.fasta, chrom, start, **geometry, conservation=genome.conservation, signal=signal, first=first
    )
    return Prepared(adata, genome, windows, data)


def _read_of(adata: AnnData) -> dict[str, Any]:
    if WINDOWS not in adata.uns:
        raise ValueError(
            f"adata.uns has no {WINDOWS!r}: Epiformer reads what sf.pp.sequence_windows makes, tracks × output bins of "
            "windows of DNA."
        )
    return dict(adata.uns[WINDOWS])


def _check_columns(adata: AnnData, windows: pd.DataFrame, first: np.ndarray, geometry: dict[str, int]) -> None:
    """Bins must match the windows, which is no longer the case after a selection of columns."""
    n_bins = geometry["seq_len"] // geometry["bin_size"]
    inside = (first >= 0) & (first + n_bins <= adata.n_vars)
    start, chrom = adata.var["start"].to_numpy(), adata.var["chrom"].to_numpy(dtype=object)
    for at, offset in ((first, 0), (first + n_bins - 1, geometry["seq_len"] - geometry["bin_size"])):
        inside[inside] &= start[at[inside]] == windows["start"].to_numpy()[inside] + offset
        inside[inside] &= chrom[at[inside]] == windows["chrom"].to_numpy(dtype=object)[inside]
    # between the first and the last bin of a window every bin follows the one before
    breaks = np.concatenate([[0], np.cumsum(np.diff(start) != geometry["bin_size"])])
    inside[inside] &= breaks[first[inside] + n_bins - 1] == breaks[first[inside]]
    if not inside.all():
        raise ValueError(
            f"{int((~inside).sum()):,} of {len(first):,} windows do not have their bins in adata.var: columns were "
            "selected or reordered. Select tracks (rows), and make other windows with sf.pp.sequence_windows."
        )
