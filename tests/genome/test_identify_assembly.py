"""Whole-genome bins say which assembly they are of, also where `ad.concat` has dropped `uns`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scatacformer.genome import Vocabulary, check_same_assembly, chrom_sizes, identify_assembly
from scatacformer.genome.chrom_sizes import KNOWN_ASSEMBLIES


def unnamed(vocabulary, keep=None):
    keep = np.ones(vocabulary.n_bins, bool) if keep is None else keep
    return Vocabulary(vocabulary.chrom_names, vocabulary.chrom[keep], vocabulary.start[keep], vocabulary.end[keep])


@pytest.mark.parametrize("bin_size", [5000, 50_000])
@pytest.mark.parametrize("assembly", KNOWN_ASSEMBLIES)
def test_every_known_assembly_is_identified_by_its_ends(assembly, bin_size):
    assert identify_assembly(unnamed(Vocabulary.from_chrom_sizes(assembly, bin_size))) == assembly


@pytest.mark.parametrize("assembly", ["hg19", "hg38", "mm10", "mm39", "danRer11"])
def test_names_without_chr_and_last_bins_at_full_width(assembly):
    v = Vocabulary.from_chrom_sizes(assembly, 5000)
    ensembl = Vocabulary(tuple(name.removeprefix("chr") for name in v.chrom_names), v.chrom, v.start, v.end)
    assert identify_assembly(ensembl) == assembly
    assert identify_assembly(Vocabulary(v.chrom_names, v.chrom, v.start, v.start + 5000)) == assembly


def test_a_tenth_of_the_bins_with_one_end_is_enough_and_none_without_ends():
    rng = np.random.default_rng(0)
    v = Vocabulary.from_chrom_sizes("hg19", 5000)
    narrow = v.end - v.start < 5000
    some = rng.random(v.n_bins) < 0.1
    one = narrow & (np.cumsum(narrow) == 1)
    assert identify_assembly(unnamed(v, (some & ~narrow) | one)) == "hg19"
    assert identify_assembly(unnamed(v, some & ~narrow & (np.r_[v.chrom[1:] == v.chrom[:-1], False]))) is None


def test_other_genomes_and_peaks_are_not_identified():
    assert identify_assembly(Vocabulary.from_chrom_sizes({"chr1": 52_345, "chr2": 31_000, "chr3": 12_001})) is None
    assert identify_assembly(Vocabulary(("chr1",), [0, 0], [100, 900], [350, 1800])) is None
    shifted = {name: size + 1 for name, size in chrom_sizes("hg38", standard_only=True).items()}
    assert identify_assembly(Vocabulary.from_chrom_sizes(shifted)) is None


def test_a_name_that_the_ends_contradict_is_an_error():
    hg19 = Vocabulary.from_chrom_sizes("hg19", 50_000)
    assert identify_assembly(hg19) == "hg19"
    with pytest.raises(ValueError, match=r"named mm10, but .* hg19 end"):
        identify_assembly(dataclasses.replace(hg19, assembly="mm10"))
    # a name of their own says nothing that the ends could contradict
    assert identify_assembly(dataclasses.replace(hg19, assembly="hs37d5")) == "hg19"
    toy = Vocabulary.from_chrom_sizes({"chr1": 52_345})
    assert identify_assembly(dataclasses.replace(toy, assembly="mine")) == "mine"


def test_regions_without_a_name_are_compared_by_their_ends():
    hg19, hg38 = (unnamed(Vocabulary.from_chrom_sizes(name, 50_000)) for name in ("hg19", "hg38"))
    with pytest.raises(ValueError, match=r"of hg19 \(their ends are those .*vocabulary is of hg38"):
        check_same_assembly(hg19, hg38)
    check_same_assembly(hg38, Vocabulary.from_chrom_sizes("GRCh38", 5000))
    check_same_assembly(Vocabulary(("chr1",), [0], [100], [350]), hg38)
