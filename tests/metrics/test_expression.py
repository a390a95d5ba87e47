from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import pearsonr, spearmanr

from scatacformer.metrics import genewise_correlation, mean_genewise_correlation, rmse


@pytest.fixture
def expression():
    """Measured: counts, most of them zero, of 80 cells x 13 genes; predicted: related to it."""
    rng = np.random.default_rng(0)
    measured = np.log1p(rng.poisson(0.5, size=(80, 13))).astype(np.float32)
    return measured * rng.uniform(0, 2, 13) + rng.normal(size=measured.shape), measured


@pytest.mark.parametrize(("method", "peer"), [("pearson", pearsonr), ("spearman", spearmanr)])
@pytest.mark.parametrize("chunk_size", [1, 5, 13, 1000])
def test_each_gene_has_scipys_correlation(expression, method, peer, chunk_size):
    predicted, measured = expression
    expected = [peer(predicted[:, g].astype(float), measured[:, g].astype(float))[0] for g in range(13)]
    found = genewise_correlation(predicted, measured, method, chunk_size=chunk_size)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.shape == (13,)
    assert mean_genewise_correlation(predicted, measured, method) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.coo_array, pd.DataFrame])
def test_kinds_of_matrices_do_not_matter(expression, kind):
    predicted, measured = expression
    for method in ("pearson", "spearman"):
        expected = genewise_correlation(predicted, measured, method)
        for pair in [(predicted, kind(measured)), (kind(predicted), kind(measured)), (kind(predicted), measured)]:
            np.testing.assert_allclose(genewise_correlation(*pair, method, chunk_size=4), expected, atol=1e-12)
    assert rmse(predicted, kind(measured), chunk_size=4) == pytest.approx(rmse(predicted, measured), rel=1e-12)


def test_lines_and_orders():
    x = np.arange(10.0)[:, None]
    assert genewise_correlation(x, 3 * x + 7) == pytest.approx(1)
    assert genewise_correlation(x, -x) == pytest.approx(-1)
    assert genewise_correlation(x, x**5, "spearman") == pytest.approx(1)
    assert genewise_correlation(x, x**5)[0] < 0.9


def test_constant_genes_are_nan_and_do_not_spoil_or_flatter_the_mean(expression):
    predicted, measured = (one[:, :4].copy() for one in expression)
    whole = genewise_correlation(predicted, measured)
    measured[:, 1] = 0.3  # cannot be predicted
    predicted[:, 2] = 0.1  # was not
    found = genewise_correlation(predicted, measured)
    np.testing.assert_array_equal(np.isnan(found), [False, True, True, False])
    np.testing.assert_allclose(found[[0, 3]], whole[[0, 3]])
    assert mean_genewise_correlation(predicted, measured) == pytest.approx((whole[0] + 0 + whole[3]) / 3)
    assert np.isnan(genewise_correlation(predicted, measured, "spearman")).sum() == 2
    with pytest.raises(ValueError, match="all 1 measured genes are constant"):
        mean_genewise_correlation(predicted[:, [1]], measured[:, [1]])


def test_rmse_by_hand():
    assert rmse([[1, 2], [3, 4]], [[1, 2], [3, 4]]) == 0
    assert rmse([[1, 2], [3, 4]], [[1, 4], [0, 5]]) == pytest.approx(np.sqrt((0 + 4 + 9 + 1) / 4))
    assert rmse(np.zeros((3, 700)), np.full((3, 700), 2.0)) == pytest.approx(2)


def test_sparse_expression_is_never_dense_at_once():
    measured = sp.random_array((2000, 4000), density=0.002, rng=np.random.default_rng(0), format="csr")
    predicted = measured.copy()
    predicted.data = predicted.data + 1
    tracemalloc.start()
    found = genewise_correlation(predicted, measured, chunk_size=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(found).sum() > 3000
    assert peak < 2000 * 4000 * 8 / 4


def test_bad_input_is_refused(expression):
    predicted, measured = expression
    for metric in (genewise_correlation, mean_genewise_correlation, rmse):
        with pytest.raises(ValueError, match="predicted has 79 cells, measured has 80"):
            metric(predicted[:79], measured)
        with pytest.raises(ValueError, match=r"shape \(80, 12\), measured \(80, 13\)"):
            metric(predicted[:, :12], sp.csr_array(measured))
        with pytest.raises(ValueError, match="gene 11 of measured has NaN"):
            metric(predicted, np.where(np.arange(13) == 11, np.nan, measured), chunk_size=4)
        with pytest.raises(ValueError, match="chunk_size is 0"):
            metric(predicted, measured, chunk_size=0)
    with pytest.raises(ValueError, match="method is 'kendall'; expected 'pearson' or 'spearman'"):
        genewise_correlation(predicted, measured, "kendall")
    with pytest.raises(ValueError, match="predicted and measured have 1 cells"):
        genewise_correlation(predicted[:1], measured[:1])


def test_genes_and_cells_of_data_frames_are_compared(expression):
    genes, barcodes = [f"gene{i}" for i in range(13)], [f"cell{i}" for i in range(80)]
    predicted, measured = (pd.DataFrame(one, index=barcodes, columns=genes) for one in expression)
    np.testing.assert_array_equal(genewise_correlation(predicted, measured), genewise_correlation(*expression))
    with pytest.raises(ValueError, match="same genes in the same order: 13 of 13"):
        genewise_correlation(predicted[genes[::-1]], measured)
    with pytest.raises(ValueError, match="same cells in the same order: 80 of 80"):
        rmse(predicted.iloc[::-1], measured)
