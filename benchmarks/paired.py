"""Paired RNA: one space, expression from chromatin, links, on held-out cells, compared with peers on the same cells.

    python benchmarks/paired.py                two simulations of links, cortex, blood: 40 minutes on one core
    python benchmarks/paired.py --multivi      MultiVI on the first seed of the simulations of links: an hour more
    python benchmarks/paired.py --quick        900 simulated cells, one seed; prints, writes nothing

A fifth of the cells is held out: neither of their modalities is used in training. *Links, easy* and *hard* have planted links
(each gene follows three of the bins near it); *blood* has measured profiles of 14 types; *cortex* is real and very sparse
(SNARE-seq). The peers: canonical correlation analysis of LSI and principal components (the best of 5, 10 and 15
dimensions, chosen by the held-out figure itself), ridge regression of expression on LSI, the mean of a cell's true type,
which is not available to any method, and the correlation of a gene and a bin.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from _common import Cache, can_simulate_blood, data_folder, environment, load_tool, spread, table, write

DATASETS = ("links, easy", "links, hard", "cortex", "blood")
EPS = {"links, easy": 1.2, "links, hard": 0.6}
SEEDS = {"links, easy": (0, 1, 2), "links, hard": (0, 1, 2), "blood": (21, 22, 23), "cortex": (0, 1, 2)}
WINDOW = {"links, easy": 250_000, "links, hard": 250_000, "blood": 1_200_000, "cortex": 1_200_000}
TEST_SHARE = 0.2
NEAR = 50_000  # bp: links this near the start of their gene are more often true


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--seeds", type=int, default=3, help="how many of the seeds of a data set")
    parser.add_argument("--multivi", action="store_true", help="MultiVI on the simulations of links")
    parser.add_argument("--cache", type=Path, help="file for finished measurements, from which a run resumes")
    parser.add_argument("--quick", action="store_true", help="900 simulated cells; nothing is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.quick:
        arguments.datasets, arguments.seeds = ["links, easy"], 1
    cache = Cache(arguments.cache)
    sections: list[str] = []
    for name in arguments.datasets:
        seeds, notes, n_cells, here = SEEDS[name][: arguments.seeds], [], 0, []
        for seed in seeds:
            multivi = arguments.multivi and name in EPS and seed == seeds[0]
            for what, measure in (("ours", one_seed), *([("multivi", of_multivi)] if multivi else [])):
                key = (name, seed, what, arguments.quick)
                if cache.get(*key) is None:
                    mdata = load(name, seed, 900 if arguments.quick else 3_000)
                    if mdata is None:
                        break
                    cache.put(*key, value={"n_cells": mdata.n_obs, "notes": list(measure(name, mdata, seed))})
                n_cells, notes = cache.get(*key)["n_cells"], notes + cache.get(*key)["notes"]
            here = section(name, notes, n_cells, seeds)
            write("paired", report(sections + here), keep=not arguments.quick)
        sections += here


def load(name: str, seed: int, n_cells: int) -> Any:
    """A MuData of paired cells, or None if the data do not exist."""
    if name in EPS:
        tool = load_tool("simulate_links")
        return None if tool is None else tool.simulate(seed, EPS[name], n_cells)
    if name == "blood":
        return load_tool("simulate_blood").simulate(n_cells, 8_000, seed, paired=True) if can_simulate_blood() else None
    import mudata

    path = data_folder() / "cortex_paired.h5mu"
    return mudata.read_h5mu(path) if path.exists() else None


Notes = Iterable[tuple[str, str, dict[str, float]]]  # table, method, figures


def split(mdata: Any, seed: int) -> tuple[Any, Any, np.ndarray]:
    """Training cells, held-out cells and the types of these."""
    order = np.random.default_rng(seed).permutation(mdata.n_obs)
    n_test = round(TEST_SHARE * mdata.n_obs)
    test, train = mdata[np.sort(order[:n_test])].copy(), mdata[np.sort(order[n_test:])].copy()
    return train, test, np.asarray(test["rna"].obs["cell_type"].astype(str))


def noting(name: str, seed: int, notes: list) -> Callable[..., None]:
    def note(table: str, method: str, **figures: float) -> None:
        notes.append((table, method, {k: float(v) for k, v in figures.items()}))
        print(name, seed, method, *(f"{k} {v:.4f}" for k, v in figures.items()), sep="\t", file=sys.stderr, flush=True)

    return note


def of_multivi(name: str, mdata: Any, seed: int) -> Notes:
    notes: list = []
    train, test, kind = split(mdata, seed)
    start = time.perf_counter()
    spaces = multivi_spaces(train, test, seed)
    seconds = time.perf_counter() - start
    noting(name, seed, notes)("pairs", "MultiVI (first seed)", **of_pairs(spaces, kind), seconds=seconds)
    return notes


def one_seed(name: str, mdata: Any, seed: int) -> Notes:
    import scatacformer as sf

    notes: list = []
    note = noting(name, seed, notes)
    train, test, kind = split(mdata, seed)
    n_test = test.n_obs
    start = time.perf_counter()
    sf.ScAtacFormer.setup_mudata(train)
    model = sf.ScAtacFormer(train, seed=seed)
    # pairs read the embedding, which is the spectral one by default: the decoder, which takes most of the time, is not used
    model.train(max_epochs=1, enable_progress_bar=False, paired_kwargs={"link_window": WINDOW[name]})
    seconds = time.perf_counter() - start
    spaces = {m: model.get_latent_representation(test, modality=m) for m in ("expression", "accessibility", "joint")}
    own = {m: model.get_latent_representation(modality=m) for m in ("expression", "accessibility")}
    logits = model.get_matching_logits(np.arange(n_test), np.arange(n_test), test) if model.matching_ else None
    note("pairs", "scatacformer", **of_pairs(spaces, kind), train_foscttm=sf.metrics.foscttm(*own.values()),
         seconds=seconds)  # fmt: skip
    if logits is not None:
        better, same = logits < np.diag(logits)[:, None], kind[:, None] == kind[None]
        off = ~np.eye(n_test, dtype=bool)
        note(
            "pairs",
            "scatacformer, matching logit",
            foscttm=1 - better[off].mean(),
            within=1 - better[off & same].mean(),
        )
    note("pairs", "scatacformer, pairs shuffled", **shuffled_pairs(model, train, test, seed))
    lsi, pcs = lsi_scores(train["atac"].X, test["atac"].X), pc_scores(train["rna"].X, test["rna"].X)
    by_size = [of_pairs(cca(lsi, pcs, k), kind) for k in (5, 10, 15)]
    note("pairs", "LSI + PCA + CCA, best size", **min(by_size, key=lambda f: f["foscttm"]))
    note("pairs", "the true type alone", foscttm=sum(float(np.mean(kind == t)) ** 2 for t in set(kind)) / 2, within=0.5)
    measured, known = log_normalised(test["rna"].X), log_normalised(train["rna"].X).toarray()
    types = np.asarray(train["rna"].obs["cell_type"].astype(str))
    predicted = {
        "scatacformer": model.predict_expression(test, return_numpy=True),
        "ridge on LSI": ridge(*lsi, known),
        "mean of the true type": np.stack([known[types == t].mean(0) for t in kind]),
    }
    varied = np.argsort(-known.var(0))[:2000]
    for method, values in predicted.items():
        r = sf.metrics.genewise_correlation(values, measured)
        note("expression", method, pearson=np.nanmean(r), pearson_2000=np.nanmean(r[varied]),
             rmse=sf.metrics.rmse(values, measured))  # fmt: skip
    of_links(name, model, train, note)
    return notes


def of_pairs(spaces: dict[str, np.ndarray], kind: np.ndarray) -> dict[str, float]:
    """Distance between the two measurements of a cell, and purity of its 15 neighbours, in one modality and in both."""
    import scatacformer as sf

    x, y = (unit(spaces[m]) for m in ("expression", "accessibility"))
    figures = {"foscttm": sf.metrics.foscttm(x, y), "within": sf.metrics.foscttm(x, y, within=kind)}
    for modality in ("expression", "accessibility", "joint"):
        z = spaces.get(modality, unit(x + y))
        figures[f"purity_{modality}"] = purity(z, kind)
    return figures


def purity(z: np.ndarray, kind: np.ndarray) -> float:
    """Share of a cell's 15 nearest neighbours that have its type, averaged over types."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=15).fit(z).kneighbors(return_distance=False)
    hit = (kind[near] == kind[:, None]).mean(1)
    return float(np.mean([hit[kind == t].mean() for t in set(kind)]))


def shuffled_pairs(model: Any, train: Any, test: Any, seed: int) -> dict[str, float]:
    """The same training with the RNA of other cells: there is nothing to learn, and held-out pairs are at 0.5."""
    import mudata

    import scatacformer as sf

    rna = train["rna"].copy()
    rna.X = sp.csr_matrix(rna.X)[np.random.default_rng(seed).permutation(rna.n_obs)]
    shuffled = mudata.MuData({"rna": rna, "atac": train["atac"]})
    other = sf.ScAtacFormer.from_atac_model(model, shuffled)
    other.train_pairs(enable_progress_bar=False, link_window=None)
    x, y = (other.get_latent_representation(test, modality=m) for m in ("expression", "accessibility"))
    return {"foscttm": sf.metrics.foscttm(x, y)}


# ---- links


def of_links(name: str, model: Any, train: Any, note: Any) -> None:
    """Planted links ranked within their gene; or the share of the best links near the start of their gene."""
    if "tss" not in train["rna"].var:
        return
    start = time.perf_counter()
    links = model.get_gene_bin_links(window=WINDOW[name])
    seconds = time.perf_counter() - start
    gene, place = links["gene"].cat.codes.to_numpy(), train["atac"].var_names.get_indexer(links["region"])
    marginal = correlations(train, train["rna"].var_names.get_indexer(links["gene"].cat.categories)[gene], place)
    rna = train["rna"].copy()
    rna.X = sp.csr_matrix(rna.X)[np.random.default_rng(0).permutation(rna.n_obs)]
    null = permuted_links(model, train, rna, WINDOW[name])
    additive = additive_share(
        np.log(np.maximum(links["score"].to_numpy(), 1e-300)), gene, links["region"].cat.codes.to_numpy()
    )
    scores = {"scatacformer": links["score"].to_numpy(), "correlation": marginal, "scatacformer, RNA permuted": None}
    if name in EPS:
        truth = set(zip(np.repeat(np.arange(train["rna"].n_vars), 3), train["rna"].uns["links"].ravel(), strict=True))
        codes = train["rna"].var_names.get_indexer(links["gene"])
        true = np.array([pair in truth for pair in zip(codes, place, strict=True)])
        for method, values in scores.items():
            table_ = links if values is not None else null
            note("links", method, **ranked_within(true, table_["score"].to_numpy() if values is None else values, gene))
        called = links["q"].to_numpy() < 0.1
        note("links", "scatacformer", found=called.sum(), fdr=1 - true[called].mean() if called.any() else 0.0)
    else:
        near = np.abs(links["distance"].to_numpy()) <= NEAR
        for method, values in scores.items():
            order = np.argsort(-(null["score"].to_numpy() if values is None else values), kind="stable")
            note("links", method, **{f"top_{k}": near[order[:k]].mean() for k in (1_000, 5_000, 20_000)})
        note("links", "chance", **{f"top_{k}": near.mean() for k in (1_000, 5_000, 20_000)})
    note("links", "scatacformer", significant=(links["q"] < 0.05).mean(), additive=additive, seconds=seconds)
    note("links", "scatacformer, RNA permuted", significant=(null["q"] < 0.05).mean())


def permuted_links(model: Any, train: Any, rna: Any, window: int) -> Any:
    """The links of the same model and ATAC, and of RNA whose cells were permuted, trained again."""
    import mudata

    import scatacformer as sf

    other = sf.ScAtacFormer.from_atac_model(model, mudata.MuData({"rna": rna, "atac": train["atac"]}))
    other.train_pairs(enable_progress_bar=False, link_window=window)
    return other.get_gene_bin_links(window=window)


def ranked_within(true: np.ndarray, score: np.ndarray, gene: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    genes = [g for g in np.unique(gene) if 0 < true[gene == g].sum() < (gene == g).sum()]
    return {
        "auroc": np.mean([roc_auc_score(true[gene == g], score[gene == g]) for g in genes]),
        "precision": np.mean([average_precision_score(true[gene == g], score[gene == g]) for g in genes]),
    }


def correlations(train: Any, gene: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Pearson's r of log-normalised expression and openness, of pairs.  (n_pairs,)"""
    y = log_normalised(train["rna"].X).toarray().astype(np.float64)
    y = (y - y.mean(0)) / np.maximum(y.std(0), 1e-12) / len(y)
    x = sp.csr_matrix(train["atac"].X)
    x.data[:] = 1
    by_bin, share = x.T.tocsr(), np.asarray(x.mean(0)).ravel()
    out = np.empty(len(gene))
    order = np.argsort(gene, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(gene[order])) + 1):
        out[part] = by_bin[place[part]] @ y[:, gene[part[0]]]
    return out / np.sqrt(np.maximum(share * (1 - share), 1e-12))[place]


def additive_share(log_score: np.ndarray, gene: np.ndarray, region: np.ndarray) -> float:
    """Share of the variance of the log score that a number for each gene and one for each bin explain."""
    left = log_score - log_score.mean()
    for _ in range(20):
        for code in (gene, region):
            left = left - (np.bincount(code, left) / np.maximum(np.bincount(code), 1))[code]
    return 1 - left.var() / log_score.var()


# ---- peers


def log_normalised(counts: Any) -> sp.csr_matrix:
    counts = sp.csr_matrix(counts, dtype=np.float32)
    total = np.asarray(counts.sum(1)).ravel()
    values = np.log1p(counts.data * np.repeat(1e4 / np.maximum(total, 1), np.diff(counts.indptr)))
    return sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def lsi_scores(train: Any, test: Any, k: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """TF-IDF, log, singular vectors weighted by their values, the first dropped; fitted on the training cells."""
    from scipy.sparse.linalg import svds

    train, test = (sp.csr_matrix(x, dtype=np.float32) for x in (train, test))
    used = np.flatnonzero(train.getnnz(0) >= 3)
    idf = np.log1p(train.shape[0] / train.getnnz(0)[used])

    def tf_idf(x: sp.csr_matrix) -> sp.csr_matrix:
        x = x[:, used].astype(bool).astype(np.float32)
        x = sp.csr_matrix(sp.diags(1 / np.maximum(np.asarray(x.sum(1)).ravel(), 1)) @ x @ sp.diags(idf))
        x.data = np.log1p(1e4 * x.data)
        return x

    w = tf_idf(train)
    _, s, vt = svds(w, k=k + 1, random_state=0)
    vt = vt[np.argsort(-s)][1:]
    return w @ vt.T, tf_idf(test) @ vt.T


def pc_scores(train: Any, test: Any, k: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the 2,000 most varied genes, log-normalised; fitted on the training cells."""
    from sklearn.decomposition import PCA

    train, test = log_normalised(train), log_normalised(test)
    varied = np.argsort(-(train.power(2).mean(0) - np.square(train.mean(0))).A1)[:2000]
    pca = PCA(min(k, len(varied) - 1), random_state=0).fit(train[:, varied].toarray())
    return pca.transform(train[:, varied].toarray()), pca.transform(test[:, varied].toarray())


def cca(lsi: tuple[np.ndarray, np.ndarray], pcs: tuple[np.ndarray, np.ndarray], k: int) -> dict[str, np.ndarray]:
    """Canonical variates of unit variance: orthonormal bases of both, and the singular vectors of their product."""
    bases, maps = [], []
    for train, _ in (lsi, pcs):
        q, r = np.linalg.qr(train - train.mean(0))
        bases.append(q)
        maps.append(np.linalg.inv(r))
    u, _, vt = np.linalg.svd(bases[0].T @ bases[1])
    of = zip((lsi, pcs), (maps[0] @ u[:, :k], maps[1] @ vt[:k].T), strict=True)
    chromatin, expression = ((test - train.mean(0)) @ weight for (train, test), weight in of)
    return {"expression": expression, "accessibility": chromatin}


def ridge(train: np.ndarray, test: np.ndarray, known: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=np.logspace(-3, 4, 15)).fit(train, known).predict(test)


def multivi_spaces(train: Any, test: Any, seed: int) -> dict[str, np.ndarray]:
    """MultiVI with its defaults and its early stopping."""
    import scvi

    scvi.settings.seed = seed
    train, test = train.copy(), test.copy()
    keys = {"modalities": {"rna_layer": "rna", "atac_layer": "atac"}}
    for mdata in (train, test):
        scvi.model.MULTIVI.setup_mudata(mdata, **keys)
    model = scvi.model.MULTIVI(train, n_genes=train["rna"].n_vars, n_regions=train["atac"].n_vars)
    model.train(enable_progress_bar=False)
    return {m: model.get_latent_representation(test, modality=m) for m in ("expression", "accessibility", "joint")}


def unit(z: np.ndarray) -> np.ndarray:
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)


# ---- results

TITLES = {"pairs": "One space", "expression": "Expression from chromatin", "links": "Links"}


def section(name: str, notes: Notes, n_cells: int, seeds: tuple[int, ...]) -> list[str]:
    found: dict[str, dict[str, list[float]]] = {}
    for title, method, figures in notes:
        for figure, value in figures.items():
            found.setdefault(title, {}).setdefault(f"{method}\t{figure}", []).append(value)
    if not found:
        return [f"## {name}", "", "Not measured: the data are not on this machine.", ""]
    parts = [f"## {name}: {n_cells:,} cells, seeds {', '.join(map(str, seeds))}", ""]
    for title, values in found.items():
        methods = list(dict.fromkeys(key.split("\t")[0] for key in values))
        figures = list(dict.fromkeys(key.split("\t")[1] for key in values))
        rows = [[m, *(spread(values.get(f"{m}\t{f}", []), 0 if f in ("seconds", "found") else 3) for f in figures)]
                for m in methods]  # fmt: skip
        parts += [f"**{TITLES[title]}**", "", table(["method", *(f"`{f}`" for f in figures)], rows)]
    return parts


def report(sections: list[str]) -> str:
    env = environment("scatacformer", "torch", "scvi-tools", "scikit-learn", "scipy", "numpy")
    return "\n".join([
        "# Paired RNA", "", env, "",
        "On held-out cells; median and range over seeds. The decoder of accessibility plays no part and was trained for one "
        "epoch; `seconds` are from the MuData to the trained model, with other programs running. `foscttm`: share of cells nearer than a cell's own other half (0 "
        "is best, 0.5 chance), `within` among cells of its type, `train_foscttm` on training cells; `purity_*`: share of "
        "the 15 nearest neighbours of the same type. `pearson`: mean over genes of the correlation over cells, "
        "`pearson_2000` over the 2,000 most varied. `auroc`, `precision`: planted links among the bins of their gene; "
        "`found`, `fdr`: of the links at q < 0.1; `top_n`: share of the n best links within 50 kb of the start of their "
        "gene; `significant`: share of pairs at q < 0.05; `additive`: share of the log score that a number a gene and one a "
        "bin explain.", "",
        *sections,
    ])  # fmt: skip


if __name__ == "__main__":
    main()
