"""Whether hidden open bins of new cells rank above closed bins that are open just as often.

    python benchmarks/removed_bins.py               three data sets, three seeds: about 45 minutes on two cores
    python benchmarks/removed_bins.py --peakvi      PeakVI too, on the two small sets
    python benchmarks/removed_bins.py --quick       300 cells, one seed; prints, writes nothing

A model is trained on 80 % of the cells. Of each other cell half the open bins are hidden; the model reads the other half
and gives every bin a probability. Each hidden bin is paired with a bin that is closed in the cell and open in as many
training cells, so that how often a bin is open tells nothing: that alone gives 0.5. Where the cells of each bin are
shuffled there is nothing else to know, and the model must give 0.5 too.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from _common import can_simulate_blood, data_folder, environment, simulated_blood, spread, table, write

DATASETS, BLOOD_CELLS, BLOOD_FRAGMENTS = ("leukemia", "cerebellum", "blood_shallow"), 3_000, 2_500
PEAKVI_DATASETS = ("leukemia", "cerebellum")
TEST_SHARE, MIN_PAIRS, MOST_TEST_CELLS = 0.2, 10, 300
# a closed bin may be open in this share of cells more or fewer than its hidden bin, or in one cell, if none has as many
CALIPER = 0.05
Scorer = Callable[[Any, np.ndarray], np.ndarray]  # (cells with half their bins, row numbers) -> (rows, n_bins)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--peakvi", action="store_true", help="PeakVI on leukemia and cerebellum")
    parser.add_argument("--quick", action="store_true", help="leukemia, 300 cells, one seed; nothing is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.quick:
        arguments.datasets, arguments.seeds = ["leukemia"], [0]
    sections: list[str] = []
    for dataset in arguments.datasets:
        adata = load(dataset)
        if adata is None:
            sections += [f"## {dataset}", "", "Not measured: the data are not on this machine.", ""]
            continue
        if arguments.quick:
            adata = adata[np.sort(np.random.default_rng(0).choice(adata.n_obs, 300, replace=False))].copy()
        peakvi = arguments.peakvi and dataset in PEAKVI_DATASETS
        runs: dict[str, list[tuple[float, float]]] = {}
        matched = []
        for seed in arguments.seeds:
            matched += one_seed(adata, seed, peakvi, runs)
        sections += section(dataset, adata, matched, runs)
        write("removed_bins", report(sections, arguments.seeds), keep=not arguments.quick)


def load(dataset: str) -> Any:
    """The cells, or None where the data are absent."""
    if dataset == "blood_shallow":
        return simulated_blood(BLOOD_CELLS, BLOOD_FRAGMENTS) if can_simulate_blood() else None
    import anndata as ad

    path = data_folder() / f"{dataset}.h5ad"
    return ad.read_h5ad(path) if path.exists() else None


def one_seed(adata: Any, seed: int, peakvi: bool, runs: dict[str, list[tuple[float, float]]]) -> list[float]:
    """Adds (AUROC, average precision) of every method to ``runs``; the share of hidden bins that found a pair."""
    matched = []
    for shuffled in (False, True):
        cells = shuffle_cells(adata, seed) if shuffled else adata
        train, test, pairs, share = split(cells, seed)
        matched += [] if shuffled else [share]
        frequency = np.asarray(train.X.getnnz(0), np.float32)
        scorers: dict[str, Scorer] = {
            "how often the bin is open": lambda _, rows, f=frequency: np.broadcast_to(f, (len(rows), len(f))),
            "scatacformer": train_scatacformer(train, seed),
        }
        if not shuffled:
            scorers["scatacformer, decoder on the spectral start alone"] = train_scatacformer(
                train, seed, encoder=False
            )
            if peakvi:
                scorers["PeakVI"] = train_peakvi(train, seed)
        for name, scorer in scorers.items():
            name += ", bins shuffled over cells" if shuffled else ""
            found = score(scorer, test, pairs)
            runs.setdefault(name, []).append(found)
            print(name, seed, *(f"{x:.4f}" for x in found), f"{len(pairs)} cells", sep="\t", file=sys.stderr)
    return matched


# ---- cells, hidden bins and their pairs


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
    kept_parts, pairs, n_hidden, n_paired = [], [], 0, 0
    for place, row in enumerate(rows):
        bins = adata.X.indices[adata.X.indptr[row] : adata.X.indptr[row + 1]]
        mixed = rng.permutation(bins)
        kept, hidden = np.sort(mixed[: (len(bins) + 1) // 2]), mixed[(len(bins) + 1) // 2 :]
        kept_parts.append(kept)
        hidden = hidden[open_in[hidden] > 0]  # a bin that no training cell has open has no frequency to match
        is_open = np.zeros(adata.n_vars, bool)
        is_open[bins] = True
        hidden, closed = match(hidden, by_frequency[~is_open[by_frequency]], open_in, rng)
        n_hidden, n_paired = n_hidden + len(bins) // 2, n_paired + len(hidden)
        if len(hidden) >= MIN_PAIRS:
            pairs.append((place, hidden, closed))
    indptr = np.concatenate([[0], np.cumsum([len(k) for k in kept_parts])])
    bins = np.concatenate(kept_parts)
    x = sp.csr_matrix((np.ones(len(bins), np.float32), bins, indptr), shape=(len(rows), adata.n_vars))
    test = ad.AnnData(x, obs=adata.obs.iloc[rows].copy(), var=adata.var.copy(), uns=dict(adata.uns))
    return train, test, pairs, n_paired / max(n_hidden, 1)


def match(
    hidden: np.ndarray, closed: np.ndarray, open_in: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Hidden bins and as many closed ones, each used once; ``closed`` is sorted by ``open_in``.

    Hidden bins that no closed bin is left for are dropped: with a farther pair the frequency would tell them apart.
    """
    counts, free = open_in[closed], np.ones(len(closed), bool)
    found_hidden, found_closed = [], []
    for count in np.unique(open_in[hidden]):
        mine = rng.permutation(hidden[open_in[hidden] == count])
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
    """Each bin open in as many cells as before, but in others."""
    rng = np.random.default_rng(seed)
    columns = adata.X.tocsc()
    ends = columns.indptr
    rows = [rng.choice(adata.n_obs, n, replace=False, shuffle=False) for n in np.diff(ends)]
    shuffled = adata.copy()
    shuffled.X = sp.csc_matrix((columns.data, np.concatenate(rows), ends), shape=adata.shape).tocsr()
    return shuffled


def score(scorer: Scorer, test: Any, pairs: list, at_once: int = 64) -> tuple[float, float]:
    """AUROC and average precision of hidden against closed bins, each cell by itself; means over cells."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    figures = []
    for start in range(0, len(pairs), at_once):
        part = pairs[start : start + at_once]
        values = scorer(test, np.array([place for place, _, _ in part]))
        for row, (_, hidden, closed) in zip(values, part, strict=True):
            truth = np.repeat([1, 0], [len(hidden), len(closed)])
            guess = row[np.concatenate([hidden, closed])]
            figures.append((roc_auc_score(truth, guess), average_precision_score(truth, guess)))
    auroc, precision = np.mean(figures, axis=0)
    return float(auroc), float(precision)


# ---- models


def train_scatacformer(train: Any, seed: int, encoder: bool = True) -> Scorer:
    import scatacformer as sf

    sf.ScAtacFormer.setup_anndata(train)
    model = sf.ScAtacFormer(train, seed=seed)
    # as many epochs as the decoder has to itself: the encoder keeps its first weights, which add nothing to the pool
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


# ---- results


def section(dataset: str, adata: Any, matched: list[float], runs: dict[str, list[tuple[float, float]]]) -> list[str]:
    rows = [[name, *(spread([run[k] for run in found]) for k in (0, 1))] for name, found in runs.items()]
    n_test = min(round(TEST_SHARE * adata.n_obs), MOST_TEST_CELLS)
    return [
        f"## {dataset}: {adata.n_obs:,} cells x {adata.n_vars:,} features, {n_test} cells scored", "",
        f"{np.mean(matched):.0%} of the hidden bins found a closed one as frequent.", "",
        table(["scores by", "AUROC", "average precision"], rows),
    ]  # fmt: skip


def report(sections: list[str], seeds: list[int]) -> str:
    env = environment("scatacformer", "torch", "scvi-tools", "anndata", "scikit-learn", "scipy", "numpy")
    return "\n".join([
        "# Removed bins", "", env, "",
        "Trained on 80 % of the cells; half the open bins of each of the others are hidden, and ranked against as many "
        "closed bins that are open in as many training cells (± 5 % where there is none). 0.5 is chance. Mean over "
        f"cells; median and range over seeds {seeds}.", "",
        *sections,
    ])  # fmt: skip


if __name__ == "__main__":
    main()
