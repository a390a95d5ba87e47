"""Whether donors mix in the embedding of a model that is given the donor, and types stay separate.

    python benchmarks/batches.py             twenty minutes on one core
    python benchmarks/batches.py --peakvi    PeakVI with the batch too: an hour more
    python benchmarks/batches.py --quick     600 cells; prints, writes nothing

Simulated blood whose two or six donors differ in every bin, strongly or not at all, and bone marrow, whose two donors have
different shares of cell types. Each method embeds the same cells; LSI and snapatac2's spectral embedding are corrected by Harmony
(Korsunsky et al. 2019).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import (
    Cache,
    can_simulate_blood,
    data_folder,
    environment,
    fingerprint,
    load_tool,
    simulated_blood,
    table,
    write,
)  # fmt: skip
from embedding import MIN_OPEN, embed_lsi, embed_scvi, embed_snapatac2

BLOOD = {  # how much donors differ, and how many there are
    "blood, no donor effect": (0.0, 2),
    "blood, donors differ in every bin": (0.3, 2),
    "blood, six donors, who differ in every bin": (0.3, 6),
}
DATASETS = (*BLOOD, "bone marrow")
PEAKVI_DATASETS = ("blood, donors differ in every bin", "bone marrow")
N_CELLS, FRAGMENTS = 3_000, 2_500
FIGURES = ("knn_purity", "ari", "ari_res1", "same_batch", "by_type", "depth_rho", "seconds")
NOTES = """`same_batch`: neighbours of the cell's own donor, over chance; 1 = mixed, if donors have the same shares of types. `by_type`:
its value if the donors were assigned at random to the cells of each type: the composition of the embedding, no effect of
the donor. At lower values, different types are mixed. Seed 0."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peakvi", action="store_true", help="PeakVI with the batch, on two of the data sets")
    parser.add_argument("--cache", type=Path, help="file of finished measurements")
    parser.add_argument("--quick", action="store_true", help="600 cells; nothing is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    scorer = load_tool("score_embedding")
    if scorer is None:
        sys.exit(
            "the scores are computed by tools/score_embedding.py next to the data folder: set SCATACFORMER_TEST_DATA"
        )
    methods = {
        "scatacformer, not told": lambda adata: embed_scatacformer(adata, None),
        "scatacformer, told": lambda adata: embed_scatacformer(adata, "sample"),
        "LSI, 15": lambda adata: embed_lsi(adata, 0)()[0],
        "LSI, 15, Harmony": lambda adata: harmony(embed_lsi(adata, 0)()[0], adata),
        "snapatac2, all bins": lambda adata: embed_snapatac2(adata, 0, everything=True)()[0],
        "snapatac2, all bins, Harmony": lambda adata: harmony(embed_snapatac2(adata, 0, everything=True)()[0], adata),
    }
    cache = Cache(arguments.cache)
    versions = ("scatacformer", "torch", "harmonypy", "snapatac2", "scvi-tools", "scanpy", "numpy")
    parts = ["# Batches", "", environment(*versions), "", NOTES, ""]
    for name in DATASETS:
        adata = load(name, 600 if arguments.quick else N_CELLS)
        if adata is None:
            parts += [f"## {name}", "", "Not measured: the data are not on this machine.", ""]
            continue
        rows: list[list[object]] = []
        left_out: list[str] = []
        slow = {"PeakVI, told": embed_peakvi} if arguments.peakvi and name in PEAKVI_DATASETS else {}
        for method, embed in (methods | slow).items():
            key = (name, adata.n_obs, method, fingerprint(__file__) if method.startswith("scatacformer") else "")
            figures = cache.get(*key)
            if figures is None:
                try:
                    figures = measure(embed, adata, scorer)
                except ImportError as error:
                    left_out.append(f"{method}: not measured, {error.name} is not installed.")
                    continue
                cache.put(*key, value=figures)
            rows.append([method, *(figures[f] for f in FIGURES)])
            print(name, *rows[-1], sep="\t", file=sys.stderr)
        parts += [f"## {name}: {adata.n_obs:,} cells", "", table(["method", *FIGURES], rows)]
        parts += [line for why in left_out for line in (why, "")]
    write("batches", "\n".join(parts), keep=not arguments.quick)


def load(name: str, n_cells: int) -> Any:
    """The cells with at least 50 open bins, or None if the data do not exist."""
    import anndata as ad

    if name in BLOOD:
        donor_sd, donors = BLOOD[name]
        return simulated_blood(n_cells, FRAGMENTS, donor_sd=donor_sd, donors=donors) if can_simulate_blood() else None
    path = data_folder() / "bone_marrow.h5ad"
    if not path.exists():
        return None
    adata = ad.read_h5ad(path)
    keep = np.flatnonzero(np.diff(adata.X.indptr) >= MIN_OPEN)
    if n_cells < N_CELLS:
        keep = keep[:n_cells]
    return adata[keep].copy()


def measure(embed: Callable[[Any], np.ndarray], adata: Any, scorer: Any) -> dict[str, Any]:
    """Figures of the embedding, and its seconds."""
    start = time.perf_counter()
    z = np.asarray(embed(adata.copy()))
    seconds = round(time.perf_counter() - start, 1)
    types, batch = adata.obs["cell_type"], adata.obs["sample"]
    figures = scorer.score(z, types, batch, np.diff(adata.X.indptr))
    return figures | {"by_type": round(same_batch_by_type(z, types, batch), 4), "seconds": seconds}


def same_batch_by_type(z: np.ndarray, types: Any, batch: Any, n_neighbors: int = 15) -> float:
    """Expectation of ``same_batch`` if batches were assigned at random to the cells of each type, in closed form."""
    import pandas as pd
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=n_neighbors).fit(z).kneighbors(return_distance=False)
    share = pd.crosstab(np.asarray(types, str), np.asarray(batch, str), normalize="index")  # of each batch in a type
    of_cell = share.loc[np.asarray(types, str)].to_numpy()  # (n_cells, n_batch)
    return float((of_cell * of_cell[near].mean(1) / of_cell.mean(0)).sum(1).mean())


def embed_scatacformer(adata: Any, batch_key: str | None) -> np.ndarray:
    import scatacformer as sf

    sf.ScAtacFormer.setup_anndata(adata, batch_key=batch_key)
    model = sf.ScAtacFormer(adata)
    model.train(enable_progress_bar=False)
    return model.get_latent_representation()


def harmony(z: np.ndarray, adata: Any) -> np.ndarray:
    import harmonypy

    corrected = np.asarray(
        harmonypy.run_harmony(z, adata.obs[["sample"]].astype(str), ["sample"], verbose=False).Z_corr
    )
    return corrected if corrected.shape[0] == len(z) else corrected.T


def embed_peakvi(adata: Any) -> np.ndarray:
    import scvi

    return embed_scvi(scvi.model.PEAKVI, adata, 0, batch_key="sample")


if __name__ == "__main__":
    main()
