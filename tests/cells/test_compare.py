"""The comparison of cells reads its entries in stretches and copies none that it need not."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer.cells.start import similarity
from scatacformer.cells.start.similarity import _stretches, _unit_rows, open_cells, sums_over_cells


@pytest.fixture
def opened() -> sp.csr_matrix:
    dense = np.random.default_rng(0).random((30, 200)) < 0.2
    dense[[0, 1, 7, 29]] = False  # empty rows, first and last among them
    return sp.csr_matrix(dense.astype(np.int8))


@pytest.fixture
def in_stretches(monkeypatch):
    monkeypatch.setattr(similarity, "_stretches", lambda indptr, at_once=0: _stretches(indptr, 100))


@pytest.mark.parametrize("at_once", [1, 7, 100, 10**6])
def test_stretches_hold_every_entry_once(opened, at_once):
    found = list(_stretches(opened.indptr, at_once))
    assert len(found) > 1 or at_once == 10**6
    np.testing.assert_array_equal(np.concatenate([np.arange(opened.nnz)[e] for _, e in found]), np.arange(opened.nnz))
    for rows, entries in found:
        assert opened.indptr[rows.start] == entries.start
        assert opened.indptr[rows.stop] == entries.stop
    assert list(_stretches(np.zeros(5, np.int32), at_once)) == []


@pytest.mark.usefixtures("in_stretches")
def test_sums_and_counts_are_those_of_the_dense_product(opened):
    u = np.random.default_rng(1).standard_normal((30, 11)).astype(np.float32)
    total = np.full((200, 11), np.nan)
    for columns, found in sums_over_cells(opened, u, at_once=4):
        total[:, columns] = found
    np.testing.assert_allclose(total, opened.toarray().T @ u, atol=1e-5)
    np.testing.assert_array_equal(open_cells(opened), opened.toarray().sum(0))


@pytest.mark.usefixtures("in_stretches")
@pytest.mark.parametrize("share", [0.0, 0.05, 0.6, 1.0])
def test_rows_are_the_weighted_bins_over_their_length_whether_numbers_are_shared_or_not(opened, share):
    rng = np.random.default_rng(2)
    weight = (rng.random(200) * (rng.random(200) >= share)).astype(np.float32)
    w, norm, own = _unit_rows(opened, weight)
    dense = opened.toarray() * weight
    length = np.linalg.norm(dense, axis=1)
    np.testing.assert_allclose(norm, np.where(length > 0, length, 1.0), rtol=1e-6)
    np.testing.assert_array_equal(own, length > 0)
    expected = dense / np.where(length > 0, length, 1.0)[:, None]
    few = share < 0.1
    assert np.shares_memory(w.indices, opened.indices) == few
    np.testing.assert_allclose(w.toarray(), expected if few else expected[:, weight > 0], atol=1e-6)
