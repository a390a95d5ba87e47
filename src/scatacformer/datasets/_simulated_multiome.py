"""Expression for simulated cells, with known links between genes and bins."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from scatacformer.genome import Vocabulary

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

_REACH = 100_000  # bp from the start of a gene to its linked bins, at most
_UNLINKED = 0.2  # share of the genes that no bin acts on
_STATE, _OWN = 1.0, 0.35  # standard deviation of log expression by type, and by the bins that are open in the cell


def simulated_multiome(
    cells: AnnData, n_genes: int = 200, *, n_links: int = 3, umis: int = 1000, seed: int = 0
) -> MuData:
    """Simulate the RNA of cells whose accessibility is given. Needs no download.

    The expression of a gene follows its linked bins, which are regulatory and within 100 kb of its start: how accessible
    they are in the cell's type, and whether they are open in the cell itself. A fifth of the genes have no links. Genes
    differ in their mean expression and cells in their depth; counts are Poisson distributed.

    Parameters
    ----------
    cells
        Cells from :func:`simulated_cells`. They are not modified.
    n_genes
        Number of genes.
    n_links
        Bins that act on a gene.
    umis
        Median number of RNA molecules per cell.
    seed
        The same seed gives the same expression.

    Returns
    -------
    MuData
        ``"atac"``, a copy of ``cells``, and ``"rna"``: ``.X`` CSR (n_cells, n_genes), float32 counts; ``.var`` with
        ``chrom``, ``tss`` (bp) and ``strand``; ``.uns["links"]``, a DataFrame of the links with ``gene`` and ``region``.

    Raises
    ------
    ValueError
        The cells are not from ``simulated_cells``, a number is below 1, or the genome has too few regulatory bins.
    """
    for name, value in {"n_genes": n_genes, "n_links": n_links, "umis": umis}.items():
        if value != int(value) or value < 1:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")
    if "cell_type" not in cells.obs or "regulatory" not in cells.var:
        raise ValueError(
            "cells lack .obs['cell_type'] or .var['regulatory']. Take those of sf.datasets.simulated_cells."
        )
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary.from_var(cells.var)
    home, links = _place(vocabulary, cells.var["regulatory"].to_numpy(), n_genes, n_links, rng)

    X = cells.X.tocsr()
    kind, types = pd.factorize(cells.obs["cell_type"])
    depth = np.asarray(X.sum(1)).ravel()
    of_type = sparse.csr_matrix((np.ones(len(kind)), (kind, np.arange(len(kind)))), shape=(len(types), len(kind)))
    linked = X[:, links.ravel()].toarray().reshape(len(kind), n_genes, n_links)  # links alone: a few hundred bins
    rate = (of_type @ linked.reshape(len(kind), -1)) / (of_type @ depth)[:, None]
    state = np.log(rate.reshape(len(types), n_genes, n_links) + 1e-6).mean(2)[kind]
    own = (linked > 0).mean(2)
    own -= _mean(of_type, own)
    eta = _STATE * _scaled(state) + _OWN * _scaled(own)
    eta[:, rng.permutation(n_genes)[: int(_UNLINKED * n_genes)]] = 0.0
    acts: np.ndarray = np.asarray(eta.any(axis=0))
    mean = np.exp(rng.normal(0, 1, n_genes) + eta)
    mean *= (umis * rng.lognormal(0, 0.3, len(kind)) / mean.sum(1))[:, None]
    return _as_mudata(
        cells, sparse.csr_matrix(rng.poisson(mean).astype(np.float32)), vocabulary, home, links, acts, rng
    )


def _place(
    vocabulary: Vocabulary, regulatory: np.ndarray, n_genes: int, n_links: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Bin of each gene's start, (n_genes,), and its linked bins, (n_genes, n_links); no bin is linked twice."""
    free = np.flatnonzero(regulatory)
    home, links = np.empty(n_genes, np.int64), np.empty((n_genes, n_links), np.int64)
    n = 0
    for bin_id in rng.permutation(vocabulary.n_bins):
        same = vocabulary.chrom[free] == vocabulary.chrom[bin_id]
        distance = np.abs(vocabulary.start[free] - vocabulary.start[bin_id])
        near = np.flatnonzero(same & (distance <= _REACH) & (distance > 0))
        if len(near) < n_links:
            continue
        taken = rng.choice(near, n_links, replace=False)
        home[n], links[n] = bin_id, free[taken]
        free = np.delete(free, taken)
        n += 1
        if n == n_genes:
            order = np.argsort(home)
            return home[order], links[order]
    raise ValueError(
        f"only {n} of {n_genes} genes have {n_links} free regulatory bins within {_REACH:,} bp. Ask for fewer genes, or "
        "simulate cells of a larger genome."
    )


def _mean(of_type: sparse.csr_matrix, values: np.ndarray) -> np.ndarray:
    """Of each cell's type, (n_cells, n_genes)."""
    return of_type.T @ ((of_type @ values) / np.asarray(of_type.sum(1)))


def _scaled(values: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and standard deviation 1; 0 where it does not vary."""
    values = values - values.mean(0)
    return values / np.maximum(values.std(0), 1e-9)


def _as_mudata(
    cells: AnnData,
    X: sparse.csr_matrix,
    vocabulary: Vocabulary,
    home: np.ndarray,
    links: np.ndarray,
    acts: np.ndarray,
    rng: np.random.Generator,
) -> MuData:
    from anndata import AnnData
    from mudata import MuData

    n_genes = len(home)
    names = [f"gene{number + 1}" for number in range(n_genes)]
    var = pd.DataFrame(
        {
            "chrom": np.asarray(vocabulary.chrom_names)[vocabulary.chrom[home]],
            "tss": vocabulary.start[home] + (vocabulary.end - vocabulary.start)[home] // 2,
            "strand": rng.choice(["+", "-"], n_genes),
        },
        index=names,
    )
    rna = AnnData(X, obs=cells.obs[["cell_type"]].copy(), var=var)
    regions = cells.var_names.to_numpy()[links[acts]]
    rna.uns["links"] = pd.DataFrame(
        {"gene": np.repeat(np.asarray(names)[acts], links.shape[1]), "region": regions.ravel()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of mudata's own options
        mdata = MuData({"rna": rna, "atac": cells.copy()})
        mdata.obs["cell_type"] = cells.obs["cell_type"].to_numpy()
    return mdata
