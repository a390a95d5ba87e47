from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest

from scatacformer.genome import Vocabulary, overlap_matrix


def random_regions(rng, n, widest, chroms=("c1", "c2", "c3"), length=2_000):
    start = rng.integers(0, length, n)
    rows = np.column_stack([rng.integers(0, len(chroms), n), start, start + rng.integers(1, widest, n)])
    chrom, start, end = rng.permutation(np.unique(rows, axis=0)).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # they overlap one another on purpose
        return Vocabulary(chroms, chrom, start, end)


@pytest.mark.parametrize("widest", [3, 40, 1500])
@pytest.mark.parametrize("seed", range(5))
def test_equals_all_against_all(seed, widest):
    rng = np.random.default_rng(seed)
    query = random_regions(rng, 120, widest, ("c1", "c2", "elsewhere"))
    target = random_regions(rng, 200, 60, ("c2", "c3", "c1"))
    same_chrom = np.array(query.chrom_names)[query.chrom][:, None] == np.array(target.chrom_names)[target.chrom]
    overlap = (query.start[:, None] < target.end) & (target.start < query.end[:, None])
    expected = same_chrom & overlap
    assert expected.any()
    matrix = overlap_matrix(query, target)
    assert np.array_equal(matrix.toarray(), expected.astype(np.float32))
    assert matrix.has_canonical_format


def test_half_open_neighbours_do_not_overlap():
    bins = Vocabulary.from_chrom_sizes({"chr1": 15_000}, 5000)
    peaks = Vocabulary(("chr1",), [0, 0, 0], [0, 4_999, 10_000], [1, 5_001, 15_000])
    assert overlap_matrix(peaks, bins).toarray().tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_no_shared_chromosome_gives_an_empty_matrix():
    a, b = Vocabulary(("x",), [0], [0], [9]), Vocabulary(("y",), [0], [0], [9])
    assert overlap_matrix(a, b).nnz == 0


def test_one_region_over_everything_costs_no_more_than_its_hits():
    n = 200_000
    start = np.arange(n) * 10
    narrow = Vocabulary(("c",), np.zeros(n, int), start, start + 5)
    with pytest.warns(UserWarning, match="overlap"):
        wide = Vocabulary(("c",), np.zeros(n + 1, int), np.append(start, 0), np.append(start + 5, 10 * n))
    tracemalloc.start()
    matrix = overlap_matrix(narrow, wide)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6  # all candidates between the wide one's start and end would be 2e10
    assert matrix.nnz == 2 * n
