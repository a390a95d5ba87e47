"""Equal to scib-metrics, and to scIB's and scglue's graph of neighbours, where these are installed."""

from __future__ import annotations

import numpy as np
import pytest

from scatacformer.metrics import batch_asw, cell_type_asw, graph_connectivity

pytestmark = pytest.mark.slow  # scib-metrics and scanpy take 15 s to import


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2, 3], [150, 100, 45, 5])
    x = rng.normal(size=(300, 8)) + 1.2 * rng.normal(size=(4, 8))[label]
    return x, label, rng.integers(0, 3, 300)


def test_equal_to_scib_metrics(cells):
    scib = pytest.importorskip("scib_metrics", reason="scib-metrics is not installed (extra `benchmark`)")
    x, label, batch = cells
    one_batch = np.where(label == 3, 0, batch)
    assert cell_type_asw(x, label) == pytest.approx(scib.silhouette_label(x, label), abs=1e-4)  # float32 there
    for of_batch in (batch, one_batch):
        assert batch_asw(x, label, of_batch) == pytest.approx(scib.silhouette_batch(x, label, of_batch), abs=1e-4)
    for k in (3, 15):
        near = scib.nearest_neighbors.pynndescent(x, n_neighbors=k, random_state=0)
        distance = np.linalg.norm(x[:, None] - x, axis=2)
        near.indices = np.argsort(distance, axis=1)[:, :k]  # the exact ones
        near.distances = np.sort(distance, axis=1)[:, :k]
        assert graph_connectivity(x, label, k - 1) == pytest.approx(scib.graph_connectivity(near, label))


def test_equal_to_the_graph_of_scanpy(cells):
    import scanpy as sc
    from anndata import AnnData
    from scipy.sparse.csgraph import connected_components

    x, label, _ = cells
    for k in (4, 15):
        adata = AnnData(x)
        sc.pp.neighbors(adata, n_neighbors=k, use_rep="X")
        shares = []
        for one in range(4):
            _, piece = connected_components(adata[label == one].obsp["connectivities"], connection="strong")
            shares.append(np.bincount(piece).max() / (label == one).sum())
        assert graph_connectivity(x, label, k - 1, directed=False) == pytest.approx(np.mean(shares))
