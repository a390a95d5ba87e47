"""Speed and memory of reading cells, compared with scvi-tools' loader.

    python benchmarks/loader.py              about 2 minutes, 0.5 GB in a temporary folder

Speed is measured on one core, one shuffled epoch or 10 seconds of it, after a first pass over the loader's first
minibatches. Memory is measured in a separate process for each size.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from _common import environment, peak_mb, table, write

N_BINS, BATCH_SIZE, SECONDS = 600_000, 128, 10.0
SPEED_CELLS, SPEED_OPEN = 10_000, 3_000
MEMORY_CELLS, MEMORY_OPEN = (2_000, 10_000, 50_000), 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(memory_of(arguments.memory_of)))
        return
    warnings.simplefilter("ignore")
    env = environment("scatacformer", "scvi-tools", "torch", "anndata", "scipy", "numpy", "h5py", "zarr")
    with tempfile.TemporaryDirectory() as folder:
        memory = measure_memory(Path(folder))
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        speed = measure_speed(Path(folder))
    write("loader", report(env, speed, memory))


def report(env: str, speed: list[list[object]], memory: list[list[object]]) -> str:
    resident = [row[1] for row in memory]
    spread = max(abs(r / resident[0] - 1) for r in resident)
    return "\n".join([
        "# Loader",
        "",
        env,
        "",
        f"## Cells per second, one core, {SPEED_OPEN:,} open bins a cell, {N_BINS:,} bins",
        "",
        f"Shuffled minibatches of {BATCH_SIZE}, no workers, files in the page cache. "
        "The size is that of a minibatch as the model receives it.",
        "",
        table(["cells are in", "loader", "cells/s", "MB a minibatch"], speed),
        f"## Memory, cells in an `.h5ad` of {MEMORY_OPEN:,} open bins a cell",
        "",
        "One process each: open the file, validate all counts, one shuffled epoch.",
        f"Largest difference from the first: {spread:.1%}.",
        "",
        table(["cells", "peak resident MB", "of that after imports", "file, MB"], memory),
    ])  # fmt: skip


# ---- speed


def measure_speed(folder: Path) -> list[list[object]]:
    import anndata as ad
    import torch
    import zarr

    from scatacformer.cells import RowSource, SentenceLoader

    torch.set_num_threads(1)
    adata = ad.AnnData(random_cells(SPEED_CELLS, SPEED_OPEN, seed=0))
    adata.write_h5ad(folder / "plain.h5ad")
    adata.write_h5ad(folder / "gzip.h5ad", compression="gzip")
    adata.write_zarr(folder / "cells.zarr")
    places: dict[str, Any] = {
        "memory": adata,
        "h5ad": ad.read_h5ad(folder / "plain.h5ad", backed="r"),
        "h5ad, gzip": ad.read_h5ad(folder / "gzip.h5ad", backed="r"),
        "zarr": ad.AnnData(ad.io.sparse_dataset(zarr.open(folder / "cells.zarr", mode="r")["X"])),
    }
    rows: list[list[object]] = []
    for place, cells in places.items():
        source = RowSource.from_matrix(cells.X)
        loaders = {"scatacformer": SentenceLoader(source, batch_size=BATCH_SIZE, shuffle=True)}
        if source.on_disk:
            full = SentenceLoader(source, batch_size=BATCH_SIZE, shuffle=True, chunk_shuffle=False)
            loaders["scatacformer, chunk_shuffle=False"] = full
        else:
            budget = 100 * SPEED_OPEN
            balanced = SentenceLoader(source, batch_size=BATCH_SIZE, shuffle=True, max_tokens_per_batch=budget)
            loaders[f"scatacformer, max_tokens_per_batch={budget:,}"] = balanced
        loaders |= peers(cells)
        for name, loader in loaders.items():
            per_second, mb = speed_of(loader)
            rows.append([place, name, per_second, f"{mb:.1f}"])
            print(*rows[-1], sep="\t", file=sys.stderr)
    return rows


def peers(adata: Any) -> dict[str, Iterable[dict]]:
    from scvi.data import AnnDataManager
    from scvi.data.fields import LayerField
    from scvi.dataloaders import AnnDataLoader

    manager = AnnDataManager([LayerField("X", None, is_count_data=False)])
    manager.register_fields(adata)
    return {
        "scvi-tools AnnDataLoader": AnnDataLoader(manager, batch_size=BATCH_SIZE, shuffle=True),
        "scvi-tools AnnDataLoader, load_sparse_tensor=True": AnnDataLoader(
            manager, batch_size=BATCH_SIZE, shuffle=True, load_sparse_tensor=True
        ),
    }


def speed_of(loader: Iterable[dict]) -> tuple[int, float]:
    """Cells per second, and megabytes of one minibatch."""
    first = list(itertools.islice(loader, 2))[0]
    mb = sum(size_of(tensor) for tensor in first.values()) / 1e6
    n, start = 0, time.perf_counter()
    for batch in loader:
        n += len(batch["cells"]) if "cells" in batch else batch["X"].shape[0]
        if time.perf_counter() - start > SECONDS:
            break
    return round(n / (time.perf_counter() - start)), mb


def size_of(tensor: Any) -> int:
    import torch

    if tensor.layout == torch.sparse_csr:
        return sum(part.nbytes for part in (tensor.values(), tensor.col_indices(), tensor.crow_indices()))
    return tensor.nbytes


def random_cells(n_cells: int, n_open: int, seed: int) -> sp.csr_matrix:
    """Cells with ``n_open`` open bins each, sampled uniformly and sorted."""
    rng = np.random.default_rng(seed)
    bins = np.sort(rng.integers(0, N_BINS - n_open, (n_cells, n_open), dtype=np.int32), axis=1)
    bins += np.arange(n_open, dtype=np.int32)
    boundaries = np.arange(n_cells + 1) * n_open
    return sp.csr_matrix((np.ones(bins.size, np.float32), bins.ravel(), boundaries), shape=(n_cells, N_BINS))


# ---- memory


def measure_memory(folder: Path) -> list[list[object]]:
    rows: list[list[object]] = []
    for n_cells in MEMORY_CELLS:
        path = folder / "memory.h5ad"
        write_streamed(path, n_cells)
        out = subprocess.run(
            [sys.executable, __file__, "--memory-of", str(path)], check=True, capture_output=True, text=True
        )
        peak, imported = json.loads(out.stdout.splitlines()[-1])
        rows.append([n_cells, peak, imported, round(path.stat().st_size / 1e6)])
        print(*rows[-1], sep="\t", file=sys.stderr)
        path.unlink()
    return rows


def memory_of(path: Path) -> tuple[int, int]:
    """Peak resident megabytes of this process after reading all cells, and before."""
    import anndata as ad

    from scatacformer.cells import RowSource, SentenceLoader, validate_counts

    imported = peak_mb()
    adata = ad.read_h5ad(path, backed="r")
    source = RowSource.from_matrix(adata.X)
    validate_counts(source, adata.obs_names)
    n = sum(len(batch["cells"]) for batch in SentenceLoader(source, batch_size=BATCH_SIZE, shuffle=True))
    assert n == source.n_cells
    return peak_mb(), imported


def write_streamed(path: Path, n_cells: int, chunk: int = 1_000) -> None:
    """An ``.h5ad`` of ``n_cells`` that were never in memory together."""
    import anndata as ad
    import h5py
    import pandas as pd

    bins = pd.DataFrame(index=[f"chr1:{i * 5000}-{(i + 1) * 5000}" for i in range(N_BINS)])
    cells = pd.DataFrame(index=[f"cell{i}" for i in range(n_cells)])
    ad.AnnData(obs=cells, var=bins).write_h5ad(path)
    n_entries = n_cells * MEMORY_OPEN
    with h5py.File(path, "r+") as file:
        if "X" in file:
            del file["X"]
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [n_cells, N_BINS]})
        group["indptr"] = np.arange(n_cells + 1) * MEMORY_OPEN
        # the chunks that anndata makes
        indices = group.create_dataset("indices", n_entries, np.int32, maxshape=(None,), chunks=True)
        data = group.create_dataset("data", n_entries, np.float32, maxshape=(None,), chunks=True)
        for start in range(0, n_cells, chunk):
            part = random_cells(min(chunk, n_cells - start), MEMORY_OPEN, seed=start)
            here = slice(start * MEMORY_OPEN, start * MEMORY_OPEN + part.nnz)
            indices[here], data[here] = part.indices, part.data


if __name__ == "__main__":
    main()
