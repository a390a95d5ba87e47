from __future__ import annotations

import warnings

import pytest

from scatacformer.datasets import simulated_cells, simulated_fragments


@pytest.fixture(scope="session")
def _data_sets(tmp_path_factory, small_genome):
    """Three data sets of other cells over the same bins: an .h5ad, a zarr store and a fragments file."""
    folder = tmp_path_factory.mktemp("sources")
    cells = {
        name: simulated_cells(n, 3, genome=small_genome, fragments=300, batches=2, seed=seed)
        for name, n, seed in (("a", 60, 1), ("b", 40, 2), ("c", 30, 3))
    }
    cells["a"].write_h5ad(folder / "a.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the default zarr format, which differs between versions of anndata
        cells["b"].write_zarr(folder / "b.zarr")
    simulated_fragments(folder / "c.tsv.gz", cells["c"])
    return folder, cells


@pytest.fixture
def data_sets(_data_sets, tmp_path):
    """(folder of a.h5ad, b.zarr and c.tsv.gz, name -> cells); a copy of the files for each test."""
    import shutil

    folder, cells = _data_sets
    shutil.copytree(folder, tmp_path / "sources")
    return tmp_path / "sources", cells


@pytest.fixture(scope="session")
def _corpus_folder(_data_sets, small_genome, tmp_path_factory):
    from scatacformer import Corpus

    folder, _ = _data_sets
    sources = [
        {"path": folder / "a.h5ad", "batch_key": "batch", "labels_key": "cell_type", "organ": "lung"},
        {"path": folder / "b.zarr", "organ_key": "batch"},
        folder / "c.tsv.gz",
    ]
    return Corpus.build(tmp_path_factory.mktemp("corpus"), sources, genome=small_genome, min_bins=10).folder


@pytest.fixture
def corpus(_corpus_folder):
    """A corpus of all three, opened anew; not to be changed."""
    from scatacformer import Corpus

    return Corpus(_corpus_folder)
