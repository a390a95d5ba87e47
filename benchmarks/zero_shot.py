"""How well a model embeds cells that it was not trained on, compared with a model that was trained on these cells.

    python benchmarks/zero_shot.py             three seeds: half an hour on two cores
    python benchmarks/zero_shot.py --quick     two cases of few cells, one seed; prints, writes nothing

The reference is trained on simulated blood. The other cells are of other donors, depths or types, or are real and were
measured in peaks, which ``pp.match_vocabulary`` maps to the reference's bins. They are embedded by
``load_query_data`` and ``get_latent_representation``, without a training step; from scratch, a new model is trained on
the same cells over the same bins. Labels are only used for the scores.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
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

N_CELLS, MIN_OPEN, SAME = 1_500, 50, 1e-6
FIGURES = {
    "knn_purity": "Purity of a cell's 15 nearest neighbours, averaged over types",
    "ari": "Adjusted Rand index of Leiden clusters, best of eight resolutions",
    "ari_res1": "Adjusted Rand index at resolution 1",
    "depth_rho": "Largest |Spearman| of a dimension with the number of open bins",
    "same_batch": "Neighbours of the cell's own donor, over chance: 1 = mixed; no model is given the donor",
}
# the types of the reference; the others are embedded
EVERY_OTHER = ("HSC", "LMPP", "GMP-A", "GMP-C", "mDC", "B", "CD8", "Ery")
MYELOID = ("HSC", "MPP", "LMPP", "GMP-A", "GMP-B", "GMP-C", "Mono", "mDC")


class Blood(NamedTuple):
    """Simulated cells: the seed determines donors, cells, background and the bins that can be mapped."""

    fragments: int = 2_500
    seed: int = 0
    donor_sd: float = 0.1
    n_cells: int = N_CELLS
    types: tuple[str, ...] = ()
    without: bool = False  # the types are left out instead


class Case(NamedTuple):
    cells: str
    reference: str
    target: Blood | str  # or the name of a data set
    trained_on: Blood


SHALLOW, DEEP = Blood(), Blood(fragments=8_000)
NEW = Blood(seed=1)
CASES = (
    Case("other donors", "2,500 fragments", NEW, SHALLOW),
    Case("other donors, who differ in every bin by exp(N(0, .3))", "2,500", NEW._replace(donor_sd=0.3), SHALLOW),
    Case("other donors, 300 cells", "2,500", NEW._replace(n_cells=300), SHALLOW),
    Case("other donors, 8,000 fragments", "2,500", NEW._replace(fragments=8_000), SHALLOW),
    Case("other donors", "8,000", NEW, DEEP),
    Case(
        "8 types unseen, each with a relative that was seen", "2,500, the 8 others",
        NEW._replace(types=EVERY_OTHER, without=True), SHALLOW._replace(types=EVERY_OTHER),
    ),
    Case(
        "8 types unseen: lymphoid, erythroid, megakaryocytes", "2,500, progenitors and myeloid",
        NEW._replace(types=MYELOID, without=True), SHALLOW._replace(types=MYELOID),
    ),
    Case("bone marrow (10x), real", "2,500", "bone_marrow", SHALLOW),
    Case("bone marrow (10x), real", "8,000", "bone_marrow", DEEP),
    Case("leukemia (C1), real", "2,500", "leukemia", SHALLOW),
    Case("leukemia (C1), real", "8,000", "leukemia", DEEP),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cache", type=Path, help="file of finished measurements")
    parser.add_argument("--quick", action="store_true", help="two cases, 200 cells, one seed; nothing is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if load_tool("score_embedding") is None or not can_simulate_blood():
        sys.exit("this needs the data folder and the tools next to it: set SCATACFORMER_TEST_DATA")
    cases = CASES
    if arguments.quick:
        few = SHALLOW._replace(n_cells=200)
        cases = (CASES[0]._replace(target=few._replace(seed=1), trained_on=few), CASES[9]._replace(trained_on=few))
        arguments.seeds = [0]
    difference = largest_difference()
    max_epochs = 1 if difference <= SAME else None
    kept = Cache(arguments.cache)  # without a file it exists only during this run
    found: dict[tuple[Case, str], list[dict[str, float]]] = {}
    skipped: list[str] = []
    for n_done, seed in enumerate(arguments.seeds, 1):
        trained.cache_clear()
        sampled.cache_clear()
        for case in cases:
            if isinstance(case.target, str) and not (data_folder() / f"{case.target}.h5ad").exists():
                skipped.append(f"{case.cells}: the data are not on this machine")
                continue
            for way in ("zero-shot", "from scratch"):
                # two references may embed the same cells
                trained_on = case.trained_on if way == "zero-shot" else None
                key = (case.target, trained_on, way, seed, fingerprint(__file__))
                figures = kept.get(*key)
                if figures is None:
                    figures = measure(case, way, seed, max_epochs)
                    kept.put(*key, value=figures)
                found.setdefault((case, way), []).append(figures)
                print(*case[:2], way, seed, figures, sep="\t", file=sys.stderr)
        text = report(cases, found, skipped, difference, arguments.seeds[:n_done])
        write("zero_shot", text, keep=not arguments.quick)


# ---- cells


@cache
def sampled(cells: Blood, seed: int) -> Any:
    """At most ``n_cells`` cells: of all types, of the named ones, or of the others."""
    n_cells = 2 * cells.n_cells if cells.types else cells.n_cells
    # a separate seed for each pair of reference (even) and other cells (odd)
    adata = simulated_blood(n_cells, cells.fragments, 2 * seed + cells.seed, cells.donor_sd)
    if cells.types:
        chosen = np.isin(adata.obs["cell_type"].astype(str), cells.types) != cells.without
        adata = adata[np.flatnonzero(chosen)[: cells.n_cells]].copy()
    return adata


def real_cells(dataset: str, seed: int, bins: Any) -> Any:
    """At most 1,500 cells with at least 50 open peaks, over the bins of the reference."""
    import anndata as ad

    import scatacformer as sf

    adata = ad.read_h5ad(data_folder() / f"{dataset}.h5ad")
    rows = np.flatnonzero(np.diff(adata.X.indptr) >= MIN_OPEN)
    if len(rows) > N_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, N_CELLS, replace=False))
    return sf.pp.match_vocabulary(adata[rows].copy(), bins)


# ---- models


def measure(case: Case, way: str, seed: int, max_epochs: int | None) -> dict[str, float]:
    import scatacformer as sf

    reference = trained(case.trained_on, seed, max_epochs)
    if isinstance(case.target, str):
        adata = real_cells(case.target, seed, reference.vocabulary)  # the bins are the same for all references
    else:
        adata = sampled(case.target, seed).copy()
    model = sf.ScAtacFormer.load_query_data(adata, reference) if way == "zero-shot" else fit(adata, seed, max_epochs)
    z = model.get_latent_representation()
    sample = adata.obs["sample"] if "sample" in adata.obs else None
    figures = load_tool("score_embedding").score(z, adata.obs["cell_type"], sample, np.diff(adata.X.indptr), seed=seed)
    return {f: figures[f] for f in ("n_cells", "dims", *FIGURES) if f in figures}


@cache
def trained(cells: Blood, seed: int, max_epochs: int | None) -> Any:
    return fit(sampled(cells, seed).copy(), seed, max_epochs)


def fit(adata: Any, seed: int, max_epochs: int | None) -> Any:
    import scatacformer as sf

    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata, seed=seed)
    model.train(max_epochs=max_epochs, enable_progress_bar=False)
    return model


def largest_difference() -> float:
    """Largest difference between the embeddings after all epochs and after one, relative to the largest entry; by default, training does not change it."""
    cells = Blood(n_cells=300)
    full, one = (fit(sampled(cells, 0).copy(), 0, epochs).get_latent_representation() for epochs in (None, 1))
    return float(np.abs(full - one).max() / np.abs(full).max()) if full.shape == one.shape else np.inf


# ---- results


def report(cases, found, skipped, difference, seeds) -> str:
    env = environment("scatacformer", "torch", "scvi-tools", "scanpy", "scikit-learn", "scipy", "numpy")
    epochs = (
        "All models were trained for one epoch: by default, training does not change the spectral embedding"
        if difference <= SAME
        else "All models were trained with defaults: the embedding changes in training"
    )
    parts = [
        "# Zero-shot", "", env, "",
        f"A model of simulated blood embeds other cells without training (`load_query_data`, "
        f"`get_latent_representation`), compared with a model trained on these cells. {N_CELLS:,} cells, or all if fewer; "
        f"607,271 bins of hg19; peaks of real cells are mapped to bins by `pp.match_vocabulary`. {epochs} (300 cells, "
        f"all epochs against one: largest difference {difference:.2g} of the largest entry). Median and range over seeds "
        f"{seeds}, each with its own donors, background and cells.", "",
    ]  # fmt: skip
    for figure, title in FIGURES.items():
        rows: list[list[object]] = []
        for case in cases:
            runs = {way: found.get((case, way), []) for way in ("zero-shot", "from scratch")}
            values = {way: [r[figure] for r in made if figure in r] for way, made in runs.items()}
            if not values["from scratch"]:
                continue
            gain = np.median(values["zero-shot"]) - np.median(values["from scratch"])
            n_cells = int(np.median([r["n_cells"] for r in runs["zero-shot"]]))
            rows.append([case.cells, f"{n_cells:,}", case.reference, *map(spread, values.values()), f"{gain:+.3f}"])
        if rows:
            header = ["cells", "number", "trained on blood of", "zero-shot", "from scratch", "difference"]
            parts += [f"## `{figure}`", "", title + ".", "", table(header, rows)]
    if skipped:
        parts += ["## Not measured", "", *(f"- {line}" for line in sorted(set(skipped))), ""]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
