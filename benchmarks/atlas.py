"""Time and memory from a file of very many cells to their embedding, as the number of cells grows.

    python benchmarks/atlas.py --cache run.jsonl --cells folder     half an hour on one core, 14 GB of disk
    python benchmarks/atlas.py --sizes 100000 300000                fewer cells
    python benchmarks/atlas.py --quick                              2,000 and 4,000 cells; prints, writes nothing

Cells: 20,000 of ``sf.datasets.simulated_cells`` over all 607,271 bins of hg19, each of which is repeated; a repeat keeps
each open bin with a probability of 0.8, so that no two cells are the same. Each measurement has a process of its own, one
thread by default, and reads the ``.h5ad`` in backed mode.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from _common import Cache, environment, fingerprint, peak_mb, run_worker, table, write

SIZES = (100_000, 300_000, 1_000_000)
BASE, KEPT, FRAGMENTS = 20_000, 0.8, 1_950  # cells that are repeated; share of their open bins; about 1,500 are left
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
STAGES = ("opening and set-up", "start", "embedding")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="numbers of cells")
    parser.add_argument("--cache", type=Path, help="file of finished measurements")
    parser.add_argument(
        "--cells", type=Path, help="folder for the files of cells; each is removed after its measurement"
    )
    parser.add_argument("--time-limit", type=float, default=7200, help="seconds for one measurement")
    parser.add_argument("--quick", action="store_true", help="2,000 and 4,000 cells; nothing is written")
    parser.add_argument("--make", nargs=2, metavar=("N_CELLS", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=Path, metavar="CELLS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.make:
        print(json.dumps(make(int(arguments.make[0]), Path(arguments.make[1]))))
        return
    if arguments.worker:
        print(json.dumps(measure_embedding(arguments.worker)))
        return
    for name in THREADS:
        os.environ.setdefault(name, "1")
    sizes = [2_000, 4_000] if arguments.quick else sorted(arguments.sizes)
    cache, runs = Cache(arguments.cache), {}
    with nullcontext(arguments.cells) if arguments.cells else tempfile.TemporaryDirectory() as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for n_cells in sizes:
            runs[n_cells] = measure(n_cells, Path(folder), cache, arguments.time_limit)
            write("atlas", report(runs), keep=not arguments.quick)


def measure(n_cells: int, folder: Path, cache: Cache, time_limit: float) -> dict[str, Any]:
    """What the embedding of so many cells took, or why it failed; from the cache where it is there."""
    key = ("atlas", n_cells, fingerprint())
    found = cache.get(*key)
    if found is None:
        path = folder / f"atlas_{n_cells}.h5ad"
        try:
            made = run_worker(__file__, "--make", n_cells, path, time_limit=time_limit)
            if "failed" in made:
                return made
            found = run_worker(__file__, "--worker", path, time_limit=time_limit)
        finally:
            path.unlink(missing_ok=True)
        if "failed" not in found:
            found = made | found
            cache.put(*key, value=found)
        print(n_cells, json.dumps(found), sep="\t", file=sys.stderr)
    return found


def make(n_cells: int, path: Path) -> dict[str, Any]:
    """Write the cells, 10,000 at a time, as ``.h5ad``; what they are."""
    import anndata as ad
    import h5py
    import pandas as pd
    import scipy.sparse as sp

    import scatacformer as sf

    base = sf.datasets.simulated_cells(min(BASE, n_cells), genome="hg19", fragments=FRAGMENTS)
    matrix, rng = base.X.tocsr(), np.random.default_rng(0)
    empty = sp.csr_matrix((n_cells, base.n_vars), dtype=np.float32)
    obs = pd.DataFrame(index=pd.Index(np.arange(n_cells).astype(str)))
    ad.AnnData(empty, obs=obs, var=base.var, uns={"assembly": "hg19"}).write_h5ad(path)
    indptr = np.zeros(n_cells + 1, np.int64)
    with h5py.File(path, "r+") as file:
        x = file["X"]
        for name, dtype in (("data", np.float32), ("indices", np.int32), ("indptr", np.int64)):
            del x[name]
            if name != "indptr":
                x.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(1 << 18,))
        for first in range(0, n_cells, 10_000):
            here = matrix[np.arange(first, min(first + 10_000, n_cells)) % matrix.shape[0]]
            kept = rng.random(here.nnz) < KEPT
            length = np.add.reduceat(kept, here.indptr[:-1], dtype=np.int64)
            start = indptr[first]
            indptr[first + 1 : first + 1 + len(length)] = start + np.cumsum(length)
            for name, values in (("data", here.data), ("indices", here.indices)):
                x[name].resize((start + int(length.sum()),))
                x[name][start:] = values[kept]
        x.create_dataset("indptr", data=indptr)
    return {
        "n_bins": base.n_vars, "n_open": int(np.median(np.diff(indptr))), "file_mb": round(path.stat().st_size / 1e6),
    }  # fmt: skip


def measure_embedding(path: Path) -> dict[str, Any]:
    """Seconds of each stage from the file to ``.obsm``, CPU seconds, and the peak memory of the process."""
    import anndata as ad

    import scatacformer as sf

    model_class = sf.ScAtacFormer  # imported here, on use
    imports_mb = peak_mb()
    start = clock = time.perf_counter()
    cpu = time.process_time()
    seconds = dict.fromkeys(STAGES, 0.0)

    def ends(stage: str) -> None:
        nonlocal clock
        seconds[stage], clock = round(time.perf_counter() - clock, 1), time.perf_counter()

    adata = ad.read_h5ad(path, backed="r")
    model_class.setup_anndata(adata)
    model = model_class(adata)
    ends(STAGES[0])
    model.train(embedding_only=True)
    ends(STAGES[1])
    adata.obsm["X_scatacformer"] = model.get_latent_representation()
    ends(STAGES[2])
    total, cpu = time.perf_counter() - start, time.process_time() - cpu
    if not np.isfinite(adata.obsm["X_scatacformer"]).all():
        raise ValueError("the embedding has entries that are not finite")
    return seconds | {
        "seconds": round(total, 1), "cpu_seconds": round(cpu, 1), "imports_mb": imports_mb, "peak_mb": peak_mb(),
        "dims": adata.obsm["X_scatacformer"].shape[1],
    }  # fmt: skip


def report(runs: dict[int, dict[str, Any]]) -> str:
    good = {n: found for n, found in runs.items() if "failed" not in found}
    env = environment("scatacformer", "torch", "anndata", "h5py", "numpy")
    parts = ["# Many cells", "", env, ""]
    if good:
        any_ = next(iter(good.values()))
        parts += [
            f"From an `.h5ad`, opened in backed mode, to `.obsm`: `setup_anndata`, `ScAtacFormer`, `train(embedding_only=True)`, "
            f"`get_latent_representation()`. Cells with a median of {any_['n_open']:,} open of {any_['n_bins']:,} bins, 20,000 "
            "simulated ones that are repeated with 80 % of their open bins. The start is fitted on 20,000 cells. Seconds of the "
            f"clock, one thread (`OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}`); resident memory of the "
            "process at its peak, and that after the imports alone. One run each.", "",
            table(["cells", "file, MB", *(f"{stage}, s" for stage in STAGES), "all, s", "CPU s", "peak MB", "of that imports"],
                  [[f"{n:,}", f"{r['file_mb']:,}", *(r[stage] for stage in STAGES), r["seconds"], r["cpu_seconds"],
                    f"{r['peak_mb']:,}", r["imports_mb"]] for n, r in good.items()]),
        ]  # fmt: skip
    if len(good) > 1:
        few, many = min(good), max(good)
        grows = math.log(good[many]["cpu_seconds"] / good[few]["cpu_seconds"]) / math.log(many / few)
        more = good[many]["peak_mb"] - good[few]["peak_mb"]
        parts += [
            f"From {few:,} to {many:,} cells, CPU seconds grow with exponent {grows:.2f} of the number of cells (1 is linear), "
            f"and memory by {1e6 * more / (many - few):.0f} bytes a cell.", "",
        ]  # fmt: skip
    failed = [f"- {n:,} cells: {found['failed']}" for n, found in runs.items() if "failed" in found]
    return "\n".join(parts + (["## Not measured", "", *failed, ""] if failed else []))


if __name__ == "__main__":
    main()
