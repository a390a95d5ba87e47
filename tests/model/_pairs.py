"""Cells with RNA and ATAC of planted programmes and planted links, and a model small enough to train in seconds."""

from __future__ import annotations

import warnings

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import scipy.sparse as sp

import scatacformer as sf

from ._cells import quiet

GENOME = {"chr1": 2_000_000, "chr2": 1_500_000, "chr3": 1_500_000}
BIN = 5_000
WINDOW = 100_000  # in which links are planted
N_GENES = 60
SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_embed": 12, "max_tokens": 32}
SENTENCES = {"n_closed": 128, "max_tokens": 16}
TRAINING = {
    "max_epochs": 1, "batch_size": 32, "sentence_kwargs": SENTENCES, "accelerator": "cpu",
    "enable_progress_bar": False, "plan_kwargs": {"n_decoder_epochs": 1},
}  # fmt: skip
PAIRED = {"max_epochs": 15, "batch_size": 64, "n_components": 10, "link_window": 2 * WINDOW}


def planted_pairs(
    n_cells: int = 400, seed: int = 0, shuffled: bool = True, lag: np.ndarray | float = 0.0, rna_first: bool = False
) -> md.MuData:
    """4 types and 4 programmes; 1,000 bins, about 100 open in a cell; 60 genes, about 250 counts.

    Genes and bins follow the programmes, and each gene two bins within 100 kb of its start beside: these have a state of
    their own. ``rna.uns["links"]`` (60, 2) has their numbers. The two modalities have their cells in different orders
    (``shuffled``); those of the MuData are in the order of the ATAC, or of the RNA (``rna_first``). The RNA of genes 0 ... 9 is ``lag`` behind the chromatin of its cell on the first programme, which
    raises these genes.
    """
    world, rng = (
        np.random.default_rng(123),
        np.random.default_rng(seed),
    )  # cells are drawn anew, what they follow is not
    n_bins = sum(GENOME.values()) // BIN
    chrom = np.repeat(list(GENOME), [n // BIN for n in GENOME.values()])
    start = np.concatenate([np.arange(0, n, BIN) for n in GENOME.values()])
    centres = world.normal(0, 1.2, (4, 4))
    kind = rng.integers(0, 4, n_cells)
    state = centres[kind] + rng.normal(0, 0.7, (n_cells, 4))
    loading = world.normal(0, 0.9, (n_bins, 4)) * (world.random((n_bins, 4)) < 0.4)
    inner = np.flatnonzero((start > WINDOW) & (start < 1_400_000))
    home = np.sort(world.choice(inner, N_GENES, replace=False))
    offset = np.concatenate([np.arange(-18, -2), np.arange(3, 19)])
    free = np.ones(n_bins, bool)  # a bin is linked to one gene
    links = np.empty((N_GENES, 2), int)
    for g, at in enumerate(home):
        links[g] = world.choice(at + offset[free[at + offset]], 2, replace=False)
        free[links[g]] = False
    own = np.zeros((n_cells, n_bins))
    own[:, links.ravel()] = rng.normal(0, 1.5, (n_cells, links.size))
    base = np.where(free, world.normal(-2.7, 0.5, n_bins), -1.0)
    depth = rng.normal(0, 0.25, n_cells)
    logit = base + state @ loading.T + own + depth[:, None]
    opened = (rng.random((n_cells, n_bins)) < 1 / (1 + np.exp(-logit))).astype(np.float32)

    of_gene = world.normal(0, 0.5, (N_GENES, 4)) * (world.random((N_GENES, 4)) < 0.5)
    of_gene[:10, 0] = 1.2
    past = np.repeat(state[:, None], N_GENES, 1)  # (n_cells, N_GENES, 4)
    past[:, :10, 0] -= np.broadcast_to(lag, n_cells)[:, None]
    eta = (past * of_gene).sum(2) + 0.6 * own[:, links].sum(2)
    mean = np.exp(world.uniform(-0.3, 1.0, N_GENES) + eta - 0.5 * eta.var(0) + depth[:, None])
    counts = rng.poisson(mean).astype(np.float32)

    names = [f"cell{i}" for i in range(n_cells)]
    obs = pd.DataFrame(
        {"type": pd.Categorical([f"t{k}" for k in kind]), "sample": pd.Categorical(rng.choice(["a", "b"], n_cells))},
        index=names,
    )
    bins = pd.DataFrame(index=[f"{c}:{s}-{s + BIN}" for c, s in zip(chrom, start, strict=True)])
    genes = pd.DataFrame(
        {"chrom": chrom[home], "tss": start[home] + 2_500, "strand": np.where(np.arange(N_GENES) % 2, "-", "+")},
        index=[f"gene{g}" for g in range(N_GENES)],
    )
    atac = ad.AnnData(sp.csr_matrix(opened), obs=obs, var=bins)
    rna = ad.AnnData(sp.csr_matrix(counts), obs=obs[["type"]].copy(), var=genes)
    if shuffled:
        rna = rna[rng.permutation(n_cells)].copy()
    rna.uns["links"] = links
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of mudata's own options
        return md.MuData({"rna": rna, "atac": atac} if rna_first else {"atac": atac, "rna": rna})


def fresh(mdata: md.MuData, seed: int = 0, setup: dict | None = None, **changes) -> sf.ScAtacFormer:
    sf.ScAtacFormer.setup_mudata(mdata, **({} if setup is None else setup))
    return sf.ScAtacFormer(mdata, seed=seed, **(SIZES | changes))


def trained(
    mdata: md.MuData, seed: int = 0, setup: dict | None = None, train: dict | None = None, paired: dict | None = None
) -> sf.ScAtacFormer:
    model = fresh(mdata, seed, setup)
    with quiet():
        model.train(**(TRAINING | {"paired_kwargs": PAIRED | (paired or {})} | (train or {})))
    return model


def subset(mdata: md.MuData, cells) -> md.MuData:
    """The cells of these numbers, in the order of the ATAC modality, as a MuData of their own."""
    names = mdata["atac"].obs_names[cells]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return md.MuData({name: part[part.obs_names.isin(names)].copy() for name, part in mdata.mod.items()})


def pairs_of(model, data=None, indices=None) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of RNA and of ATAC."""
    return tuple(model.get_latent_representation(data, indices, modality=m) for m in ("expression", "accessibility"))
