"""Is the corpus what it was when it was built, and are its sources?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from scatacformer.cells import FlatArray

from ._fingerprint import has_changed
from ._shard import BarcodeFile, _Distinct

if TYPE_CHECKING:
    from ._corpus import Corpus

_BLOCK = 1 << 20  # numbers read at once
AGAIN = "Build again: Corpus.build with the same sources reads this data set anew and keeps the others."


def validate(corpus: Corpus, deep: bool) -> dict[str, Any]:
    """See :meth:`Corpus.validate`."""
    if corpus.vocabulary.assembly is not None and _is_known(corpus.vocabulary.assembly):
        corpus.vocabulary.validate_assembly()
    missing: list[str] = []
    data_sets = corpus.card["datasets"]
    for data_set in data_sets:
        missing += _check_sources(data_set, deep)
    with tqdm(total=corpus.n_tokens, unit="token", unit_scale=True, desc="validating", delay=1, disable=None) as bar:
        for data_set, folder in zip(data_sets, corpus._folders, strict=True):
            _check_shard(data_set, folder, corpus.card["n_bins"], bar)
    return {"n_cells": corpus.n_cells, "n_tokens": corpus.n_tokens, "sources_missing": missing}


def _is_known(assembly: str) -> bool:
    from scatacformer.genome import assembly_name

    return assembly_name(assembly) is not None


def _check_sources(data_set: dict[str, Any], deep: bool) -> list[str]:
    missing = []
    for what in ("source", "table"):
        before = data_set[what]
        if before is None:
            continue
        path = Path(before["path"])
        if not path.exists():
            missing.append(before["path"])
        elif has_changed(path, before, deep):
            raise ValueError(f"{path} changed since the data set {data_set['name']} was built of it. {AGAIN}")
    return missing


def _check_shard(data_set: dict[str, Any], folder: Path, n_bins: int, bar: tqdm) -> None:
    for name, checksum in data_set["checksums"].items():
        digest = hashlib.sha256()
        for block in _blocks(FlatArray(folder / name)):
            digest.update(block.data)
        if digest.hexdigest() != checksum:
            raise ValueError(
                f"{folder / name} is not what was written (SHA-256 {digest.hexdigest()[:12]}..., expected "
                f"{checksum[:12]}...). Remove the folder {folder} and build again; the others are kept."
            )
    _check_bins(folder, n_bins, bar)
    names, barcodes = _Distinct(), BarcodeFile(folder)
    for start in range(0, data_set["n_cells"], _BLOCK):
        names.add(barcodes.stretch(start, min(start + _BLOCK, data_set["n_cells"])))
    names.check(folder, str(folder))


def _check_bins(folder: Path, n_bins: int, bar: tqdm) -> None:
    bins, indptr = FlatArray(folder / "bins.npy"), FlatArray(folder / "indptr.npy")
    boundaries = indptr[:]
    if boundaries[0] != 0 or boundaries[-1] != len(bins) or (np.diff(boundaries) < 0).any():
        raise ValueError(f"{indptr.path} does not fit {bins.path}. Remove the folder {folder} and build again.")
    last = -1
    for start in range(0, len(bins), _BLOCK):
        block = bins[start : start + _BLOCK]
        if block.min() < 0 or block.max() >= n_bins:
            raise ValueError(
                f"{bins.path} names the bin {block.max()}, of {n_bins:,}. Remove the folder {folder} and build again."
            )
        rises = np.diff(block, prepend=last) > 0
        first, stop = np.searchsorted(boundaries, [start, start + len(block)])
        rises[boundaries[first:stop] - start] = True  # where a cell begins
        if not rises.all():
            cell = int(np.searchsorted(boundaries, start + np.argmin(rises), side="right")) - 1
            raise ValueError(
                f"{bins.path}: the bins of cell {cell:,} are not sorted, or one comes twice. Remove the folder {folder} "
                "and build again."
            )
        last = int(block[-1])
        bar.update(len(block))


def _blocks(array: FlatArray) -> Any:
    for start in range(0, len(array), _BLOCK):
        yield array[start : start + _BLOCK]
