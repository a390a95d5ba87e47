"""A corpus of a million cells on disk: time and memory for building it, and the speed of reading it.

    python benchmarks/corpus.py                     about 15 minutes, 15 GB in a temporary folder
    python benchmarks/corpus.py --cells 100000      the first row of the table

The cells are random: their bins are sampled by a frequency that differs a hundredfold between bins, and their number of
open bins is that of real cells of medium depth. They are in `.h5ad` files of 50,000 cells each. Each size is built, and
read, in a separate process, whose maximum resident memory is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import environment, peak_mb, run_worker, table, write

SIZES = (100_000, 300_000, 1_000_000)
CELLS_A_FILE, MEDIAN_OPEN, GENOME = 50_000, 1_500, "hg38"
BATCH_SIZE, SECONDS = 128, 25.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=SIZES[-1], help="sizes above this are left out")
    parser.add_argument("--folder", type=Path, help="where the files go, and are removed (default: a temporary folder)")
    parser.add_argument("--worker", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        verb, *rest = arguments.worker
        print(json.dumps({"build": build, "read": read}[verb](*rest)))
        return
    sizes = [size for size in SIZES if size <= arguments.cells]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        env = environment("scatacformer", "torch", "anndata", "numpy", "h5py")
        builds, reads, speeds = measure(Path(folder), sizes)
    write("corpus", report(env, builds, reads, speeds), keep=sizes == list(SIZES))


def measure(folder: Path, sizes: list[int]) -> tuple[list[list[object]], list[list[object]], list[list[object]]]:
    sources = write_sources(folder, sizes[-1] // CELLS_A_FILE)
    builds, reads, speeds = [], [], []
    for size in sizes:
        corpus = folder / "corpus"
        shutil.rmtree(corpus, ignore_errors=True)
        here = sources[: size // CELLS_A_FILE]
        found = worker("build", corpus, *here)
        gb = round(sum(path.stat().st_size for path in corpus.rglob("*") if path.is_file()) / 1e9, 2)
        per_second = round(size / found["seconds"])
        builds.append([size, found["n_tokens"], round(found["seconds"]), per_second, found["peak"], found["start"], gb])
        print(*builds[-1], sep="\t", file=sys.stderr)
        found = worker("read", corpus, 0, "warm")
        reads.append([size, found["open_ms"], found["peak"], found["start"], round(8 * size / 1e6, 1)])
        print(*reads[-1], sep="\t", file=sys.stderr)
    for workers in (0, 2):
        for cache in ("cold", "warm"):
            found = worker("read", corpus, workers, cache)
            speeds.append([workers, cache, found["cells_per_s"], found["tokens_per_s"]])
            print(*speeds[-1], sep="\t", file=sys.stderr)
    return builds, reads, speeds


def worker(*arguments: object) -> dict[str, Any]:
    found = run_worker(__file__, "--worker", *arguments, time_limit=3_600)
    if "failed" in found:
        raise SystemExit(f"{arguments[0]} failed: {found['failed']}")
    return found


def report(env: str, builds: list[list[object]], reads: list[list[object]], speeds: list[list[object]]) -> str:
    return "\n".join([
        "# Corpus",
        "",
        env,
        "",
        f"Random cells, median {MEDIAN_OPEN:,} open of 606,219 bins (hg38, 5 kb), in `.h5ad` files of "
        f"{CELLS_A_FILE:,}; one process, the machine shared with others. MB are the largest resident memory of the "
        "process, and that after imports.",
        "",
        "## Building",
        "",
        table(["cells", "tokens", "s", "cells/s", "peak MB", "of that at the start", "corpus, GB"], builds),
        "Building takes 50 MB more for twenty files than for two: the allocator keeps pieces of what each file's table "
        "of regions took. It is not of the cells, and comes to an end: 24 files of 3,000 cells took 387 MB after the "
        "first, 426 MB after the thirteenth and 428 MB after the last.",
        "",
        "## Opening, and 25 s of a shuffled epoch",
        "",
        "Minibatches of 128, blocks of 64 neighbouring cells, 16 minibatches fetched at once, no workers. Where cells "
        "begin is 8 bytes for each, and so are their numbers and the order of the epoch.",
        "",
        table(["cells", "opened in, ms", "peak MB", "of that at the start", "8 bytes a cell, MB"], reads),
        f"## Reading the corpus of {builds[-1][0]:,} cells",
        "",
        "Cold: the kernel was told to forget the files. Warm: they were read once before, as far as memory holds them. "
        "Without a model to compute meanwhile, handing tensors from a worker costs more than reading them.",
        "",
        table(["workers", "page cache", "sentences/s", "tokens/s"], speeds),
    ])  # fmt: skip


# ---- in a separate process


def build(folder: str, *sources: str) -> dict[str, Any]:
    import anndata  # noqa: F401 imports are not what is measured
    import pandas  # noqa: F401

    from scatacformer import Corpus

    start, began = peak_mb(), time.perf_counter()
    corpus = Corpus.build(folder, sources, genome=GENOME)
    return {
        "seconds": time.perf_counter() - began,
        "peak": peak_mb(),
        "start": start,
        "n_tokens": corpus.n_tokens,
    }


def read(folder: str, workers: str, cache: str) -> dict[str, Any]:
    import torch

    from scatacformer import Corpus
    from scatacformer.cells import SentenceLoader

    torch.set_num_threads(1)
    for path in Path(folder).rglob("*.npy"):
        if cache == "cold":
            forget(path)
    start, began = peak_mb(), time.perf_counter()
    corpus = Corpus(folder)
    open_ms = round(1e3 * (time.perf_counter() - began))
    loader = SentenceLoader(corpus.source, batch_size=BATCH_SIZE, shuffle=True, num_workers=int(workers))
    n_cells = n_tokens = 0
    began = 0.0
    for number, batch in enumerate(loader):
        if number == 64:  # the workers have started, and the first fetches are done
            began, n_cells, n_tokens = time.perf_counter(), 0, 0
        n_cells += len(batch["cells"])
        n_tokens += len(batch["bins"])
        if began and time.perf_counter() - began > SECONDS:
            break
    seconds = time.perf_counter() - began
    return {
        "open_ms": open_ms,
        "peak": peak_mb(),
        "start": start,
        "cells_per_s": round(n_cells / seconds),
        "tokens_per_s": round(n_tokens / seconds),
    }


def forget(path: Path) -> None:
    """Drop a file from the kernel's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# ---- the cells


def write_sources(folder: Path, n_files: int) -> list[Path]:
    """`.h5ad` files of cells that were never in memory together."""
    import anndata as ad
    import h5py
    import pandas as pd

    from scatacformer import Vocabulary

    vocabulary = Vocabulary.from_chrom_sizes(GENOME)
    rng = np.random.default_rng(0)
    rate = np.cumsum(rng.lognormal(0, 1.2, vocabulary.n_bins))
    # sampling from a table of bins, each as often as its share, is ten times faster than a search for each sample
    bins = np.searchsorted(rate, np.linspace(0, rate[-1], 1 << 23, endpoint=False)).astype(np.int64)
    var = vocabulary.to_frame()
    paths = [folder / f"cells_{number:03d}.h5ad" for number in range(n_files)]
    for number, path in enumerate(paths):
        obs = pd.DataFrame(index=[f"cell_{i}" for i in range(CELLS_A_FILE)])
        ad.AnnData(obs=obs, var=var, uns={"assembly": GENOME}).write_h5ad(path)
        with h5py.File(path, "r+") as file:
            if "X" in file:
                del file["X"]
            group = file.create_group("X")
            shape = [CELLS_A_FILE, vocabulary.n_bins]
            group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
            how = {"maxshape": (None,), "chunks": (1 << 18,)}
            indices = group.create_dataset("indices", (0,), np.int32, **how)
            data = group.create_dataset("data", (0,), np.uint8, **how)
            boundaries = [np.zeros(1, np.int64)]
            for _ in range(0, CELLS_A_FILE, 1_000):
                per_cell, columns = sample(bins, vocabulary.n_bins, rng)
                boundaries.append(boundaries[-1][-1] + np.cumsum(per_cell))
                for dataset, values in ((indices, columns), (data, 1)):
                    dataset.resize((boundaries[-1][-1],))
                    dataset[-len(columns) :] = values
            group["indptr"] = np.concatenate(boundaries)
        print(f"{number + 1} of {n_files} files", file=sys.stderr)
    return paths


def sample(bins: np.ndarray, n_bins: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(open bins of each of 1,000 cells, their column numbers)."""
    n_drawn = np.rint(rng.lognormal(np.log(MEDIAN_OPEN * 1.01), 0.5, 1_000)).clip(200, 8_000).astype(np.int64)
    cell = np.repeat(np.arange(1_000), n_drawn)
    key = cell * n_bins + bins[rng.integers(0, len(bins), len(cell))]
    key.sort()
    key = key[np.diff(key, prepend=-1) > 0]
    cell, column = np.divmod(key, n_bins)
    return np.bincount(cell, minlength=1_000), column.astype(np.int32)


if __name__ == "__main__":
    main()
