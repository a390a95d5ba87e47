"""GET: planted regulation, real DNA, a blood type that was left out, CRISPRi, contacts, reporters, speed.

    python benchmarks/get.py --crispri        the published pairs of K562: seconds
    python benchmarks/get.py --contacts       the mouse map beside a power law
    python benchmarks/get.py --blood          expression of blood types that were left out
    python benchmarks/get.py --planted        a made-up genome, three seeds, with all baselines
    python benchmarks/get.py --accessibility  motifs -> DNase of hg38 windows, and reporters with that model
    python benchmarks/get.py --cage           accessibility and motifs -> CAGE of the same windows
    python benchmarks/get.py --pretraining    masked regions; a tenth of the labels
    python benchmarks/get.py --pretraining-dna  the same on tiles of hg38
    python benchmarks/get.py --filled         masked regions filled in by a line, beside pretraining
    python benchmarks/get.py --scan           150,000 regions x 800 motifs
    python benchmarks/get.py --speed          windows and Jacobians per second; a quiet machine
    python benchmarks/get.py --write          put what has been measured into results/get.md

Measurements are kept in ``--cache``; what is there is not repeated, so that an interrupted run continues.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _common import Cache, environment, peak_mb, spread, table, write
from _get_pretraining import dna_to_pretrain, linear_fill, pretraining_dna
from _get_real import accessibility, blood, cage, contacts, crispri, scan

PLANTED = {"n_regions": 12, "stride": 4, "d_model": 48, "n_layers": 2, "n_heads": 4}
QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
HELD_GROUPS = ["type1", "type2"]
_PLAIN = {name: f"{name}, torch's encoder" for name in ("training", "Jacobians")}
FOLDS = [1, 2, 3, 4]  # of real DNA; fold 0 chose


# ---- planted regulation


def planted(seed: int) -> dict[str, Any]:
    """A made-up genome: the last chromosome and two groups are seen by nothing, the one before it stops training."""
    import scatacformer as sf

    with tempfile.TemporaryDirectory() as folder:
        sim = sf.datasets.simulated_regulation(
            folder, n_chroms=10, n_promoters=60, n_groups=10, motifs="jaspar", seed=seed
        )
        regions = sim.regions
        sf.pp.scan_motifs(regions, sim.fasta, sim.motifs)
        sf.pp.map_expression(regions, sim.rna, sim.gtf)
    sf.GET.setup_anndata(regions)
    test_chrom, stop_chrom = "chr10", "chr9"
    seen = regions[~regions.obs_names.isin(HELD_GROUPS), regions.var["chrom"] != test_chrom].copy()
    began = time.process_time()
    model = sf.GET(seen, seed=seed, **PLANTED)
    model.train(14, lr=2e-3, batch_size=64, holdout_chromosomes=stop_chrom, early_stopping_patience=14, **QUIET)
    seconds = time.process_time() - began
    # the model has its own data; what is scored is the whole, of which it saw a part
    scores = model.compare_baselines(regions, holdout_chromosomes=test_chrom, holdout_groups=HELD_GROUPS, seed=seed)
    found = {"scores": scores.to_dict("index"), "seconds": seconds}
    return (
        found
        | _planted_motifs(model, sim, regions)
        | _planted_links(model, sim, regions, test_chrom)
        | _reporters(model, sim, regions)
    )


def _planted_motifs(model: Any, sim: Any, regions: Any) -> dict[str, Any]:
    """Ranks of the activator and of its partner among all motifs: by mean |v_g| of expressed genes of each strand, and by
    mean v_g of all its genes."""
    gbm = model.get_gene_by_motif(adata=regions, groups=HELD_GROUPS)
    ranks: dict[str, list[int]] = {}
    for strand, pair in {
        "+": (sim.roles.activator_pos, sim.roles.promoter_pos),
        "-": (sim.roles.activator_neg, sim.roles.promoter_neg),
    }.items():
        of_strand = (gbm.obs["strand"] == strand).to_numpy()
        expressed = of_strand & (gbm.obs["predicted"] > 1).to_numpy()
        means = np.abs(gbm.X[expressed]).mean(0), gbm.X[of_strand].mean(0)
        places = [pd.Series(mean, index=gbm.var_names).rank(ascending=False).astype(int) for mean in means]
        for role, name in zip(("activator", "partner"), pair, strict=True):
            ranks[f"{role} {strand}"] = [int(place[name]) for place in places]
    return {"ranks": ranks}


def _planted_links(model: Any, sim: Any, regions: Any, chrom: str) -> dict[str, Any]:
    """Knocked-out regions, and enhancer scores against what closing a region does by the law."""
    import scatacformer as sf

    links = sim.links[sim.links["group"].isin(HELD_GROUPS) & sim.links["region"].str.startswith(f"{chrom}:")]
    names = links["region"].unique()
    change = model.perturb(regions=list(names), groups=HELD_GROUPS, adata=regions).rename(columns={"regions": "region"})
    scored = model.score_enhancers(list(links["gene"].unique()), HELD_GROUPS, adata=regions)
    keys = ["gene", "group", "region"]
    links = links.merge(change[[*keys, "change"]], on=keys).merge(scored.drop(columns="distance"), on=keys)
    positive = (links["effect"] < -0.2).to_numpy()
    level = regions.layers["acpm"][
        regions.obs_names.get_indexer(links["group"]), regions.var_names.get_indexer(links["region"])
    ]
    by = {
        "GET, knock-out": -links["change"], "GET, Jacobian": links["jacobian"], "GET, score": links["score"],
        "accessibility": level, "1 / distance": 1 / (1 + links["distance"]),
    }  # fmt: skip
    auprc = {name: sf.metrics.auprc(value, positive, n_resamples=0)["auprc"] for name, value in by.items()}
    without = (links["effect"] == 0).to_numpy()
    acting = np.where(links["strand"] == "+", sim.roles.activator_pos, sim.roles.activator_neg)
    where = sim.holds.index.get_indexer(links["region"]), sim.holds.columns.get_indexer(acting)
    decoy = without & sim.holds.to_numpy()[where] & (level > 0.1)
    return {
        "auprc": auprc | {"base rate": float(positive.mean())},
        "knockout": float(links["change"][positive].mean()),
        "knockout of any region without effect": float(links["change"][without].mean()),
        "knockout of a decoy": float(links["change"][decoy].mean()),
        "decoys": int(decoy.sum()),
        "agreement": float(np.corrcoef(links["change"], links["effect"])[0, 1]),
    }


def _reporters(model: Any, sim: Any, regions: Any) -> dict[str, Any]:
    """A minimal promoter with the activator, with the same letters shuffled, and with the repressor."""
    rng = np.random.default_rng(0)
    best = dict(
        zip(sim.motifs.names, ["".join("ACGT"[i] for i in m.argmax(0)) for m in sim.motifs.matrices], strict=True)
    )
    roles = sim.roles
    minimal = best[roles.core] + "TA" + best[roles.promoter_pos]
    inserted = {"activator": best[roles.activator_pos] * 2, "repressor": best[roles.repressor] * 2}
    inserted["scrambled"] = "".join(rng.permutation(list(inserted["activator"])))
    elements = pd.Series({name: "TATA" + part + "TA" + minimal + "TATA" for name, part in inserted.items()})
    found = model.predict_reporter(elements, HELD_GROUPS[0], n_insertions=300, adata=regions)
    return {"reporter": found["activity"].to_dict()}


# ---- pretraining


def _to_pretrain(seed: int) -> Any:
    import scatacformer as sf

    with tempfile.TemporaryDirectory() as folder:
        sim = sf.datasets.simulated_regulation(folder, n_chroms=6, n_promoters=60, n_groups=8, seed=seed)
        regions = sim.regions
        sf.pp.scan_motifs(regions, sim.fasta, sim.motifs)
        sf.pp.map_expression(regions, sim.rna, sim.gtf)
    sf.GET.setup_anndata(regions)
    return regions


def filled(seed: int) -> dict[str, Any]:
    """How well masked regions are filled in by a line, of the same regions as ``pretraining`` and ``pretraining_dna``."""
    import scatacformer as sf

    simulated = linear_fill(sf.GET(_to_pretrain(seed), seed=seed, **PLANTED), ["chr6"], seed=seed)
    return {"planted": simulated, "dna": linear_fill(*dna_to_pretrain(seed), seed=seed)}


def pretraining(seed: int) -> dict[str, Any]:
    """Masked regions against the column means; then a tenth of the labels."""
    import scatacformer as sf

    regions = _to_pretrain(seed)
    model = sf.GET(regions, seed=seed, **PLANTED)
    model.pretrain(8, lr=2e-3, batch_size=64, holdout_chromosomes="chr6", **QUIET)
    masked = float(model.history["validation_loss"].min().iloc[0])
    prepared = model._prepared
    held = np.flatnonzero((regions.var["chrom"] == "chr6").to_numpy())
    other = np.flatnonzero((regions.var["chrom"] != "chr6").to_numpy())
    x, train = (
        prepared.data.features(np.zeros(len(rows), int), rows[:, None], "quantitative")[:, 0] for rows in (held, other)
    )
    means = float(((x - train.mean(0)) ** 2).mean())
    few = regions[:, regions.var["chrom"].isin(["chr1", "chr5", "chr6"])].copy()
    keep = (few.var["chrom"] == "chr1") & (np.arange(few.n_vars) < 0.3 * 720)
    few = few[:, (keep | (few.var["chrom"] != "chr1")).to_numpy()].copy()
    found = {"masked": masked, "column means": means}
    for name in ("pretrained", "from scratch"):
        start = sf.GET.load_query_data(few, model) if name == "pretrained" else sf.GET(few, seed=seed, **PLANTED)
        start._prepared = start._prepared_of(few)
        start.train(
            60, lr=2e-3, batch_size=16, holdout_chromosomes=["chr5", "chr6"], early_stopping_patience=20, **QUIET
        )
        found[name] = float(start.history["validation_pearson"].max().iloc[0])
    return found


# ---- speed


def speed() -> dict[str, Any]:
    """Windows per second of training and of Jacobians, beside torch's own encoder of the same sizes."""
    import torch

    from scatacformer.nn import GETConfig, GETNetwork, jacobian

    config = GETConfig.of_size("small", 283)
    network = GETNetwork(config)
    x = torch.rand(16, config.n_regions, 283, generator=torch.Generator().manual_seed(0))
    y = torch.rand(16, config.n_regions, 2, generator=torch.Generator().manual_seed(1))
    layer = torch.nn.TransformerEncoderLayer(
        config.d_model, config.n_heads, config.d_feedforward, 0.0, "gelu", batch_first=True, norm_first=True
    )
    plain = torch.nn.Sequential(
        torch.nn.Linear(283, config.d_model),
        torch.nn.TransformerEncoder(layer, config.n_layers, enable_nested_tensor=False),
        torch.nn.Linear(config.d_model, 2),
        torch.nn.Softplus(),
    )

    def step(module: torch.nn.Module) -> Callable[[], None]:
        def run() -> None:
            torch.nn.functional.poisson_nll_loss(module(x), y, log_input=False).backward()

        return run

    read, strand = torch.full((16,), config.n_regions // 2), torch.zeros(16, dtype=torch.long)
    network.train()
    found = {"training": 16 / _seconds(step(network)), "training, torch's encoder": 16 / _seconds(step(plain))}
    network.eval()
    found["Jacobians"] = 16 / _seconds(lambda: jacobian(network, x, read, strand))
    found["1,000 Jacobians, s"] = 1_000 / found["Jacobians"]
    plain.eval().requires_grad_(False)

    def plain_jacobian() -> None:
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(plain(leaf)[:, config.n_regions // 2, 0].sum(), leaf)

    found["Jacobians, torch's encoder"] = 16 / _seconds(plain_jacobian)
    return found | {"threads": torch.get_num_threads(), "peak_mb": peak_mb()}


def _seconds(run: Callable[[], Any], n: int = 8) -> float:
    """Median seconds of the processor, which with one thread depend little on what else the machine does."""
    run()
    taken = []
    for _ in range(n):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return float(np.median(taken))


# ---- the table


def report(cache: Cache, seeds: list[int]) -> str:
    """Markdown of all that was measured."""
    parts = ["# GET\n", environment("torch", "scikit-learn", "scatacformer") + "\n"]
    if runs := [found for seed in seeds if (found := cache.get("planted", seed))]:
        parts += _report_planted(runs)
    if runs := [found for fold in FOLDS if (found := cache.get("accessibility", fold))]:
        parts += _report_accessibility(runs)
    for name, make in (("cage", _report_cage), ("blood", _report_blood)):
        if found := cache.get(name):
            parts += make(found)
    if found := cache.get("crispri"):
        rows = [[r["score"], r["distance"], f"{r['auprc']:.3f}", f"{r['low']:.3f}–{r['high']:.3f}", r["n_positive"], r["n"]]
                for r in found["rows"]]  # fmt: skip
        parts += [
            "## CRISPRi in K562\n",
            "AUPRC of score functions on the published pairs, with 95 % intervals by resampling pairs; no GET model is in "
            "them. Accessibility is log10(DHS RPM + 1); contact is the power law, flat below 5 kb.\n",
            table(["score", "distance, bp", "AUPRC", "interval", "regulated", "pairs"], rows),
        ]
    if found := cache.get("contacts"):
        parts += [
            "## Contacts\n",
            f"Mouse chr1 (mm9), 20 kb, raw counts; the last fifth of the chromosome held out. Pearson of log10(contacts + 1) "
            f"of {found['n_pairs']:,} pairs up to 4 Mb apart: `DistanceContactMap` {found['network']:.3f}, power law "
            f"{found['powerlaw']:.3f}. The mean contacts at each distance in the held-out pairs themselves reach "
            f"{found['ceiling']:.3f}: no function of the distance alone exceeds that on this map, in which most pairs have no "
            "contact.\n",
        ]
    parts += _report_pretraining(
        *(
            [found for seed in seeds if (found := cache.get(name, seed))]
            for name in ("pretraining", "pretraining-dna", "filled")
        )
    )
    if found := cache.get("speed"):
        parts += [
            "## Speed\n",
            f"Size `small`, windows of 50 regions × 283 features, {found['threads']} thread(s), windows per second of the "
            "processor, and those of torch's own encoder of the same sizes in brackets: training "
            f"{found['training']:,.0f} ({found[_PLAIN['training']]:,.0f}), Jacobians {found['Jacobians']:,.0f} "
            f"({found[_PLAIN['Jacobians']]:,.0f}), so that those of 1,000 genes in a group take "
            f"{found['1,000 Jacobians, s']:.1f} s; peak {found['peak_mb']:,} MB. Windows are made one minibatch at a time: "
            "memory does not grow with their number (`tests/pseudobulk/test_loader.py`).\n",
        ]
    if found := cache.get("scan"):
        parts += [
            "## Scanning\n",
            f"{found['n_regions']:,} regions of 500 bp of random DNA × {found['n_motifs']:,} motifs of JASPAR, one thread: "
            f"{found['cpu']:,.0f} CPU-seconds ({found['seconds']:,.0f} s on a busy machine; aim: 10 minutes on two cores). "
            f"Peak {found['peak_mb']:,} MB, of which {found['before_mb']:,} before the scan and {found['result_mb']:,.0f} the "
            "result.\n",
        ]
    absent = [name for name in ("cage", "blood", "crispri", "contacts", "scan", "speed") if cache.get(name) is None]
    absent += [
        f"{name} ({what} {', '.join(map(str, missing))})"
        for name, what, wanted in (
            ("planted", "seeds", seeds),
            ("pretraining", "seeds", seeds),
            ("pretraining-dna", "seeds", seeds),
            ("accessibility", "folds", FOLDS),
        )
        if (missing := [number for number in wanted if cache.get(name, number) is None])
    ]
    if absent:
        parts.append(f"Not measured here, and to be run: {', '.join(absent)}.\n")
    return "\n".join(parts)


def _report_planted(runs: list[dict[str, Any]]) -> list[str]:
    methods = list(runs[0]["scores"])
    columns = ["pearson", "r2", "rmse", "pearson_specific"]
    rows = [[m, *(spread([v for run in runs if (v := run["scores"][m][c]) == v]) for c in columns)] for m in methods]
    auprc = [[name, spread([run["auprc"][name] for run in runs])] for name in runs[0]["auprc"]]
    ranks = [
        [name, *(", ".join(str(run["ranks"][name][i]) for run in runs) for i in (0, 1))] for name in runs[0]["ranks"]
    ]
    reporter = [
        [name, spread([run["reporter"][name] for run in runs])] for name in ("activator", "scrambled", "repressor")
    ]
    n, seconds = runs[0]["scores"]["GET"]["n"], [run["seconds"] for run in runs]
    return [
        "## Planted regulation\n",
        f"{len(runs)} seeds: JASPAR motifs, 10 chromosomes, 7,200 regions, 10 groups. A chromosome and two groups that nothing has looked "
        f"at ({n:.0f} entries of gene and group); another chromosome stops training. Windows of 12 regions, 48 wide, 2 layers; "
        f"training took {spread(seconds, 0)} CPU-seconds. `group_mean` and `nearest_group` read the measured expression of the gene in other groups.\n",
        table(["method", "Pearson", "R²", "RMSE", "Pearson, specific to the group"], rows),
        "Ranks among all motifs that were planted, by seed:\n",
        table(["motif", "by mean absolute v_g of expressed genes", "by mean v_g of all genes"], ranks),
        "AUPRC of regions whose closing lowers a gene by more than 0.2 (held-out chromosome and groups):\n",
        table(["score", "AUPRC"], auprc),
        f"Predicted change where such a region is knocked out {spread([run['knockout'] for run in runs])}; an open region "
        f"with the activator's motif whose promoter lacks the partner {spread([run['knockout of a decoy'] for run in runs])} "
        f"({spread([run['decoys'] for run in runs], 0)} of them); any region without effect "
        f"{spread([run['knockout of any region without effect'] for run in runs])}. Correlation with the true effect "
        f"{spread([run['agreement'] for run in runs])}.\n",
        "Reporters (a minimal promoter with ...), predicted activity:\n",
        table(["element", "activity"], reporter),
    ]  # fmt: skip


def _report_accessibility(runs: list[dict[str, Any]]) -> list[str]:
    order = list(runs[0]["scores"])
    rows = []
    for method in sorted(order, key=lambda name: not name.startswith("GET")):
        columns = list(zip(*(np.round(run["scores"][method], 4) + 0.0 for run in runs), strict=True))  # no "-0.000"
        rows.append([method, *(spread(list(values)) if values[0] == values[0] else "–" for values in columns)])
    ahead = [run["scores"][order[0]][1] - max(run["scores"][m][1] for m in order if "GET" not in m) for run in runs]
    over = [run["scores"][order[0]][1] - run["scores"]["ridge, 5-mers"][1] for run in runs]
    first = next((run for run in runs if "reporters" in run), None)
    parts = [
        "## Motifs → accessibility, real DNA\n",
        f"8,320 tiles of 512 bp of hg38 × 10 DNase tracks, 286 motif clusters and the 512 canonical 5-mers; {len(runs)} folds of "
        f"chromosomes ({min(run['tiles'] for run in runs):,} or more tiles left out; the next fold stops training and chooses "
        "penalties). All choices were made on a fifth fold, which is not in the table. Pearson, median and range over folds: "
        "over all tiles and tracks; after subtracting each tile's mean over tracks; and each track's mean as well. GET and the "
        "region MLP read motif clusters and 5-mers; GET also those of 15 neighbouring tiles. Lead of three networks of GET over "
        f"the best other row after subtracting the tile's mean, by fold: {', '.join(f'{value:+.3f}' for value in ahead)}; over "
        f"ridge on 5-mers: {', '.join(f'{value:+.3f}' for value in over)}. Seeds of one network differ by about .01. Three "
        f"networks take {spread([run['seconds'] for run in runs], 0)} CPU-seconds.\n",
        table(["method", "Pearson, all", "track-specific", "track's mean subtracted as well"], rows),
    ]
    if first:
        rows = [[method, f"{value:.3f}"] for method, value in first["reporters"].items()]
        parts += [
            f"Reporters: {first['n_elements']:,} elements of `mpra_three_lines`, Spearman with the activity measured in "
            "HepG2. The model saw HepG2's accessibility and no reporter.\n",
            table(["score", "Spearman"], rows),
        ]
    return parts


def _report_pretraining(
    planted: list[dict[str, Any]], dna: list[dict[str, Any]], lines: list[dict[str, Any]]
) -> list[str]:
    parts = ["## Pretraining\n"] if planted or dna else []
    if parts:
        parts.append(
            "Mean squared error of masked regions on held-out chromosomes. `linear autoencoder`: of a masked region nothing is "
            "left to a method that reads regions one at a time, so that its least squares are the column means. `line from the "
            "window`: ridge on the mean of the regions of the window that are not masked, with the penalty that does best on "
            "the held-out chromosomes.\n"
        )

    def rows(runs: list[dict[str, Any]], which: str) -> list[list[str]]:
        found = {name: [run[name] for run in runs] for name in ("masked", "column means")}
        for name in ("linear autoencoder", "line from the window"):
            found[name] = [run[which][name] for run in lines]
        return [[name, spread(values, 4), ""] for name, values in found.items() if values]

    if planted:
        wins = sum(run["pretrained"] > run["from scratch"] for run in planted)
        more = [[name, spread([run[name] for run in planted], 4), ""] for name in ("pretrained", "from scratch")]
        parts += [
            f"Planted regulation, {len(planted)} seeds. The motifs of a simulated region do not depend on those of its "
            "neighbours, so that little can be filled in. Pretrained, from scratch: Pearson on the chromosomes that stop "
            f"training, after training on 216 regions; pretrained is ahead in {wins} of {len(planted)} seeds.\n",
            table(["", "median (range)", ""], [*rows(planted, "planted"), *more]),
        ]
    if dna:
        more = [
            [f"{name}: Pearson, track-specific", *(spread([run[name][i] for run in dna]) for i in (0, 1))]
            for name in ("pretrained", "from scratch")
        ]
        wins = sum(run["pretrained"][0] > run["from scratch"][0] for run in dna)
        parts += [
            f"Tiles of hg38, {len(dna)} seeds: masked tiles of motif scores and of three DNase tracks; then 10 DNase tracks from "
            "the motifs of a tenth of the records (other ones for each seed), scored on chromosomes that nothing has looked at. "
            f"Pretrained is ahead in {wins} of {len(dna)} seeds.\n",
            table(["", "", ""], [*rows(dna, "dna"), *more]),
        ]
    return parts


def _report_cage(found: dict[str, Any]) -> list[str]:
    rows = [[method, *(f"{value:.3f}" for value in values)] for method, values in found["scores"].items()]
    title = "## Accessibility and motifs → CAGE, real DNA\n"
    return [title, found["note"] + "\n", table(["method", *found["columns"]], rows)]


def _report_blood(found: dict[str, Any]) -> list[str]:
    header = ["method", "left-out type", "specific", "left-out type and chromosomes", "specific"]
    rows = [[method, *(f"{v:.3f}" if v == v else "–" for v in values)] for method, values in found["scores"].items()]
    note = (
        " `group_mean` and `nearest_group` read the measured expression of the gene in other types, also on the chromosome "
        "that is left out; GET and ridge are given none of it there.\n"
    )
    return ["## Expression of a blood type that was left out\n", found["note"] + note, table(header, rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    single: dict[str, Callable[[], dict[str, Any]]] = {
        "crispri": crispri, "contacts": contacts, "blood": blood, "cage": cage, "scan": scan, "speed": speed,
    }  # fmt: skip
    numbered: dict[str, Callable[[int], dict[str, Any]]] = {
        "planted": planted, "pretraining": pretraining, "accessibility": accessibility,
        "pretraining-dna": pretraining_dna, "filled": filled,
    }  # fmt: skip
    for name in (*single, *numbered, "write"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    cache = Cache(arguments.cache)
    for name, run in single.items():
        if getattr(arguments, name) and cache.get(name) is None:
            cache.put(name, value=run())
            print(name, cache.get(name), flush=True)
    for name, of_number in numbered.items():
        numbers = FOLDS if name == "accessibility" else arguments.seeds
        for number in numbers if getattr(arguments, name.replace("-", "_")) else []:
            if cache.get(name, number) is None:
                cache.put(name, number, value=of_number(number))
                print(name, number, cache.get(name, number), flush=True)
    if arguments.write:
        write("get", report(cache, arguments.seeds))


if __name__ == "__main__":
    main()
