"""The shift of a batch is told from its cells' counterparts, not from its mean."""

from __future__ import annotations

import numpy as np
import pytest

from scatacformer.cells import batch_shifts, local_shifts

CENTRES = np.array([[4.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0]])


def cells(sizes: dict[int, list[int]], shift: dict[int, list[float]], seed: int = 0):
    """``sizes``: cells of each type, by batch."""
    rng = np.random.default_rng(seed)
    kinds = np.concatenate([np.repeat(np.arange(3), n) for n in sizes.values()])
    codes = np.repeat(list(sizes), [sum(n) for n in sizes.values()])
    vectors = CENTRES[kinds] + 0.5 * rng.standard_normal((len(kinds), 4))
    for batch, by in shift.items():
        vectors[codes == batch] += by
    return vectors.astype(np.float32), codes


def test_a_shift_is_found_though_the_batches_hold_other_shares_of_types():
    shift = [0.0, 0.5, 0.0, 1.5]
    vectors, codes = cells({0: [200, 100, 20], 1: [20, 60, 150]}, {1: shift})
    by_means = vectors[codes == 1].mean(0) - vectors[codes == 0].mean(0)
    found = batch_shifts(vectors, codes, 2)
    assert found.dtype == np.float32
    assert not found[0].any()  # the largest stays
    np.testing.assert_allclose(found[1], shift, atol=0.3)
    assert np.abs(by_means - shift).max() > 1


def test_no_effect_gives_no_shift_and_types_of_one_batch_alone_stay_apart():
    vectors, codes = cells({0: [200, 200, 0], 1: [0, 150, 150]}, {})
    assert np.abs(batch_shifts(vectors, codes, 2)[1]).max() < 0.2


def test_three_batches_meet():
    vectors, codes = cells({0: [90, 90, 90], 1: [60, 60, 60], 2: [40, 40, 40]}, {1: [0, 0, 0, 2], 2: [0, 0, 0, -2]})
    moved = vectors - batch_shifts(vectors, codes, 3)[codes]
    means = np.stack([moved[codes == b].mean(0) for b in range(3)])
    assert np.ptp(means, axis=0).max() < 0.8  # of 4


def test_many_batches_that_are_all_displaced_meet():
    rng = np.random.default_rng(1)
    ways = {b: [*rng.normal(0, 0.5, 3), rng.normal(0, 3)] for b in range(8)}
    sizes = {b: [60 - 3 * b, 40 + b, 0 if b % 3 == 2 else 50] for b in range(8)}  # some lack a type
    vectors, codes = cells(sizes, ways)
    moved = vectors - batch_shifts(vectors, codes, 8)[codes]
    kinds = np.concatenate([np.repeat(np.arange(3), n) for n in sizes.values()])
    for kind in range(3):
        means = [moved[(codes == b) & (kinds == kind)].mean(0) for b in range(8) if sizes[b][kind]]
        assert np.ptp(means, axis=0).max() < 0.6  # of up to 10


@pytest.mark.parametrize("sizes", [{0: [100, 0, 0], 1: [5, 0, 0]}, {0: [5, 0, 0], 1: [4, 0, 0]}])
def test_a_batch_of_a_few_cells_stays(sizes):
    vectors, codes = cells(sizes, {1: [0, 0, 0, 2]})
    assert not batch_shifts(vectors, codes, 3).any()  # a third batch without cells too


WAYS = np.array([[0, 0, 0, 1.2], [0, 0, 0, -1.2], [0, 0, 0, 0]])  # of each type: their mean is no shift at all


def displaced_by_type(sizes: dict[int, list[int]], seed: int = 0):
    vectors, codes = cells(sizes, {}, seed)
    kinds = np.concatenate([np.repeat(np.arange(3), n) for n in sizes.values()])
    return vectors + np.float32(WAYS)[kinds] * (codes == 1)[:, None], codes, kinds


def test_what_differs_from_type_to_type_is_taken_out_place_by_place():
    vectors, codes, kinds = displaced_by_type({0: [200, 200, 200], 1: [150, 150, 150]})
    local = local_shifts(vectors, codes, 2)
    assert local.shifts.dtype == local.centres.dtype == np.float32
    assert local.shifts.shape == (2, len(local.centres), 4)
    assert not local.shifts[0].any()  # the largest stays
    moved = vectors - local.of(vectors, codes)
    for kind in range(3):
        mine = kinds == kind
        way = moved[mine & (codes == 1)].mean(0) - moved[mine & (codes == 0)].mean(0)
        assert np.linalg.norm(way) < 0.45, kind  # of 1.2
        assert np.linalg.norm(moved[mine].mean(0) - vectors[mine & (codes == 0)].mean(0)) < 0.3  # where the type was
    again = local_shifts(vectors, codes, 2)
    np.testing.assert_array_equal(again.shifts, local.shifts)


def test_a_place_that_one_batch_has_to_itself_hardly_moves():
    vectors, codes, kinds = displaced_by_type({0: [250, 250, 0], 1: [150, 150, 150]})
    local = local_shifts(vectors, codes, 2)
    by = local.of(vectors, codes)
    assert np.linalg.norm(by[(kinds == 2) & (codes == 1)].mean(0)) < 0.2
    assert np.linalg.norm(by[(kinds == 0) & (codes == 1)].mean(0)) > 0.6


@pytest.mark.parametrize("sizes", [{0: [100, 0, 0], 1: [5, 0, 0]}, {0: [5, 0, 0], 1: [4, 0, 0]}])
def test_a_batch_of_a_few_cells_stays_in_every_place(sizes):
    vectors, codes = cells(sizes, {1: [0, 0, 0, 2]})
    assert not local_shifts(vectors, codes, 3).shifts.any()


def test_cells_that_are_all_alike_have_no_shift():
    vectors, codes = np.ones((60, 3), np.float32), np.arange(60) % 2
    local = local_shifts(vectors, codes, 2)
    assert not local.of(vectors, codes).any()


def test_where_nothing_is_displaced_hardly_anything_moves():
    vectors, codes = cells({0: [200, 200, 200], 1: [150, 150, 150]}, {})
    by = local_shifts(vectors, codes, 2).of(vectors, codes)[codes == 1]
    assert np.linalg.norm(by, axis=1).mean() < 0.15  # a type is .5 wide; unshrunken steps add up to .25


@pytest.mark.parametrize("n_batches", [2, 3])
def test_the_order_of_the_cells_does_not_matter(n_batches):
    sizes = {0: [400, 350, 200], 1: [200, 300, 350], 2: [150, 150, 150]}
    sizes = {batch: sizes[batch] for batch in range(n_batches)}
    vectors, codes = cells(sizes, {1: [0, 0.5, 0, 1.5], n_batches - 1: [0.3, 0, 1.0, 0]})
    shifts = batch_shifts(vectors, codes, n_batches)
    local = local_shifts(vectors - shifts[codes], codes, n_batches)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(vectors))
        again = batch_shifts(vectors[order], codes[order], n_batches)
        np.testing.assert_allclose(again, shifts, atol=1e-6)
        moved = vectors[order] - shifts[codes][order]
        found = local_shifts(moved, codes[order], n_batches).of(moved, codes[order])
        np.testing.assert_allclose(found, local.of(vectors - shifts[codes], codes)[order], atol=1e-5)
