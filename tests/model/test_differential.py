"""Regions that differ between groups of cells: found where they were planted, not where nothing was."""

from __future__ import annotations

import numpy as np
import pytest

from ._cells import planted, trained

COLUMNS = [
    "prob_da", "is_da_fdr", "bayes_factor", "effect_size", "emp_effect", "est_prob1", "est_prob2", "emp_prob1",
    "emp_prob2",
]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return trained(planted(240))


def test_the_columns_are_peakvis_and_the_groups_are_what_they_say(model):
    cells = model.adata
    kind = cells.obs["type"].astype(str).to_numpy()
    first, second = sorted(set(kind))[:2]
    found = model.differential_accessibility(groupby="type", group1=first, group2=second, delta=0.0)
    assert set(COLUMNS) <= set(found)
    assert found.index.is_unique
    assert set(found.index) == set(cells.var_names)
    assert found["p_value"].is_monotonic_increasing
    assert (found["comparison"] == f"{first} vs {second}").all()
    found = found.loc[cells.var_names]
    x = cells.X > 0
    np.testing.assert_allclose(found["emp_prob1"], np.asarray(x[kind == first].mean(0)).ravel(), atol=1e-6)
    np.testing.assert_allclose(found["emp_effect"], found["emp_prob2"] - found["emp_prob1"], atol=1e-6)
    np.testing.assert_allclose(found["effect_size"], found["est_prob2"] - found["est_prob1"], atol=1e-6)
    expected = model.get_normalized_accessibility(
        indices=np.flatnonzero(kind == second), normalize_cells=True, return_numpy=True
    ).mean(0)
    np.testing.assert_allclose(found["est_prob2"], expected, atol=1e-5)
    # what was planted is what is found
    assert found["is_da_fdr"].sum() > 10
    assert found.loc[found["is_da_fdr"], "emp_effect"].abs().min() > 0.1
    strict = model.differential_accessibility(groupby="type", group1=first, group2=second, delta=0.9)
    assert not strict["is_da_fdr"].any()
    vanilla = model.differential_accessibility(groupby="type", group1=first, group2=second, delta=0.9, mode="vanilla")
    assert vanilla["is_da_fdr"].sum() == found["is_da_fdr"].sum()


def test_halves_of_a_type_do_not_differ(model):
    kind = model.adata.obs["type"].astype(str).to_numpy()
    of_one = np.random.default_rng(0).permutation(np.flatnonzero(kind == kind[0]))
    half = len(of_one) // 2
    found = model.differential_accessibility(idx1=of_one[:half], idx2=of_one[half:], delta=0.0)
    assert found["is_da_fdr"].mean() <= 0.01
    assert list(found.index) == list(model.adata.var_names)


def test_cells_may_be_named_in_three_ways_and_one_group_against_the_rest(model):
    kind = model.adata.obs["type"].astype(str).to_numpy()
    mask = kind == kind[0]
    by_mask = model.differential_accessibility(idx1=mask)
    by_rows = model.differential_accessibility(idx1=np.flatnonzero(mask), idx2=~mask)
    by_query = model.differential_accessibility(idx1=f"type == '{kind[0]}'")
    for other in (by_rows, by_query):
        np.testing.assert_allclose(other["p_value"], by_mask["p_value"])
    every = model.differential_accessibility(groupby="type", silent=True)
    assert every["group1"].nunique() == len(set(kind))
    assert (every["group2"] == "Rest").all()
    small = model.differential_accessibility(idx1=mask, all_stats=False)
    assert "emp_prob1" not in small
    assert "est_prob1" in small


def test_within_batches(model):
    cells = model.adata
    found = model.differential_accessibility(groupby="type", batch_correction=True, silent=True)
    assert found["is_da_fdr"].any()
    first = sorted(set(cells.obs["type"].astype(str)))[0]
    one = model.differential_accessibility(groupby="type", group1=first, batch_correction=True, batchid1=["a"])
    rows = np.flatnonzero(cells.obs["type"].astype(str) == first)
    expected = model.get_normalized_accessibility(
        indices=rows, transform_batch="a", normalize_cells=True, return_numpy=True
    )
    np.testing.assert_allclose(one.loc[cells.var_names, "est_prob1"], expected.mean(0), atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "either groupby.*or idx1"),
        ({"groupby": "type", "idx1": [0, 1]}, "either groupby.*or idx1"),
        ({"groupby": "kind"}, "no column 'kind'; it has"),
        ({"groupby": "type", "group1": "neuron"}, "no value 'neuron'; it has"),
        ({"idx1": [0]}, "group 'idx1' has 1 cells; expected at least 2"),
        ({"idx1": [0, 1, 2], "idx2": [2, 3, 4]}, "share 1 cells"),
        ({"idx1": [0, 99_999]}, "idx1: indices reach 0 ... 99999"),
        ({"idx1": [True, False]}, "idx1: indices is a mask of shape .2,"),
        ({"idx1": [0, 1], "mode": "bayes"}, "mode is 'bayes'; expected 'change' or 'vanilla'"),
        ({"idx1": [0, 1], "batchid1": ["a"]}, "without batch_correction=True. Set it"),
    ],
)
def test_what_cannot_be_compared_is_refused(model, wrong, message):
    with pytest.raises(ValueError, match=message):
        model.differential_accessibility(**wrong)
