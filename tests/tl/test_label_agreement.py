from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scatacformer.tl import label_agreement


@pytest.fixture
def cells():
    """Three groups of cells, far apart: 60, 30 and 10."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], [60, 30, 10])
    adata = AnnData(np.zeros((100, 1), np.float32))
    adata.obsm["X_scatacformer"] = np.eye(3)[group] * 100 + rng.normal(size=(100, 3))
    adata.obs["cell_type"] = pd.Categorical(np.array(["a", "b", "c"])[group])
    adata.obs["leiden"] = group.astype(str)
    return adata


def test_perfect_agreement_is_one(cells):
    found = label_agreement(cells, "cell_type", n_neighbors=5)
    assert found["n_cells"] == 100
    assert found["n_labels"] == found["n_clusters"] == 3
    assert found["ari"] == found["nmi"] == found["knn_purity"] == pytest.approx(1)


def test_shuffled_labels_agree_by_chance(cells):
    cells.obs["cell_type"] = np.random.default_rng(1).permutation(cells.obs["cell_type"])
    found = label_agreement(cells, "cell_type")
    assert abs(found["ari"]) < 0.1
    assert found["knn_purity"] < 0.5


def test_a_rare_label_counts_as_much_as_a_common_one(cells):
    # the rare type sits in the middle of the common one: a third of the purity is lost, though it is a tenth of cells
    cells.obsm["X_scatacformer"][90:] = cells.obsm["X_scatacformer"][:10] + 1e-3
    found = label_agreement(cells, "cell_type", n_neighbors=15)
    assert found["knn_purity"] < 0.75


def test_cells_without_a_label_take_no_part(cells):
    cells.obs["cell_type"] = cells.obs["cell_type"].where(np.arange(100) % 2 == 0)
    found = label_agreement(cells, "cell_type", n_neighbors=3)
    assert found["n_cells"] == 50
    assert found["ari"] == pytest.approx(1)
    cells.obs["cell_type"] = pd.Series([None] * 100, index=cells.obs_names, dtype=object)
    with pytest.raises(ValueError, match="0 cells have a label"):
        label_agreement(cells, "cell_type")


def test_what_is_missing_is_named(cells):
    with pytest.raises(KeyError, match="no column 'organ'; it has cell_type, leiden"):
        label_agreement(cells, "organ")
    with pytest.raises(KeyError, match="no embedding 'X_pca'; it has X_scatacformer"):
        label_agreement(cells, "cell_type", use_rep="X_pca")
