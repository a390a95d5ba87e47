"""Whether donors mix in the embedding when the model is told of them, and types stay apart.

    python benchmarks/batches.py             fifteen minutes on one core
    python benchmarks/batches.py --peakvi    PeakVI with the batch too: hours on two cores
    python benchmarks/batches.py --quick     600 cells; prints, writes nothing

Simulated blood whose donors differ in every bin, strongly or not at all, and bone marrow, whose two donors hold other
shares of cell types. Each method embeds the same cells; LSI is corrected by Harmony (Korsunsky et al. 2019).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from typing import Any

import numpy as np
from _common import can_simulate_blood, data_folder, environment, load_tool, simulated_blood, table, write
from embedding import MIN_OPEN, embed_lsi

DATASETS = {"blood, no donor effect": 0.0, "blood, donors differ in every bin": 0.3, "bone marrow": None}
N_CELLS, FRAGMENTS = 3_000, 2_500
FIGURES = ("knn_purity", "ari", "ari_res1", "same_batch", "depth_rho")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peakvi", action="store_true", help="PeakVI with the batch")
    parser.add_argument("--quick", action="store_true", help="600 cells; nothing is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    scorer = load_tool("score_embedding")
    if scorer is None:
        sys.exit("the scores come from tools/score_embedding.py beside the data folder: set SCATACFORMER_TEST_DATA")
    methods = {
        "scatacformer, not told": lambda adata: embed_scatacformer(adata, None),
        "scatacformer, told": lambda adata: embed_scatacformer(adata, "sample"),
        "LSI, 15": lambda adata: embed_lsi(adata, 0)()[0],
        "LSI, 15, Harmony": lambda adata: harmony(embed_lsi(adata, 0)()[0], adata),
    }
    if arguments.peakvi:
        methods["PeakVI, told"] = embed_peakvi
    parts = ["# Batches", "", environment("scatacformer", "torch", "harmonypy", "scvi-tools", "scanpy", "numpy"), ""]
    parts += ["`same_batch`: neighbours of the cell's own donor, over chance; 1 = mixed. Seed 0.", ""]
    for name in DATASETS:
        adata = load(name, 600 if arguments.quick else N_CELLS)
        if adata is None:
            parts += [f"## {name}", "", "Not measured: the data are not on this machine.", ""]
            continue
        rows: list[list[object]] = []
        for method, embed in methods.items():
            start = time.perf_counter()
            try:
                z = embed(adata.copy())
            except ImportError as error:
                parts += [f"{method}: not measured, {error.name} is not installed.", ""]
                continue
            seconds = round(time.perf_counter() - start, 1)
            figures = scorer.score(z, adata.obs["cell_type"], adata.obs["sample"], np.diff(adata.X.indptr))
            rows.append([method, *(figures[f] for f in FIGURES), seconds])
            print(name, *rows[-1], sep="\t", file=sys.stderr)
        parts += [f"## {name}: {adata.n_obs:,} cells", "", table(["method", *FIGURES, "seconds"], rows)]
    write("batches", "\n".join(parts), keep=not arguments.quick)


def load(name: str, n_cells: int) -> Any:
    """The cells with at least 50 open bins, or None where the data are absent."""
    import anndata as ad

    donor_sd = DATASETS[name]
    if donor_sd is not None:
        return simulated_blood(n_cells, FRAGMENTS, donor_sd=donor_sd) if can_simulate_blood() else None
    path = data_folder() / "bone_marrow.h5ad"
    if not path.exists():
        return None
    adata = ad.read_h5ad(path)
    keep = np.flatnonzero(np.diff(adata.X.indptr) >= MIN_OPEN)
    if n_cells < N_CELLS:
        keep = keep[:n_cells]
    return adata[keep].copy()


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

    scvi.settings.seed = 0
    adata = adata[:, adata.X.getnnz(0) >= max(3, 0.01 * adata.n_obs)].copy()
    scvi.model.PEAKVI.setup_anndata(adata, batch_key="sample")
    model = scvi.model.PEAKVI(adata)
    model.train(enable_progress_bar=False)
    return model.get_latent_representation()


if __name__ == "__main__":
    main()
