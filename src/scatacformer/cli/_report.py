"""The summary table on stdout, and the output files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scatacformer._io import whole_file

from ._messages import logger

if TYPE_CHECKING:
    from anndata import AnnData

_MAX_CLUSTERS = 30


def print_table(adata: AnnData, labels_key: str | None, seconds: float) -> None:
    """Cells, regions and clusters; with labels, the agreement; then a line per cluster."""
    n_tokens = adata.obs["n_tokens"].to_numpy()
    rows = [
        ("cells", f"{adata.n_obs:,}"),
        ("regions", f"{adata.n_vars:,}"),
        ("open per cell", f"{np.median(n_tokens):,.0f} (median; {n_tokens.min():,} to {n_tokens.max():,})"),
        ("dimensions", f"{adata.obsm['X_scatacformer'].shape[1]}"),
        ("clusters", f"{adata.obs['leiden'].nunique()}"),
    ]
    if labels_key is not None:
        from scatacformer.tl import label_agreement

        agreement = label_agreement(adata, labels_key)
        rows += [
            ("labels", f"{labels_key}: {agreement['n_labels']} in {agreement['n_cells']:,} cells"),
            ("ARI", f"{agreement['ari']:.3f}"),
            ("NMI", f"{agreement['nmi']:.3f}"),
            ("15-NN purity", f"{agreement['knn_purity']:.3f}"),
        ]
    rows.append(("time", f"{seconds:.0f} s"))
    print("\n".join(f"{name:<14} {value}" for name, value in rows))
    _print_clusters(adata, labels_key)


def _print_clusters(adata: AnnData, labels_key: str | None) -> None:
    sizes = adata.obs["leiden"].value_counts()
    print(f"\n{'cluster':<9}{'cells':>8}" + ("   commonest label" if labels_key is not None else ""))
    for cluster, n_cells in sizes.head(_MAX_CLUSTERS).items():
        line = f"{cluster!s:<9}{n_cells:>8,}"
        if labels_key is not None:
            share = adata.obs.loc[adata.obs["leiden"] == cluster, labels_key].value_counts(normalize=True)
            line += f"   {share.index[0]} ({share.iloc[0]:.0%})" if len(share) and share.iloc[0] > 0 else "   none"
        print(line)
    if len(sizes) > _MAX_CLUSTERS:
        print(f"... and {len(sizes) - _MAX_CLUSTERS} smaller clusters")


def write_cells(adata: AnnData, path: Path) -> None:
    """Write the cells as .h5ad, without the internal columns of scvi-tools."""
    logger.info("writing %s", path)
    own_obs = [column for column in adata.obs if str(column).startswith("_scvi")]
    adata.obs = adata.obs.drop(columns=own_obs)
    for key in [key for key in adata.uns if str(key).startswith("_scvi")]:
        del adata.uns[key]
    with whole_file(path) as partial:
        adata.write_h5ad(partial, compression="gzip", compression_opts=1)


def plot_cells(adata: AnnData, path: Path, colors: list[str]) -> None:
    """Plot the UMAP, with one panel for each of ``colors``."""
    logger.info("plotting %s", path)
    import matplotlib as mpl

    mpl.use("Agg")  # only a file is written, even if a display is available
    from scatacformer.pl import embedding

    embedding(adata, colors, save=path, show=False)
