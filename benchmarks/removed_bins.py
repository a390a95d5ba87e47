"""Whether removed open bins of new cells rank above closed bins that are as frequent.

    python benchmarks/removed_bins.py               three data sets, three seeds: about 45 minutes on two cores
    python benchmarks/removed_bins.py --peakvi      PeakVI and PoissonVI too, on the two small sets: an hour more
    python benchmarks/removed_bins.py --quick       300 cells, one seed; prints, writes nothing

A model is trained on 80 % of the cells. Half the open bins of each other cell are removed; the model reads the other
half and predicts a probability for every bin. Each removed bin is paired with a bin that is closed in the cell and open in
as many training cells, so that its frequency is not informative: by frequency alone, the score is 0.5. If the cells of each
bin are shuffled, nothing else can be learned, and the model must score 0.5 too.
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
)  # fmt: skip

DATASETS, BLOOD_CELLS, BLOOD_FRAGMENTS = ("leukemia", "cerebellum", "blood_shallow"), 3_000, 2_500
PEAKVI_DATASETS = ("leukemia", "cerebellum")
TEST_SHARE, MIN_PAIRS, MOST_TEST_CELLS = 0.2, 10, 300
# a closed bin may be open in this share of cells more or fewer than its removed bin, or in one cell, if none has as many
CALIPER = 0.05
Scorer = Callable[[Any, np.ndarray], np.ndarray]  # (cells with half their bins, row numbers) -> (rows, n_bins)
Run = tuple[float, float]  # AUROC, average precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--peakvi", action="store_true", help="PeakVI and PoissonVI on leukemia and cerebellum")
    parser.add_argument("--peakvi-seeds", nargs="+", type=int, help="those with which PeakVI and PoissonVI are trained")
    parser.add_argument("--cache", type=Path, help="file of finished measurements")
    parser.add_argument("--quick", action="store_true", help="leukemia, 300 cells, one seed; nothing is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.quick:
        arguments.datasets, arguments.seeds = ["leukemia"], [0]
    cache = Cache(arguments.cache)
    sections: list[str] = []
    for dataset in arguments.datasets:
        adata = load(dataset)
        if adata is None:
            sections += [f"## {dataset}", "", "Not measured: the data are not on this machine.", ""]
            continue
        if arguments.quick:
            adata = adata[np.sort(np.random.default_rng(0).choice(adata.n_obs, 300, replace=False))].copy()
        known = remembered(cache, dataset, adata.n_obs)
        runs: dict[str, list[Run]] = {}
        matched = []
        for seed in arguments.seeds:
            peakvi = arguments.peakvi and dataset in PEAKVI_DATASETS
            peakvi = peakvi and (arguments.peakvi_seeds is None or seed in arguments.peakvi_seeds)
            matched += one_seed(adata, seed, peakvi, known, runs)
        sections += section(dataset, adata, matched, runs)
        write("removed_bins", report(sections, arguments.seeds), keep=not arguments.quick)


def load(dataset: str) -> Any:
    """The cells, or None if the data do not exist."""
    if dataset == "blood_shallow":
        return simulated_blood(BLOOD_CELLS, BLOOD_FRAGMENTS) if can_simulate_blood() else None
    import anndata as ad

    path = data_folder() / f"{dataset}.h5ad"
    return ad.read_h5ad(path) if path.exists() else None


def one_seed(adata: Any, seed: int, peakvi: bool, known: Callable[..., Run], runs: dict[str, list[Run]]) -> list[float]:
    """Adds (AUROC, average precision) of every method to ``runs``; the share of removed bins that were paired."""
    matched = []
    for shuffled in (False, True):
        cells = shuffle_cells(adata, seed) if shuffled else adata
        train, test, pairs, share = split(cells, seed)
        matched += [] if shuffled else [share]
        methods: dict[str, Callable[[Any, int], Scorer]] = {
            "how often the bin is open": frequencies,
            "scatacformer": train_scatacformer,
        }
        if not shuffled:
            methods["scatacformer, decoder on the spectral start alone"] = partial(train_scatacformer, encoder=False)
            if peakvi:
                methods |= {"PeakVI": train_peakvi, "PoissonVI": train_poissonvi}
        for method, fit in methods.items():
            name = method + ", bins shuffled over cells" * shuffled
            found = known(name, seed, partial(fit_and_score, fit, train, seed, test, pairs))
            runs.setdefault(name, []).append(found)
            print(name, seed, *(f"{x:.4f}" for x in found), f"{len(pairs)} cells", sep="\t", file=sys.stderr)
    return matched


def remembered(cache: Cache, dataset: str, n_cells: int) -> Callable[..., Run]:
    """The figures of a method on a data set, from the cache if it was measured with the same code."""

    def known(name: str, seed: int, measure: Callable[[], Run]) -> Run:
        code = fingerprint(__file__) if "scatacformer" in name else environment("scvi-tools")[len(environment()) :]
        key = (dataset, n_cells, name, seed, code)
        found = cache.get(*key)
        if found is None:
            found = dict(zip(("auroc", "precision"), measure(), strict=True))
            cache.put(*key, value=found)
        return found["auroc"], found["precision"]

    return known


# ---- cells, removed bins and their pairs


def split(adata: Any, seed: int) -> tuple[Any, Any, list[tuple[int, np.ndarray, np.ndarray]], float]:
    """Training cells, test cells with half of their open bins, and for each test cell its pairs of bins."""
    import anndata as ad

    rng = np.random.default_rng(seed)
    order = rng.permutation(adata.n_obs)
    n_test = round(TEST_SHARE * adata.n_obs)
    train = adata[np.sort(order[n_test:])].copy()
    rows = np.sort(order[: min(n_test, MOST_TEST_CELLS)])
    open_in = train.X.getnnz(0)
    by_frequency = np.argsort(open_in, kind="stable")
    kept_parts, counts, pairs, n_removed, n_paired = [], [], [], 0, 0
    for place, row in enumerate(rows):
        here = slice(adata.X.indptr[row], adata.X.indptr[row + 1])
        bins = adata.X.indices[here]
        mixed = rng.permutation(len(bins))
        kept, removed = np.sort(mixed[: (len(bins) + 1) // 2]), bins[mixed[(len(bins) + 1) // 2 :]]
        kept_parts.append(bins[kept])
        counts.append(adata.X.data[here][kept])
        removed = removed[open_in[removed] > 0]  # a bin that is open in no training cell has no frequency to match
        is_open = np.zeros(adata.n_vars, bool)
        is_open[bins] = True
        removed, closed = match(removed, by_frequency[~is_open[by_frequency]], open_in, rng)
        n_removed, n_paired = n_removed + len(bins) // 2, n_paired + len(removed)
        if len(removed) >= MIN_PAIRS:
            pairs.append((place, removed, closed))
    indptr = np.concatenate([[0], np.cumsum([len(k) for k in kept_parts])])
    bins = np.concatenate(kept_parts)
    x = sp.csr_matrix((np.concatenate(counts), bins, indptr), shape=(len(rows), adata.n_vars))
    test = ad.AnnData(x, obs=adata.obs.iloc[rows].copy(), var=adata.var.copy(), uns=dict(adata.uns))
    return train, test, pairs, n_paired / max(n_removed, 1)


def match(
    removed: np.ndarray, closed: np.ndarray, open_in: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Removed bins and as many closed ones, each used once; ``closed`` is sorted by ``open_in``.

    Removed bins for which no closed bin is left are dropped: in a less similar pair, the frequency would distinguish them.
    """
    counts, free = open_in[closed], np.ones(len(closed), bool)
    found_hidden, found_closed = [], []
    for count in np.unique(open_in[removed]):
        mine = rng.permutation(removed[open_in[removed] == count])
        for caliper in (0, max(1, int(CALIPER * count))):
            first, last = np.searchsorted(counts, [max(count - caliper, 1), count + caliper + 1])
            near = first + np.flatnonzero(free[first:last])
            chosen = rng.choice(near, min(len(mine), len(near)), replace=False)
            free[chosen] = False
            found_hidden.append(mine[: len(chosen)])
            found_closed.append(closed[chosen])
            mine = mine[len(chosen) :]
            if not len(mine):
                break
    none = np.empty(0, np.int64)
    return np.concatenate([none, *found_hidden]), np.concatenate([none, *found_closed])


def shuffle_cells(adata: Any, seed: int) -> Any:
    """Each bin open in the same number of cells as before, but in different ones."""
    rng = np.random.default_rng(seed)
    columns = adata.X.tocsc()
    ends = columns.indptr
    rows = [rng.choice(adata.n_obs, n, replace=False, shuffle=False) for n in np.diff(ends)]
    shuffled = adata.copy()
    shuffled.X = sp.csc_matrix((columns.data, np.concatenate(rows), ends), shape=adata.shape).tocsr()
    return shuffled


def fit_and_score(fit: Callable[[Any, int], Scorer], train: Any, seed: int, test: Any, pairs: list) -> Run:
    return score(fit(train, seed), test, pairs)


def score(scorer: Scorer, test: Any, pairs: list, at_once: int = 64) -> Run:
    """AUROC and average precision of removed against closed bins for each cell; means over cells."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    figures = []
    for start in range(0, len(pairs), at_once):
        part = pairs[start : start + at_once]
        values = scorer(test, np.array([place for place, _, _ in part]))
        for row, (_, removed, closed) in zip(values, part, strict=True):
            truth = np.repeat([1, 0], [len(removed), len(closed)])
            guess = row[np.concatenate([removed, closed])]
            figures.append((roc_auc_score(truth, guess), average_precision_score(truth, guess)))
    auroc, precision = np.mean(figures, axis=0)
    return float(auroc), float(precision)


# ---- models


def frequencies(train: Any, seed: int) -> Scorer:
    frequency = np.asarray(train.X.getnnz(0), np.float32)
    return lambda _, rows: np.broadcast_to(frequency, (len(rows), len(frequency)))


def train_scatacformer(train: Any, seed: int, encoder: bool = True) -> Scorer:
    import scatacformer as sf

    sf.ScAtacFormer.setup_anndata(train)
    model = sf.ScAtacFormer(train, seed=seed)
    # the epochs in which only the decoder is trained: the encoder keeps its initial weights, which add nothing to the pool
    model.train(enable_progress_bar=False, **({} if encoder else {"max_epochs": 3}))
    return lambda test, rows: model.get_normalized_accessibility(test, indices=rows, return_numpy=True)


def train_peakvi(train: Any, seed: int) -> Scorer:
    """PeakVI with its defaults; all bins, so that the pairs are the same."""
    import scvi

    scvi.settings.seed = seed
    train = train.copy()
    scvi.model.PEAKVI.setup_anndata(train)
    model = scvi.model.PEAKVI(train)
    model.train(enable_progress_bar=False)
    return lambda test, rows: model.get_normalized_accessibility(test[rows].copy(), return_numpy=True)


def train_poissonvi(train: Any, seed: int) -> Scorer:
    """PoissonVI with its defaults; reads are converted to fragments, two reads each."""
    import anndata as ad
    import scvi

    scvi.settings.seed = seed
    reads = bool((train.X.data == 2).sum() > (train.X.data == 1).sum())

    def as_fragments(cells: Any) -> Any:
        cells = cells.copy()
        if reads:
            scvi.data.reads_to_fragments(cells)
        return cells

    train = as_fragments(train)
    scvi.external.POISSONVI.setup_anndata(train, layer="fragments" if reads else None)
    model = scvi.external.POISSONVI(train)
    model.train(enable_progress_bar=False)

    def scores(test: Any, rows: np.ndarray) -> np.ndarray:
        # scvi-tools uses 100 cells to distinguish fragments from reads: some training cells are added
        cells = ad.concat([as_fragments(test[rows]), train[:100]], merge="same", uns_merge="same")
        cells.obs_names_make_unique()
        return model.get_normalized_accessibility(
            cells, indices=np.arange(len(rows)), normalize_regions=True, return_numpy=True
        )

    return scores


# ---- results


def section(dataset: str, adata: Any, matched: list[float], runs: dict[str, list[Run]]) -> list[str]:
    rows = [[name, len(found), *(spread([run[k] for run in found]) for k in (0, 1))] for name, found in runs.items()]
    n_test = min(round(TEST_SHARE * adata.n_obs), MOST_TEST_CELLS)
    return [
        f"## {dataset}: {adata.n_obs:,} cells x {adata.n_vars:,} features, {n_test} cells scored", "",
        f"{np.mean(matched):.0%} of the removed bins were paired with a closed bin that is as frequent.", "",
        table(["scores by", "runs", "AUROC", "average precision"], rows),
    ]  # fmt: skip


def report(sections: list[str], seeds: list[int]) -> str:
    env = environment("scatacformer", "torch", "scvi-tools", "anndata", "scikit-learn", "scipy", "numpy")
    return "\n".join([
        "# Removed bins", "", env, "",
        "Trained on 80 % of the cells; half the open bins of each other cell are removed, and ranked against as many "
        "closed bins that are open in as many training cells (± 5 % if there is none). 0.5 is chance. Mean over "
        f"cells; median and range over seeds {seeds}.", "",
        *sections,
    ])  # fmt: skip


if __name__ == "__main__":
    main()
