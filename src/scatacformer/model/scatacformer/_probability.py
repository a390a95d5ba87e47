"""The probability that each region is open, streamed over regions: memory is bounded by the size of the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from scatacformer._io import whole_file

if TYPE_CHECKING:
    import pandas as pd

    from ._reader import Reader

# maximum size of a dense result, cells x regions; larger ones are a mistake on most machines (8 GiB)
MAX_DENSE = 2_000_000_000
REGIONS_AT_ONCE = 65_536


class Predicted(NamedTuple):
    """What is predicted of which cells."""

    rows: np.ndarray  # (n_cells,) row numbers, in the order of the result
    regions: np.ndarray  # (n_regions,) their token ids, in the order of the result
    batches: Sequence[int | None] = (None,)  # the mean over these; None: each cell's own
    normalize_cells: bool = False  # at the mean number of open regions, instead of each cell's own
    batch_size: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.regions)


def blocks(reader: Reader, asked: Predicted) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Dense blocks of the result: cells of a minibatch x at most 65,536 consecutive regions."""
    network, start, n_regions = reader.network, 0, len(asked.regions)
    chunks = [slice(i, min(i + REGIONS_AT_ONCE, n_regions)) for i in range(0, n_regions, REGIONS_AT_ONCE)]
    bins = torch.from_numpy(np.asarray(asked.regions, dtype=np.int64)).to(network.device)
    for cells, batch in reader.encoded(asked.rows, asked.batch_size):
        depth = network.mean_depth.expand(len(batch["depth"])) if asked.normalize_cells else batch["depth"]
        contexts = [
            network.context(cells, depth, batch["batch"] if code is None else torch.full_like(batch["batch"], code))
            for code in asked.batches
        ]
        stop = start + len(depth)
        for part in chunks:
            block = network.accessibility(contexts[0], bins[part])
            for context in contexts[1:]:
                block = block + network.accessibility(context, bins[part])
            block = block / len(contexts)
            yield slice(start, stop), part, block.float().cpu().numpy()
        start = stop


def dense(reader: Reader, asked: Predicted) -> np.ndarray:
    """(n_cells, n_regions) float32"""
    out = np.empty(asked.shape, np.float32)
    for cell, region, block in blocks(reader, asked):
        out[cell, region] = block
    return out


def refuse_large(asked: Predicted) -> None:
    """Raise ValueError for a dense result that hardly any machine can hold."""
    n_cells, n_regions = asked.shape
    if n_cells * n_regions > MAX_DENSE:
        raise ValueError(
            f"{n_cells:,} cells x {n_regions:,} regions is {n_cells * n_regions * 4 / 2**30:.0f} GiB; request fewer "
            "(indices, region_list) or a sparse result (threshold=0.1), or write it to disk: "
            "model.annotate(adata, accessibility='all', store='accessibility.zarr')."
        )


def sparse(reader: Reader, asked: Predicted, threshold: float) -> sp.csr_matrix:
    """Probabilities of at least ``threshold``.  (n_cells, n_regions) float32 CSR"""
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; expected a probability, 0 to 1.")
    done: list[sp.csr_matrix] = []
    pending: list[sp.csr_matrix] = []
    first = 0
    for cell, _, block in blocks(reader, asked):
        if cell.start != first:
            done.append(sp.hstack(pending, format="csr"))
            pending, first = [], cell.start
        high = block >= threshold
        at = np.nonzero(high)
        indptr = np.concatenate([[0], np.cumsum(high.sum(1))])
        pending.append(sp.csr_matrix((block[at], at[1].astype(np.int32), indptr), shape=block.shape))
    if pending:
        done.append(sp.hstack(pending, format="csr"))
    if not done:
        return sp.csr_matrix(asked.shape, dtype=np.float32)
    return sp.vstack(done, format="csr")


def mean(reader: Reader, asked: Predicted) -> np.ndarray:
    """Mean over the cells, possibly from the reader's cache.  (n_regions,) float64"""
    if not len(asked.rows):
        raise ValueError("indices is empty; expected at least one cell for a mean.")

    def compute() -> np.ndarray:
        total = np.zeros(len(asked.regions))
        for _, region, block in blocks(reader, asked):
            total[region] += block.sum(0, dtype=np.float64)
        return total / len(asked.rows)

    reader.kept.forget_others(reader.network)
    key = (reader.content(asked.rows, asked.batch_size), tuple(asked.batches), asked.normalize_cells)
    return reader.kept.mean(key, compute)


def matching_threshold(reader: Reader, n_open: np.ndarray, n_cells: int = 128) -> float:
    """The threshold that leaves as many entries as are open in the data, on cells sampled by the seed.

    ``n_open`` (n_cells of the source,): open regions of each cell.
    """
    rng = np.random.default_rng(reader.seed)
    rows = np.sort(rng.choice(len(n_open), min(n_cells, len(n_open)), replace=False))
    edges = np.concatenate([[0.0], np.geomspace(1e-4, 1, 200)])
    counts = np.zeros(len(edges) - 1, np.int64)
    for _, _, block in blocks(reader, Predicted(rows, np.arange(reader.source.n_bins), batch_size=64)):
        counts += np.histogram(block, edges)[0]
    above = counts[::-1].cumsum()[::-1]  # entries at or above each edge
    enough = np.flatnonzero(above <= n_open[rows].sum())
    return float(edges[enough[0]]) if len(enough) else float(edges[-2])


def to_store(reader: Reader, store: Path, batch_size: int | None) -> None:
    """All cells and regions to a zarr array: written under a temporary name, then renamed."""
    import zarr

    batch_size = batch_size or 128
    asked = Predicted(np.arange(reader.source.n_cells), np.arange(reader.source.n_bins), batch_size=batch_size)
    chunks = (min(batch_size, asked.shape[0]), min(REGIONS_AT_ONCE, asked.shape[1]))
    with whole_file(store) as partial:
        array = zarr.create_array(str(partial), shape=asked.shape, dtype="float32", chunks=chunks)
        for cell, region, block in blocks(reader, asked):
            array[cell, region] = block


def batch_codes(transform_batch: Any, names: list[str]) -> list[int | None]:
    """Codes of the batches that ``transform_batch`` names; [None] for None. ValueError for unknown ones."""
    if transform_batch is None:
        return [None]
    codes: list[int | None] = []
    for batch in transform_batch if isinstance(transform_batch, list | tuple) else [transform_batch]:
        if str(batch) in names:
            codes.append(names.index(str(batch)))
        elif isinstance(batch, int | np.integer) and 0 <= batch < len(names):
            codes.append(int(batch))
        else:
            raise ValueError(f"transform_batch {batch!r} is not a batch of the model; its batches are {names}.")
    return codes


def region_numbers(region_list: Sequence[str] | None, var_names: pd.Index) -> np.ndarray:
    """The numbers of the named regions; of all for None. ValueError for unknown names."""
    if region_list is None:
        return np.arange(len(var_names))
    names = list(region_list)
    at = var_names.get_indexer(names)
    if (at < 0).any():
        missing = [n for n, i in zip(names, at, strict=True) if i < 0]
        raise ValueError(
            f"{len(missing)} of {len(names)} regions are not in adata.var_names (first: {missing[0]}); "
            f"they look like {var_names[0]}."
        )
    return at
