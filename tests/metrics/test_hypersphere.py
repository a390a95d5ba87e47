from __future__ import annotations

import numpy as np
import pytest

from scatacformer.metrics import alignment, uniformity


def on_sphere(n, d, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_alignment_by_hand():
    x = np.array([[1.0, 0], [0, 1]])
    assert alignment(x, x) == 0
    assert alignment(x, -x) == pytest.approx(4)
    assert alignment(x, x[::-1]) == pytest.approx(2)
    assert alignment(x, [[1, 0], [0.6, 0.8]]) == pytest.approx((0 + 0.4) / 2)


def test_alignment_is_two_less_twice_the_cosine():
    x, y = on_sphere(50, 7), on_sphere(50, 7, seed=1)
    assert alignment(x, y) == pytest.approx(2 - 2 * (x * y).sum(1).mean())


def test_uniformity_by_hand():
    # squared distances: 2, 4, 2
    x = np.array([[1.0, 0], [0, 1], [-1, 0]])
    assert uniformity(x) == pytest.approx(np.log((2 * np.exp(-4) + np.exp(-8)) / 3))
    assert uniformity(x, t=1) == pytest.approx(np.log((2 * np.exp(-2) + np.exp(-4)) / 3))


@pytest.mark.parametrize("chunk_size", [1, 7, 40, 41, 1000])
def test_uniformity_is_over_all_pairs_of_two_whatever_the_chunk(chunk_size):
    x = on_sphere(41, 5)
    pairs = [np.exp(-2 * ((x[i] - x[j]) ** 2).sum()) for i in range(41) for j in range(i)]
    assert uniformity(x, chunk_size=chunk_size) == pytest.approx(np.log(np.mean(pairs)), rel=1e-12)


def test_uniformity_is_zero_for_a_collapse_and_falls_as_cells_spread():
    assert uniformity(np.ones((20, 3))) == pytest.approx(0)
    types = on_sphere(5, 64)[np.arange(400) % 5]
    values = [uniformity(types), uniformity(types + 0.1 * on_sphere(400, 64, 1)), uniformity(on_sphere(400, 64))]
    assert 0 > values[0] > values[1] > values[2] > -4
    assert values[2] == pytest.approx(-4, abs=0.2)  # unrelated directions: |x - y|^2 = 2


def test_lengths_do_not_matter():
    x, y = on_sphere(30, 4), on_sphere(30, 4, seed=1)
    scale = np.random.default_rng(2).uniform(0.1, 9, size=(30, 1))
    assert alignment(x * scale, y * 3) == pytest.approx(alignment(x, y))
    assert uniformity(x * scale) == pytest.approx(uniformity(x))


def test_bad_input_is_refused():
    x = on_sphere(6, 3)
    dead = x.copy()
    dead[4] = 0
    with pytest.raises(ValueError, match="1 of 6 cells of y are all zeros"):
        alignment(x, dead)
    with pytest.raises(ValueError, match="all zeros"):
        uniformity(dead)
    with pytest.raises(ValueError, match="x has 6 cells, y has 5"):
        alignment(x, x[:5])
    with pytest.raises(ValueError, match="x has 3 dimensions, y has 2"):
        alignment(x, x[:, :2])
    with pytest.raises(ValueError, match="t is 0"):
        uniformity(x, t=0)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        uniformity(x, chunk_size=0)
