"""The comparisons planned in the founding design: each option alone against the design's choice.

    python benchmarks/ablation.py               four data sets, three seeds: two hours on two cores
    python benchmarks/ablation.py --quick       leukaemia, one seed, four epochs; prints, writes nothing
    python benchmarks/ablation.py --fasta hg19.fa --checkpoint nucleotide-transformer/   with DNA for the sets of hg19

Every model is trained on the same 80 % of the cells, with the same steps, and evaluated on the others: removed open
bins against closed bins that are as frequent (as in removed_bins.py), and the labels of their 15 nearest training cells. The
embedding learns (embedding_lr=1e-3): by default it remains the spectral one, and no option except the labels could change it.
Leiden is scored on all cells, as for the peers. Every measurement runs in a separate process: CPU seconds and memory, beyond that
of the libraries, are those of that process.

Without a genome and a checkpoint, two tables replace DNA: random numbers, from which nothing can be learned, and for
human blood the measured accessibility of 16 bulk types, which holds more information than any sequence.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from _common import (
    Cache,
    can_simulate_blood,
    data_folder,
    environment,
    fingerprint,
    peak_mb,
    run_forked,
    simulated_blood,
    table,
    write,
)
from removed_bins import score as removed_bin_scores
from removed_bins import split as split_and_pair

DATA = ("leukemia", "cerebellum", "bone_marrow", "simulated blood")
HG19 = ("leukemia", "bone_marrow", "simulated blood")
MAX_CELLS = 1_000
BLOOD_CHROMS = ("chr1", "chr2", "chr19", "chr22")
STEPS, SMALL = 120, {"d_model": 64, "n_layers": 2, "n_heads": 4, "d_embed": 32}
TRAIN: dict[str, Any] = {
    "early_stopping": False, "train_size": 1.0, "enable_progress_bar": False, "sentence_kwargs": {"n_closed": 1024}, "batch_size": 32,
    "accelerator": "cpu",
}  # fmt: skip
PLAN = {"embedding_lr": 1e-3, "n_decoder_epochs": 3}
METRICS = ("AUROC", "average precision", "purity", "ARI", "CPU s", "MB")


@dataclass(frozen=True)
class Option:
    """One model: its arguments, those of its training, and the table that replaces DNA."""

    name: str
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    dna: str | None = None
    labels: bool = False

    @property
    def region_classes(self) -> bool:
        return self.model.get("eos") == "region_class"


# the others of each list differ from the first in one option
COMPARISONS: dict[str, list[Option]] = {
    "Removed share 0": [
        Option("bilinear, factorised, small, `<cls>`, chromosomes, sampled", {"removed_share": 0.0}),
        Option("all closed bins", {"removed_share": 0.0}, {"sentence_kwargs": {"n_closed": "all"}}),
        Option("no `<cls>`", {"removed_share": 0.0, "cls_token": False}),
        Option("bin embedding full", {"removed_share": 0.0, "embedding": "full"}),
        Option("decoder input full", {"removed_share": 0.0, "decoder_input": "full"}),
        Option("MLP", {"removed_share": 0.0, "decoder": "mlp"}),
        Option("cross-attention", {"removed_share": 0.0, "decoder": "cross_attention"}),
        Option("`<eos>` by region class", {"removed_share": 0.0, "eos": "region_class"}),
    ],
    "Removed share 0.15": [
        Option("bilinear, chromosomes, no DNA", {"removed_share": 0.15}),
        Option("MLP", {"removed_share": 0.15, "decoder": "mlp"}),
        Option("cross-attention", {"removed_share": 0.15, "decoder": "cross_attention"}),
        Option("`<eos>` by region class", {"removed_share": 0.15, "eos": "region_class"}),
        Option("random table for DNA", {"removed_share": 0.15}, dna="random"),
        Option("bulk accessibility for DNA", {"removed_share": 0.15}, dna="bulk"),
        Option("DNA", {"removed_share": 0.15}, dna="sequence"),
        Option("with labels", {"removed_share": 0.15}, plan={"label_weight": 1.0}, labels=True),
    ],
    "The default, removed share 0.5": [
        Option("the embedding learns", {}),
        Option("the embedding stays (default)", {}, plan={"embedding_lr": 0.0}),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--fasta", help="genome of hg19, for DNA")
    parser.add_argument("--checkpoint", help="folder or name of a Nucleotide Transformer, for DNA")
    parser.add_argument("--cache", type=Path, help="keep finished measurements here (JSON lines) and resume from them")
    parser.add_argument("--quick", action="store_true", help="leukaemia, one seed, four epochs; nothing is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    import_all()
    data, seeds = (["leukemia"], [0]) if arguments.quick else (arguments.data, arguments.seeds)
    cache, code = Cache(arguments.cache), fingerprint(__file__)
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for seed in seeds:  # seed by seed: an interrupted run has compared everything once
        for name in data:
            for group, options in COMPARISONS.items():
                for option in options:
                    why = not_measured(name, option, arguments.fasta, arguments.checkpoint)
                    key = (code, name, group, option.name, seed)
                    value = {"failed": why} if why else cache.get(*key)
                    if value is None:
                        job = {
                            "data": name, "group": group, "option": option.name, "seed": seed,
                            "fasta": arguments.fasta, "checkpoint": arguments.checkpoint,
                        }  # fmt: skip
                        value = run_forked(measure, job, arguments.quick, time_limit=3600)
                        value = with_clusters(value)
                        cache.put(*key, value=value)
                    found.setdefault((name, group, option.name), []).append(value)
                    print(seed, name, group, option.name, value, sep="\t", file=sys.stderr)
        write("ablation", report(found, data, seeds[: seeds.index(seed) + 1]), keep=not arguments.quick)


def not_measured(name: str, option: Option, fasta: str | None, checkpoint: str | None) -> str | None:
    """Why an option cannot be measured here; None if it can."""
    if name == "simulated blood":
        if not can_simulate_blood():
            return "no data"
    elif not (data_folder() / f"{name}.h5ad").exists():
        return "no data"
    if option.dna == "sequence" and (name not in HG19 or not fasta or not checkpoint):
        return "no genome"
    if (option.region_classes or option.dna == "bulk") and (name not in HG19 or not can_simulate_blood()):
        return "no annotation"
    return None


# ---- one measurement


def import_all() -> None:
    """What every measurement needs, once; they are copies of this process."""
    import scvi
    import torch

    import scatacformer.model  # noqa: F401

    torch.set_num_threads(1)  # a copy of a process has none of its threads
    scvi.settings.verbosity = 30


def measure(job: dict[str, Any], quick: bool) -> dict[str, Any]:
    import scatacformer as sf

    before = peak_mb()
    option = next(o for o in COMPARISONS[job["group"]] if o.name == job["option"])
    adata, seed = load(job["data"]), job["seed"]
    if option.region_classes:
        annotate(adata)
    train, test, pairs, _ = split_and_pair(adata, seed)
    truth = adata.obs["cell_type"].astype(str)
    kwargs = SMALL | option.model
    if option.dna:
        kwargs["dna"] = dna_table(option.dna, adata, job)
    train.obs["cell_type"] = train.obs["cell_type"].astype(str).astype("category")
    sf.ScAtacFormer.setup_anndata(train, labels_key="cell_type" if option.labels else None)
    start, cpu = time.perf_counter(), cpu_seconds()
    model = sf.ScAtacFormer(train, seed=seed, supervised=option.labels, **kwargs)
    epochs = PLAN["n_decoder_epochs"] + (1 if quick else round(STEPS / (train.n_obs // TRAIN["batch_size"])))
    model.train(max_epochs=epochs, **(TRAIN | option.train), plan_kwargs=PLAN | option.plan)
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - start
    for cells in (test, adata):  # labels of cells that are embedded must not matter, and new ones would be refused
        cells.obs = cells.obs[[]].copy()
    auroc, precision = removed_bin_scores(
        lambda cells, rows: model.get_normalized_accessibility(cells, indices=rows, return_numpy=True), test, pairs
    )
    sf.ScAtacFormer.setup_anndata(adata)
    held_out = np.flatnonzero(~adata.obs_names.isin(train.obs_names))
    known = np.flatnonzero(adata.obs_names.isin(train.obs_names))
    z = model.get_latent_representation(adata)
    return {
        "AUROC": auroc, "average precision": precision,
        "purity": purity(z, truth.to_numpy(), held_out, known),
        "embedding": z, "truth": truth.to_numpy(),  # numba's threads do not outlive a fork: clusters are the parent's
        "CPU s": cpu, "wall s": wall, "MB": peak_mb() - before,
    }  # fmt: skip


def with_clusters(value: dict[str, Any]) -> dict[str, Any]:
    """The figures of a measurement, with that of Leiden at resolution 1 instead of the embedding."""
    import anndata as ad
    import scanpy as sc
    from sklearn.metrics import adjusted_rand_score

    z, truth = value.pop("embedding", None), value.pop("truth", None)
    if z is None:
        return value
    cells = ad.AnnData(z)
    sc.pp.neighbors(cells, n_neighbors=15, use_rep="X")
    sc.tl.leiden(cells, flavor="igraph", n_iterations=2, random_state=0)
    return value | {"ARI": float(adjusted_rand_score(truth, cells.obs["leiden"]))}


def load(name: str) -> Any:
    """At most MAX_CELLS cells, the same ones for every seed, with the bins that any of them has open."""
    import anndata as ad

    if name == "simulated blood":
        adata = simulated_blood(MAX_CELLS, 2_500)
        adata = adata[:, adata.var["chrom"].isin(BLOOD_CHROMS).to_numpy()].copy()
    else:
        adata = ad.read_h5ad(data_folder() / f"{name}.h5ad")
    if adata.n_obs > MAX_CELLS:
        rows = np.random.default_rng(0).choice(adata.n_obs, MAX_CELLS, replace=False)
        adata = adata[np.sort(rows)].copy()
    return adata[np.asarray(adata.X.getnnz(1)) >= 20].copy()


def annotate(adata: Any) -> None:
    """Promoters (-2 kb ... +0.5 kb of a measured transcription start), bins within 50 kb of one, and the others."""
    import pandas as pd

    import scatacformer as sf

    starts = pd.read_csv(data_folder() / "blood" / "tss_hg19.tsv.gz", sep="\t")
    sizes = sf.genome.chrom_sizes("hg19")
    up = np.where(starts["strand"] == "+", 2000, 500)
    down = np.where(starts["strand"] == "+", 500, 2000)
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, before, after in (("promoter", up, down), ("near a gene", 50_000, 50_000)):
            intervals = pd.DataFrame({
                "chrom": starts["chrom"],
                "start": (starts["tss"] - before).clip(lower=0),
                "end": np.minimum(starts["tss"] + after, starts["chrom"].map(sizes)).astype("Int64"),
            }).dropna()  # fmt: skip
            paths[name] = Path(folder) / f"{name.split()[0]}.bed"
            intervals.to_csv(paths[name], sep="\t", header=False, index=False)
        sf.pp.annotate_bins(adata, bed=paths)


def dna_table(kind: str, adata: Any, job: dict[str, Any]) -> np.ndarray:
    """(n_bins, d) float32: random numbers, bulk accessibility, or the embedding of the sequence."""
    import scatacformer as sf

    if kind == "random":
        return np.random.default_rng(0).normal(size=(adata.n_vars, 16)).astype(np.float32)
    if kind == "sequence":
        out = Path(tempfile.gettempdir()) / f"{job['data'].replace(' ', '_')}.dna.npy"  # computed at the first request
        return np.asarray(sf.pp.dna_embeddings(adata, job["fasta"], job["checkpoint"], out))
    bulk = np.load(data_folder() / "blood" / "accessibility.npz")
    rate = {(str(c), int(s)): i for i, (c, s) in enumerate(zip(bulk["chrom"], bulk["start"], strict=True))}
    value = np.log1p(bulk["rate"].astype(np.float32))
    middle = (adata.var["start"] + adata.var["end"]) // 2 // 5000 * 5000
    at = np.array([rate.get(key, -1) for key in zip(adata.var["chrom"].astype(str), middle, strict=True)])
    return np.where(at[:, None] >= 0, value[at], 0.0).astype(np.float32)


def purity(z: np.ndarray, truth: np.ndarray, cells: np.ndarray, among: np.ndarray) -> float:
    """Share of the 15 nearest training cells that have the type of a held-out cell; mean over types."""
    from sklearn.neighbors import NearestNeighbors

    near = among[NearestNeighbors(n_neighbors=15).fit(z[among]).kneighbors(z[cells], return_distance=False)]
    same = (truth[near] == truth[cells][:, None]).mean(1)
    return float(np.mean([same[truth[cells] == kind].mean() for kind in np.unique(truth[cells])]))


def cpu_seconds() -> float:
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


# ---- results


def report(found: dict, data: list[str], seeds: list[int]) -> str:
    sections = []
    for name in data:
        sections += [f"## {name}", ""]
        for group, options in COMPARISONS.items():
            rows = []
            for option in options:
                runs = found[name, group, option.name]
                good = [run for run in runs if "failed" not in run]
                if not good:
                    rows.append([option.name, *["–"] * (len(METRICS) - 1), runs[0]["failed"]])
                    continue
                rows.append([option.name, *(figure([r[m] for r in good], m) for m in METRICS)])
            sections += [f"### {group}", "", table([group, *METRICS], rows)]
    sections += ["## Means over data sets, minus the first row of each table", "", differences(found, data)]
    env = environment("scatacformer", "torch", "scvi-tools", "anndata", "scanpy", "scikit-learn", "numpy")
    return "\n".join([
        "# The planned comparisons", "", env, "",
        f"At most {MAX_CELLS:,} cells; {PLAN['n_decoder_epochs']} epochs of the decoder alone, then about {STEPS} steps of {TRAIN['batch_size']} cells; "
        f"{SMALL['d_model']} wide, {SMALL['n_layers']} layers, trained on 80 % of the cells. AUROC and average precision: "
        "removed open bins of the other cells against closed bins that are as frequent (0.5 is chance). Purity: share of a "
        "held-out cell's 15 nearest training cells that have its type, mean over types. ARI: Leiden at resolution 1 on all "
        f"cells. Mean ± standard deviation over seeds {list(seeds)}. Simulated blood: "
        f"{', '.join(BLOOD_CHROMS)}. With labels: of the training cells.", "",
        *sections,
    ])  # fmt: skip


def figure(values: list[float | None], metric: str) -> str:
    values = [v for v in values if v is not None]
    if not values:
        return "–"
    if metric in ("CPU s", "MB"):
        return f"{mean(values):,.0f}"
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def differences(found: dict, data: list[str]) -> str:
    """Each option minus the first of its list, for the same cells and seeds; mean, and the number of pairs in which it is higher."""
    rows = []
    for group, options in COMPARISONS.items():
        for option in options[1:]:
            row: list[object] = [group, option.name]
            for metric in ("AUROC", "average precision", "purity", "ARI"):
                gaps = [
                    run[metric] - base[metric]
                    for name in data
                    for run, base in zip(
                        found[name, group, option.name], found[name, group, options[0].name], strict=True
                    )
                    if "failed" not in run and "failed" not in base and run[metric] is not None
                ]
                row.append(f"{mean(gaps):+.3f} ({sum(g > 0 for g in gaps)} of {len(gaps)})" if gaps else "–")
            rows.append(row)
    return table(["", "option", "AUROC", "average precision", "purity", "ARI"], rows)


if __name__ == "__main__":
    main()
