from __future__ import annotations

import pytest

from ._cells import planted, trained


@pytest.fixture
def adata():
    """90 cells of 3 types and 2 batches x 400 bins."""
    return planted()


@pytest.fixture(scope="module")
def model():
    """Trained for 3 epochs on such cells, of which it holds its own copy. Tests must not train it."""
    return trained(planted(), setup={"batch_key": "sample", "labels_key": "type"})


@pytest.fixture
def saved(model, tmp_path):
    model.save(tmp_path / "model")
    return tmp_path / "model"
