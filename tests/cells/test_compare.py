"""The comparison of cells: products of the open bins without their entries, and both ends of its spectrum."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer.cells import StartOptions
from scatacformer.cells.start import open_bins, spectrum
from scatacformer.cells.start.open_bins import OpenBins
from scatacformer.cells.start.similarity import Similarity, compare
from scatacformer.cells.start.spectrum import both_ends, participation


def dense_and_open(share: float = 0.2) -> tuple[np.ndarray, OpenBins]:
    dense = np.random.default_rng(0).random((30, 200)) < share
    dense[[0, 1, 7, 29]] = False  # empty rows, first and last among them
    matrix = sp.csr_matrix(dense.astype(np.int8))
    return dense.astype(np.float64), OpenBins(matrix.indptr, matrix.indices, 200)


@pytest.fixture(params=["one part", "several parts"])
def opened(request, monkeypatch) -> tuple[np.ndarray, OpenBins]:
    if request.param == "several parts":
        monkeypatch.setattr(open_bins, "PART", 100)
        monkeypatch.setattr(open_bins, "PER_BIN", 0)
    dense, found = dense_and_open()
    assert (len(found.parts) > 1) == (request.param == "several parts")
    return dense, found


def test_sums_and_counts_are_those_of_the_dense_product(opened):
    dense, found = opened
    rng = np.random.default_rng(1)
    u, z = rng.standard_normal((30, 11)), rng.standard_normal(200)
    np.testing.assert_allclose(found.sums_over_bins(z), dense @ z, atol=1e-5)
    np.testing.assert_allclose(found.sums_over_cells(u[:, 0]), dense.T @ u[:, 0], atol=1e-5)
    total = np.full((200, 11), np.nan)
    for columns, chunk in found.columns_over_cells(u):
        total[:, columns] = chunk
    np.testing.assert_allclose(total, dense.T @ u, atol=1e-5)
    np.testing.assert_array_equal(found.open_cells(), dense.sum(0))


def test_parts_of_it_are_those_of_the_dense_matrix(opened):
    dense, found = opened
    used = np.random.default_rng(2).random(200) < 0.4
    cells = np.array([29, 3, 3, 0, 12])
    np.testing.assert_array_equal(found.to_scipy().toarray(), dense)
    np.testing.assert_array_equal(found.of_bins(used).to_scipy().toarray(), dense[:, used])
    np.testing.assert_array_equal(found.of_cells(cells).to_scipy().toarray(), dense[cells])


def test_quadratic_forms_are_those_of_the_products_and_bins_without_weight_are_as_if_they_were_absent(opened):
    dense, found = opened
    rng = np.random.default_rng(2)
    u, used = rng.standard_normal((30, 11)), rng.random(200) < 0.7
    g = np.where(used, rng.uniform(0.5, 2.0, 200), 0.0)
    whole, part = Similarity(found, g), Similarity(found.of_bins(used), g[used])
    products = np.stack([whole.product(column.astype(np.float32)) for column in u.T], axis=1)
    np.testing.assert_allclose(whole.forms(u), (u * products).sum(0), atol=1e-4)
    np.testing.assert_allclose(whole.forms(u), part.forms(u), rtol=1e-5)
    np.testing.assert_allclose(
        whole.start(np.random.default_rng(3), used), part.start(np.random.default_rng(3)), atol=1e-5
    )


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    monkeypatch.setattr(open_bins, "PART", 100)
    monkeypatch.setattr(open_bins, "PER_BIN", 0)
    _, found = dense_and_open()
    y = np.random.default_rng(3).standard_normal(30)
    sums = []
    for threads in (1, 3):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        sums.append(np.concatenate([found.sums_over_cells(y), found.sums_over_bins(np.arange(200.0))]))
    np.testing.assert_array_equal(*sums)


def symmetric(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Three strong dimensions, one of two cells only, and noise; ``first`` is an eigenvector."""
    rng = np.random.default_rng(4)
    noise = rng.standard_normal((n, n))
    matrix = (noise + noise.T) / np.sqrt(8 * n)  # a semicircle up to 1
    for strength in (8.0, 5.0, 2.0):
        v = rng.standard_normal(n)
        matrix += strength * np.outer(v, v) / (v @ v)
    matrix[:2, :2] = [[0, -4.0], [-4.0, 0]]  # two cells that differ: the lowest eigenvalue
    first = np.full(n, n**-0.5)
    centred = np.eye(n) - np.outer(first, first)
    return centred @ matrix @ centred + 9.0 * np.outer(first, first), first


@pytest.mark.parametrize("dense", [True, False])
def test_both_ends_are_those_of_the_whole_spectrum(monkeypatch, dense):
    n = 300
    monkeypatch.setattr(spectrum, "DENSE", n if dense else 0)
    monkeypatch.setattr(spectrum, "REACH", 1.0)
    matrix, first = symmetric(n)
    start = np.random.default_rng(5).standard_normal(n)
    found = both_ends(lambda v: (matrix @ v).astype(np.float32), start, first, 10, 10.0, 1e-3)
    values, vectors = np.linalg.eigh(matrix)
    lowest = values[participation(vectors) >= 10][0]
    assert values[0] < 2 * lowest  # that of the two cells
    assert found.centre - found.extent == pytest.approx(lowest, rel=0.02)
    np.testing.assert_allclose(found.values[:3], values[::-1][1:4], rtol=1e-3)  # the largest is the known one
    overlap = np.abs((vectors[:, ::-1][:, 1:4] * found.vectors[:, :3]).sum(0))
    np.testing.assert_allclose(overlap, 1, atol=1e-3)
    assert found.n_products <= n


def test_the_order_of_the_cells_does_not_matter(monkeypatch):
    monkeypatch.setattr(spectrum, "DENSE", 0)
    rng = np.random.default_rng(6)
    rate = np.full((3, 900), 0.05)
    for t in range(3):
        rate[t, t * 60 : t * 60 + 60] = 0.3
    matrix = sp.csr_matrix((rng.random((240, 900)) < rate[np.arange(240) % 3]).astype(np.int8))
    order = rng.permutation(240)
    found = []
    for x in (matrix, matrix[order]):
        fit = compare(OpenBins(x.indptr, x.indices, 900), np.ones(900), 8, np.random.default_rng(0), StartOptions())
        found.append(fit.u * fit.signal)
    assert found[0].any()
    np.testing.assert_allclose(np.abs(found[0][order]), np.abs(found[1]), atol=1e-3 * np.abs(found[1]).max())


@pytest.mark.parametrize("n", [100, 800])
def test_of_noise_little_is_taken_for_signal_however_far_it_extends(n):
    rng = np.random.default_rng(7)
    rate = np.exp(rng.normal(-3, 0.7, 1500)).clip(max=0.6)  # few bins and many cells: the noise is skewed
    matrix = sp.csr_matrix((rng.random((n, 1500)) < rate).astype(np.int8))
    opened = OpenBins(matrix.indptr, matrix.indices, 1500)
    weight = np.log(n / (1 + opened.open_cells())).clip(min=1e-3)
    fit = compare(opened, weight, 32, np.random.default_rng(0), StartOptions(), 1e-3)
    if n == 800:
        assert (fit.above > fit.noise).sum() > 5  # as weak signals would be
    assert fit.share.max() < 0.5
    assert fit.share.sum() < 0.1 * 32
    kind = np.arange(n) % 2
    rate = np.stack([rate, rate * np.where(rng.random(1500) < 0.4, 0.25, 1.0)])
    matrix = sp.csr_matrix((rng.random((n, 1500)) < rate[kind]).astype(np.int8))
    fit = compare(OpenBins(matrix.indptr, matrix.indices, 1500), weight, 32, np.random.default_rng(0), StartOptions())
    cosine = np.corrcoef(fit.u[:, 0], kind)[0, 1] ** 2
    assert fit.share[0] == pytest.approx(cosine, abs=0.15)


def test_cells_without_a_bin_in_common_are_an_error():
    _, found = dense_and_open()
    with pytest.raises(ValueError, match="the 30 cells have too few open bins in common"):
        compare(found, np.zeros(200), 8, np.random.default_rng(0), StartOptions())
