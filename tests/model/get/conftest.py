"""Groups × regions with a planted rule, made of motif scores directly: no DNA is needed for these tests."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

N_GROUPS, N_CHROMS, PER_CHROM, DOMAIN = 6, 4, 120, 30
MOTIFS = ("A", "B", "plus", "minus", "decoy_0", "decoy_1")


def make_regions(seed=0, n_groups=N_GROUPS, per_chrom=PER_CHROM, noise=0.02):
    """Every sixth region is a promoter; with motif B it is active where regions around it with motif A are open.

    Regions with motif A are open or closed by domains of 30 regions, in each group another selection of domains. Which
    strand a promoter reads is said by a motif of its own. A promoter itself is open in every group and has no motif A:
    its own features do not tell whether it is active.
    """
    rng = np.random.default_rng(seed)
    n = N_CHROMS * per_chrom
    place = np.arange(n) % per_chrom
    chrom = np.array([f"chr{1 + i // per_chrom}" for i in range(n)])
    motif = (rng.random((n, len(MOTIFS))) < 0.35) * rng.uniform(0.5, 1.0, (n, len(MOTIFS)))
    promoter = place % 6 == 3
    motif[promoter, 0] = 0
    motif[promoter, 1] = (rng.random(promoter.sum()) < 0.6) * rng.uniform(0.5, 1.0, promoter.sum())
    strand = rng.integers(2, size=n)
    motif[:, 2], motif[:, 3] = promoter * (strand == 0), promoter * (strand == 1)
    domain = np.arange(n) // DOMAIN
    active_domain = (rng.random((n_groups, domain.max() + 1)) < 0.5)[:, domain]
    opened = np.where(motif[:, 0] > 0, active_domain, rng.random((n_groups, n)) < 0.5) | promoter
    opened = opened * rng.uniform(0.6, 1.0, (n_groups, n))
    active = 2.0 * active_domain * (motif[:, 1] > 0) * promoter
    expression = np.maximum(active + noise * rng.normal(size=active.shape), 0) * promoter
    var = pd.DataFrame({"chrom": chrom, "start": 2_000 * place, "end": 2_000 * place + 500})
    var.index = var["chrom"] + ":" + var["start"].astype(str) + "-" + var["end"].astype(str)
    regions = ad.AnnData(
        np.zeros((n_groups, n), np.float32), obs=pd.DataFrame(index=[f"g{i}" for i in range(n_groups)]), var=var
    )
    regions.layers["acpm"] = opened.astype(np.float32)
    regions.layers["exp_pos"] = (expression * (strand == 0)).astype(np.float32)
    regions.layers["exp_neg"] = (expression * (strand == 1)).astype(np.float32)
    regions.varm["motif"] = motif.astype(np.float32)
    regions.varm["tss"] = np.stack([promoter & (strand == 0), promoter & (strand == 1)], 1)
    regions.uns["motif"] = {"names": list(MOTIFS)}
    rows = np.flatnonzero(promoter)
    regions.uns["gene_tss"] = pd.DataFrame(
        {
            "gene": [f"gene_{row}" for row in rows],
            "region": var.index[rows],
            "strand": np.array(["+", "-"])[strand[rows]],
            "tss": var["start"].to_numpy()[rows] + 250,
        }
    )
    return regions


@pytest.fixture(scope="session")
def _regions():
    import scatacformer as sf

    regions = make_regions()
    sf.GET.setup_anndata(regions)
    return regions


@pytest.fixture
def regions(_regions):
    """6 groups × 480 regions on 4 chromosomes, 6 motifs, 80 genes; set up."""
    return _regions.copy()


def small(regions, **changes):
    """An untrained model of the least size."""
    import scatacformer as sf

    sizes = {"n_regions": 12, "d_model": 32, "n_layers": 2, "n_heads": 2, **changes}
    return sf.GET(regions, **sizes)
