from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
import pytest

from scatacformer.genome import Genes, Vocabulary, window_pairs


def random_case(seed, overlapping):
    """Genes and unsorted regions of three chromosomes, one of the genes' without regions and the other way round."""
    rng = np.random.default_rng(seed)
    n = 150
    widest = 900 if overlapping else 5
    start = rng.choice(np.arange(0, 4_000, 5), n)
    rows = np.column_stack([rng.integers(0, 3, n), start, start + rng.integers(1, widest + 1, n)])
    chrom, start, end = rng.permutation(pd.DataFrame(rows).drop_duplicates([0, 1]).to_numpy()).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # they overlap one another on purpose
        vocabulary = Vocabulary(("c1", "c2", "only_bins"), chrom, start, end)
    m = 40
    genes = Genes(
        [f"g{i}" for i in range(m)],
        ("c2", "only_genes", "c1"),
        rng.integers(-1, 3, m),
        rng.integers(0, 4_200, m),
        rng.choice(["+", "-", "."], m),
    )
    return genes, vocabulary


def all_against_all(genes, vocabulary, window):
    pairs = {}
    for g in np.flatnonzero(genes.known):
        for b in range(vocabulary.n_bins):
            if vocabulary.chrom_names[vocabulary.chrom[b]] == genes.chrom_names[genes.chrom[g]]:
                bases = np.arange(vocabulary.start[b], vocabulary.end[b]) - genes.tss[g]
                nearest = int(bases[np.abs(bases).argmin()])
                if abs(nearest) <= window:
                    pairs[int(g), b] = -nearest if genes.strand[g] == "-" else nearest
    return pairs


@pytest.mark.parametrize("window", [0, 7, 300, 10_000])
@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_equals_all_against_all(seed, overlapping, window):
    genes, vocabulary = random_case(seed, overlapping)
    expected = all_against_all(genes, vocabulary, window)
    assert expected or window < 10
    indptr, bins, distance = window_pairs(genes, vocabulary, window)
    gene = np.repeat(np.arange(len(genes)), np.diff(indptr))
    assert dict(zip(zip(gene.tolist(), bins.tolist(), strict=True), distance.tolist(), strict=True)) == expected
    assert len(bins) == len(expected)
    assert (np.diff(bins)[np.diff(gene) == 0] > 0).all()
    assert (indptr.dtype, bins.dtype, distance.dtype) == (np.int64, np.int32, np.int64)


def test_upstream_is_negative_on_either_strand():
    bins = Vocabulary.from_chrom_sizes({"chr1": 50_000}, 5000)
    genes = Genes(["plus", "minus"], ("chr1",), [0, 0], [20_000, 20_000], ["+", "-"])
    indptr, bin_ids, distance = window_pairs(genes, bins, 5_001)
    assert indptr.tolist() == [0, 4, 8]
    assert bin_ids.tolist() == [2, 3, 4, 5] * 2
    assert distance.tolist() == [-5_001, -1, 0, 5_000, 5_001, 1, 0, -5_000]


@pytest.mark.parametrize(("of_genes", "of_bins"), [("1", "chr1"), ("chr1", "1"), ("NC_000001.11", "chr1")])
def test_chromosomes_may_be_called_otherwise(of_genes, of_bins):
    bins = Vocabulary.from_chrom_sizes({of_bins: 20_000}, 5000)
    genes = Genes(["a", "b"], (of_genes, "MT"), [0, 1], [7_000, 3], ["+", "+"])
    assert window_pairs(genes, bins, 0).indptr.tolist() == [0, 1, 1]
    assert window_pairs(genes, bins, 0).bins.tolist() == [1]


def test_genes_on_no_chromosome_of_the_bins_are_refused():
    bins = Vocabulary.from_chrom_sizes({"chr1": 20_000}, 5000)
    with pytest.raises(
        ValueError, match=r"table of genes has no chromosome with bins.*NC_01\.1; the bins are on chr1.*Rename"
    ):
        window_pairs(Genes(["a"], ("NC_01.1",), [0], [5], ["+"]), bins)
    with pytest.raises(ValueError, match=r"None of 1 genes has a known position.*from_gtf"):
        window_pairs(Genes(["a"], (), [-1], [-1], ["."]), bins)
    with pytest.raises(ValueError, match="whole number of bp"):
        window_pairs(Genes(["a"], ("chr1",), [0], [5], ["+"]), bins, -1)


def test_a_genome_of_genes_takes_seconds():
    bins = Vocabulary.from_chrom_sizes("hg38")
    rng = np.random.default_rng(0)
    at = rng.integers(0, bins.n_bins, 14_000)
    names = [f"g{i}" for i in range(14_000)]
    genes = Genes(names, bins.chrom_names, bins.chrom[at], bins.start[at], rng.choice(["+", "-"], 14_000))
    begin = time.process_time()
    pairs = window_pairs(genes, bins)
    assert time.process_time() - begin < 10  # 0.6 s on a free core
    assert 6e6 < len(pairs.bins) < 14_000 * 482
