"""Whether differential accessibility finds nothing in groups that do not differ, and planted differences in those that do.

    python benchmarks/differential.py              scatacformer and plain tests, three seeds: 20 minutes on two cores
    python benchmarks/differential.py --peakvi     PeakVI too, except on random halves of blood: an hour more
    python benchmarks/differential.py --quick      leukemia, one seed, one epoch; prints, writes nothing

No difference: two random halves of the largest type of a data set. Planted: the second largest type is split in random halves
and 600 of its features are opened in more cells of one of the halves, at two, three or six times the odds. One model
of all cells, planted features included, is used for both. Simulated blood is used for random halves with all bins, and
for the comparison of two types, whose measured profiles determine which bins differ.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from _common import (
    Cache,
    can_simulate_blood,
    data_folder,
    environment,
    fingerprint,
    load_tool,
    simulated_blood,
    spread,
    table,
    write,
)  # fmt: skip

REAL, DATASETS = ("leukemia", "cerebellum"), ("leukemia", "cerebellum", "blood", "blood types")
BLOOD_CELLS, BLOOD_FRAGMENTS, BLOOD_TYPES = 3_000, 2_500, ("Mono", "CD4")
PAIRS, PAIR_CELLS, PAIR_SHARE = (("CD4", "CD8"), ("Mono", "B")), 1_000, 0.02  # PeakVI trains on few bins in minutes
DIFFERS, SAME = 2.0, 1.1  # quotient of the rates of two types; bins between them are neither
MIN_SHARE = 0.01  # of the cells, that have a feature open: rarer ones are left out in PeakVI's tutorial
# planted features for each odds ratio, of those open in at least this share of the type's cells
N_PLANTED, MIN_PLANTED, ODDS = 200, 0.02, (2, 3, 6)
FDR, FDP, BAR = 0.05, 0.10, 0.01
NOTES = f"""Features open in at least {MIN_SHARE:.0%} of the cells, the same for all methods, all bins of blood, and those open in
{PAIR_SHARE:.0%} for its types. scatacformer: `differential_accessibility` with defaults (a difference of .05 in the model's
probability is required), and its test alone (`mode="vanilla"`). PeakVI: trained with defaults, then
`differential_accessibility` with defaults (`change` of the log-fold, delta .05, up and down separately), with
`test_mode="two"`, and that on the difference of the probabilities (`change_fn`), these two on 2,000 samples instead of
5,000; `is_da_fdr`. Features planted at random in halves of a type are not correlated with other differences between cells: this
is hard for a model with few latent dimensions. Two types that differ in many bins are the use for which it was designed.
Fisher's exact test and scanpy's Wilcoxon read which features are open; their false discovery rates are Benjamini-Hochberg's.
The fold change of pseudobulks (shares of open cells, one cell added) is the trivial ranking."""


class Found(NamedTuple):
    """The results of a method for each feature."""

    called: np.ndarray | None  # (n_bins,) bool at the method's own FDR of .05; None: it only ranks
    score: np.ndarray  # (n_bins,) higher is more certain
    p_value: np.ndarray | None = None  # (n_bins,)
    effect: np.ndarray | None = None  # (n_bins,) log2 of the quotient of its estimates for the two groups
    seconds: float | None = None  # of the comparison


Compare = Callable[[np.ndarray, np.ndarray], dict[str, Found]]  # rows of two groups -> what each variant finds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--peakvi", action="store_true", help="PeakVI too, but on random halves of blood")
    parser.add_argument("--peakvi-seeds", nargs="+", type=int, help="those to train; of the cache all count")
    parser.add_argument("--cache", type=Path, help="file of finished measurements")
    parser.add_argument("--quick", action="store_true", help="leukemia, one seed, one epoch; nothing is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.quick:
        arguments.datasets, arguments.seeds = ["leukemia"], [0]
    max_epochs = 1 if arguments.quick else None
    cache, sections, bars = Cache(arguments.cache), [], []
    for dataset in arguments.datasets:
        adata = load(dataset)
        if adata is None:
            sections += [f"## {dataset}", "", "Not measured: the data are not on this machine.", ""]
            continue
        if dataset == "blood":
            sections += blood_section(adata, arguments.seeds, cache, max_epochs, bars)
        else:
            methods = {"plain": plain_tests, "scatacformer": lambda a, seed: train_scatacformer(a, seed, max_epochs)}
            if arguments.peakvi:
                methods["peakvi"] = lambda a, seed: train_peakvi(a, seed, max_epochs)
            if dataset == "blood types":
                sections += types_section(adata, methods, cache, bars)
            else:
                sections += real_section(dataset, adata, methods, arguments, cache, bars)
        left = [d for d in DATASETS if d not in arguments.datasets]
        write("differential", report(sections, bars, arguments.seeds, left), keep=not arguments.quick)


def load(dataset: str) -> Any:
    """The cells, or None if the data do not exist."""
    import anndata as ad

    if dataset.startswith("blood"):
        if not can_simulate_blood():
            return None
        adata = simulated_blood(PAIR_CELLS if dataset == "blood types" else BLOOD_CELLS, BLOOD_FRAGMENTS)
        if dataset == "blood":
            return adata
    else:
        path = data_folder() / f"{dataset}.h5ad"
        if not path.exists():
            return None
        adata = ad.read_h5ad(path)
    share = PAIR_SHARE if dataset == "blood types" else MIN_SHARE
    return adata[:, adata.X.getnnz(0) >= max(3, share * adata.n_obs)].copy()


# ---- two halves without a difference, and two with


def halves(adata: Any, cell_type: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows = rng.permutation(np.flatnonzero(adata.obs["cell_type"] == cell_type))
    return np.sort(rows[: len(rows) // 2]), np.sort(rows[len(rows) // 2 :])


def plant(
    adata: Any, groups: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> tuple[Any, dict[int, np.ndarray]]:
    """The cells with features opened in more cells of one of the groups, and which features at which odds ratio.

    A feature that is open with probability p is opened in closed cells of the group until the odds are as requested.
    Half of the features are raised in one group and half in the other, so that neither is deeper.
    """
    share = np.asarray((adata[np.concatenate(groups)].X > 0).mean(0)).ravel()
    often = np.flatnonzero((share >= MIN_PLANTED) & (share <= 0.5))
    chosen = rng.choice(often, len(ODDS) * N_PLANTED, replace=False).reshape(len(ODDS), N_PLANTED)
    columns_of = adata.X.tocsc().copy()
    usual = np.bincount(adata.X.data.astype(int)).argmax()  # a fragment may have been counted as two reads
    rows, columns = [], []
    for odds, features in zip(ODDS, chosen, strict=True):
        for place, feature in enumerate(features):
            group = groups[place % 2]
            p = share[feature]
            raised = odds * p / (1 - p + odds * p)
            closed = np.setdiff1d(
                group, columns_of.indices[columns_of.indptr[feature] : columns_of.indptr[feature + 1]]
            )
            opened = closed[rng.random(len(closed)) < (raised - p) / (1 - p)]
            rows.append(opened)
            columns.append(np.full(len(opened), feature))
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    more = sp.csr_matrix((np.full(len(rows), usual, adata.X.dtype), (rows, columns)), shape=adata.shape)
    planted = adata.copy()
    planted.X = (adata.X + more).tocsr()
    return planted, dict(zip(ODDS, chosen, strict=True))


def known_differences(adata: Any, pair: tuple[str, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins whose rates differ twofold between two types of simulated blood, those whose rates are the same, and log2 of
    the quotient of the rates.

    Half of the fragments are background, three times as many in bins with a peak in any type. It is added before rates are
    compared for bins that differ, but not for bins that are the same, which it makes more similar.
    """
    import pandas as pd

    bulk = np.load(data_folder() / "blood" / "accessibility.npz")
    types = [str(t) for t in bulk["cell_type"]]
    rate = bulk["rate"].astype(float)
    rate /= rate.sum(0)
    at = pd.MultiIndex.from_arrays([bulk["chrom"].astype(str), bulk["start"]])
    at = at.get_indexer(pd.MultiIndex.from_arrays([adata.var["chrom"].astype(str), adata.var["start"]]))
    one, two = (np.where(at >= 0, rate[at, types.index(t)], 0.0) for t in pair)
    background = np.where((at >= 0) & (rate[at].max(1) > 0), 3.0, 1.0)
    background /= simulated_bins() + 2 * (rate.max(1) > 0).sum()
    high, low = np.maximum(one, two), np.minimum(one, two)
    fold = np.log2((one + background) / (two + background))
    return (high + background) >= DIFFERS * (low + background), high <= SAME * low, fold


def simulated_bins() -> int:
    return len(load_tool("simulate_blood").bins())


def null_figures(adata: Any, groups: tuple[np.ndarray, np.ndarray], found: dict[str, Found]) -> dict[str, Any]:
    """Features called among those that are open in a cell of the groups, and p-values up to .05 among the frequent."""
    n_open = adata.X[np.concatenate(groups)].getnnz(0)
    frequent = n_open >= MIN_PLANTED * sum(map(len, groups))
    return {
        name: {
            "called": int(one.called.sum()),
            "share": float(one.called.sum() / (n_open > 0).sum()),
            "p05": None if one.p_value is None else float((one.p_value[frequent] <= 0.05).mean()),
        }
        for name, one in found.items()
        if one.called is not None
    }


def power_figures(
    planted: dict[Any, np.ndarray], found: dict[str, Found], same: np.ndarray | None = None
) -> dict[str, Any]:
    """Share of the planted features that are found, at the method's own FDR and at a false share of a tenth.

    ``planted`` holds row numbers of features by kind; ``same`` (n_bins,): those that do not differ, all others by default.
    """
    figures = {}
    for name, one in found.items():
        truth = np.zeros(len(one.score), bool)
        truth[np.concatenate(list(planted.values()))] = True
        null = ~truth if same is None else same
        known = truth | null
        best = one.score >= threshold_at_fdp(one.score[known], truth[known])
        figures[name] = {f"matched {kind}": float(best[features].mean()) for kind, features in planted.items()}
        if one.called is not None:
            figures[name] |= {f"own {kind}": float(one.called[features].mean()) for kind, features in planted.items()}
            n_called = int((one.called & known).sum())
            figures[name]["fdr"] = float((one.called & null).sum() / n_called) if n_called else None
    return figures


def threshold_at_fdp(score: np.ndarray, truth: np.ndarray) -> float:
    """The lowest score above which at most a tenth is false; equal scores are included together, or not at all."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    fdp = np.cumsum(~truth[order]) / np.arange(1, len(order) + 1)
    last = np.append(ranked[1:] < ranked[:-1], True)  # of those with its score
    good = np.flatnonzero(last & (fdp <= FDP))
    return float(ranked[good[-1]]) if len(good) else np.inf


# ---- methods: from cells to a comparison


def plain_tests(adata: Any, seed: int) -> Compare:
    def compare(one: np.ndarray, two: np.ndarray) -> dict[str, Found]:
        return {
            "Fold change of pseudobulks": timed(lambda: fold_change(adata, one, two)),
            "Fisher": timed(lambda: by_p_value(fisher(adata, one, two))),
            "Wilcoxon, scanpy's defaults": timed(lambda: by_p_value(wilcoxon(adata, one, two, ties=False))),
            "Wilcoxon, ties corrected": timed(lambda: by_p_value(wilcoxon(adata, one, two, ties=True))),
        }

    return compare


def timed(compare: Callable[[], Found]) -> Found:
    start = process_time()
    found = compare()
    return found._replace(seconds=process_time() - start)


def by_p_value(p_value: np.ndarray) -> Found:
    from scipy.stats import false_discovery_control

    return Found(false_discovery_control(p_value) <= FDR, -p_value, p_value)


def fold_change(adata: Any, one: np.ndarray, two: np.ndarray) -> Found:
    """The trivial baseline: log2 of the quotient of the shares of open cells, one cell added to each; it only ranks."""
    shares = [(adata.X[rows].getnnz(0) + 1) / (len(rows) + 1) for rows in (one, two)]
    effect = np.log2(shares[0] / shares[1])
    return Found(None, np.abs(effect), effect=effect)


def log2_quotient(frame: Any) -> np.ndarray:
    """Of the estimates of a model."""
    one, two = (frame[f"est_prob{i}"].to_numpy(float) + 1e-6 for i in (1, 2))
    return np.log2(one / two)


def fisher(adata: Any, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    from scipy.stats import fisher_exact

    counts = np.stack([adata.X[one].getnnz(0), adata.X[two].getnnz(0)], 1)  # (n_bins, 2)
    tables, which = np.unique(counts, axis=0, return_inverse=True)
    p_value = [fisher_exact([[a, len(one) - a], [b, len(two) - b]]).pvalue for a, b in tables.tolist()]
    return np.clip(p_value, 0, 1)[which.ravel()]


def wilcoxon(adata: Any, one: np.ndarray, two: np.ndarray, ties: bool) -> np.ndarray:
    import anndata as ad
    import pandas as pd
    import scanpy as sc

    sc.settings.verbosity = 0  # it logs the missing logarithm of a matrix of zeros and ones
    both = ad.AnnData((adata.X[np.concatenate([one, two])] > 0).astype(np.float32), var=adata.var[[]])
    both.obs["half"] = pd.Categorical(np.repeat(["one", "two"], [len(one), len(two)]))
    sc.tl.rank_genes_groups(both, "half", groups=["one"], reference="two", method="wilcoxon", tie_correct=ties)
    found = sc.get.rank_genes_groups_df(both, group="one").set_index("names")["pvals"]
    return found.loc[adata.var_names].fillna(1.0).to_numpy()


def train_scatacformer(adata: Any, seed: int, max_epochs: int | None) -> Compare:
    import scatacformer as sf

    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata, seed=seed)
    model.train(max_epochs=max_epochs, enable_progress_bar=False)

    def compare(one: np.ndarray, two: np.ndarray) -> dict[str, Found]:
        start = process_time()
        frame = model.differential_accessibility(idx1=one, idx2=two, fdr_target=FDR, silent=True)
        frame, seconds = frame.loc[adata.var_names], process_time() - start
        p_value, q_value = frame["p_value"].to_numpy(), frame["q_value"].to_numpy()
        effect = log2_quotient(frame)
        return {
            "scatacformer": Found(frame["is_da_fdr"].to_numpy(bool), -p_value, p_value, effect, seconds),
            "scatacformer, its test alone": Found(q_value <= FDR, -p_value, p_value, effect, seconds),
        }

    return compare


def train_peakvi(adata: Any, seed: int, max_epochs: int | None) -> Compare:
    import scvi

    scvi.settings.seed = seed
    adata = adata.copy()
    scvi.model.PEAKVI.setup_anndata(adata)
    model = scvi.model.PEAKVI(adata)
    model.train(enable_progress_bar=False, **({"max_epochs": max_epochs} if max_epochs else {}))

    def difference(x: np.ndarray, y: np.ndarray, pseudocounts: float) -> np.ndarray:
        return x - y

    def compare(one: np.ndarray, two: np.ndarray) -> dict[str, Found]:
        found, fewer = {}, {"test_mode": "two", "n_samples_overall": 2_000}
        for name, options in {
            "PeakVI": {},
            "PeakVI, two-sided": fewer,
            "PeakVI, two-sided, difference": fewer | {"change_fn": difference},
        }.items():
            start = process_time()
            frame = model.differential_accessibility(idx1=one, idx2=two, fdr_target=FDR, silent=True, **options)
            frame, seconds = frame.loc[adata.var_names], process_time() - start
            called, score = frame["is_da_fdr"].to_numpy(bool), frame["prob_da"].to_numpy()
            found[name] = Found(called, score, None, log2_quotient(frame), seconds)
        found["PeakVI, ranked by its effect size"] = Found(None, frame["effect_size"].abs().to_numpy())
        return found

    return compare


# ---- results


def real_section(dataset, adata, methods, arguments, cache, bars) -> list[str]:
    null_type, planted_type = adata.obs["cell_type"].value_counts().index[:2]
    null, power = {}, {}
    for seed in arguments.seeds:
        rng = np.random.default_rng(seed)
        null_groups, groups = halves(adata, null_type, rng), halves(adata, planted_type, rng)
        cells, planted = plant(adata, groups, rng)
        for method, train in methods.items():
            key = (dataset, method, seed, arguments.quick, version_of(method))
            figures = cache.get(*key)
            if figures is None:
                if method == "peakvi" and seed not in (arguments.peakvi_seeds or arguments.seeds):
                    continue
                compare = train(cells.copy(), seed)
                figures = {
                    "null": null_figures(cells, null_groups, compare(*null_groups)),
                    "power": power_figures(planted, compare(*groups)),
                }
                cache.put(*key, value=figures)
            print(dataset, method, seed, figures, sep="\t", file=sys.stderr)
            for name, values in figures["null"].items():
                null.setdefault(name, []).append(values)
            for name, values in figures["power"].items():
                power.setdefault(name, []).append(values)
    bars += [null_bar(dataset, null), power_bar(dataset, power)]
    sizes = [len(g) for g in (*null_groups, *groups)]
    return [
        f"## {dataset}: {adata.n_obs:,} cells x {adata.n_vars:,} features", "",
        f"No difference: halves of {null_type}, {sizes[0]} and {sizes[1]} cells.", "",
        null_table(null),
        f"Planted in halves of {planted_type}, {sizes[2]} and {sizes[3]} cells: {N_PLANTED} features at each odds ratio, "
        f"of those open in {MIN_PLANTED:.0%} to 50 % of the type. Recall of them at the method's own FDR of {FDR}, the "
        f"share of false ones among what it calls there, and recall where {FDP:.0%} of the best ranked are false.", "",
        power_table(power),
    ]  # fmt: skip


def blood_section(adata, seeds, cache, max_epochs, bars) -> list[str]:
    """Random halves, and the deeper half against the other, which differ in depth alone."""
    key = ("blood", list(seeds), fingerprint(__file__))
    figures = cache.get(*key)
    if figures is None:
        compare = train_scatacformer(adata, 0, max_epochs)
        figures = {}
        for cell_type in BLOOD_TYPES:
            depth = np.diff(adata.X.indptr)
            rows = np.flatnonzero(adata.obs["cell_type"] == cell_type)
            by_depth = rows[np.argsort(depth[rows])]
            splits = {f"{cell_type}, random": [halves(adata, cell_type, np.random.default_rng(s)) for s in seeds]}
            splits[f"{cell_type}, by depth"] = [(by_depth[: len(rows) // 2], by_depth[len(rows) // 2 :])]
            for name, pairs in splits.items():
                for groups in pairs:
                    found = compare(*groups) | {"Fisher": by_p_value(fisher(adata, *groups))}
                    for method, values in null_figures(adata, groups, found).items():
                        figures.setdefault(f"{name}: {method}", []).append(values)
        cache.put(*key, value=figures)
    print("blood", figures, sep="\t", file=sys.stderr)
    bars.append(null_bar("blood", {k: v for k, v in figures.items() if "random" in k}))
    sizes = [f"{(adata.obs['cell_type'] == t).sum()} {t}" for t in BLOOD_TYPES]
    return [
        f"## blood: {adata.n_obs:,} simulated cells x {adata.n_vars:,} bins", "",
        f"No difference: halves of {' and of '.join(sizes)} cells, at random, or the shallower half against the deeper. "
        "One model; the halves are sampled by the seeds.", "",
        null_table(figures),
    ]  # fmt: skip


def types_section(adata, methods, cache, bars) -> list[str]:
    """Two types against each other: differences of many bins at once, which a model of few dimensions can learn."""
    power: dict[str, dict[str, list[dict[str, Any]]]] = {" against ".join(pair): {} for pair in PAIRS}
    groups = {
        " against ".join(pair): tuple(np.flatnonzero(adata.obs["cell_type"] == t) for t in pair) for pair in PAIRS
    }
    known = {" against ".join(pair): known_differences(adata, pair) for pair in PAIRS}
    for method, train in methods.items():
        figures = cache.get("blood types", method, version_of(method))
        if figures is None:
            start = process_time()
            compare = train(adata.copy(), 0)
            training, figures = process_time() - start, {}
            for name, (differs, same, fold) in known.items():
                found = compare(*groups[name])
                figures[name] = power_figures({"": np.flatnonzero(differs)}, found, same)
                for variant, one in found.items():
                    figures[name][variant] |= agreement(one, fold, differs | same) | {"training": training}
            cache.put("blood types", method, version_of(method), value=figures)
        print("blood types", method, figures, sep="\t", file=sys.stderr)
        for name, found in figures.items():
            for variant, values in found.items():
                power[name].setdefault(variant, []).append(values)
    parts = [
        f"## blood types: {adata.n_obs:,} simulated cells x {adata.n_vars:,} bins", "",
        f"Two types, one model, seed 0. Bins differ if the measured profiles, with the simulated background, differ at "
        f"least {DIFFERS:g}-fold, and do not if within {SAME - 1:.0%}; the others count nowhere. Recall of the first, and "
        "share of the second among both that are called. Fold change: Spearman's rho, over both, between log2 of the "
        "quotient of a method's estimates for the types and that of the measured profiles. Seconds of one processor, of the "
        "training and of the comparison.", "",
    ]  # fmt: skip
    columns = {"own ": "recall, own FDR", "fdr": "false, %", "matched ": f"recall, {FDP:.0%} false"}
    seconds = {"rho": ("fold change", 3), "training": ("training, s", 0), "seconds": ("comparison, s", 1)}
    for name, found in power.items():
        differs, same, _ = known[name]
        sizes = " and ".join(str(len(g)) for g in groups[name])
        parts += [
            f"### {name}", "", f"{sizes} cells; {differs.sum():,} bins differ, {same.sum():,} do not.", "",
            table(["method", *columns.values(), *(title for title, _ in seconds.values())],
                  [[variant, *(percent([r.get(c) for r in runs]) for c in columns),
                    *(spread([r[c] for r in runs if r.get(c) is not None], digits) for c, (_, digits) in seconds.items())]
                   for variant, runs in found.items()]),
        ]  # fmt: skip
        bars.append(power_bar(name, found, ("",)))
    return parts


def agreement(found: Found, fold: np.ndarray, known: np.ndarray) -> dict[str, float | None]:
    from scipy.stats import spearmanr

    rho = None if found.effect is None else float(spearmanr(found.effect[known], fold[known]).statistic)
    return {"rho": rho, "seconds": found.seconds}


def percent(values: list[float | None], digits: int = 1) -> str:
    return spread([100 * v for v in values if v is not None], digits)


def version_of(method: str) -> str:
    """The key of measurements in the cache: figures of peers change only with their versions."""
    peers = environment("scvi-tools", "scanpy", "scipy")[len(environment()) :]
    return fingerprint(__file__) if method == "scatacformer" else peers


def null_table(null: dict[str, list[dict[str, Any]]]) -> str:
    header = ["method", "runs", "called", "% of the tested", f"% with p ≤ .05, open in ≥ {MIN_PLANTED:.0%}"]
    rows = [
        [name, len(runs), spread([r["called"] for r in runs], 0), percent([r["share"] for r in runs], 2),
         percent([r["p05"] for r in runs])]
        for name, runs in null.items()
    ]  # fmt: skip
    return table(header, rows)


def power_table(power: dict[str, list[dict[str, Any]]]) -> str:
    columns = [*(f"own {odds}" for odds in ODDS), "fdr", *(f"matched {odds}" for odds in ODDS)]
    header = [
        "method",
        "runs",
        *(f"{o} x, own FDR" for o in ODDS),
        "false, %",
        *(f"{o} x, {FDP:.0%} false" for o in ODDS),
    ]
    rows = [[name, len(runs), *(percent([r.get(c) for r in runs]) for c in columns)] for name, runs in power.items()]
    return table(header, rows)


def null_bar(dataset: str, null: dict[str, list[dict[str, Any]]]) -> list[object]:
    shares = [r["share"] for name, runs in null.items() if "scatacformer" in name for r in runs]
    return [
        f"{dataset}: at most {BAR:.0%} of features called in groups that do not differ", f"{max(shares):.2%} at worst",
        "met" if max(shares) <= BAR else "NOT met",
    ]  # fmt: skip


def power_bar(dataset: str, power: dict[str, list[dict[str, Any]]], kinds: tuple = ODDS) -> list[object]:
    """Recall at a false share of a tenth, mean over the kinds, against the best of PeakVI's rankings."""
    middle = {
        name: median(np.mean([r[f"matched {kind}"] for kind in kinds]) for r in runs) for name, runs in power.items()
    }
    peers = [value for name, value in middle.items() if name.startswith("PeakVI")]
    what = f"{dataset}: recall at {FDP:.0%} false no lower than PeakVI's (its best ranking)"
    if not peers:
        return [what, f"{middle['scatacformer']:.1%}", "not compared"]
    met = middle["scatacformer"] >= max(peers)
    return [what, f"{middle['scatacformer']:.1%} against {max(peers):.1%}", "met" if met else "NOT met"]


def report(sections: list[str], bars: list[list[object]], seeds: list[int], left: list[str]) -> str:
    env = environment("scatacformer", "torch", "scvi-tools", "scanpy", "anndata", "scipy", "numpy")
    return "\n".join([
        "# Differential accessibility", "", env, "", NOTES, "",
        f"Median and range over seeds {seeds}, of halves, planted features and models.", "",
        "## Against the bar", "", table(["bar", "found", ""], bars),
        *sections,
        *(["## Not measured", "", *(f"- {name}: not requested in this run" for name in left), ""] if left else []),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
