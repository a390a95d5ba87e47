"""Labels, neighbours and mixing: against slow loops that follow the definitions, and against what must hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scatacformer.metrics._neighbors as neighbors
from scatacformer.metrics import (
    batch_asw,
    cell_type_asw,
    graph_connectivity,
    mean_average_precision,
    neighbor_conservation,
    seurat_alignment_score,
)


@pytest.fixture
def cells():
    """(x, label, batch): three overlapping groups of 60, 40 and 20 cells in two batches, one a little aside."""
    rng = np.random.default_rng(0)
    label = np.repeat(["T", "B", "mono"], [60, 40, 20])
    batch = rng.permutation(np.repeat([0, 1], [70, 50]))
    x = (
        rng.normal(size=(120, 5))
        + 2.0 * np.repeat(rng.normal(size=(3, 5)), [60, 40, 20], axis=0)
        + 0.4 * batch[:, None]
    )
    return x, label, batch


def neighbours(x, k):
    """k nearest others of each cell, by sorting all distances."""
    out = []
    for i in range(len(x)):
        d = np.sqrt(((x - x[i]) ** 2).sum(1))
        d[i] = np.inf
        out.append(np.argsort(d, kind="stable")[:k])
    return np.array(out)


def silhouettes(x, label):
    out = []
    for i in range(len(x)):
        d = np.sqrt(((x - x[i]) ** 2).sum(1))
        own = (label == label[i]) & (np.arange(len(x)) != i)
        if not own.any():
            out.append(0.0)
            continue
        a, b = d[own].mean(), min(d[label == other].mean() for other in set(label) - {label[i]})
        out.append((b - a) / max(a, b))
    return np.array(out)


@pytest.mark.parametrize("k", [1, 9, 119])
def test_average_precision_follows_its_definition(cells, k):
    x, label, _ = cells
    precisions = []
    for i, near in enumerate(neighbours(x, k)):
        hits = [label[j] == label[i] for j in near]
        at_hits = [sum(hits[: r + 1]) / (r + 1) for r in range(k) if hits[r]]
        precisions.append(np.mean(at_hits) if at_hits else 0.0)
    assert mean_average_precision(x, label, k) == pytest.approx(np.mean(precisions), rel=1e-12)


def test_average_precision_by_hand():
    x = np.array([[0.0], [1.0], [2.1], [3.3]])
    # the two nearest of 0, 1, 2, 3 are 12, 02, 13, 21: with abab they hit at .x, .., .., .x
    assert mean_average_precision(x, ["a", "b", "a", "b"], k=2) == pytest.approx((1 / 2 + 0 + 0 + 1 / 2) / 4)
    assert mean_average_precision(x, ["a", "a", "b", "b"], k=1) == pytest.approx(3 / 4)


def test_one_percent_of_cells_are_neighbours_unless_told(cells):
    x, label, batch = (np.tile(one, (2, 1)) if one.ndim == 2 else np.tile(one, 2) for one in cells)
    x = x + np.random.default_rng(1).normal(size=x.shape)  # 240 cells: 2 neighbours
    assert (
        mean_average_precision(x, label) == mean_average_precision(x, label, 2) != mean_average_precision(x, label, 3)
    )
    assert seurat_alignment_score(x, label) == seurat_alignment_score(x, label, 1)  # 120 cells in a draw
    assert neighbor_conservation(x, x + batch[:, None]) == neighbor_conservation(x, x + batch[:, None], 2)


def test_silhouettes_follow_their_definition(cells):
    x, label, batch = cells
    assert cell_type_asw(x, label) == pytest.approx((silhouettes(x, label).mean() + 1) / 2, rel=1e-9)
    mixed = [1 - np.abs(silhouettes(x[label == one], batch[label == one])).mean() for one in ("T", "B", "mono")]
    assert batch_asw(x, label, batch) == pytest.approx(np.mean(mixed), rel=1e-9)


def test_a_label_that_says_nothing_of_batches_takes_no_part(cells):
    x, label, batch = cells
    one_batch = np.where(label == "mono", 0, batch)
    known = label != "mono"
    assert batch_asw(x, label, one_batch) == pytest.approx(batch_asw(x[known], label[known], batch[known]))
    with pytest.raises(ValueError, match="no label has two batches and two cells of one of them"):
        batch_asw(x, label, np.where(label == "T", 0, 1))


def test_graph_connectivity_follows_its_definition(cells):
    x, label, _ = cells
    for k in (1, 2, 3, 5):
        near, shares = neighbours(x, k), {True: [], False: []}
        edge = np.zeros((120, 120), bool)
        edge[np.arange(120)[:, None], near] = True
        for one in ("T", "B", "mono"):
            rows = np.flatnonzero(label == one)
            for directed in (True, False):
                reach = edge[np.ix_(rows, rows)]
                reach = (reach if directed else reach | reach.T) | np.eye(len(rows), dtype=bool)
                for _ in range(7):  # paths of up to 2^7 steps
                    reach = reach @ reach
                shares[directed].append((reach & reach.T).sum(1).max() / len(rows))
        assert graph_connectivity(x, label, k) == pytest.approx(np.mean(shares[True]))
        assert graph_connectivity(x, label, k, directed=False) == pytest.approx(np.mean(shares[False]))


def test_connected_labels_have_one_and_a_torn_one_less():
    x = np.concatenate([np.random.default_rng(0).normal(size=(40, 2)) + centre for centre in (0, 100, 200, 300)])
    assert graph_connectivity(x, np.repeat([0, 1, 2, 3], 40)) == 1
    assert graph_connectivity(x, np.repeat([0, 1, 1, 1], 40)) == pytest.approx((1 + 1 / 3) / 2)


@pytest.mark.parametrize("k", [1, 6, 40])
def test_conservation_follows_its_definition(cells, k):
    before, _, batch = cells
    after = before[:, :3] + 0.3 * np.random.default_rng(1).normal(size=(120, 3)) + batch[:, None]
    pairs = zip(neighbours(before, k), neighbours(after, k), strict=True)
    jaccard = [len({*a} & {*b}) / len({*a} | {*b}) for a, b in pairs]
    assert neighbor_conservation(before, after, k) == pytest.approx(np.mean(jaccard), rel=1e-12)
    assert neighbor_conservation(after, before, k) == pytest.approx(np.mean(jaccard), rel=1e-12)


def test_conservation_of_the_same_is_one_and_of_anything_is_chance(cells):
    before, _, _ = cells
    turned = before @ np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0] * 7 + 3
    assert neighbor_conservation(before, turned, 10) == 1
    unrelated = np.random.default_rng(3).normal(size=(120, 4))
    assert neighbor_conservation(before, unrelated, 10) == pytest.approx(10 / 240, abs=0.02)


@pytest.mark.parametrize("k", [1, 4])
def test_alignment_score_follows_its_definition(k):
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(size=(50, 3)), rng.normal(size=(50, 3)) + 1])
    modality = np.repeat(["rna", "atac"], 50)
    same = np.mean([(modality[near] == modality[i]).sum() for i, near in enumerate(neighbours(x, k))])
    expected = (k - same) * 2 / (k * (2 - 1))
    assert 0.2 < expected < 0.95
    # as many cells of both: every draw is all of them, whatever the seed
    for seed in (0, 1):
        assert seurat_alignment_score(x, modality, k, seed=seed) == pytest.approx(expected, rel=1e-12)


def test_alignment_score_draws_as_many_cells_of_each_modality():
    rng = np.random.default_rng(5)
    x, modality = rng.normal(size=(900, 3)), np.repeat([0, 1, 2], [700, 100, 100])
    # mixed at random; without drawing, neighbours of the rare ones would be of the common one
    assert seurat_alignment_score(x, modality, 5) > 0.93
    assert seurat_alignment_score(x + 100 * modality[:, None], modality, 5) == 0
    few = seurat_alignment_score(x, modality, 5, n_subsamples=1)
    assert few == seurat_alignment_score(x, modality, 5, n_subsamples=1)
    assert few != seurat_alignment_score(x, modality, 5, n_subsamples=1, seed=1)


def test_alignment_score_is_at_most_one():
    # each cell's nearest is its partner: more mixed than by chance
    x = np.repeat(np.random.default_rng(6).normal(size=(30, 3)), 2, axis=0)
    x[1::2] += 1e-6
    assert seurat_alignment_score(x, np.tile([0, 1], 30), 1) == 1


def test_perfect_and_shuffled_labels(cells):
    _, label, _ = cells
    apart = np.random.default_rng(7).normal(size=(120, 3)) + 1000 * pd.factorize(label)[0][:, None]
    assert mean_average_precision(apart, label, 10) == 1
    assert cell_type_asw(apart, label) > 0.99
    shuffled = np.random.default_rng(8).permutation(label)
    assert mean_average_precision(apart, shuffled, 10) < 0.6
    assert cell_type_asw(apart, shuffled) == pytest.approx(0.45, abs=0.08)


def test_copies_of_a_cell_are_neighbours_and_the_cell_itself_is_not():
    # five copies of each place: itself need not come first among its copies
    x = np.repeat(np.arange(12.0)[:, None] ** 2, 5, axis=0)
    for _, near in neighbors.nearest(x, 4):
        assert (near // 5 == np.arange(60)[:, None] // 5).all()
        assert not (near == np.arange(60)[:, None]).any()
        assert (np.diff(np.sort(near, 1), axis=1) > 0).all()
    assert mean_average_precision(x, np.tile(np.arange(5), 12), 4) == 0
    assert neighbor_conservation(x, 2 * x, 4) == 1


def test_the_number_of_rows_at_a_time_does_not_matter(cells, monkeypatch):
    x, label, batch = cells

    def all_of_them():
        return (
            mean_average_precision(x, label, 7),
            neighbor_conservation(x, x[:, :3], 7),
            seurat_alignment_score(x, batch, 7),
            graph_connectivity(x, label, 3),
        )

    whole = all_of_them()
    monkeypatch.setattr(neighbors, "NUMBERS_AT_ONCE", 50)
    assert all_of_them() == pytest.approx(whole, rel=1e-12)


WITH_LABELS = [
    pytest.param(lambda x, labels, k: mean_average_precision(x, labels, k), id="mean_average_precision"),
    pytest.param(lambda x, labels, k: graph_connectivity(x, labels, k), id="graph_connectivity"),
    pytest.param(lambda x, labels, k: seurat_alignment_score(x, labels, k), id="seurat_alignment_score"),
    pytest.param(lambda x, labels, k: cell_type_asw(x, labels), id="cell_type_asw"),
    pytest.param(lambda x, labels, k: batch_asw(x, labels, np.arange(20) % 2), id="batch_asw"),
    pytest.param(lambda x, labels, k: batch_asw(x, np.arange(20) % 2, labels), id="batch_asw_batch"),
]


@pytest.mark.parametrize("metric", WITH_LABELS)
def test_bad_labels_and_coordinates_are_refused(metric):
    x, labels = np.random.default_rng(0).normal(size=(20, 2)), np.array(["a", "b"] * 10, dtype=object)
    with pytest.raises(ValueError, match=r"all 20 \w+ are 'a'; expected at least two"):
        metric(x, ["a"] * 20, 3)
    with pytest.raises(ValueError, match="19 .* for 20 cells"):
        metric(x, labels[:19], 3)
    with pytest.raises(ValueError, match=r"1 of 20 \w+ are missing"):
        metric(x, np.where(np.arange(20) == 3, None, labels), 3)
    with pytest.raises(ValueError, match=r"1 of 20 cells of x have NaN .*row 7\)"):
        metric(np.where(np.arange(20)[:, None] == 7, np.nan, x), labels, 3)
    with pytest.raises(TypeError, match="x is sparse"):
        metric(sp.csr_matrix(x), labels, 3)


def test_too_many_neighbours_are_refused():
    x, labels = np.random.default_rng(0).normal(size=(20, 2)), ["a", "b"] * 10
    for k in (0, 20, 50):
        with pytest.raises(ValueError, match=rf"k is {k} for 20 cells; expected 1 to 19"):
            mean_average_precision(x, labels, k)
        with pytest.raises(ValueError, match="expected 1 to 19"):
            neighbor_conservation(x, x, k)
        with pytest.raises(ValueError, match="expected 1 to 19"):
            graph_connectivity(x, labels, k)
    with pytest.raises(ValueError, match="k is 8 for 8 cells"):
        seurat_alignment_score(x, ["a"] * 4 + ["b"] * 16, 8)
    with pytest.raises(ValueError, match="n_subsamples is 0"):
        seurat_alignment_score(x, labels, n_subsamples=0)
    with pytest.raises(ValueError, match="before has 20 cells, after has 19"):
        neighbor_conservation(x, x[:19])
    with pytest.raises(ValueError, match="20 cells have as many different labels"):
        cell_type_asw(x, np.arange(20))


def test_kinds_of_labels_do_not_matter(cells):
    x, label, _ = cells
    expected = mean_average_precision(x, label, 5)
    index = [f"cell{i}" for i in range(120)]
    kinds = [list(label), pd.Categorical(label), pd.Series(label, index=index), pd.Series(pd.Categorical(label), index)]
    for kind in [*kinds, pd.factorize(label)[0], pd.Series(label, dtype="string")]:
        assert mean_average_precision(x, kind, 5) == expected
