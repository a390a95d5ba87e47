"""A small table of links, and cells with the genes and regions that it names."""

from __future__ import annotations

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scatacformer.genome import Genes, Vocabulary, links_table, window_pairs

SIZES = {"chr1": 100_000, "chr2": 60_000}
GENES = Genes(["Abc", "Def", "Ghi"], ("chr1", "chr2"), [0, 0, 1], [40_100, 70_000, 25_000], ["+", "-", "+"])


def links(seed=0):
    """Half of the pairs within 30 kb, in random order; scores of either sign."""
    rng = np.random.default_rng(seed)
    bins = Vocabulary.from_chrom_sizes(SIZES, 5000)
    pairs = window_pairs(GENES, bins, 30_000)
    n = len(pairs.bins)
    p = rng.random(n)
    keep = rng.random(n) < 0.5
    table = links_table(GENES, bins, pairs, rng.normal(size=n), p, p, np.arange(bins.n_bins), keep)
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def atac(seed=0):
    """20 cells × all bins in random order."""
    rng = np.random.default_rng(seed)
    var = Vocabulary.from_chrom_sizes(SIZES, 5000).to_frame().sample(frac=1, random_state=seed)
    x = sp.csr_matrix((rng.random((20, len(var))) < 0.4).astype(np.float32))
    return ad.AnnData(x, obs=pd.DataFrame(index=[f"cell{i}" for i in range(20)]), var=var)


def paired(seed=0):
    """The cells of `atac` with RNA of the three genes and of two others."""
    rng = np.random.default_rng(seed)
    var = pd.DataFrame(index=["other", "Ghi", "Abc", "another", "Def"])
    x = sp.csr_matrix(rng.poisson(1, (20, 5)).astype(np.float32))
    cells = atac(seed)
    return md.MuData({"rna": ad.AnnData(x, obs=cells.obs.copy(), var=var), "atac": cells})
