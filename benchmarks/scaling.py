"""How time and memory of the main job grow with the number of cells, from 3,000 to 30,000.

    python benchmarks/scaling.py              about 40 minutes on one core, 12 GB of memory, 2 GB on disk
    python benchmarks/scaling.py --peakvi     and PeakVI's memory beside it, on 3,000 of the cells
    python benchmarks/scaling.py --quick      200 and 400 cells; prints, writes nothing

Cells: simulated blood over 607,271 bins (``_common.py`` says from where), or ``sf.datasets.simulated_cells`` where
that is absent. Each number of cells is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _common import (
    Cache,
    can_simulate_blood,
    environment,
    fingerprint,
    peak_mb,
    run_worker,
    simulated_blood,
    table,
    write,
)  # fmt: skip

SIZES, FRAGMENTS = (3_000, 10_000, 30_000), 8_000
STAGES = ("setup", "spectral start", "training", "embedding", "total")
PEAKVI_EPOCHS, PEAKVI_SHARE = 2, 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="numbers of cells, smallest first")
    parser.add_argument("--peakvi", action="store_true", help="PeakVI on the smallest number of cells")
    parser.add_argument("--cache", type=Path, help="file of finished measurements")
    parser.add_argument("--time-limit", type=float, default=3600, help="seconds for one measurement")
    parser.add_argument("--quick", action="store_true", help="200 and 400 cells; nothing is written")
    parser.add_argument("--make", nargs=2, metavar=("N_CELLS", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=2, metavar=("METHOD", "CELLS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.make:
        print(json.dumps(make(int(arguments.make[0]), Path(arguments.make[1]))))
        return
    if arguments.worker:
        method, cells = arguments.worker
        print(json.dumps({"scatacformer": measure_scatacformer, "peakvi": measure_peakvi}[method](Path(cells))))
        return
    sizes = (200, 400) if arguments.quick else sorted(arguments.sizes)
    cache = Cache(arguments.cache)
    runs: dict[int, dict[str, Any]] = {}
    peakvi = None
    for n_cells in sizes:
        methods = ["scatacformer", "peakvi"] if arguments.peakvi and n_cells == sizes[0] else ["scatacformer"]
        found = measure(n_cells, methods, cache, arguments.time_limit)
        runs[n_cells], peakvi = found["scatacformer"], found.get("peakvi", peakvi)
        write("scaling", report(runs, peakvi), keep=not arguments.quick)


def measure(n_cells: int, methods: list[str], cache: Cache, time_limit: float) -> dict[str, dict[str, Any]]:
    """What each method took on the same cells, or why it failed; from the cache where it is there."""
    keys = {method: (n_cells, method, fingerprint(__file__) if method == "scatacformer" else "") for method in methods}
    found = {method: cache.get(*key) for method, key in keys.items()}
    with tempfile.TemporaryDirectory() as folder:
        cells, made = Path(folder) / "cells.h5ad", None
        for method in [method for method in methods if found[method] is None]:
            # in a process of its own too: 30,000 cells take a few GB that this one would keep
            made = made or run_worker(__file__, "--make", n_cells, cells, time_limit=time_limit)
            run = (
                made
                if "failed" in made
                else made | run_worker(__file__, "--worker", method, cells, time_limit=time_limit)
            )
            print(n_cells, method, json.dumps(run), sep="\t", file=sys.stderr)
            if "failed" not in run:
                cache.put(*keys[method], value=run)
            found[method] = run
    return found


def make(n_cells: int, path: Path) -> dict[str, Any]:
    """Writes the cells as ``.h5ad``; what they are."""
    if can_simulate_blood():
        adata, kind = simulated_blood(n_cells, FRAGMENTS), "blood"
    else:
        import scatacformer as sf

        adata, kind = sf.datasets.simulated_cells(n_cells, genome="hg19", fragments=FRAGMENTS), "tree of types"
    adata.write_h5ad(path)
    n_open = int(np.median(np.diff(adata.X.indptr)))
    return {"kind": kind, "n_bins": adata.n_vars, "n_open": n_open, "matrix_mb": round(8 * adata.X.nnz / 1e6)}


def measure_scatacformer(cells: Path) -> dict[str, Any]:
    """Seconds of each stage with defaults, from an AnnData in memory, and peak memory of the process."""
    import anndata as ad

    import scatacformer as sf

    model_class = sf.ScAtacFormer
    adata = ad.read_h5ad(cells)
    out: dict[str, Any] = {"read_mb": peak_mb()}
    stage = dict.fromkeys(STAGES, 0.0)

    start = time.perf_counter()
    model_class.setup_anndata(adata)
    model = model_class(adata)
    stage["setup"] = time.perf_counter() - start

    fit = model._spectral_start

    def timed_fit(*args: Any) -> Any:
        begin = time.perf_counter()
        found = fit(*args)
        stage["spectral start"] = time.perf_counter() - begin
        return found

    model._spectral_start = timed_fit
    begin = time.perf_counter()
    model.train(enable_progress_bar=False)
    stage["training"] = time.perf_counter() - begin - stage["spectral start"]

    begin = time.perf_counter()
    adata.obsm["X_scatacformer"] = model.get_latent_representation()
    stage["embedding"] = time.perf_counter() - begin
    stage["total"] = time.perf_counter() - start
    out |= {name: round(seconds, 2) for name, seconds in stage.items()}
    return out | {"epochs": len(model.history["train_loss"]), "peak_mb": peak_mb()}


def measure_peakvi(cells: Path) -> dict[str, Any]:
    """PeakVI for two epochs on bins open in at least 1 % of the cells, as its tutorial advises to subset."""
    import anndata as ad
    import scvi

    adata = ad.read_h5ad(cells)
    adata = adata[:, adata.X.getnnz(0) >= PEAKVI_SHARE * adata.n_obs].copy()
    out: dict[str, Any] = {"n_cells": adata.n_obs, "n_bins": adata.n_vars, "read_mb": peak_mb()}
    start = time.perf_counter()
    scvi.model.PEAKVI.setup_anndata(adata)
    model = scvi.model.PEAKVI(adata)
    model.train(max_epochs=PEAKVI_EPOCHS, enable_progress_bar=False)
    out["seconds_per_epoch"] = round((time.perf_counter() - start) / PEAKVI_EPOCHS, 1)
    adata.obsm["X_peakvi"] = model.get_latent_representation()
    return out | {"peak_mb": peak_mb()}


def report(runs: dict[int, dict[str, Any]], peakvi: dict[str, Any] | None) -> str:
    env = environment("scatacformer", "torch", "scvi-tools", "anndata", "scipy", "numpy")
    good = {n: r for n, r in runs.items() if "failed" not in r}
    parts = ["# Scaling", "", env, ""]
    if good:
        one = next(iter(good.values()))
        parts += [
            f"Simulated cells ({one['kind']}), {one['n_bins']:,} bins, median {one['n_open']:,} open. Seconds from the "
            "AnnData in memory to the embedding with defaults, imports not counted; memory is the largest resident of "
            "the process, the cells included.", "",
            table(
                ["cells", *(f"{s}, s" for s in STAGES), "epochs", "peak MB", "of that after reading", "matrix, MB"],
                [[n, *(r[s] for s in STAGES), r["epochs"], r["peak_mb"], r["read_mb"], r["matrix_mb"]]
                 for n, r in good.items()],
            ),
        ]  # fmt: skip
    if len(good) > 1:
        few, many = min(good), max(good)
        figures = [*STAGES, "peak_mb"]
        rows = [[name.replace("_mb", " memory"), exponent(good, few, many, name)] for name in figures]
        parts += [
            f"## Growth from {few:,} to {many:,} cells", "",
            "The exponent a of n^a: log of the quotient of the two, over the log of that of the cells. 1 is linear.", "",
            table(["of", "exponent"], rows),
        ]  # fmt: skip
    if peakvi is not None:
        parts += ["## PeakVI", "", describe_peakvi(peakvi), ""]
    failed = [f"- {n:,} cells: {r['failed']}" for n, r in runs.items() if "failed" in r]
    if failed:
        parts += ["## Not measured", "", *failed, ""]
    return "\n".join(parts)


def exponent(runs: dict[int, dict[str, Any]], few: int, many: int, figure: str) -> float:
    return round(math.log(runs[many][figure] / runs[few][figure]) / math.log(many / few), 2)


def describe_peakvi(found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"Not measured: {found['failed']}."
    return (
        f"{found['n_cells']:,} of the same cells, the {found['n_bins']:,} bins open in at least {PEAKVI_SHARE:.0%} of "
        f"them: peak {found['peak_mb']:,} MB ({found['read_mb']:,} of that after reading), "
        f"{found['seconds_per_epoch']} s an epoch ({PEAKVI_EPOCHS} epochs run; its default is up to 500, with early "
        "stopping)."
    )


if __name__ == "__main__":
    main()
