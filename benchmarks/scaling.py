"""Time and memory of the embedding beside snapatac2's, and of the whole training, as the number of cells grows.

    python benchmarks/scaling.py --cache run.jsonl --cells folder     40 minutes on one core; resumes an interrupted run
    python benchmarks/scaling.py --deep 3000 10000 --shallow 14000    fewer cells
    python benchmarks/scaling.py --decoder 3000                       the whole of train() too, for this number of deep cells
    python benchmarks/scaling.py --peakvi                             and PeakVI's memory, on the smallest number
    python benchmarks/scaling.py --quick                              200 and 400 cells; prints, writes nothing

Cells: ``sf.datasets.simulated_cells`` over all 607,271 bins of hg19, deep or shallow. Each method has a process of its own,
and one thread: set ``OMP_NUM_THREADS``, ``NUMBA_NUM_THREADS`` and ``RAYON_NUM_THREADS`` to another number for more.
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
from embedding import embed_scatacformer, embed_snapatac2, threads

FRAGMENTS = {"deep": 7_100, "shallow": 1_550}  # median of a cell; a few of them are in the same bin
DEEP, SHALLOW = (3_000, 10_000, 30_000), (14_000, 100_000)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
# the embedding alone; snapatac2: `pp.select_features` and `tl.spectral`, or `tl.spectral` of features in at least 3 cells
EMBEDDINGS = {
    "embedding": "scatacformer",
    "snapatac2": "snapatac2",
    "snapatac2_all": "snapatac2, all features",
}
STAGES = ("setup", "spectral start", "training", "embedding", "total")
PEAKVI_EPOCHS, PEAKVI_SHARE = 2, 0.01
Job = tuple[str, int, str]  # kind of cells, their number, method


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deep", nargs="*", type=int, default=DEEP, help="numbers of deep cells")
    parser.add_argument("--shallow", nargs="*", type=int, default=SHALLOW, help="numbers of shallow cells")
    parser.add_argument("--methods", nargs="+", choices=tuple(EMBEDDINGS), default=tuple(EMBEDDINGS))
    parser.add_argument("--decoder", nargs="*", type=int, default=DEEP[:1], help="numbers of deep cells for train()")
    parser.add_argument("--peakvi", action="store_true", help="PeakVI on the smallest number of deep cells")
    parser.add_argument("--cache", type=Path, help="file of finished measurements")
    parser.add_argument("--cells", type=Path, help="folder in which the cells are kept; otherwise they are made anew")
    parser.add_argument("--time-limit", type=float, default=3600, help="seconds for one measurement")
    parser.add_argument("--quick", action="store_true", help="200 and 400 cells; nothing is written")
    parser.add_argument("--make", nargs=3, metavar=("KIND", "N_CELLS", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=2, metavar=("METHOD", "CELLS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.make:
        kind, n_cells, out = arguments.make
        print(json.dumps(make(kind, int(n_cells), Path(out))))
        return
    if arguments.worker:
        method, cells = arguments.worker
        other = {"scatacformer": measure_scatacformer, "peakvi": measure_peakvi}
        found = measure_embedding(method, Path(cells)) if method in EMBEDDINGS else other[method](Path(cells))
        print(json.dumps(found))
        return
    for name in THREADS:
        os.environ.setdefault(name, "1")
    if arguments.quick:
        arguments.deep, arguments.shallow, arguments.decoder = [200, 400], [], [200]
    jobs: list[Job] = []
    for kind, sizes in (("deep", arguments.deep), ("shallow", arguments.shallow)):
        jobs += [(kind, n, method) for n in sorted(sizes) for method in arguments.methods]
    jobs += [("deep", n, "scatacformer") for n in sorted(arguments.decoder)]
    if arguments.peakvi:
        jobs.append(("deep", min(arguments.deep), "peakvi"))
    cache, runs = Cache(arguments.cache), {}
    with nullcontext(arguments.cells) if arguments.cells else tempfile.TemporaryDirectory() as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for job in jobs:
            runs[job] = measure(job, Path(folder), cache, arguments.time_limit)
            write("scaling", report(runs), keep=not arguments.quick)


def measure(job: Job, folder: Path, cache: Cache, time_limit: float) -> dict[str, Any]:
    """What a method took, or why it failed; from the cache where it is there."""
    kind, n_cells, method = job
    key = (
        *job,
        fingerprint() if method in ("embedding", "scatacformer") else environment("snapatac2").rpartition(" · ")[2],
    )
    found = cache.get(*key)
    if found is None:
        cells, about = folder / f"{kind}_{n_cells}.h5ad", folder / f"{kind}_{n_cells}.json"
        if not about.exists():
            # in a process of its own too: 30,000 cells take a few GB that this one would keep
            made = run_worker(__file__, "--make", kind, n_cells, cells, time_limit=time_limit)
            if "failed" in made:
                return made
            about.write_text(json.dumps(made))
        found = run_worker(__file__, "--worker", method, cells, time_limit=time_limit)
        if "failed" not in found:
            found = json.loads(about.read_text()) | found
            cache.put(*key, value=found)
        print(*job, json.dumps(found), sep="\t", file=sys.stderr)
    return found


def make(kind: str, n_cells: int, path: Path) -> dict[str, Any]:
    """Writes the cells as ``.h5ad``; what they are."""
    import scatacformer as sf

    adata = sf.datasets.simulated_cells(n_cells, genome="hg19", fragments=FRAGMENTS[kind])
    adata.write_h5ad(path)
    n_open = int(np.median(np.diff(adata.X.indptr)))
    return {"n_bins": adata.n_vars, "n_open": n_open, "matrix_mb": round(8 * adata.X.nnz / 1e6)}


def measure_embedding(method: str, cells: Path) -> dict[str, Any]:
    """CPU seconds and seconds of the clock from an AnnData in memory to the embedding, and peak memory of the process."""
    import anndata as ad

    adata = ad.read_h5ad(cells)
    out: dict[str, Any] = {"read_mb": peak_mb()}
    run = embed_scatacformer(adata, 0) if method == "embedding" else embed_snapatac2(adata, 0, method.endswith("_all"))
    start, cpu = time.perf_counter(), time.process_time()
    embedding = run()[0]
    out |= {"seconds": round(time.perf_counter() - start, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    if not np.isfinite(embedding).all():
        raise ValueError(f"the embedding of {method} has entries that are not finite")
    return out | {"dims": embedding.shape[1], "peak_mb": peak_mb()}


def measure_scatacformer(cells: Path) -> dict[str, Any]:
    """Seconds of each stage with defaults, from an AnnData in memory, and peak memory of the process."""
    import anndata as ad

    import scatacformer as sf
    from scatacformer.model.scatacformer import _train

    model_class = sf.ScAtacFormer
    adata = ad.read_h5ad(cells)
    out: dict[str, Any] = {"read_mb": peak_mb()}
    stage = dict.fromkeys(STAGES, 0.0)

    start, cpu = time.perf_counter(), time.process_time()
    model_class.setup_anndata(adata)
    model = model_class(adata)
    stage["setup"] = time.perf_counter() - start

    fit = _train.put_spectral_start

    def timed_fit(*args: Any, **options: Any) -> Any:
        begin = time.perf_counter()
        found = fit(*args, **options)
        stage["spectral start"] = time.perf_counter() - begin
        return found

    _train.put_spectral_start = timed_fit
    begin = time.perf_counter()
    model.train(enable_progress_bar=False)
    stage["training"] = time.perf_counter() - begin - stage["spectral start"]

    begin = time.perf_counter()
    adata.obsm["X_scatacformer"] = model.get_latent_representation()
    stage["embedding"] = time.perf_counter() - begin
    stage["total"], out["cpu_seconds"] = time.perf_counter() - start, round(time.process_time() - cpu, 1)
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


def report(runs: dict[Job, dict[str, Any]]) -> str:
    env = environment("scatacformer", "torch", "snapatac2", "scvi-tools", "anndata", "scipy", "numpy")
    good = {job: found for job, found in runs.items() if "failed" not in found}
    parts = ["# Scaling", "", env, ""]
    rows = [row for kind, n in dict.fromkeys(job[:2] for job in good) if (row := embedding_row(good, kind, n))]
    if rows:
        n_bins = next(iter(good.values()))["n_bins"]
        parts += [
            f"Simulated cells over {n_bins:,} bins. CPU seconds from the AnnData in memory to the embedding, imports not "
            "counted (in parentheses: seconds of the clock, while other programs were running), and the largest resident "
            f"memory of the process, the cells included. {threads()} scatacformer: `train(embedding_only=True)` and "
            "`get_latent_representation()`; snapatac2: `pp.select_features` and `tl.spectral` with their defaults; all features: "
            "those open in at least 3 cells. Ratios are to the peer that took less. One run each.", "",
            table(["cells", "median open", *(f"{name}, s" for name in EMBEDDINGS.values()), "time ratio",
                   *(f"{name}, MB" for name in EMBEDDINGS.values()), "memory ratio"], rows),
        ]  # fmt: skip
    for kind in FRAGMENTS:
        ours = {n: found for (k, n, method), found in good.items() if (k, method) == (kind, "embedding")}
        if len(ours) > 1:
            few, many = min(ours), max(ours)
            time_, memory = (exponent(ours, few, many, figure) for figure in ("cpu_seconds", "peak_mb"))
            parts += [
                f"From {few:,} to {many:,} {kind} cells, scatacformer's time grows with exponent {time_} of the number of "
                f"cells, and its memory with {memory} (1 is linear).", "",
            ]  # fmt: skip
    trained = {n: found for (_, n, method), found in good.items() if method == "scatacformer"}
    if trained:
        parts += [
            "## With the decoder", "",
            "Seconds of the clock of each stage of `train()` with defaults, on deep cells; CPU seconds of all.", "",
            table(["cells", *(f"{s}, s" for s in STAGES), "CPU s", "epochs", "peak MB", "of that after reading", "matrix, MB"],
                  [[n, *(r[s] for s in STAGES), *(r[s] for s in ("cpu_seconds", "epochs", "peak_mb", "read_mb", "matrix_mb"))]
                   for n, r in trained.items()]),
        ]  # fmt: skip
    peakvi = [found for (*_, method), found in good.items() if method == "peakvi"]
    if peakvi:
        parts += ["## PeakVI", "", describe_peakvi(peakvi[0]), ""]
    failed = [f"- {n:,} {kind} cells, {m}: {r['failed']}" for (kind, n, m), r in runs.items() if "failed" in r]
    if failed:
        parts += ["## Not measured", "", *failed, ""]
    return "\n".join(parts)


def embedding_row(good: dict[Job, dict[str, Any]], kind: str, n: int) -> list[object]:
    """A row of the table: time and memory of each method, and the ratio to the better peer; empty for no method."""
    found = {method: good[kind, n, method] for method in EMBEDDINGS if (kind, n, method) in good}
    if not found:
        return []
    peers = [run for method, run in found.items() if method != "embedding"]

    def ratio(figure: str) -> str:
        if "embedding" not in found or not peers:
            return "–"
        return f"{found['embedding'][figure] / min(run[figure] for run in peers):.2f}"

    times = [f"{r['cpu_seconds']:,} ({r['seconds']:,})" if (r := found.get(m)) else "–" for m in EMBEDDINGS]
    memory = [f"{r['peak_mb']:,}" if (r := found.get(m)) else "–" for m in EMBEDDINGS]
    n_open = next(iter(found.values()))["n_open"]
    return [f"{n:,} {kind}", n_open, *times, ratio("cpu_seconds"), *memory, ratio("peak_mb")]


def exponent(runs: dict[int, dict[str, Any]], few: int, many: int, figure: str) -> float:
    return round(math.log(runs[many][figure] / runs[few][figure]) / math.log(many / few), 2)


def describe_peakvi(found: dict[str, Any]) -> str:
    return (
        f"{found['n_cells']:,} of the same cells, the {found['n_bins']:,} bins open in at least {PEAKVI_SHARE:.0%} of "
        f"them: peak {found['peak_mb']:,} MB ({found['read_mb']:,} of that after reading), "
        f"{found['seconds_per_epoch']} s an epoch ({PEAKVI_EPOCHS} epochs run; its default is up to 500, with early "
        "stopping)."
    )


if __name__ == "__main__":
    main()
