from __future__ import annotations

import numpy as np
import pytest

from scatacformer.training import hold_out

CHROMS = np.repeat(["chr1", "chr2", "chr3"], 4)
GROUPS = np.tile(["a", "b", "c", "c"], 3)


def test_chromosomes_alone():
    train, validation = hold_out(CHROMS, GROUPS, holdout_chromosomes=["chr2"])
    assert set(CHROMS[validation]) == {"chr2"}
    assert set(GROUPS[validation]) == {"a", "b", "c"}
    assert set(CHROMS[train]) == {"chr1", "chr3"}
    assert len(train) + len(validation) == len(CHROMS)


def test_groups_alone():
    train, validation = hold_out(CHROMS, GROUPS, holdout_groups="c")
    assert set(GROUPS[validation]) == {"c"}
    assert set(GROUPS[train]) == {"a", "b"}
    assert set(CHROMS[validation]) == {"chr1", "chr2", "chr3"}


def test_both_share_neither_chromosome_nor_group():
    train, validation = hold_out(CHROMS, GROUPS, holdout_chromosomes=["chr1"], holdout_groups=["a"])
    assert not set(CHROMS[train]) & set(CHROMS[validation])
    assert not set(GROUPS[train]) & set(GROUPS[validation])
    assert len(train) == 6
    assert len(validation) == 1
    assert (np.diff(train) > 0).all()


def test_without_groups_and_without_validation():
    train, validation = hold_out(CHROMS, holdout_chromosomes="chr3")
    assert train.tolist() == list(range(8))
    assert validation.tolist() == [8, 9, 10, 11]
    train, validation = hold_out(CHROMS, need_validation=False)
    assert len(train) == 12
    assert len(validation) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Nothing is held out"),
        ({"holdout_chromosomes": ["2"]}, "Did you mean 'chr2'"),
        ({"holdout_chromosomes": ["chr9"]}, "They are of: chr1, chr2, chr3"),
        ({"holdout_groups": ["d"]}, "none of the windows is of such a group"),
        ({"holdout_groups": ["a", "a"]}, "names one group twice"),
        ({"holdout_chromosomes": ["chr1", "chr2", "chr3"]}, "Nothing is left to train on: 3 of 3 chromosomes"),
        ({"holdout_chromosomes": ["chr1", "chr2"], "holdout_groups": ["a", "b", "c"]}, "Nothing is left to train on"),
    ],
    ids=str,
)
def test_what_leaves_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        hold_out(CHROMS, GROUPS, **options)


def test_a_group_that_is_not_on_the_chromosome_is_refused():
    with pytest.raises(ValueError, match="Nothing is left to validate on: none of the windows is on chr1 in b"):
        hold_out(["chr1", "chr2", "chr2"], ["a", "b", "a"], holdout_chromosomes="chr1", holdout_groups="b")
    with pytest.raises(ValueError, match="the windows have no groups"):
        hold_out(CHROMS, holdout_groups="a")
    with pytest.raises(ValueError, match="There are no windows"):
        hold_out([], [])
