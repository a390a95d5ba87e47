"""The constants of the embedding, chosen on all data sets but one and measured on that one, for each in turn.

    python benchmarks/leave_one_out.py --cache loo.jsonl     10 CPU-minutes; resumes an interrupted run
    python benchmarks/leave_one_out.py --all --cache loo.jsonl    with the two largest data sets too: 30 CPU-minutes
    python benchmarks/leave_one_out.py --quick               two small data sets and two constants; writes nothing

Each constant of ``scatacformer.cells.StartOptions``, and the power of the length by which vectors are divided, has two
alternatives to its default. A constant is chosen by itself, with the others at their defaults: the value with the highest
mean purity over the data sets that are not left out, where it is ahead of the default by more than ``MARGIN``. The values
chosen are then measured together on the data set left out. Data sets, scores and the peers' figures are those of
``embedding.py`` (run it first).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, Cache, environment, fingerprint, load_tool, table, write
from embedding import DATASETS, METHODS, OURS, prepare, read_table, threads

LARGEST = ("bone_marrow", "blood_deep")
SEED, D_EMBED = 0, 32
MARGIN = 0.001  # of purity; a value that is no better than this is not preferred to the default
LENGTH = "length"  # the power; not an option of the start, because it applies to its vectors
ALTERNATIVES: dict[str, tuple[Any, ...]] = {
    "laws": (((1.0, 0.25),), ((1.0, 0.0),)),
    "better": (1.0, 1.2),
    "sure": (3.0, 6.0),
    "least_participation": (5.0, 20.0),
    LENGTH: (0.5, 1.0),
}
FIGURES = ("knn_purity", "ari", "ari_res1")
Setting = dict[str, Any]  # constants that differ from their defaults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS)
    parser.add_argument("--all", action="store_true", help="the two largest data sets too")
    parser.add_argument("--cache", type=Path, help="file of finished measurements")
    parser.add_argument("--quick", action="store_true", help="two small data sets, two constants; nothing is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if load_tool("score_embedding") is None:
        sys.exit("the scores come from tools/score_embedding.py beside the data folder; see benchmarks/_common.py")
    datasets = arguments.datasets or [d for d in DATASETS if arguments.all or d not in LARGEST]
    constants = list(ALTERNATIVES)
    if arguments.quick:
        datasets, constants = ["progenitors", "leukemia"], ["sure", LENGTH]
    bench = Bench(Cache(arguments.cache))
    datasets = [dataset for dataset in datasets if bench.cells(dataset) is not None]
    if len(datasets) < 2:
        sys.exit("at least two of the data sets must be on this machine")
    settings: list[Setting] = [{}, *({name: value} for name in constants[::-1] for value in ALTERNATIVES[name])]
    for dataset in datasets:
        for setting in settings:
            bench.measure(dataset, setting)
    write("leave_one_out", report(bench, datasets, constants), keep=not arguments.quick)


class Bench:
    """Scores of settings on data sets, from the cache where they are there."""

    def __init__(self, cache: Cache) -> None:
        self._cache, self._code = cache, fingerprint()
        self._loaded: tuple[str, Any] = ("", None)
        self._vectors: tuple[Any, np.ndarray] = (None, np.empty(0))  # those of the last start

    def cells(self, dataset: str) -> Any:
        if self._loaded[0] != dataset:
            self._loaded = (dataset, prepare(dataset, None))
        return self._loaded[1]

    def measure(self, dataset: str, setting: Setting) -> dict[str, Any]:
        key = (dataset, setting, self._code)
        found = self._cache.get(*key)
        if found is None:
            found = self._score(dataset, self._embedding(dataset, setting))
            self._cache.put(*key, value=found)
            print(dataset, json.dumps(setting), json.dumps(found), sep="\t", file=sys.stderr)
        return found

    def _embedding(self, dataset: str, setting: Setting) -> np.ndarray:
        """As ``get_latent_representation`` returns it, but for rounding."""
        from scatacformer.cells.start.batch_shifts import LENGTH_POWER

        of_start = {name: value for name, value in setting.items() if name != LENGTH}
        if self._vectors[0] != (dataset, of_start):
            self._vectors = ((dataset, of_start), start_vectors(self.cells(dataset), of_start))
        vectors = self._vectors[1]
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(length, 1e-12) ** setting.get(LENGTH, LENGTH_POWER)

    def _score(self, dataset: str, embedding: np.ndarray) -> dict[str, Any]:
        # many settings lead to the same embedding
        key = (dataset, hashlib.sha256(embedding.tobytes()).hexdigest())
        found = self._cache.get(*key)
        if found is None:
            adata = self.cells(dataset)
            depth = np.diff(adata.X.indptr)
            scores = load_tool("score_embedding").score(embedding, adata.obs["cell_type"], depth=depth, seed=SEED)
            found = {figure: scores[figure] for figure in (*FIGURES, "depth_rho", "dims")}
            self._cache.put(*key, value=found)
        return found


def start_vectors(adata: Any, options: Setting) -> np.ndarray:
    """The fitted cells' vectors, of the dimensions that are kept.  (n_cells, n_dims)"""
    from scatacformer.cells import RowSource, StartOptions, fit_spectral

    source = RowSource.from_matrix(adata.X)
    options = replace(StartOptions(), **options)
    start = fit_spectral(source, np.arange(adata.n_obs), D_EMBED, seed=SEED, options=options)
    return start.vectors[:, start.weight > 0]


def choose(bench: Bench, datasets: list[str], constants: list[str]) -> Setting:
    """The value of each constant with the highest mean purity on ``datasets``."""

    def mean(setting: Setting) -> float:
        return float(np.mean([bench.measure(dataset, setting)["knn_purity"] for dataset in datasets]))

    chosen: Setting = {}
    for name in constants:
        best = max(ALTERNATIVES[name], key=lambda value: mean({name: value}))
        if mean({name: best}) > mean({}) + MARGIN:
            chosen[name] = best
    return chosen


def report(bench: Bench, datasets: list[str], constants: list[str]) -> str:
    peers = best_peers(datasets)
    chosen = {left_out: choose(bench, [d for d in datasets if d != left_out], constants) for left_out in datasets}
    everywhere = choose(bench, datasets, constants)
    rows: list[list[object]] = []
    for dataset, setting in chosen.items():
        found = [bench.measure(dataset, s) for s in (setting, everywhere, {})]
        peer = peers.get(dataset)
        rows.append([
            dataset, words(setting), *(f"{f['knn_purity']:.3f}" for f in found), f"{peer[1]:.3f}" if peer else "–",
            peer[0] if peer else "–", *(f"{found[0][f]:.3f} ({found[2][f]:.3f})" for f in FIGURES[1:]),
        ])  # fmt: skip
    means = [np.mean([float(str(row[i])) for row in rows]) for i in (2, 3, 4)]
    peer_mean = f"{np.mean([peers[d][1] for d in datasets]):.3f}" if all(d in peers for d in datasets) else "–"
    rows.append(["mean", "", *(f"{mean:.3f}" for mean in means), peer_mean, "", *mean_ari(bench, datasets, chosen)])
    env = environment("scatacformer", "scikit-learn", "scanpy", "scipy", "numpy")
    missing = [dataset for dataset in DATASETS if dataset not in datasets]
    parts = [
        "# Constants of the embedding, leaving one data set out", "", env, "",
        "Each constant is chosen on all data sets but one, by mean purity, with the others at their defaults; the values "
        f"chosen are measured together on the one left out. A value is preferred to the default if it is ahead by more than {MARGIN}. "
        f"Start only, seed {SEED}. {threads()}" + (f" Not among them: {', '.join(missing)}." if missing else ""), "",
        f"Chosen on all of them (in-sample): {words(everywhere)}. ARI: of the choice, with that of the defaults in parentheses.", "",
        table(["left out", "chosen on the others", "purity there", "in-sample choice", "defaults", "best peer", "which", *FIGURES[1:]], rows),
        "## One constant at a time", "",
        "Purity minus that of the defaults.", "",
        table(["constant", "default", "value", *datasets, "mean"], differences(bench, datasets, constants)),
    ]  # fmt: skip
    return "\n".join(parts)


def mean_ari(bench: Bench, datasets: list[str], chosen: dict[str, Setting]) -> list[str]:
    def mean(figure: str, of: dict[str, Setting]) -> float:
        return float(np.mean([bench.measure(d, of.get(d, {}))[figure] for d in datasets]))

    return [f"{mean(figure, chosen):.3f} ({mean(figure, {}):.3f})" for figure in FIGURES[1:]]


def differences(bench: Bench, datasets: list[str], constants: list[str]) -> list[list[object]]:
    from scatacformer.cells import StartOptions
    from scatacformer.cells.start.batch_shifts import LENGTH_POWER

    rows: list[list[object]] = []
    for name in constants:
        default = LENGTH_POWER if name == LENGTH else getattr(StartOptions(), name)
        for value in ALTERNATIVES[name]:
            change = [
                bench.measure(d, {name: value})["knn_purity"] - bench.measure(d, {})["knn_purity"] for d in datasets
            ]
            numbers = [f"{number:+.3f}" for number in (*change, np.mean(change))]
            rows.append([f"`{name}`", shown(default), shown(value), *numbers])
    return rows


def best_peers(datasets: list[str]) -> dict[str, tuple[str, float]]:
    """The peer of highest purity on each data set, of the table of ``embedding.py``."""
    path = RESULTS / "embedding.md"
    ours = {name for method in OURS for name in METHODS[method]}
    found = read_table(path) if path.exists() else {}
    best: dict[str, tuple[str, float]] = {}
    for (dataset, name), figures in found.items():
        purity = figures["knn_purity"][0]
        if name not in ours and dataset in datasets and purity > best.get(dataset, ("", 0.0))[1]:
            best[dataset] = (name, purity)
    return best


def words(setting: Setting) -> str:
    return ", ".join(f"`{name}` {shown(value)}" for name, value in setting.items()) or "the defaults"


def shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "; ".join(f"idf^{a:g} F^{b:g}" for a, b in value)
    return f"{value:g}"


if __name__ == "__main__":
    start = time.process_time()
    main()
    print(f"{time.process_time() - start:.0f} CPU-seconds", file=sys.stderr)
