from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from scatacformer.datasets import simulated_fragments
from scatacformer.pp import bin_fragments


def test_binning_the_file_gives_the_cells_back(tmp_path, small_adata, small_genome):
    path = tmp_path / "fragments.tsv.gz"
    simulated_fragments(path, small_adata)
    binned = bin_fragments(path, small_genome, barcodes=list(small_adata.obs_names))
    assert binned.obs_names.equals(small_adata.obs_names)
    assert binned.var_names.equals(small_adata.var_names)
    assert (binned.X != small_adata.X).nnz == 0


def test_file_is_sorted_and_the_same_for_the_same_seed(tmp_path, small_adata):
    paths = [tmp_path / f"{name}.tsv.gz" for name in "abc"]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        simulated_fragments(path, small_adata, seed=seed)
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()
    table = pd.read_csv(gzip.open(paths[0]), sep="\t", header=None)
    assert len(table) == small_adata.X.sum()
    chroms = table[0].drop_duplicates()
    assert chroms.is_unique
    assert table.groupby(0)[1].apply(lambda start: start.is_monotonic_increasing).all()
    assert (table[2] - table[1]).between(30, 700).all()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_what_are_no_counts_is_refused(tmp_path, small_adata):
    small_adata.X.data[0] = 0.5
    with pytest.raises(ValueError, match="contains values that are not counts; expected integers"):
        simulated_fragments(tmp_path / "a.tsv.gz", small_adata)
    small_adata.X = np.zeros(small_adata.shape, dtype=np.float32)
    with pytest.raises(ValueError, match="cells.X is ndarray; expected a sparse matrix of counts"):
        simulated_fragments(tmp_path / "a.tsv.gz", small_adata)
    assert not list(tmp_path.iterdir())
