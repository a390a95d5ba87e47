"""What ``get.py`` measures on real data: CRISPRi pairs, a contact map, blood types, DNA of hg38, reporters."""

from __future__ import annotations

import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _common import data_folder, peak_mb
from _real_epiformer import TRACKS, folds, reverse_index

from scatacformer.sequence import ScanSettings

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
SCAN = ScanSettings(
    p_value=1e-3
)  # weaker sites than the default's, of which ridge gains as well (.400 to .417, fold 0)
# networks of tiles: chosen on fold 0
TILES: dict[str, Any] = {
    "n_regions": 16, "stride": 8, "d_model": 128, "n_layers": 2, "drop_path": 0.2, "input_dropout": 0.5,
}  # fmt: skip
TILES_TRAINING: dict[str, Any] = {
    "max_epochs": 20, "target": "accessibility", "lr": 3e-4, "weight_decay": 1.0, "batch_size": 8,
    "early_stopping_patience": 8, **QUIET,
}  # fmt: skip
WORDS = np.arange(4**5) <= reverse_index(5)  # the 5-mers that stand for themselves and their reverse complement
TILE, PER_WINDOW = 512, 128  # bp, and how many of them are in the central 65,536 bp of a record


def crispri() -> dict[str, Any]:
    """AUPRC of what each term adds, by distance."""
    import scatacformer as sf

    path = data_folder() / "sequence" / "crispr" / "EPCrisprBenchmark_combined_data.training_K562.GRCh38.tsv.gz"
    pairs = pd.read_csv(path, sep="\t")
    level, acetyl = (np.log10(pairs[name].to_numpy() + 1) for name in ("DHS.RPM", "H3K27ac.RPM"))
    contact = sf.metrics.powerlaw_contact(pairs["distanceToTSS"])
    scores = {
        "accessibility": level,
        "contact": contact,
        "accessibility × contact": level * contact,
        "raw DHS RPM × contact": pairs["DHS.RPM"].to_numpy() * contact,
        "√(accessibility × H3K27ac) × contact": np.sqrt(level * acetyl) * contact,
    }
    return {"rows": sf.metrics.crispri_benchmark(pairs, scores, n_resamples=200).to_dict("records")}


def contacts() -> dict[str, Any]:
    """The mouse map."""
    import scatacformer as sf

    path = data_folder() / "sequence" / "hic" / "mm9_reduced_chr1.cool"
    return sf.model.DistanceContactMap.fit(path, n_windows=150, max_epochs=12).scores


# ---- a blood type that was left out


def blood_regions(chroms: list[str]) -> Any:
    """14 types × 5-kb bins: those with a TSS, and the fifth that is most accessible over all types."""
    import anndata as ad

    folder = data_folder() / "blood"
    d = np.load(folder / "accessibility.npz")
    counts = pd.read_csv(folder / "expression.tsv.gz", sep="\t", index_col=0)
    tss = pd.read_csv(folder / "tss_hg19.tsv.gz", sep="\t").drop_duplicates(["gene", "chrom", "strand"])
    types = [str(name) for name in d["cell_type"] if name in counts.columns]
    kept = np.isin(d["chrom"], chroms)
    rate = d["rate"][kept].astype(np.float32).T[[list(d["cell_type"]).index(name) for name in types]]
    var = pd.DataFrame({"chrom": d["chrom"][kept].astype(str), "start": d["start"][kept]})
    tpm = counts[~counts.index.duplicated()][types]
    tpm = np.log10(tpm / tpm.sum() * 1e6 + 1)  # no gene lengths: what is compared is a gene with itself
    tss = tss[tss["gene"].isin(tpm.index[tpm.max(axis=1) > 0.5])]
    place = {key: i for i, key in enumerate(zip(var["chrom"], var["start"], strict=True))}
    tss["column"] = [place.get((c, 5_000 * (t // 5_000)), -1) for c, t in zip(tss["chrom"], tss["tss"], strict=True)]
    tss = tss[tss["column"] >= 0]
    mean = rate.mean(0)
    chosen = np.zeros(len(var), bool)
    chosen[tss["column"]] = True
    chosen |= mean > np.quantile(mean, 0.8)
    number = np.cumsum(chosen) - 1
    var, rate = var[chosen].reset_index(drop=True), rate[:, chosen]
    var["end"] = var["start"] + 5_000
    var.index = var["chrom"] + ":" + var["start"].astype(str)
    level = np.log10(rate / 1e6 * 1e5 + 1)
    regions = ad.AnnData(np.zeros(rate.shape, np.float32), obs=pd.DataFrame(index=types), var=var)
    regions.layers["acpm"] = (level / level.max(1, keepdims=True)).astype(np.float32)
    strand = (tss["strand"] == "-").to_numpy().astype(int)
    column, values = number[tss["column"]], tpm.loc[tss["gene"]].to_numpy(np.float32).T  # (types, genes)
    layers, n = np.zeros((2, len(types), len(var)), np.float32), np.zeros((2, len(var)))
    for row in range(len(column)):
        layers[strand[row], :, column[row]] += values[:, row]
        n[strand[row], column[row]] += 1
    layers /= np.maximum(n, 1)[:, None]
    regions.layers["exp_pos"], regions.layers["exp_neg"] = layers
    regions.varm["tss"] = (n > 0).T
    names = var.index.to_numpy()[column]
    # several genes of a strand in a bin have one target, and are one gene here
    table = pd.DataFrame(
        {"gene": names + tss["strand"].to_numpy(), "region": names, "strand": tss["strand"].to_numpy()}
    )
    regions.uns["gene_tss"] = table.drop_duplicates().reset_index(drop=True)
    return regions


def blood(types: tuple[str, ...] = ("B", "Mono", "Ery"), n_chroms: int = 6) -> dict[str, Any]:
    """Each type left out in turn, seen by nothing; with all of its chromosomes, and on a chromosome left out as well."""
    import scatacformer as sf

    chroms = [f"chr{i + 1}" for i in range(n_chroms)]
    regions = blood_regions(chroms)
    stop, test = chroms[-1], chroms[-2]
    found: dict[str, list[list[float]]] = {}
    for name in types:
        scores = []
        for with_chrom in (False, True):
            others = regions.obs_names != name
            data = regions.copy()
            data.varm["motif"], data.uns["motif"] = _blood_features(data, others, expression=not with_chrom)
            sf.GET.setup_anndata(data)
            away = data.var["chrom"] == test if with_chrom else np.zeros(data.n_vars, bool)
            model = sf.GET(
                data[others, ~np.asarray(away)].copy(), n_regions=16, stride=8, d_model=32, n_layers=2, n_heads=2
            )
            model.train(4, lr=3e-3, batch_size=128, holdout_chromosomes=stop, early_stopping_patience=4, **QUIET)
            # where only the type is left out, the chromosome that ended training is scored like the others
            table = model.compare_baselines(
                data, holdout_groups=name, holdout_chromosomes=test if with_chrom else None,
                baselines=["group_mean", "nearest_group", "ridge"],
            )  # fmt: skip
            scores.append(table)
        for method in scores[0].index:
            row = [float(part.loc[method, c]) for part in scores for c in ("pearson", "pearson_specific")]
            found.setdefault(method, []).append(row)
    return {
        "scores": {method: np.mean(rows, axis=0).tolist() for method, rows in found.items()},
        "note": f"Means over {', '.join(types)}, each left out in turn of {regions.n_obs} types; {regions.n_vars:,} bins of "
        f"5 kb on {n_chroms} chromosomes, {len(regions.uns['gene_tss']):,} targets. Pearson over genes, and after subtracting "
        "the gene's mean over the other types. A region's features are its accessibility, the mean and the spread of it over "
        "the other types, whether a gene starts on either strand, and, where no chromosome is left out, the mean expression "
        "of the other types. No DNA.",
    }


def _blood_features(regions: Any, others: np.ndarray, expression: bool) -> tuple[np.ndarray, dict[str, Any]]:
    level = regions.layers["acpm"][others]
    columns = {
        "mean": level.mean(0),
        "spread": level.std(0),
        "tss+": regions.varm["tss"][:, 0],
        "tss-": regions.varm["tss"][:, 1],
    }
    if expression:
        columns |= {
            "exp+": regions.layers["exp_pos"][others].mean(0),
            "exp-": regions.layers["exp_neg"][others].mean(0),
        }
    return np.stack(list(columns.values()), 1).astype(np.float32), {"names": list(columns)}


# ---- real DNA


@cache
def dna_regions() -> tuple[Any, np.ndarray, Any]:
    """10 tracks × tiles of hg38 with the scores of 286 motif clusters (``varm["motif"]``), and with canonical 5-mers beside
    them (``varm["composition"]``); frequencies of 5-mers; the motifs."""
    import anndata as ad

    import scatacformer as sf

    d = np.load(data_folder() / "sequence" / "hg38_windows.npz", allow_pickle=False)
    first = (d["seq"].shape[1] - TILE * PER_WINDOW) // 2
    tiles = d["seq"][:, first : first + TILE * PER_WINDOW].reshape(-1, TILE)
    signal = d["target"][:, :, 24:34].astype(np.float32).reshape(65, PER_WINDOW, -1, 10).sum(2).reshape(-1, 10)
    cage = d["target"][:, :, :24].astype(np.float32).reshape(65, PER_WINDOW, -1, 24).sum(2).reshape(-1, 24)
    folder = data_folder() / "sequence" / "motifs"
    paths = sorted(folder.glob("*.meme"))
    motifs = sf.sequence.Motifs.from_file(*paths).with_clusters(folder / "clusters.0.70.txt")
    scores = sf.sequence.scan_sequences(list(tiles), motifs, SCAN)
    start = np.repeat(d["start"], PER_WINDOW) + np.tile(np.arange(PER_WINDOW) * TILE, 65)
    var = pd.DataFrame({"chrom": np.repeat(d["chrom"].astype(str), PER_WINDOW), "start": start, "end": start + TILE})
    var.index = var["chrom"] + ":" + var["start"].astype(str)
    regions = ad.AnnData(np.zeros((10, len(var)), np.float32), obs=pd.DataFrame(index=TRACKS), var=var)
    regions.layers["acpm"] = np.log2(signal.T + 1)
    regions.varm["motif"] = np.sqrt(scores)
    regions.uns["motif"] = {"names": list(motifs.columns)}
    regions.uns["cage"] = np.log2(cage.T + 1)
    words = kmers(tiles)
    regions.varm["composition"] = np.concatenate([regions.varm["motif"], _roots(words)], 1)
    regions.uns["composition"] = {
        "names": [*motifs.columns, *(f"5-mer {i}" for i in np.flatnonzero(WORDS))],
        "scale": np.maximum(regions.varm["composition"].std(0), 1e-3),
    }
    return regions, words, motifs


def _roots(words: np.ndarray, width: int = TILE) -> np.ndarray:
    """Square roots of the counts of 5-mers in ``width`` bp, without the columns of their reverse complements."""
    return np.sqrt(words[:, WORDS] * width)


def kmers(codes: np.ndarray, k: int = 5) -> np.ndarray:
    """Canonical k-mers per base, (n, 4^k) float32; a word and its reverse complement share their count."""
    n, width = codes.shape
    number = np.zeros((n, width - k + 1), np.int64)
    turned = np.zeros_like(number)
    valid = np.ones(number.shape, bool)
    for i in range(k):
        base = codes[:, i : width - k + 1 + i].astype(np.int64)
        valid &= base < 4
        number = 4 * number + base
        turned = turned + (3 - base) * 4**i
    word = np.where(valid, np.minimum(number, turned), 4**k)
    flat = np.bincount((word + np.arange(n)[:, None] * (4**k + 1)).ravel(), minlength=n * (4**k + 1))
    return (flat.reshape(n, -1)[:, : 4**k] / width).astype(np.float32)


def accessibility(fold: int) -> dict[str, Any]:
    """A fold of chromosomes is left out, the next one stops training; ridges and region MLPs on the same tiles.

    Sizes, learning rate, dropout, p-value, the roots of scores and counts, and that counts are read at all were chosen on
    fold 0, which is not reported.
    """
    import scatacformer as sf

    regions, words, motifs = dna_regions()
    chrom = regions.var["chrom"].to_numpy()
    windows = folds(chrom[::PER_WINDOW])
    test, stop = np.isin(chrom, windows[fold]), np.isin(chrom, windows[(fold + 1) % len(windows)])
    y, train = regions.layers["acpm"].T, ~test & ~stop
    sf.GET.setup_anndata(regions, motif_key="composition", expression_layers=None)
    began, models = time.process_time(), []
    for seed in range(3):
        models.append(sf.GET(regions[:, ~test].copy(), seed=seed, **TILES))
        models[-1].train(holdout_chromosomes=sorted(set(chrom[stop])), **TILES_TRAINING)
    seconds = time.process_time() - began
    x, both = regions.varm["motif"], regions.varm["composition"]
    gets = [model.get_predicted_accessibility(regions).to_numpy().T[test] for model in models]
    mlps = [_region_mlp(both / both.max(0), y, train, stop, test, seed) for seed in range(3)]
    ridges = {"ridge, 5-mers": words, "ridge, motifs": x, "ridge, motifs and 5-mers": both}
    fitted = {name: _ridge(features, y, train, stop) for name, features in ridges.items()}
    predicted = {
        "GET, mean of 3 networks": np.mean(gets, 0),
        "region MLP, motifs and 5-mers, mean of 3 networks": np.mean(mlps, 0),
    }
    predicted |= {name: fitted[name].predict(features[test]) for name, features in ridges.items()}
    predicted["mean of each track"] = np.tile(y[train].mean(0), (int(test.sum()), 1))
    scores = {name: track_scores(values, y[test]) for name, values in predicted.items()}
    for name, single in (("GET, one network", gets), ("region MLP, motifs and 5-mers, one network", mlps)):
        scores[name] = np.mean([track_scores(values, y[test]) for values in single], axis=0).tolist()
    found = {"scores": scores, "tiles": int(test.sum()), "seconds": seconds}
    if fold == 1:
        found |= _reporters(models[0], motifs, fitted["ridge, 5-mers"], TRACKS.index("HepG2"))
    return found


def _ridge(x: np.ndarray, y: np.ndarray, train: np.ndarray, stop: np.ndarray) -> Any:
    """The penalty that does best on the chromosomes that stop training."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    best: tuple[float, Any] = (np.inf, None)
    for penalty in np.logspace(2, 6, 9):
        model = make_pipeline(StandardScaler(), Ridge(penalty)).fit(x[train], y[train])
        best = min(best, (float(((model.predict(x[stop]) - y[stop]) ** 2).mean()), model), key=lambda pair: pair[0])
    return best[1]


def _region_mlp(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, stop: np.ndarray, test: np.ndarray, seed: int
) -> np.ndarray:
    from sklearn.neural_network import MLPRegressor

    best: tuple[float, Any] = (np.inf, None)
    model = MLPRegressor(hidden_layer_sizes=(512, 256), random_state=seed, alpha=1e-2, learning_rate_init=3e-4)
    for number in range(12):  # passes; the one that does best where training stops
        for part in np.array_split(np.random.default_rng([seed, number]).permutation(np.flatnonzero(train)), 40):
            model.partial_fit(x[part], y[part])
        error = float(((model.predict(x[stop]) - y[stop]) ** 2).mean())
        if error < best[0]:
            best = error, model.predict(x[test])
    return best[1]


def track_scores(predicted: np.ndarray, measured: np.ndarray) -> list[float]:
    """Pearson of all tiles and tracks; after subtracting each tile's mean over tracks; and each track's mean as well.

    NaN where nothing is left of a prediction.
    """
    specific = [values - values.mean(1, keepdims=True) for values in (predicted, measured)]
    double = [values - values.mean(0) for values in specific]
    pairs = ((predicted, measured), specific, double)
    return [float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) if a.std() > 1e-6 else float("nan") for a, b in pairs]


def _reporters(model: Any, motifs: Any, ridge: Any, track: int, n: int = 600) -> dict[str, Any]:
    from scipy.stats import spearmanr

    import scatacformer as sf

    table = pd.read_csv(data_folder() / "sequence" / "mpra_three_lines.tsv.gz", sep="\t").dropna(
        subset=["HepG2", "seq"]
    )
    table = table.sample(n, random_state=0)
    codes = np.stack([sf.sequence.codes_of(one[:200].ljust(200, "N")) for one in table["seq"]])
    scores = np.sqrt(sf.sequence.scan_sequences(list(table["seq"]), motifs, SCAN))
    words = kmers(codes)
    found = model.predict_reporter(np.concatenate([scores, _roots(words, 200)], 1), TRACKS[track], n_insertions=30)
    by = {
        "GET, predict_reporter": found["activity"],
        "ridge, 5-mers, trained on accessibility": ridge.predict(words)[:, track],
        "GC content": ((codes == 1) | (codes == 2)).mean(1),
    }
    return {"reporters": {k: float(spearmanr(v, table["HepG2"])[0]) for k, v in by.items()}, "n_elements": len(table)}


def cage() -> dict[str, Any]:
    """Transcription of tiles on both strands of 12 samples, from motifs and the mean DNase."""
    import anndata as ad

    import scatacformer as sf

    source, _, _ = dna_regions()
    chrom = source.var["chrom"].to_numpy()
    signal = source.uns["cage"]  # (24, tiles): + and - in turn
    active = (signal.reshape(12, 2, -1).max(0) > 3).T  # tiles that any sample transcribes
    n_samples = len(signal) // 2
    regions = ad.AnnData(
        np.zeros((n_samples, source.n_vars), np.float32),
        obs=pd.DataFrame(index=[f"sample{i}" for i in range(n_samples)]), var=source.var.copy(),
    )  # fmt: skip
    level = source.layers["acpm"].mean(0)
    regions.layers["acpm"] = np.tile(level, (n_samples, 1))
    regions.layers["exp_pos"], regions.layers["exp_neg"] = signal[::2].copy(), signal[1::2].copy()
    regions.varm["motif"], regions.uns["motif"] = source.varm["motif"], source.uns["motif"]
    regions.varm["tss"] = active
    tile, strand = np.nonzero(active)
    names = regions.var_names.to_numpy()[tile]
    sign = np.array(["+", "-"])[strand]
    regions.uns["gene_tss"] = pd.DataFrame(
        {"gene": names.astype(str) + sign.astype(object), "region": names, "strand": sign}
    )
    windows = folds(chrom[::PER_WINDOW])
    test, stop = np.isin(chrom, windows[0]), sorted(set(windows[1]))
    left_out = sorted(set(chrom[test & active.any(1)]))  # of the others no tile is transcribed
    sf.GET.setup_anndata(regions)
    model = sf.GET(regions[:, ~test].copy(), n_regions=32, stride=16, d_model=48, n_layers=2, n_heads=4, drop_path=0.2)
    model.train(
        3, lr=1e-3, weight_decay=0.1, batch_size=32, holdout_chromosomes=stop, early_stopping_patience=3, **QUIET
    )
    table = model.compare_baselines(regions, holdout_chromosomes=left_out, baselines=["ridge", "random_forest", "mlp"])
    predicted, measured, where = model.get_expression_tables(regions)
    held = where.isin(windows[0]).to_numpy()
    rng, resampled = np.random.default_rng(0), []
    genes = np.flatnonzero(held)
    for _ in range(200):  # tiles, not entries: the samples of a tile are not independent
        rows = rng.choice(genes, len(genes))
        resampled.append(np.corrcoef(predicted.to_numpy()[rows].ravel(), measured.to_numpy()[rows].ravel())[0, 1])
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {
        "scores": {method: [float(table.loc[method, c]) for c in ("pearson", "r2")] for method in table.index},
        "columns": ["Pearson", "R²"],
        "note": f"log2(CAGE + 1) of {int(held.sum()):,} tiles and strands that any of 12 samples transcribes, on the "
        f"{len(windows[0])} chromosomes left out; the accessibility is the mean of 10 DNase tracks of other samples. 95 % "
        f"interval of GET's Pearson by resampling tiles: {low:.3f}–{high:.3f}.",
    }


# ---- scanning


def scan(n_regions: int = 150_000, n_motifs: int = 800, width: int = 500) -> dict[str, Any]:
    """Random DNA scanned for JASPAR's motifs, at full size."""
    import scatacformer as sf

    motifs = sf.sequence.Motifs.from_jaspar()
    motifs = motifs.select(list(motifs.names)[:n_motifs])
    n_bases, per_chrom = 10_000_000, 10_000_000 // (2 * width)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "genome.fa"
        letters, names = np.frombuffer(b"ACGT", np.uint8), []
        with path.open("wb") as file:
            for number in range(-(-n_regions // per_chrom)):
                names.append(f"chr{number + 1}")
                file.write(f">chr{number + 1}\n".encode() + letters[rng.integers(4, size=n_bases)].tobytes() + b"\n")
        row = np.arange(n_regions)
        start = (row % per_chrom) * 2 * width
        regions = sf.Vocabulary(tuple(names), row // per_chrom, start, start + width)
        before, began, cpu = peak_mb(), time.perf_counter(), time.process_time()
        found = sf.sequence.scan_regions(regions, sf.sequence.Fasta(path), motifs, progress=False)
    return {
        "cpu": time.process_time() - cpu, "seconds": time.perf_counter() - began, "peak_mb": peak_mb(),
        "before_mb": before, "result_mb": found.nbytes / 1e6, "n_regions": n_regions, "n_motifs": len(motifs),
    }  # fmt: skip
