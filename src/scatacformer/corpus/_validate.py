"""Check that a corpus and its sources are unchanged since it was built."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scatacformer._io import tqdm
from scatacformer.cells import FlatArray
from scatacformer.genome import assembly_name

from ._descriptions import data_set_folder, read_card, read_vocabulary
from ._fingerprint import has_changed
from ._shard import COLUMNS, DTYPES, BarcodeFile, Distinct, open_array

_BLOCK = 1 << 20  # numbers read at once
_ALL_OF_THEM = 50  # faults that a message names
AGAIN = "Build again: Corpus.build with the same sources reads this data set again and keeps the others."


def validate(folder: Path, deep: bool) -> dict[str, Any]:
    """See :meth:`Corpus.validate`. The corpus need not be such that it can be opened."""
    card = read_card(folder)
    faults, missing = faults_of(folder, card, deep)
    if len(faults) == 1:
        raise ValueError(faults[0])
    if faults:
        more = len(faults) - _ALL_OF_THEM
        lines = [f"\n- {fault}" for fault in faults[:_ALL_OF_THEM]] + ([f"\n- and {more:,} more"] if more > 0 else [])
        raise ValueError(f"The corpus in {folder} has {len(faults):,} faults:{''.join(lines)}")
    return {"n_cells": card["n_cells"], "n_tokens": card["n_tokens"], "sources_missing": missing}


def faults_of(folder: Path, card: dict[str, Any], deep: bool) -> tuple[list[str], list[str]]:
    """(A sentence for each fault, sources that no longer exist) for everything listed in ``card``."""
    faults = [*_noted(lambda: _check_vocabulary(folder, card)), *_sums_of_card(folder, card)]
    missing: list[str] = []
    total = sum(data_set["n_tokens"] for data_set in card["datasets"])
    with tqdm(total=total, unit="token", unit_scale=True, desc="validating", delay=1, disable=None) as bar:
        for data_set in card["datasets"]:
            faults += _faults_of_sources(data_set, deep, missing)
            faults += _faults_of_shard(data_set, data_set_folder(folder, data_set), card["n_bins"], bar)
    return faults, missing


def _check_vocabulary(folder: Path, card: dict[str, Any]) -> None:
    vocabulary = read_vocabulary(folder, card)
    if vocabulary.assembly is not None and assembly_name(vocabulary.assembly) is not None:
        vocabulary.validate_assembly()


def _sums_of_card(folder: Path, card: dict[str, Any]) -> Iterator[str]:
    for name in ("n_cells", "n_tokens"):
        if (found := sum(data_set[name] for data_set in card["datasets"])) != card[name]:
            yield f"The card of {folder} lists {name} = {card[name]:,}, but its data sets have {found:,}. Build it again."


def _noted(check: Callable[[], Any]) -> list[str]:
    """The fault that a check finds, or none."""
    try:
        check()
    except (ValueError, OSError) as error:
        return [str(error)]
    return []


def _faults_of_sources(data_set: dict[str, Any], deep: bool, missing: list[str]) -> Iterator[str]:
    for what in ("source", "table"):
        before = data_set.get(what)
        if before is None:
            continue
        path = Path(before["path"])
        if not path.exists():
            missing.append(before["path"])
        elif has_changed(path, before, deep):
            yield f"{path} changed since the data set {data_set['name']} was built of it. {AGAIN}"


def _faults_of_shard(data_set: dict[str, Any], folder: Path, n_bins: int, bar: Any) -> Iterator[str]:
    """At most one for each file: of those with the right bytes also whether these can be right."""
    whole = set()
    for name in DTYPES:
        faults = _noted(lambda name=name: _check_bytes(folder, name, data_set))  # type: ignore[misc]
        yield from faults
        whole |= set() if faults else {name}
    for name in whole & set(COLUMNS):
        array = open_array(folder, name, data_set, n_bins)
        yield from _noted(lambda array=array: [None for _ in _blocks(array)])  # type: ignore[misc]
    if whole >= {"bins", "indptr"}:
        yield from _noted(lambda: check_bins(folder, n_bins, bar))
    if whole >= {"barcodes", "barcodes_indptr"}:
        yield from _noted(lambda: _check_barcodes(folder))


def _check_bytes(folder: Path, name: str, data_set: dict[str, Any]) -> None:
    expected = data_set["checksums"][f"{name}.npy"]
    array = FlatArray(folder / f"{name}.npy", DTYPES[name])
    digest = hashlib.sha256()
    for block in _blocks(array):
        digest.update(block.data)
    if digest.hexdigest() != expected:
        raise ValueError(
            f"{array.path} is not what was written (SHA-256 {digest.hexdigest()[:12]}..., expected {expected[:12]}...). "
            f"Remove the folder {folder} and build again; the others are kept."
        )
    open_array(folder, name, data_set, 1)  # as many numbers as listed in the card


def check_bins(folder: Path, n_bins: int, bar: Any) -> None:
    """ValueError for bins of a data set that are out of range, not sorted within their cell, or come twice in it."""
    bins, indptr = FlatArray(folder / "bins.npy", DTYPES["bins"]), FlatArray(folder / "indptr.npy", DTYPES["indptr"])
    boundaries = indptr[:]
    if not len(boundaries) or boundaries[0] != 0 or boundaries[-1] != len(bins) or (np.diff(boundaries) < 0).any():
        raise ValueError(f"{indptr.path} does not fit {bins.path}. Remove the folder {folder} and build again.")
    last = -1
    for start, block in zip(range(0, len(bins), _BLOCK), _blocks(bins), strict=True):
        if block.min() < 0 or block.max() >= n_bins:
            wrong = block.max() if block.max() >= n_bins else block.min()
            raise ValueError(
                f"{bins.path} names the bin {wrong}, of {n_bins:,}. Remove the folder {folder} and build again."
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


def _check_barcodes(folder: Path) -> None:
    names, barcodes = Distinct(), BarcodeFile(folder)
    for start in range(0, barcodes.n, _BLOCK):
        names.add(barcodes.stretch(start, min(start + _BLOCK, barcodes.n)))
    names.check(folder, str(folder))


def _blocks(array: FlatArray) -> Iterator[np.ndarray]:
    for start in range(0, len(array), _BLOCK):
        yield array[start : start + _BLOCK]
