"""Predicted accessibility against the truth that was held back, beside averaging, a topic model, PeakVI and PoissonVI.

    python benchmarks/accessibility.py                          three data sets, one seed
    python benchmarks/accessibility.py --seeds 0 1 2 --cache rows.jsonl
    python benchmarks/accessibility.py --quick                  300 cells, no PeakVI or PoissonVI; prints, writes nothing

Each count is kept with probability one half; every method reads the kept half of all cells and predicts the accessibility of
all regions. Scored are regions that are closed in the kept half of a cell: which of them are open in the other half? By
regions in strata of frequency, so that frequency alone cannot explain the result: average precision in each cell, mean over
cells. Aggregated by type: Spearman correlation over regions of the mean prediction and the mean of the other half. For blood,
which is simulated, also the Spearman correlation with the measured profile of the cell's type, in each cell.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from _common import (
    Cache,
    can_simulate_blood,
    data_folder,
    environment,
    fingerprint,
    simulated_blood,
    spread,
    table,
    write,
)
from removed_bins import Scorer, frequencies, train_peakvi, train_poissonvi, train_scatacformer

DATASETS, BLOOD_CELLS, BLOOD_FRAGMENTS = ("leukemia", "forebrain", "blood"), 1_000, 5_000
STRATA = {"rare (< 2 % of cells)": (0.0, 0.02), "2 to 10 %": (0.02, 0.1), "common (> 10 %)": (0.1, 1.01)}
MIN_SHARE = 0.01  # regions that are open in fewer cells of the kept half are left out, for all methods
SCORED_CELLS, MIN_OPEN, N_NEIGHBORS, N_TOPICS = 200, 5, 15, 50
Predictor = Callable[[np.ndarray], np.ndarray]  # row numbers -> (rows, n_regions)
FIGURES = [f"average precision, {name}" for name in STRATA] + ["mean of these", "type, Spearman", "profile, Spearman"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cache", type=Path, help="file of finished measurements")
    parser.add_argument("--quick", action="store_true", help="leukemia, 300 cells, without PeakVI and PoissonVI")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.quick:
        arguments.datasets, arguments.seeds = ["leukemia"], [0]
        arguments.methods = [name for name in METHODS if "VI" not in name]
    cache, sections = Cache(arguments.cache), []
    for name in arguments.datasets:
        adata = load(name)
        if adata is None:
            sections += [f"## {name}", "", "Not measured: the data are not on this machine.", ""]
            continue
        if arguments.quick:
            adata = adata[np.sort(np.random.default_rng(0).choice(adata.n_obs, 300, replace=False))].copy()
        runs: dict[str, list[dict[str, float]]] = {}
        for seed in arguments.seeds:
            kept, other = halves(adata, seed)
            for method in arguments.methods:
                code = fingerprint(__file__) if "scatacformer" in method else environment("scvi-tools", "scikit-learn")
                key = (name, adata.n_obs, method, seed, code)
                if cache.get(*key) is None:
                    cache.put(*key, value=score(METHODS[method](kept.copy(), seed), kept, other, seed))
                runs.setdefault(method, []).append(cache.get(*key))
                print(name, method, seed, cache.get(*key), file=sys.stderr, flush=True)
        sections += section(name, kept, runs)
        write("accessibility", report(sections, arguments.seeds), keep=not arguments.quick)


def load(name: str) -> Any:
    """The cells with column ``cell_type``, counts of fragments or reads; None if the data do not exist."""
    if name == "blood":
        return simulated_blood(BLOOD_CELLS, BLOOD_FRAGMENTS) if can_simulate_blood() else None
    import anndata as ad

    paths = [data_folder() / f"{name}.h5ad", data_folder() / "more" / f"{name}.h5ad"]
    found = [path for path in paths if path.exists()]
    return ad.read_h5ad(found[0]) if found else None


def halves(adata: Any, seed: int) -> tuple[Any, sp.csr_matrix]:
    """The kept half of the counts, of the regions that are open often enough in it, and the other half of these."""
    adata = adata.copy()
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    whole = adata.X.data.astype(np.int64)
    first = np.random.default_rng(seed).binomial(whole, 0.5)
    other = adata.X.copy()
    other.data = (whole - first).astype(np.float32)
    adata.X.data = first.astype(np.float32)
    for x in (adata.X, other):
        x.eliminate_zeros()
    often = np.flatnonzero(adata.X.getnnz(0) >= max(3, MIN_SHARE * adata.n_obs))
    cells = np.flatnonzero(adata.X[:, often].getnnz(1) >= MIN_OPEN)
    return adata[cells][:, often].copy(), sp.csr_matrix(other[cells][:, often])


def score(predict: Predictor, kept: Any, other: sp.csr_matrix, seed: int) -> dict[str, float]:
    """The figures of one method; NaN where there is no truth to compare with."""
    from scipy.stats import spearmanr
    from sklearn.metrics import average_precision_score

    frequency = kept.X.getnnz(0) / kept.n_obs
    rows = np.sort(np.random.default_rng(seed).permutation(kept.n_obs)[:SCORED_CELLS])
    truth = true_profiles(kept)
    types = kept.obs["cell_type"].astype(str).to_numpy()
    precision: dict[str, list[float]] = {name: [] for name in STRATA}
    profile, total, bulk = [], {}, {}
    for place, values in zip(rows, predict(rows), strict=True):
        closed = np.ones(kept.n_vars, bool)
        closed[kept.X[place].indices] = False
        is_open = np.zeros(kept.n_vars, bool)
        is_open[other[place].indices] = True
        for name, (low, high) in STRATA.items():
            here = closed & (frequency >= low) & (frequency < high)
            if MIN_OPEN <= is_open[here].sum() < here.sum():
                precision[name].append(average_precision_score(is_open[here], values[here]))
        if truth is not None:
            profile.append(spearmanr(values, truth[place]).statistic)
        total[types[place]] = total.get(types[place], 0) + values
    for kind in total:
        bulk[kind] = np.asarray(other[types == kind].astype(bool).mean(0)).ravel()
    by_type = [spearmanr(total[kind], bulk[kind]).statistic for kind in total if (types == kind).sum() >= N_NEIGHBORS]
    found = [float(np.mean(values)) if values else float("nan") for values in precision.values()]
    ends = [np.nanmean(found), np.mean(by_type), np.mean(profile) if profile else np.nan]
    return dict(zip(FIGURES, [*found, *map(float, ends)], strict=True))


def true_profiles(kept: Any) -> np.ndarray | None:
    """The measured profile of each cell's type, (n_cells, n_regions), for simulated blood; else None."""
    if "next_type" not in kept.obs:
        return None
    bulk = np.load(data_folder() / "blood" / "accessibility.npz")
    names = [f"{chrom}:{start}" for chrom, start in zip(bulk["chrom"], bulk["start"] // 5_000 * 5_000, strict=True)]
    place = {name: i for i, name in enumerate(names)}
    regions = [place.get(f"{c}:{s}", -1) for c, s in zip(kept.var["chrom"], kept.var["start"], strict=True)]
    rate = np.vstack([bulk["rate"].astype(np.float64), np.zeros(len(bulk["cell_type"]))])[regions].T
    row = {str(kind): i for i, kind in enumerate(bulk["cell_type"])}
    here, toward = (kept.obs[column].astype(str).map(row).to_numpy() for column in ("cell_type", "next_type"))
    progress = kept.obs["progress"].to_numpy()[:, None]
    return ((1 - progress) * rate[here] + progress * rate[toward]).astype(np.float32)


# ---- methods: each is trained on the kept half and predicts rows of it


def of_kept(fit: Callable[[Any, int], Scorer]) -> Callable[[Any, int], Predictor]:
    """A method of ``removed_bins``, for the cells it was trained on."""

    def method(kept: Any, seed: int) -> Predictor:
        scorer = fit(kept, seed)
        return lambda rows: scorer(kept, rows)

    return method


def neighbours_of(kept: Any, seed: int) -> Predictor:
    """Share of a cell's neighbours in scatacformer's embedding that have a region open, without the cell itself."""
    from sklearn.neighbors import NearestNeighbors

    import scatacformer as sf

    sf.ScAtacFormer.setup_anndata(kept)
    model = sf.ScAtacFormer(kept, seed=seed)
    model.train(embedding_only=True)
    z = model.get_latent_representation()
    near = NearestNeighbors(n_neighbors=N_NEIGHBORS + 1).fit(z).kneighbors(z, return_distance=False)
    others = [[cell for cell in found if cell != row][:N_NEIGHBORS] for row, found in enumerate(near)]
    opened = kept.X.astype(bool).astype(np.float32)
    return lambda rows: np.stack([np.asarray(opened[others[row]].mean(0)).ravel() for row in rows])


def topics_of(kept: Any, seed: int) -> Predictor:
    """Latent Dirichlet allocation of open regions, as cisTopic's; batch variational Bayes of scikit-learn."""
    from sklearn.decomposition import LatentDirichletAllocation

    opened = kept.X.astype(bool).astype(np.float32)
    model = LatentDirichletAllocation(N_TOPICS, learning_method="online", max_iter=20, random_state=seed)
    cells = model.fit_transform(opened)
    topics = model.components_ / model.components_.sum(1, keepdims=True)
    return lambda rows: cells[rows] @ topics


METHODS: dict[str, Callable[[Any, int], Predictor]] = {
    "frequency of the region": of_kept(frequencies),
    "scatacformer": of_kept(train_scatacformer),
    "scatacformer, decoder on the spectral start alone": of_kept(partial(train_scatacformer, encoder=False)),
    f"mean of {N_NEIGHBORS} neighbours (scatacformer's)": neighbours_of,
    f"LDA, {N_TOPICS} topics": topics_of,
    "PeakVI": of_kept(train_peakvi),
    "PoissonVI": of_kept(train_poissonvi),
}


# ---- results


def section(name: str, kept: Any, runs: dict[str, list[dict[str, float]]]) -> list[str]:
    figures = [f for f in FIGURES if not all(np.isnan(run[f]) for found in runs.values() for run in found)]
    rows = [
        [method, len(found), *(spread([run[f] for run in found]) for f in figures)] for method, found in runs.items()
    ]
    note = (
        f"{min(SCORED_CELLS, kept.n_obs)} cells scored; median of {np.median(kept.X.getnnz(1)):,.0f} open regions kept."
    )
    return [
        f"## {name}: {kept.n_obs:,} cells x {kept.n_vars:,} regions",
        "",
        note,
        "",
        table(["method", "runs", *figures], rows),
    ]


def report(sections: list[str], seeds: list[int]) -> str:
    env = environment("scatacformer", "torch", "scvi-tools", "anndata", "scikit-learn", "scipy", "numpy")
    return "\n".join([
        "# Predicted accessibility", "", env, "",
        "Half of the counts of every cell are held back. Average precision: which regions that are closed in the kept half are "
        "open in the other, by regions as frequent; mean over cells. Type: mean prediction and mean of the other half. "
        f"Regions open in at least {MIN_SHARE:.0%} of the cells; median and range over seeds {seeds}.", "",
        *sections,
    ])  # fmt: skip


if __name__ == "__main__":
    main()
