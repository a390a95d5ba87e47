from __future__ import annotations

import logging

import numpy as np
import pytest

from scatacformer.genome import Vocabulary, overlap_matrix
from scatacformer.pp import union_regions


def regions_of(*spans, assembly=None):
    names = list(dict.fromkeys(chrom for chrom, _, _ in spans))
    chrom = np.array([names.index(chrom) for chrom, _, _ in spans])
    return Vocabulary(tuple(names), chrom, [a for _, a, _ in spans], [b for _, _, b in spans], assembly)


REFERENCE = regions_of(("chr2", 100, 200), ("chr2", 300, 400), ("chr1", 50, 90))


def test_the_reference_wins_and_what_is_new_joins(caplog):
    # 200-300 and 10-100 touch regions of the reference, and share no base with them
    new = regions_of(("chr1", 500, 600), ("chr2", 150, 190), ("chr3", 5, 9), ("chr2", 200, 300), ("chr2", 10, 100))
    with caplog.at_level(logging.INFO, logger="scatacformer"):
        union = union_regions(new, REFERENCE)
    assert union.names.tolist() == [
        "chr2:10-100",
        "chr2:100-200",
        "chr2:200-300",
        "chr2:300-400",
        "chr1:50-90",
        "chr1:500-600",
        "chr3:5-9",
    ]
    assert "4 of 5 new regions (80.0 %) overlap none of the 3 regions of the reference" in caplog.text


def test_many_random_regions(tmp_path):
    rng = np.random.default_rng(0)

    def random_regions(n):
        chrom = np.sort(rng.integers(0, 3, n))
        place = np.sort(rng.choice(100_000, 2 * n, replace=False)).reshape(n, 2)
        order = rng.permutation(n)
        return Vocabulary(("a", "b", "c"), chrom[order], place[order, 0], place[order, 1])

    new, reference = random_regions(500), random_regions(400)
    union = union_regions(new.to_frame(), reference)
    assert set(reference.names) <= set(union.names)
    kept = set(union.names) - set(reference.names)
    is_new = np.diff(overlap_matrix(new, reference).indptr) == 0
    assert kept == set(np.array(new.names)[is_new])
    assert (union.genome_order == np.arange(union.n_bins)).all()
    new.to_bed(tmp_path / "new.bed.gz")
    assert union_regions(tmp_path / "new.bed.gz", reference) == union
    assert union_regions(reference, reference).names.tolist() == sorted_names(reference)


def sorted_names(regions):
    return np.array(regions.names)[regions.genome_order].tolist()


@pytest.mark.filterwarnings("ignore:.*regions overlap another")
def test_what_cannot_be_brought_together_is_refused():
    with pytest.raises(ValueError, match=r"1 of 2 new regions overlap another \(first: chr2:1-9 and chr2:8-12\)"):
        union_regions(regions_of(("chr2", 8, 12), ("chr2", 1, 9)), REFERENCE)
    with pytest.raises(ValueError, match="share no chromosome: 2 and chr2, chr1"):
        union_regions(regions_of(("2", 8, 12)), REFERENCE)
    with pytest.raises(ValueError, match="new must be an AnnData"):
        union_regions([1, 2], REFERENCE)
    with pytest.raises(ValueError, match="mm10"):
        union_regions(regions_of(("chr2", 8, 12), assembly="mm10"), regions_of(("chr2", 8, 12), assembly="hg38"))
