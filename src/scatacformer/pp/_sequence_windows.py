"""From a genome and the coverage of each group to tracks × output bins, for Epiformer."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scatacformer.genome import DEFAULT_EXCLUDED, BigWig
from scatacformer.sequence import Fasta
from scatacformer.tracks import (
    SequenceWindows,
    array_signal,
    bigwig_signal,
    bins_of_windows,
    check_bigwig_sizes,
    check_signal,
    insertion_signal,
    place_windows,
    windows_at,
)

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

LEAST_INSERTIONS_PER_KB = 1.6  # 5 million for a human genome; below it a group's peaks are mostly noise
_CLIP = 128.0


def sequence_windows(
    tracks: Mapping[str, str | Path] | Sequence[str | Path] | AnnData | np.ndarray,
    fasta: str | Path,
    conservation: str | Path | None = None,
    *,
    groupby: str | None = None,
    fragments: str | Path | Mapping[str, str | Path] | None = None,
    sample_key: str | None = None,
    barcode_key: str | None = None,
    names: Sequence[str] | None = None,
    regions: str | Path | Sequence[str] | pd.DataFrame | None = None,
    chromosomes: Collection[str] | None = None,
    seq_len: int = 98_304,
    bin_size: int = 128,
    crop: int = 64,
    blacklist: str | Path | None = None,
    normalize: Literal["cpm"] | None = "cpm",
    reduce: Literal["mean", "sum", "max", "median"] | None = None,
    scale: float = 1.0,
    clip: float | Literal["auto"] | None = "auto",
) -> AnnData:
    """Signal of each track in the output bins of windows of DNA; :class:`scatacformer.model.Epiformer` takes it.

    No DNA is stored: windows are read from the FASTA file when they are needed. Tn5's preference for certain sequences
    is not corrected.

    Parameters
    ----------
    tracks
        bigWig files, by the name of their track or as a list (the names are those of the files); or cells with
        ``groupby`` and ``fragments``; or an array ``(n_tracks, n_windows, n_bins)`` with ``regions``, the windows
        themselves, where NaN is a missing value.
    fasta
        FASTA file of the genome, plain or bgzip; its index is made if it is missing.
    conservation
        bigWig file of conservation (phastCons, 0 to 1). One-hot DNA is multiplied by its exponential: where it has no
        value the factor is 1.
    groupby
        Column of ``tracks.obs`` whose categories become tracks. Cells without a category are not counted.
    fragments
        Fragments file of the cells, or one for each sample.
    sample_key
        Column of ``tracks.obs`` with the sample of each cell, for several fragments files.
    barcode_key
        Column of ``tracks.obs`` with the barcodes as the files spell them; the names of the cells by default.
    names
        Names of the tracks of an array.
    regions
        BED file, names such as ``"chr1:0-5000"`` or a table: windows are centred on them. None: windows tile the genome
        so that their predicted parts touch.
    chromosomes
        Chromosomes that have windows; by default all that the FASTA file and the tracks share, but mitochondria and
        chrY.
    seq_len
        Length of a window in bp, a multiple of ``bin_size``.
    bin_size
        Width of an output bin in bp, a power of two.
    crop
        Bins on each side of a window that are read and not predicted.
    blacklist
        BED file; windows that overlap it are dropped.
    normalize
        Of fragments: ``"cpm"``, insertions per million of the group's insertions, or None, insertions.
    reduce
        How the bases of a bin become one value: by default ``"mean"`` of a bigWig file, ``"sum"`` of insertions.
    scale
        Factor of all values, before they are clipped.
    clip
        Largest value of a bin. ``"auto"``: 128 for bigWig files, as published, none for fragments and arrays.

    Returns
    -------
    AnnData
        ``.X`` (n_tracks, n_bins) float32. ``.var`` with columns ``chrom``, ``start``, ``end``: all bins that the
        windows cover, those of their crop included, each once. ``.uns["sequence_windows"]``: what was read, from where,
        the windows, and how many were dropped for what reason. ``.obs`` has the number of cells and of insertions.

    Raises
    ------
    FileNotFoundError
        A file does not exist.
    ValueError
        Chromosome names differ (both sets are shown); a bigWig file or the fragments are of another assembly than the
        FASTA file; a track is negative, or zero or missing everywhere; no window is left; ``seq_len`` is not a multiple
        of ``bin_size``. All but the values before the signal is read.

    Examples
    --------
    >>> tracks = sf.pp.sequence_windows({"T": "t.bw", "B": "b.bw"}, "hg38.fa")  # doctest: +SKIP
    >>> tracks = sf.pp.sequence_windows(adata, "hg38.fa", groupby="leiden", fragments="f.tsv.gz")  # doctest: +SKIP
    """
    _check_geometry(seq_len, bin_size, crop)
    genome = Fasta(fasta)
    source = _kind_of(tracks, groupby, fragments, regions)
    files = _bigwigs(tracks) if source == "bigwig" else {}
    shared = check_bigwig_sizes(files, genome.sizes)
    if conservation is not None:
        check_bigwig_sizes({"conservation": BigWig(conservation)}, genome.sizes)
    geometry = {"seq_len": int(seq_len), "bin_size": int(bin_size), "crop": int(crop)}
    if source == "array":
        windows = windows_at(genome, regions, **geometry)  # type: ignore[arg-type]
    else:
        wanted = _wanted(chromosomes, shared, genome)
        windows = place_windows(genome, chromosomes=wanted, regions=regions, blacklist=blacklist, **geometry)
    bins, first = bins_of_windows(windows)

    reduce = reduce or ("sum" if source == "fragments" else "mean")
    obs: dict[str, Any] = {}
    if source == "bigwig":
        signal, labels = bigwig_signal(files, bins, bin_size, reduce), list(files)
        obs["source"] = [str(file.path) for file in files.values()]
    elif source == "fragments":
        signal, labels, obs = _from_fragments(
            tracks, groupby, fragments, sample_key, barcode_key, bins, bin_size, genome.sizes, normalize, reduce
        )
    else:
        signal = array_signal(np.asarray(tracks), windows, bins, first)
        labels = [str(name) for name in names] if names is not None else [f"track_{i}" for i in range(len(signal))]
        if len(labels) != len(signal):
            raise ValueError(f"names has {len(labels)} entries for {len(signal)} tracks.")
    check_signal(signal, labels)
    limit = (_CLIP if source == "bigwig" else None) if clip == "auto" else clip
    _scale_and_clip(signal, labels, scale, limit)
    how: dict[str, Any] = {"reduce": reduce, "scale": float(scale), "clip": -1.0 if limit is None else float(limit)}
    if source == "fragments":
        how["normalize"] = normalize or "none"
    paths = {"fasta": str(genome.path), "conservation": "" if conservation is None else str(conservation)}
    return _assembled(signal, labels, obs, bins, windows, first, geometry | how | paths)


def _assembled(
    signal: np.ndarray,
    labels: list[str],
    obs: dict[str, Any],
    bins: pd.DataFrame,
    windows: SequenceWindows,
    first: np.ndarray,
    said: dict[str, Any],
) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    if len(set(labels)) < len(labels):
        raise ValueError(f"tracks must have different names, found {', '.join(labels)}.")
    adata = AnnData(signal, obs=pd.DataFrame(obs, index=pd.Index(labels, dtype=object)), var=bins)
    table = pd.DataFrame(
        {
            "chrom": windows.names.astype(str),
            "start": windows.start,
            "end": windows.start + windows.seq_len,
            "first": first,
        }
    )
    table.index = table.index.astype(str)
    adata.uns["sequence_windows"] = said | {"windows": table, "dropped": dict(windows.dropped)}
    return adata


def _check_geometry(seq_len: int, bin_size: int, crop: int) -> None:
    if bin_size < 2 or bin_size & (bin_size - 1):
        raise ValueError(f"bin_size is {bin_size}; expected a power of two.")
    if seq_len < bin_size or seq_len % bin_size:
        raise ValueError(
            f"seq_len must be a multiple of bin_size ({bin_size} bp), found {seq_len}; the nearest is "
            f"{max(1, round(seq_len / bin_size)) * bin_size}."
        )
    if crop < 0 or 2 * crop * bin_size >= seq_len:
        raise ValueError(f"a crop of {crop} bins on each side leaves none of the {seq_len // bin_size} of a window.")


def _kind_of(tracks: Any, groupby: str | None, fragments: Any, regions: Any) -> str:
    if isinstance(tracks, np.ndarray):
        if regions is None:
            raise ValueError("an array of tracks needs regions: the windows that it measures, in its order.")
        return "array"
    if hasattr(tracks, "obs"):
        if groupby is None or fragments is None:
            raise ValueError(
                "cells need groupby=, the column of their groups, and fragments=, the file of their fragments: cells × "
                "bins of 5 kb are too coarse for bins of 128 bp."
            )
        return "fragments"
    if not isinstance(tracks, Mapping) and (isinstance(tracks, str | Path) or not isinstance(tracks, Sequence)):
        raise ValueError(
            f"tracks must be bigWig files by name, a list of them, an AnnData of cells or an array, found "
            f"{type(tracks).__name__}."
        )
    if not len(tracks):
        raise ValueError("no track was given.")
    return "bigwig"


def _bigwigs(tracks: Any) -> dict[str, BigWig]:
    named = tracks if isinstance(tracks, Mapping) else {Path(path).name.rsplit(".", 1)[0]: path for path in tracks}
    if len(named) < len(tracks):
        raise ValueError("several bigWig files have the same name; pass a mapping of track name to file.")
    return {str(name): BigWig(path) for name, path in named.items()}


def _wanted(chromosomes: Collection[str] | None, shared: list[str], genome: Fasta) -> list[str]:
    if chromosomes is None:
        return [name for name in shared if name not in DEFAULT_EXCLUDED]
    wanted = [chromosomes] if isinstance(chromosomes, str) else list(chromosomes)
    if missing := [name for name in wanted if name not in shared]:
        raise ValueError(
            f"the FASTA file and the tracks do not both have {', '.join(missing[:5])}; they share "
            f"{', '.join(shared[:5])}{f', ... ({len(shared)} in all)' if len(shared) > 5 else ''}."
        )
    return wanted


def _from_fragments(
    cells: Any,
    groupby: str | None,
    fragments: Any,
    sample_key: str | None,
    barcode_key: str | None,
    bins: pd.DataFrame,
    bin_size: int,
    sizes: Mapping[str, int],
    normalize: str | None,
    reduce: str,
) -> tuple[np.ndarray, list[str], dict[str, Any]]:
    import pandas as pd

    for key in (groupby, sample_key, barcode_key):
        if key is not None and key not in cells.obs:
            raise ValueError(f"adata.obs has no column {key!r}; it has {', '.join(map(str, cells.obs.columns[:12]))}.")
    if normalize not in ("cpm", None):
        raise ValueError(f"normalize is {normalize!r}; expected 'cpm' or None.")
    if reduce not in ("mean", "sum"):
        raise ValueError(f"insertions are reduced by 'sum' or 'mean', found {reduce!r}.")
    group = pd.Categorical(cells.obs[groupby]).remove_unused_categories()
    labels = [str(name) for name in group.categories]
    barcodes = cells.obs_names if barcode_key is None else cells.obs[barcode_key].astype(str)
    if isinstance(fragments, Mapping):
        if sample_key is None:
            raise ValueError("several fragments files need sample_key=, the column of adata.obs with their names.")
        sample = cells.obs[sample_key].astype(str).to_numpy()
        if missing := sorted(set(sample) - set(map(str, fragments))):
            raise ValueError(
                f"there is no fragments file for the samples {', '.join(missing[:5])}. Pass one for each sample."
            )
        by_sample = {str(name): path for name, path in fragments.items()}
    else:
        sample, by_sample = np.full(cells.n_obs, "all", dtype=object), {"all": fragments}
    group_of: dict[str, dict[str, int]] = {name: {} for name in by_sample}
    for name, barcode, code in zip(sample, barcodes, group.codes.tolist(), strict=True):
        if code >= 0:
            group_of[name][str(barcode)] = code
    counts, total = insertion_signal(by_sample, group_of, len(labels), bins, bin_size, sizes)
    if (total == 0).any():
        raise ValueError(f"group {labels[int(np.argmin(total))]!r} has no fragment in the file. Leave it out.")
    _warn_of_depth(labels, total, sizes)
    if normalize == "cpm":
        counts *= (1e6 / total)[:, None].astype(np.float32)
    if reduce == "mean":
        counts /= bin_size
    n_cells = np.bincount(group.codes[group.codes >= 0], minlength=len(labels))
    return counts, labels, {"n_cells": n_cells, "n_insertions": total}


def _warn_of_depth(labels: list[str], total: np.ndarray, sizes: Mapping[str, int]) -> None:
    least = LEAST_INSERTIONS_PER_KB * sum(sizes.values()) / 1000
    if (shallow := np.flatnonzero(total < least)).size:
        listed = ", ".join(f"{labels[row]} ({int(total[row]):,})" for row in shallow[:5])
        warnings.warn(
            f"{len(shallow)} of {len(labels)} groups have fewer than {least:,.0f} insertions, {LEAST_INSERTIONS_PER_KB} "
            f"per kb of genome: {listed}. Their tracks are mostly noise; merge groups, or leave them out.",
            UserWarning,
            stacklevel=4,
        )


def _scale_and_clip(signal: np.ndarray, labels: list[str], scale: float, clip: float | None) -> None:
    if not scale > 0 or (clip is not None and not clip > 0):
        raise ValueError(f"scale is {scale} and clip is {clip}; expected both above 0.")
    signal *= np.float32(scale)
    if clip is None:
        return
    for row, name in enumerate(labels):
        share = float((signal[row] > clip).mean())
        if share > 1e-3:
            warnings.warn(
                f"{share:.1%} of the bins of track {name!r} are above {clip:g} and are clipped to it; pass scale= to "
                "bring the signal down, or a larger clip=",
                UserWarning,
                stacklevel=3,
            )
    np.minimum(signal, np.float32(clip), out=signal)
