from __future__ import annotations

import itertools

import numpy as np
import pytest

from scatacformer.sequence import codes_of, count_kmers, kmer_names

OTHER = str.maketrans("ACGT", "TGCA")


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_a_kmer_and_its_reverse_complement_are_one_column(k):
    rng = np.random.default_rng(k)
    sequences = ["".join(rng.choice(list("ACGTN"), n, p=[0.3, 0.2, 0.2, 0.25, 0.05])) for n in (0, k - 1, k, 80, 200)]
    names = kmer_names(k)
    assert sorted(word for name in names for word in name.split("/")) == sorted(
        map("".join, itertools.product("ACGT", repeat=k))
    )
    assert all(len(name) == k or name[k + 1 :] == name[:k].translate(OTHER)[::-1] for name in names)
    found = count_kmers([codes_of(one) for one in sequences], k)
    for row, sequence in zip(found, sequences, strict=True):
        words = [sequence[i : i + k] for i in range(len(sequence) - k + 1)]
        assert row.tolist() == [sum(word in name.split("/") for word in words) for name in names]
    turned = count_kmers([codes_of(one.translate(OTHER)[::-1]) for one in sequences], k)
    assert np.array_equal(found, turned)
    assert found.dtype == np.float32 and found[-1].sum() > 50


@pytest.mark.parametrize("k", [0, 7, 2.0, True])
def test_other_lengths_are_refused(k):
    with pytest.raises(ValueError, match="the length of k-mers is .*; expected a whole number from 1 to 6"):
        count_kmers([codes_of("ACGT")], k)
