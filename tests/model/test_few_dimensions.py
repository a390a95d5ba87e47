"""Few types, few dimensions: what the user is advised to do finds about as many clusters as there are types."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import scatacformer as sf
from scatacformer.model.scatacformer._start import leiden_resolution

from ._cells import fresh, planted, quiet


def n_clusters(z, resolution):
    cells = ad.AnnData(np.asarray(z, np.float32))
    sc.pp.neighbors(cells, use_rep="X")
    sc.tl.leiden(cells, resolution=resolution, flavor="igraph", n_iterations=2, directed=False, random_state=0)
    return cells.obs["leiden"].nunique()


@pytest.mark.parametrize("n_types", [2, 3])
@pytest.mark.parametrize("n_dims", [2, 5])
def test_the_resolution_finds_about_as_many_clusters_as_types(n_dims, n_types):
    rng = np.random.default_rng(0)
    centres = np.zeros((3, n_dims))
    centres[1, 0], centres[2, 1] = 2.0, 2.0
    z = centres[np.arange(500) % n_types] + rng.normal(0, 0.25, (500, n_dims))
    assert n_types <= n_clusters(z, leiden_resolution(n_dims)) <= n_types + 1
    assert n_clusters(z, 1.0) > n_types + 1  # the default


def test_from_ten_dimensions_on_it_is_the_default():
    assert leiden_resolution(10) == leiden_resolution(32) == 1.0
    assert 0 < leiden_resolution(0) <= leiden_resolution(2) < leiden_resolution(5) < 1


def test_few_dimensions_and_few_cells_are_said(caplog):
    model = fresh(planted(30))
    with quiet(), caplog.at_level(logging.WARNING, logger="scatacformer"):
        model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False, batch_size=16)
    assert "30 cells are few to learn from" in caplog.text
    n = model.get_latent_representation().shape[1]
    assert f"differ in {n} dimension" in caplog.text
    assert f"sc.tl.leiden(adata, resolution={leiden_resolution(n):.2g})" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("n_types", [2, 3])
def test_from_cells_to_clusters(n_types):
    adata = sf.datasets.simulated_cells(400, n_types=n_types, genome={"chr1": 6_000_000, "chr2": 4_000_000})
    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata)
    model.train(accelerator="cpu", enable_progress_bar=False)
    z = model.get_latent_representation()
    assert n_types <= n_clusters(z, leiden_resolution(z.shape[1])) <= n_types + 2


@pytest.mark.slow
def test_two_cell_lines_are_about_two_clusters(data_dir):
    """Real cells: at the default resolution there are four times as many clusters as lines."""
    folder = data_dir / "fragments"
    adata = sf.pp.bin_fragments(folder / "gm12878_hek293t_hg19.tsv.gz", "hg19", min_fragments=200)
    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata)
    model.train(embedding_only=True)
    z = model.get_latent_representation()
    assert 2 <= n_clusters(z, leiden_resolution(z.shape[1])) <= 4
    assert n_clusters(z, 1.0) > 6


def _sparse(n_cells, n_bins, most_open):
    rng = np.random.default_rng(0)
    x = np.zeros((n_cells, n_bins), np.float32)
    for row in x:
        row[rng.choice(n_bins, rng.integers(1, most_open + 1), replace=False)] = 1
    names = [f"chr1:{s}-{s + 5000}" for s in range(0, 5000 * n_bins, 5000)]
    return ad.AnnData(sp.csr_matrix(x), var=pd.DataFrame(index=names))


@pytest.mark.parametrize(
    ("shape", "message"),
    [((48, 900, 1), "too few open bins in common"), ((48, 900, 3), "too few open bins in common")],
)  # fmt: skip
def test_cells_of_which_nothing_can_be_learned_are_refused_in_a_sentence(shape, message):
    adata = _sparse(*shape)
    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata, d_model=16, n_heads=2, n_layers=1)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    with quiet(), pytest.raises(ValueError, match=message):
        model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    assert all(value.equal(before[name]) for name, value in model.module.state_dict().items())


@pytest.mark.parametrize("n_bins", [4, 5, 6, 8, 10])
def test_few_regions_are_learned_from(n_bins):
    """Evidence is large where cells share all regions; dimensions that are not used must not divide by zero then."""
    adata = _sparse(200, n_bins, n_bins - 1)
    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata, d_model=16, n_heads=2, n_layers=1)
    with quiet():
        model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    assert np.isfinite(model.get_latent_representation()).all()
    assert np.isfinite(model.get_normalized_accessibility(return_numpy=True)).all()
