from __future__ import annotations

import numpy as np
import pytest

from scatacformer.genome import Vocabulary
from scatacformer.pseudobulk import Stretches, refuse_overlaps, refuse_unsorted
from scatacformer.training import hold_out

SIZES = {"chr1": 173, "chr2": 91, "chr3": 40, "chr4": 7, "chrX": 1}
GROUPS = ("b cells", "t cells", "monocytes")


def regions_of(sizes=SIZES):
    chrom = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    start = np.concatenate([np.arange(n) * 1000 for n in sizes.values()])
    return Vocabulary(tuple(sizes), chrom, start, start + 500)


def accessibility_of(share_closed, seed=0):
    rng = np.random.default_rng(seed)
    n_regions = sum(SIZES.values())
    return np.where(rng.random((len(GROUPS), n_regions)) < share_closed, 0, rng.random((len(GROUPS), n_regions)) + 0.1)


@pytest.mark.parametrize("share_closed", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_hold_outs_do_not_leak_whatever_is_closed(share_closed, epoch):
    regions, accessibility = regions_of(), accessibility_of(share_closed)
    stretches = Stretches.of(regions, GROUPS, accessibility=accessibility)
    split = hold_out(
        stretches.chroms, stretches.groups, holdout_chromosomes=["chr2", "chr4"], holdout_groups=["monocytes"]
    )
    training = stretches.select(split.train).tile(16, generator=np.random.default_rng(epoch))
    validation = stretches.select(split.validation).tile(16)
    names = np.array(regions.chrom_names)
    for windows, is_held in ((training, False), (validation, True)):
        for row, columns in enumerate(windows.regions()):
            columns = columns[columns >= 0]
            chroms = set(names[regions.chrom[columns]])
            assert len(chroms) == 1
            assert (chroms <= {"chr2", "chr4"}) == is_held
            assert (GROUPS[windows.group[row]] == "monocytes") == is_held
            # the regions that are meant, not others at the same place of another list
            assert (accessibility[windows.group[row], columns] > 0).all()
            assert chroms == {windows.chrom_names[windows.chrom[row]]}
    assert len(training)
    assert len(validation)


@pytest.mark.parametrize("n_regions", [1, 7, 16, 91, 500])
@pytest.mark.parametrize("stride", [None, 1, 5])
@pytest.mark.parametrize("seed", [None, 3])
def test_each_region_is_scored_once(n_regions, stride, seed):
    if stride is not None and stride > n_regions:
        return
    accessibility = accessibility_of(0.2)
    stretches = Stretches.of(regions_of(), GROUPS, accessibility=accessibility)
    generator = None if seed is None else np.random.default_rng(seed)
    windows = stretches.tile(n_regions, stride=stride, generator=generator)
    columns, scored = windows.regions(), windows.scored()
    assert not (scored & (columns < 0)).any()
    for group in range(len(GROUPS)):
        here = windows.group == group
        found = columns[here][scored[here]]
        assert sorted(found) == np.flatnonzero(accessibility[group]).tolist()


def test_windows_hold_neighbours_in_the_order_of_the_genome():
    regions = regions_of()
    shuffled = np.random.default_rng(0).permutation(regions.n_bins)
    mixed = Vocabulary(regions.chrom_names, regions.chrom[shuffled], regions.start[shuffled], regions.end[shuffled])
    windows = Stretches.of(mixed, GROUPS).tile(16)
    for columns in windows.regions():
        columns = columns[columns >= 0]
        assert (np.diff(mixed.start[columns]) == 1000).all()


def test_smaller_strides_show_more_neighbours_of_what_is_scored():
    stretches = Stretches.of(regions_of({"chr1": 400}), ["a"])
    least = {}
    for stride in (20, 5):
        windows = stretches.tile(20, stride=stride)
        inner = (windows.first > 0) & (windows.first < 380)
        left, right = windows.scored_first[inner], windows.length[inner] - windows.scored_stop[inner]
        least[stride] = min(left.min(), right.min())
    assert least[20] == 0
    assert least[5] >= 7


def test_a_centred_window_has_its_region_in_the_middle_where_it_can():
    accessibility = accessibility_of(0.3)
    stretches = Stretches.of(regions_of(), GROUPS, accessibility=accessibility)
    groups, regions = np.nonzero(accessibility)
    windows = stretches.centred(groups, regions, 15)
    columns = windows.regions()
    assert (columns[np.arange(len(columns)), windows.scored_first] == regions).all()
    assert (windows.scored().sum(1) == 1).all()
    chrom = regions_of().chrom
    for row in range(len(columns)):
        kept = columns[row][columns[row] >= 0]
        assert (chrom[kept] == chrom[regions[row]]).all()
        assert (accessibility[groups[row], kept] > 0).all()
        on_chrom = (accessibility[groups[row]] > 0) & (chrom == chrom[regions[row]])
        assert len(kept) == min(15, on_chrom.sum())
        before = on_chrom[: regions[row]].sum()
        after = on_chrom[regions[row] + 1 :].sum()
        if before >= 7 and after >= 7:
            assert windows.scored_first[row] == 7


def test_a_closed_region_cannot_be_centred():
    accessibility = accessibility_of(0.3)
    stretches = Stretches.of(regions_of(), GROUPS, accessibility=accessibility)
    closed = int(np.flatnonzero(accessibility[1] == 0)[0])
    with pytest.raises(ValueError, match=f"column {closed} in 't cells'"):
        stretches.centred(np.array([1]), np.array([closed]), 15)


def test_a_group_without_an_open_region_is_refused():
    accessibility = accessibility_of(0.1)
    accessibility[2] = 0
    with pytest.raises(ValueError, match="No region is accessible in group 'monocytes'"):
        Stretches.of(regions_of(), GROUPS, accessibility=accessibility)
    assert len(Stretches.of(regions_of(), GROUPS, groups=[0, 1], accessibility=accessibility)) == 10


@pytest.mark.parametrize(("n_regions", "stride"), [(0, None), (5, 6), (5, 0)])
def test_impossible_windows_are_refused(n_regions, stride):
    with pytest.raises(ValueError, match="Windows need at least 1 region"):
        Stretches.of(regions_of(), GROUPS).tile(n_regions, stride=stride)


@pytest.mark.filterwarnings("ignore:.*regions overlap another")
def test_regions_that_overlap_are_refused():
    regions = Vocabulary(("chr1", "chr2"), [0, 0, 1, 0], [0, 900, 0, 100], [500, 1000, 500, 450])
    with pytest.raises(ValueError, match=r"1 of 4 regions overlap another \(first: chr1:0-500 and chr1:100-450\)"):
        Stretches.of(regions, GROUPS)


def test_regions_out_of_order_are_named():
    regions = Vocabulary(("chr1", "chr2"), [0, 0, 1], [900, 0, 0], [1000, 500, 500])
    refuse_overlaps(regions)
    with pytest.raises(ValueError, match="not sorted by chromosome and start .first out of order: chr1:900-1000"):
        refuse_unsorted(regions)
    refuse_unsorted(regions_of())
