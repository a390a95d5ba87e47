"""FOSCTTM: what it is by its definition, and by what it must not depend on."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from scatacformer.metrics import foscttm


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(157, 6))
    return x, x + 0.7 * rng.normal(size=x.shape)


def by_definition(x, y):
    n = len(x)
    d = [[np.sqrt(((x[i] - y[j]) ** 2).sum()) for j in range(n)] for i in range(n)]
    of_x = [sum(d[i][j] < d[i][i] for j in range(n)) / n for i in range(n)]
    of_y = [sum(d[j][i] < d[i][i] for j in range(n)) / n for i in range(n)]
    return np.array(of_x), np.array(of_y)


def test_by_hand():
    # on a line: partners of 0, 1, 5 are at 0.4, 0.1, 5
    x, y = np.array([[0.0], [1.0], [5.0]]), np.array([[0.4], [0.1], [5.0]])
    of_x, of_y = foscttm(x, y, per_cell=True)
    np.testing.assert_allclose(of_x, [1 / 3, 1 / 3, 0])  # 0.1 is nearer to 0; 0.4 is nearer to 1
    np.testing.assert_allclose(of_y, [0, 1 / 3, 0])  # 0 is nearer to 0.1
    assert foscttm(x, y) == pytest.approx((2 / 9 + 1 / 9) / 2)


def test_equals_its_definition(pair):
    of_x, of_y = by_definition(*pair)
    found = foscttm(*pair, per_cell=True)
    np.testing.assert_array_equal(found[0], of_x)
    np.testing.assert_array_equal(found[1], of_y)
    assert 0.01 < of_x.mean() < 0.3
    assert foscttm(*pair) == pytest.approx((of_x.mean() + of_y.mean()) / 2)


def test_perfect_is_zero_shuffled_is_half_and_opposite_is_one(pair):
    x, _ = pair
    assert foscttm(x, x) == 0
    rng = np.random.default_rng(1)
    shuffled = [foscttm(x, x[rng.permutation(len(x))]) for _ in range(20)]
    assert np.mean(shuffled) == pytest.approx(0.5, abs=0.03)
    around = np.exp(2j * np.pi * np.arange(100) / 100)
    circle = np.stack([around.real, around.imag], 1)
    assert foscttm(circle, -circle) > 0.97


@pytest.mark.parametrize("chunk_size", [1, 2, 50, 157, 10_000])
def test_chunks_do_not_matter_even_among_ties(pair, chunk_size):
    x, y = (np.repeat(one, 3, axis=0) for one in pair)  # each pair three times, at the very same distance
    found = foscttm(x, y, chunk_size=chunk_size, per_cell=True)
    np.testing.assert_array_equal(found, np.repeat(foscttm(*pair, per_cell=True), 3, axis=1))


def test_order_of_cells_and_which_is_first_do_not_matter(pair):
    x, y = pair
    order = np.random.default_rng(2).permutation(len(x))
    of_x, of_y = foscttm(x, y, per_cell=True)
    np.testing.assert_array_equal(foscttm(x[order], y[order], per_cell=True), [of_x[order], of_y[order]])
    np.testing.assert_array_equal(foscttm(y, x, per_cell=True), [of_y, of_x])
    assert foscttm(x.astype(np.float32), y.astype(np.float32)) == pytest.approx(foscttm(x, y), abs=1e-3)


def test_a_collapsed_embedding_is_told(pair):
    flat = np.ones((60, 4))
    with pytest.warns(UserWarning, match="98% of pairs are exactly as far apart"):
        assert foscttm(flat, flat) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        foscttm(*pair)


def test_within_labels_a_label_is_worth_nothing():
    rng = np.random.default_rng(3)
    label = np.repeat(["a", "b", "c", "alone"], [40, 40, 40, 1])
    centre = {"a": 0, "b": 50, "c": 100, "alone": 150}
    # partners share a type and nothing else
    x, y = (np.array([[centre[one]] for one in label]) + rng.normal(size=(121, 3)) for _ in range(2))
    assert foscttm(x, y) < 0.2
    assert foscttm(x, y, within=label) == pytest.approx(0.5, abs=0.1)
    of_x, of_y = foscttm(x, y, within=label, per_cell=True)
    for one in "abc":
        rows = label == one
        alone = foscttm(x[rows], y[rows], per_cell=True)
        np.testing.assert_array_equal([of_x[rows], of_y[rows]], alone)
    assert np.isnan(of_x[-1])
    assert np.isnan(of_y[-1])


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (np.ones((4, 2)), np.ones((5, 2)), "x has 4 cells, y has 5"),
        (np.ones((4, 2)), np.ones((4, 3)), "x has 2 dimensions, y has 3"),
        (np.ones((4, 2)), np.array([[1, 2], [1, np.nan], [0, 0], [np.inf, 1]]), r"2 of 4 cells of y .*row 1\)"),
        (np.ones((1, 2)), np.ones((1, 2)), "at least 2 cells"),
        (np.ones(4), np.ones(4), r"shape \(4,\); expected \(n_cells, n_dims\)"),
    ],
)
def test_bad_input_is_refused(x, y, match):
    with pytest.raises(ValueError, match=match):
        foscttm(x, y)


def test_rows_of_other_cells_are_refused(pair):
    x, y = (pd.DataFrame(one, index=[f"cell{i}" for i in range(157)]) for one in pair)
    assert foscttm(x, y) == foscttm(*pair)
    with pytest.raises(ValueError, match=r"same order: 157 of 157 names are shared"):
        foscttm(x, y.iloc[::-1])


def test_arguments_out_of_range_are_refused(pair):
    with pytest.raises(ValueError, match="chunk_size is 0"):
        foscttm(*pair, chunk_size=0)
    with pytest.raises(ValueError, match="no label in within has two cells"):
        foscttm(*pair, within=np.arange(157))
    with pytest.raises(ValueError, match="3 labels in within for 157 cells"):
        foscttm(*pair, within=["a", "b", "a"])
