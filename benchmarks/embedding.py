"""How good the embedding is, and what it takes, beside LSI, snapatac2's spectral embedding, PeakVI and PoissonVI.

    python benchmarks/embedding.py                              all data sets, three seeds: about 1 hour on one core
    python benchmarks/embedding.py --peakvi --cache run.jsonl   PeakVI and PoissonVI too; resumes an interrupted run
    python benchmarks/embedding.py --train-seeds 0 --peer-seeds 0 --peakvi-seeds 0
                                                                one seed of these, and more only where the cache has them
    python benchmarks/embedding.py --keep old.md                PeakVI and PoissonVI from an earlier table where not measured
    python benchmarks/embedding.py --quick                      300 cells, one seed; prints, writes nothing

Every method reads the same cells in a process of its own, without labels (except that scatacformer's embeddings from
further seeds, whose time is not recorded, are made by this program). The embeddings are scored in the same way
by ``score_embedding.py``, which lies beside the data (see ``_common.py``), against the known cell types.
"""

from __future__ import annotations

import argparse
import json
import os
import re
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
    data_folder,
    environment,
    fingerprint,
    load_tool,
    peak_mb,
    run_worker,
    simulated_blood,
    spread,
    table,
    write,
)  # fmt: skip

BLOOD = {"blood_shallow": 2_500, "blood_deep": 8_000}  # median fragments of a cell
MORE = ("cell_lines", "progenitors", "forebrain")  # in the folder ``more`` of the data
DATASETS = ("leukemia", "cerebellum", "bone_marrow", "cortex", *BLOOD, *MORE)
BLOOD_CELLS, MIN_OPEN = 3_000, 50
# a run makes one embedding or several; `lsi` makes two of one decomposition
METHODS = {
    "scatacformer": ("scatacformer",),
    "scatacformer_train": ("scatacformer, with decoder",),
    "snapatac2": ("snapatac2",),
    "snapatac2_all": ("snapatac2, all bins",),
    "lsi": ("LSI, 15", "LSI, 30 whitened"),
    "peakvi": ("PeakVI",),
    "poissonvi": ("PoissonVI",),
}
SLOW = ("peakvi", "poissonvi")
OURS, SPECTRAL = ("scatacformer", "scatacformer_train"), ("snapatac2", "snapatac2_all", "lsi")
MANY_FEATURES, COMMON, COMMONER = 100_000, 0.01, 0.05  # PeakVI and PoissonVI read what this share of the cells has open
FIGURES = {
    "knn_purity": "Purity of a cell's 15 nearest neighbours, averaged over types",
    "ari": "Adjusted Rand index of Leiden clusters, best of eight resolutions",
    "ari_res1": "Adjusted Rand index at resolution 1",
    "nmi": "Normalised mutual information, at the resolution of the best Rand index",
    "depth_rho": "Largest |Spearman| of a dimension with the number of open bins: 1 = a dimension is depth",
    "same_batch": "Neighbours of the cell's own sample, over chance: 1 = mixed; no method is told the sample",
    "cpu_seconds": "CPU seconds from the AnnData in memory to the embedding, imports not counted",
    "seconds": "Seconds of the clock for the same, while other programs were running on the machine",
    "peak_mb": "Peak resident memory of the process, MB",
}
NOTES = """scatacformer: `setup_anndata(adata)`, `ScAtacFormer(adata)`, `train(embedding_only=True)`, `get_latent_representation()`;
"with decoder": the same with `train()`, which does not change the embedding. No other argument but the seed.
snapatac2: `pp.select_features` (defaults), `tl.spectral` (defaults); "all bins": features open in at least 3 cells.
LSI: TF-IDF of features open in at least 3 cells, log, 31 singular vectors by ARPACK, the first dropped; 15 weighted by
their singular values, or 30 whitened. PeakVI and PoissonVI: their defaults with early stopping, on features open in at
least 1 % of the cells and in at least 3; in at least 5 %, as in PeakVI's tutorial, where these are more than 100,000."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--peakvi", action="store_true", help="PeakVI and PoissonVI: hours")
    for name in ("train", "peer", "peakvi"):
        parser.add_argument(f"--{name}-seeds", nargs="+", type=int, help="those to run; of the cache all count")
    parser.add_argument("--keep", type=Path, help="earlier table, for PeakVI and PoissonVI where they are not measured")
    parser.add_argument("--cache", type=Path, help="file of finished measurements")
    parser.add_argument("--time-limit", type=float, default=3600, help="seconds for one method on one data set")
    parser.add_argument("--quick", action="store_true", help="leukemia, 300 cells, one seed; nothing is written")
    parser.add_argument("--worker", nargs=4, metavar=("METHOD", "CELLS", "OUT", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.worker:
        method, cells, out, seed = arguments.worker
        print(json.dumps(worker(method, Path(cells), Path(out), int(seed))))
        return
    if load_tool("score_embedding") is None:
        sys.exit(
            f"the scores come from tools/score_embedding.py beside the data folder, and {data_folder()} has none; "
            "set SCATACFORMER_TEST_DATA to the folder of the data"
        )
    if arguments.quick:
        arguments.datasets, arguments.seeds = ["leukemia"], [0]
    cache = Cache(arguments.cache)
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    skipped: list[str] = []
    sizes: list[list[object]] = []
    for dataset in arguments.datasets:
        with tempfile.TemporaryDirectory() as folder:
            adata = prepare(dataset, 300 if arguments.quick else None)
            if adata is None:
                skipped.append(f"{dataset}: the data are not on this machine")
                continue
            n_open = np.diff(adata.X.indptr)
            sizes.append([dataset, *adata.shape, int(np.median(n_open)), adata.obs["cell_type"].nunique()])
            cells = Path(folder) / "cells.h5ad"
            adata.write_h5ad(cells)
            for method in methods_of(arguments):
                for seed in arguments.seeds:
                    measure(dataset, adata, method, seed, cells, arguments, cache, results, skipped)
            kept = keep_slow(arguments.keep, [row[0] for row in sizes], results) if arguments.keep else []
            text = report(sizes, kept_with(results, kept), skipped, arguments, [where for where, _ in kept])
            write("embedding", text, keep=not arguments.quick)


def methods_of(arguments: argparse.Namespace) -> list[str]:
    return arguments.methods or [method for method in METHODS if arguments.peakvi or method not in SLOW]


def prepare(dataset: str, at_most: int | None) -> Any:
    """The cells of a data set with at least 50 open bins, or None where the data are absent."""
    if dataset in BLOOD:
        if not can_simulate_blood():
            return None
        adata = simulated_blood(at_most or BLOOD_CELLS, BLOOD[dataset])
    else:
        import anndata as ad

        file = "cortex_paired.h5mu" if dataset == "cortex" else f"{dataset}.h5ad"
        path = data_folder() / "more" / file if dataset in MORE else data_folder() / file
        if not path.exists():
            return None
        if path.suffix == ".h5mu":
            import mudata

            adata = mudata.read_h5mu(path).mod["atac"]
        else:
            adata = ad.read_h5ad(path)
    keep = np.flatnonzero(np.diff(adata.X.indptr) >= MIN_OPEN)
    if at_most and len(keep) > at_most:
        keep = np.sort(np.random.default_rng(0).choice(keep, at_most, replace=False))
    return adata[keep].copy()


def measure(dataset, adata, method, seed, cells, arguments, cache, results, skipped) -> None:
    """One run of one method, and the scores of what it made, into ``results`` (or from the cache)."""
    code = fingerprint() if method in OURS else environment(method.removesuffix("_all"))[len(environment()) :]
    key = (dataset, adata.n_obs, method, seed, code)
    scored = cache.get(*key)
    seeds = {"scatacformer_train": arguments.train_seeds} | dict.fromkeys(SPECTRAL, arguments.peer_seeds)
    seeds = (seeds | dict.fromkeys(SLOW, arguments.peakvi_seeds)).get(method)
    if scored is None and seeds is not None and seed not in seeds:
        return
    if scored is None:
        if method == "scatacformer" and seed != arguments.seeds[0]:
            run, embeddings = {}, dict(zip(METHODS[method], embed_scatacformer(adata.copy(), seed)(), strict=True))
        else:
            out = cells.with_name("embedding.npz")
            run = run_worker(__file__, "--worker", method, cells, out, seed, time_limit=arguments.time_limit)
            if "failed" in run:
                skipped.append(f"{dataset}, {method}, seed {seed}: {run['failed']}")
                return
            with np.load(out) as found:
                embeddings = dict(found)
        score, scored, depth = load_tool("score_embedding").score, {}, np.diff(adata.X.indptr)
        batch = adata.obs["sample"] if "sample" in adata.obs else None
        for name, embedding in embeddings.items():
            scored[name] = run | score(embedding, adata.obs["cell_type"], batch, depth, seed=seed)
        cache.put(*key, value=scored)
    for name, figures in scored.items():
        results.setdefault((dataset, name), []).append(figures)
        print(dataset, name, seed, json.dumps(figures), sep="\t", file=sys.stderr)


def keep_slow(earlier: Path, datasets: list[str], results) -> list[tuple[tuple[str, str], list[dict[str, float]]]]:
    """PeakVI and PoissonVI of an earlier table, for data sets on which they are not in ``results``: median and range."""
    kept = []
    for (dataset, name), figures in read_table(earlier).items():
        if name in ("PeakVI", "PoissonVI") and dataset in datasets and (dataset, name) not in results:
            n_runs = len(figures["knn_purity"])
            kept.append(
                ((dataset, name), [{f: n[min(i, len(n) - 1)] for f, n in figures.items()} for i in range(n_runs)])
            )
    return kept


def read_table(path: Path) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Figures of a table that this program wrote, by data set and method: the median, and the range where there is one."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    figure, header = "", []
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if match := re.match(r"## `(\w+)`", line):
            figure, header = match[1], []
        elif line.startswith("## "):
            figure = ""
        elif figure and cells[0] == "method":
            header = cells[1:]
        elif figure and header and len(cells) == len(header) + 1:
            for dataset, cell in zip(header, cells[1:], strict=True):
                numbers = [float(number.replace(",", "")) for number in re.findall(r"[\d.,]*\d", cell)]
                if numbers:
                    found.setdefault((dataset, cells[0]), {})[figure] = numbers
    return found


def kept_with(results, kept):
    return {**results, **dict(kept)}


def report(sizes, results, skipped, arguments, kept=()) -> str:
    datasets = [row[0] for row in sizes]
    names = [name for made in METHODS.values() for name in made if any((d, name) in results for d in datasets)]
    env = environment("scatacformer", "torch", "scvi-tools", "snapatac2", "scanpy", "scikit-learn", "scipy", "numpy")
    parts = [
        "# Embedding",
        "",
        env,
        "",
        NOTES,
        f"Median and range over seeds {arguments.seeds}; a single number is one run. {threads()}",
        "",
    ]
    if kept:
        rows = ", ".join(f"{name} on {dataset}" for dataset, name in sorted(kept))
        parts += [f"Of an earlier run with the same versions, with up to two threads and not repeated: {rows}.", ""]
    parts.append(table(["data set", "cells", "features", "median open", "types"], sizes))
    for figure, title in FIGURES.items():
        digits = 0 if figure == "peak_mb" else 1 if figure.endswith("seconds") else 3
        values = {k: [r[figure] for r in runs if figure in r] for k, runs in results.items()}
        here = [d for d in datasets if any(values.get((d, n)) for n in names)]  # samples are not known everywhere
        rows: list[list[object]] = [[n, *(spread(values.get((d, n), []), digits) for d in here)] for n in names]
        if here:
            parts += [f"## `{figure}`", "", title + ".", "", table(["method", *here], rows)]
    parts += bars(datasets, results)
    if skipped:
        parts += ["## Not measured", "", *(f"- {line}" for line in skipped), ""]
    return "\n".join(parts)


def threads() -> str:
    n = os.environ.get("OMP_NUM_THREADS")
    return f"Threads of each process: {n}." if n else "Threads: as many as there are cores."


EASY = 0.97  # purity of the best peer, above which there is little to win
LEAD, BEHIND = 0.05, 0.01  # asked of the mean over the others; allowed on a single data set


def bars(datasets: list[str], results: dict[tuple[str, str], list[dict[str, Any]]]) -> list[str]:
    """What is asked of the package, medians over seeds: purity against the best peer on each data set, the mean lead,
    clusters on the mean against every peer that was run on all of them, and depth."""

    def middle(dataset: str, name: str, figure: str) -> float:
        return float(np.median([r[figure] for r in results[dataset, name]]))

    ours = "scatacformer"
    peers = sorted({name for _, name in results} - {name for method in OURS for name in METHODS[method]})
    here = [d for d in datasets if (d, ours) in results and any((d, n) in results for n in peers)]
    if not here:
        return []
    rows: list[list[object]] = []
    for dataset in here:
        best = max((n for n in peers if (dataset, n) in results), key=lambda n: middle(dataset, n, "knn_purity"))
        purity, of_best = (middle(dataset, n, "knn_purity") for n in (ours, best))
        rows.append([dataset, round(purity, 4), best, round(of_best, 4), round(purity - of_best, 4),
                     round(middle(dataset, ours, "depth_rho"), 3)])  # fmt: skip
    leads = [float(row[4]) for row in rows if float(row[3]) < EASY]
    everywhere = [n for n in peers if all((d, n) in results for d in here)]
    means = {
        figure: {n: float(np.mean([middle(d, n, figure) for d in here])) for n in (ours, *everywhere)}
        for figure in ("ari", "ari_res1")
    }
    checks = {
        f"purity at most {BEHIND} below the best peer's on each data set": min(float(row[4]) for row in rows)
        >= -BEHIND,
        f"on the mean {LEAD} ahead where that is below {EASY}": bool(leads) and np.mean(leads) >= LEAD,
        "`ari` ahead on the mean": max(means["ari"].values()) == means["ari"][ours],
        "`ari_res1` ahead on the mean": max(means["ari_res1"].values()) == means["ari_res1"][ours],
        "`depth_rho` at most 0.5": max(float(row[5]) for row in rows) <= 0.5,
    }
    mean_rows = [[n, *(round(means[figure][n], 4) for figure in means)] for n in (ours, *everywhere)]
    return [
        "## Against the bar", "",
        *(f"- {what}: {'met' if met else 'NOT met'}" for what, met in checks.items()), "",
        f"Mean lead {np.mean(leads):+.4f} over {len(leads)} data sets." if leads else "", "",
        table(["data set", "purity", "best peer", "its purity", "lead", "depth_rho"], rows),
        "Means over the data sets, for the methods that were run on all of them:", "",
        table(["method", *means], mean_rows),
    ]  # fmt: skip


# ---- the methods, each in its own process


def worker(method: str, cells: Path, out: Path, seed: int) -> dict[str, Any]:
    import anndata as ad

    adata = ad.read_h5ad(cells)
    embed = globals()[f"embed_{method.removesuffix('_all')}"]
    embed = embed(adata, seed, everything=True) if method.endswith("_all") else embed(adata, seed)
    start, cpu = time.perf_counter(), time.process_time()
    embeddings = embed()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    np.savez(out, **dict(zip(METHODS[method], embeddings, strict=True)))
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "peak_mb": peak_mb()}


# Each of these imports what it needs and returns what is timed.


def embed_scatacformer(adata: Any, seed: int, embedding_only: bool = True):
    import scatacformer as sf

    assert sf.ScAtacFormer  # imported here, on use

    def run():
        sf.ScAtacFormer.setup_anndata(adata)
        model = sf.ScAtacFormer(adata, seed=seed)
        model.train(embedding_only=embedding_only)
        return [model.get_latent_representation()]

    return run


def embed_scatacformer_train(adata: Any, seed: int):
    return embed_scatacformer(adata, seed, embedding_only=False)


def embed_snapatac2(adata: Any, seed: int, everything: bool = False):
    import snapatac2 as snap

    def run():
        features = "selected"
        if everything:
            features = adata.X.getnnz(0) >= 3
        else:
            snap.pp.select_features(adata, verbose=False)
        snap.tl.spectral(adata, features=features, random_state=seed)
        return [adata.obsm["X_spectral"]]

    return run


def embed_lsi(adata: Any, seed: int):
    import scipy.sparse as sp
    from scipy.sparse.linalg import svds

    def run():
        x = (adata.X[:, adata.X.getnnz(0) >= 3] > 0).astype(np.float32)
        tf = sp.diags_array(1 / np.maximum(x.sum(1).A1, 1)) @ x
        tfidf = (tf @ sp.diags_array(x.shape[0] / x.sum(0).A1) * 1e4).log1p().astype(np.float32)
        start = np.random.default_rng(seed).standard_normal(min(x.shape)).astype(np.float32)
        u, s, _ = svds(tfidf, k=31, v0=start)
        order = np.argsort(-s)[1:]
        return [u[:, order[:15]] * s[order[:15]], u[:, order] * np.sqrt(len(u))]

    return run


def embed_peakvi(adata: Any, seed: int):
    import scvi

    return lambda: [embed_scvi(scvi.model.PEAKVI, adata, seed)]


def embed_poissonvi(adata: Any, seed: int):
    import scvi

    return lambda: [embed_scvi(scvi.external.POISSONVI, adata, seed, fragments=True)]


def embed_scvi(cls: Any, adata: Any, seed: int, fragments: bool = False, batch_key: str | None = None) -> np.ndarray:
    import scvi

    scvi.settings.seed = seed
    in_cells = adata.X.getnnz(0)
    share = COMMON if (in_cells >= COMMON * adata.n_obs).sum() <= MANY_FEATURES else COMMONER
    adata = adata[:, in_cells >= max(3, share * adata.n_obs)].copy()
    layer = None
    # two reads a fragment: PoissonVI asks for fragments
    if fragments and (adata.X.data == 2).sum() > (adata.X.data == 1).sum():
        scvi.data.reads_to_fragments(adata)
        layer = "fragments"
    cls.setup_anndata(adata, layer=layer, batch_key=batch_key)
    model = cls(adata)
    model.train(enable_progress_bar=False)
    return model.get_latent_representation()


if __name__ == "__main__":
    main()
