from __future__ import annotations

import numpy as np
import pytest

from scatacformer.genome import Vocabulary, gather_chroms


def scaffolds(n_bins):
    """A vocabulary with so many bins on each scaffold."""
    chrom = np.repeat(np.arange(len(n_bins)), n_bins)
    start = np.concatenate([np.arange(n) for n in n_bins]) * 100
    return Vocabulary(tuple(f"s{k}" for k in range(len(n_bins))), chrom, start, start + 100)


def test_few_chromosomes_are_groups_of_their_own_whatever_their_size():
    v = scaffolds([100, 1, 5])
    names, group = gather_chroms(v)
    assert names == v.chrom_names
    assert group.tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_few_and_none_is_small(seed):
    rng = np.random.default_rng(seed)
    n_bins = np.maximum((rng.pareto(0.7, 700) * 5).clip(max=5_000).astype(int), 1)
    names, group = gather_chroms(scaffolds(n_bins), max_groups=40)
    sizes = np.bincount(group, weights=n_bins)
    assert len(names) == len(set(names)) == len(sizes) <= 40
    assert (sizes * 40 < n_bins.sum()).sum() <= 1
    large = n_bins * 40 >= n_bins.sum()
    assert (sizes[group[large]] >= n_bins[large]).all()
    alone = [name for name in names if "_and_" not in name]
    assert set(alone) <= {f"s{k}" for k in np.flatnonzero(large)}


def test_chromosomes_stay_alone_beside_many_scaffolds():
    names, group = gather_chroms(scaffolds([500, *[1] * 300, 400]), max_groups=10)
    assert names[0] == "s0"
    assert names[-1] == "s301"
    assert (group == 0).sum() == (group == len(names) - 1).sum() == 1
    assert np.all(np.diff(group[1:-1]) >= 0)  # in their order
    names, group = gather_chroms(scaffolds([500, *[1] * 30, 400]), max_groups=10)
    assert names == ("s0", "s1_and_29_others", "s31")


def test_equal_scaffolds_and_one_group():
    names, group = gather_chroms(scaffolds([2] * 3_000))
    assert len(names) <= 64
    assert names[0] == "s0_and_46_others"
    assert np.bincount(group).min() >= 46
    assert gather_chroms(scaffolds([1] * 9), max_groups=1).names == ("s0_and_8_others",)
    with pytest.raises(ValueError, match="at least 1"):
        gather_chroms(scaffolds([1]), max_groups=0)
