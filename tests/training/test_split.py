from __future__ import annotations

import numpy as np
import pytest

from scatacformer.training import split_cells


@pytest.mark.parametrize("n_cells", [1, 2, 3, 10, 999])
@pytest.mark.parametrize(("train", "validation"), [(None, None), (0.5, None), (0.5, 0.2), (1.0, None), (0.35, 0.65)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_cell_is_in_one_part(n_cells, train, validation, shuffle):
    split = split_cells(n_cells, train, validation, shuffle=shuffle)
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(n_cells))
    assert all((np.diff(part) > 0).all() for part in split)
    assert len(split.train) >= 1


@pytest.mark.parametrize(
    ("n_cells", "train", "validation", "sizes"),
    [
        (100, None, None, (90, 10, 0)),
        (95, 0.9, None, (86, 9, 0)),
        (100, 0.55, None, (55, 45, 0)),
        (100, 0.5, 0.29, (50, 29, 21)),
        (100, 0.7, 0.3, (70, 30, 0)),
        (3, 0.9, None, (3, 0, 0)),
    ],
)
def test_sizes_are_rounded_as_documented(n_cells, train, validation, sizes):
    assert tuple(map(len, split_cells(n_cells, train, validation))) == sizes


def test_the_seed_decides():
    one, same, other = (split_cells(500, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.validation, same.validation)
    assert not np.array_equal(one.validation, other.validation)


def test_the_global_random_state_is_left_alone():
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    split_cells(50)
    assert np.random.random() == expected


def test_without_shuffle_the_first_cells_are_trained_on():
    split = split_cells(10, 0.5, 0.2, shuffle=False)
    assert [part.tolist() for part in split] == [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]


@pytest.mark.parametrize("n_cells", [2, 3, 5, 9, 50])
@pytest.mark.parametrize("validation", [None, 0.01])
def test_early_stopping_gets_a_cell(n_cells, validation):
    split = split_cells(n_cells, 0.9, validation, need_validation=True)
    assert len(split.validation) >= 1
    assert len(split.train) >= 1
    assert len(np.unique(np.concatenate(split))) == n_cells


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_size": 0.0}, "Invalid train_size. Must be: 0 < train_size <= 1, found 0.0"),
        ({"train_size": 1.5}, "Invalid train_size"),
        ({"validation_size": 1.0}, "Invalid validation_size. Must be 0 <= validation_size < 1"),
        ({"validation_size": -0.1}, "Invalid validation_size"),
        ({"train_size": 0.9, "validation_size": 0.2}, "is 1.1; expected between 0 and 1"),
        ({"n_cells": 0}, "train set will be empty"),
        ({"train_size": 1.0, "need_validation": True}, "early stopping needs cells.*Set train_size below 1"),
        ({"validation_size": 0.0, "need_validation": True}, "early stopping needs cells"),
        ({"n_cells": 1, "need_validation": True}, "early stopping needs cells"),
    ],
)
def test_shares_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        split_cells(**({"n_cells": 10} | arguments))
