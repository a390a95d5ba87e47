"""How many clusters the six lines find where there are two or three cell types, at scanpy's default and as advised.

    python benchmarks/few_types.py            five minutes; writes results/few_types.md

Few types differ in few dimensions, and Leiden at its default resolution divides a plane into many clusters. The package
advises a resolution then (the command line uses it). snapatac2's embedding of the same cells, with its defaults, is
clustered in the same way.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from _common import can_simulate_blood, data_folder, environment, simulated_blood, table, write

SIMULATED = {"chr1": 60_000_000, "chr2": 40_000_000}
NOTES = """Clusters of `sc.tl.leiden` (igraph, two iterations, seed 0) on `sc.pp.neighbors` of the embedding with scanpy's
defaults, and their adjusted Rand index (ARI) with the labels. "Advised": the resolution that the log and
`sf.model.leiden_resolution` name for the number of columns. scatacformer: `train(embedding_only=True)`, whose embedding is
that of `train()`, seed 0. snapatac2: `pp.select_features` and `tl.spectral` with their defaults; it advises no resolution.
The cells of a subset are all cells of the named types."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-write", action="store_true", help="print, and leave results/ as it is")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows, missing = [], []
    for name, adata in data_sets():
        if adata is None:
            missing.append(name)
            continue
        rows.append([name, adata.n_obs, adata.obs["cell_type"].nunique(), *ours(adata), *theirs(adata)])
        print(*rows[-1], sep="\t", flush=True)
    header = ["cells", "n", "types", "columns", "clusters, default", "ARI", "advised", "clusters, advised", "ARI",
              "snapatac2: columns", "clusters, default", "ARI"]  # fmt: skip
    env = environment("scatacformer", "snapatac2", "scanpy", "leidenalg", "igraph", "numpy")
    not_there = f"\nNot measured, because the data are not on this machine: {', '.join(missing)}.\n" if missing else ""
    text = f"# Two and three cell types\n\n{env}\n\n{NOTES}\n\n{table(header, rows)}{not_there}"
    write("few_types", text, keep=not arguments.no_write)


def data_sets() -> Iterator[tuple[str, Any]]:
    """Name and cells, None where the data are not there."""
    import anndata as ad

    import scatacformer as sf

    for n_types in (2, 3):
        for n_cells in (400, 2_000):
            yield f"simulated, {n_types} types", sf.datasets.simulated_cells(n_cells, n_types=n_types, genome=SIMULATED)
    yield "two cell lines", cell_lines()
    for file, types in (
        ("cerebellum", ("Astrocytes", "Inhibitory neurons")),
        ("cerebellum", ("Astrocytes", "Inhibitory neurons", "Oligodendrocytes")),
        ("leukemia", ("LMPP", "Mono")),
        ("leukemia", ("LMPP", "Mono", "LSC_SU070")),
        ("more/cell_lines", ("K562 Erythroleukemia", "Fibroblasts")),
        ("more/cell_lines", ("K562 Erythroleukemia", "Fibroblasts", "ESCs")),
        ("more/progenitors", ("MPP", "LMPP", "CLP")),
        ("more/forebrain", ("OC", "MG")),
        ("more/forebrain", ("OC", "MG", "EX3")),
    ):
        path = data_folder() / f"{file}.h5ad"
        yield f"{path.stem}: {', '.join(types)}", of_types(ad.read_h5ad(path), types) if path.exists() else None
    for types in (("Mono", "B"), ("Mono", "B", "CD4")):
        yield (
            f"simulated blood: {', '.join(types)}",
            of_types(simulated_blood(3_000, 2_500), types) if can_simulate_blood() else None,
        )


def cell_lines() -> Any:
    """GM12878 and HEK293T, fragments over all bins of hg19."""
    import pandas as pd

    import scatacformer as sf

    folder = data_folder() / "fragments"
    if not folder.exists():
        return None
    adata = sf.pp.bin_fragments(folder / "gm12878_hek293t_hg19.tsv.gz", "hg19", min_fragments=200)
    labels = pd.read_csv(folder / "labels.tsv", sep="\t", index_col=0)["cell_type"]
    adata = adata[adata.obs_names.isin(labels.index)].copy()
    adata.obs["cell_type"] = labels[adata.obs_names].to_numpy()
    return adata


def of_types(adata: Any, types: tuple[str, ...]) -> Any:
    """The cells of these types, and the regions that are open in any of them."""
    adata = adata[adata.obs["cell_type"].isin(types).to_numpy()].copy()
    return adata[:, adata.X.getnnz(0) > 0].copy()


def ours(adata: Any) -> list[object]:
    import scatacformer as sf

    adata = adata.copy()
    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata, seed=0)
    model.train(embedding_only=True)
    z = model.get_latent_representation()
    resolution = sf.model.leiden_resolution(z.shape[1])
    default, advised = (clusters(z, adata.obs["cell_type"], r) for r in (1.0, resolution))
    return [z.shape[1], *default, f"{resolution:.2g}", *advised]


def theirs(adata: Any) -> list[object]:
    import snapatac2 as snap

    adata = adata.copy()
    snap.pp.select_features(adata, verbose=False)
    snap.tl.spectral(adata, random_state=0)
    z = np.asarray(adata.obsm["X_spectral"], np.float32)
    return [z.shape[1], *clusters(z, adata.obs["cell_type"], 1.0)]


def clusters(z: np.ndarray, labels: Any, resolution: float) -> tuple[int, str]:
    """Their number and the adjusted Rand index."""
    import anndata as ad
    import scanpy as sc
    from sklearn.metrics import adjusted_rand_score

    cells = ad.AnnData(np.asarray(z, np.float32))
    sc.pp.neighbors(cells, use_rep="X", random_state=0)
    sc.tl.leiden(cells, resolution=resolution, flavor="igraph", n_iterations=2, directed=False, random_state=0)
    found = cells.obs["leiden"]
    return found.nunique(), f"{adjusted_rand_score(np.asarray(labels, str), found):.2f}"


if __name__ == "__main__":
    main()
