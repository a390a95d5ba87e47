"""DNA of bins is what stands in the FASTA file, whatever its chromosomes are called; other assemblies are refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

from scatacformer.genome import Vocabulary
from scatacformer.sequence import BinDna

SIZES = {"chr1": 12_345, "chr2": 7_000}


def sequences(seed=0):
    rng = np.random.default_rng(seed)
    return {name: "".join(rng.choice(list("ACGTacgtN"), size)) for name, size in SIZES.items()}


def write_fasta(path, named, width=50):
    lines = [
        f">{name} some words\n" + "\n".join(s[i : i + width] for i in range(0, len(s), width))
        for name, s in named.items()
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def vocabulary():
    return Vocabulary.from_chrom_sizes(SIZES, 5000)


@pytest.mark.parametrize("spelled", [str, lambda name: name[3:]])
def test_each_bin_has_its_bases_in_capitals(tmp_path, vocabulary, spelled):
    named = sequences()
    dna = BinDna(write_fasta(tmp_path / "a.fa", {spelled(name): s for name, s in named.items()}), vocabulary)
    assert dna.sizes == {spelled(name): size for name, size in SIZES.items()}
    expected = [
        named[c][s:e].upper() for c, s, e in (("chr1", 10_000, 12_345), ("chr2", 0, 5000), ("chr2", 5000, 7000))
    ]
    assert [dna[2], dna[3], dna[4]] == expected
    assert len(dna) == 5


def test_the_order_of_the_bins_is_the_vocabularys(tmp_path, vocabulary):
    fasta = write_fasta(tmp_path / "a.fa", sequences())
    shuffled = np.array([3, 0, 4, 1, 2])
    v = vocabulary
    other = Vocabulary(v.chrom_names, v.chrom[shuffled], v.start[shuffled], v.end[shuffled])
    there, here = BinDna(fasta, v), BinDna(fasta, other)
    assert [here[i] for i in range(5)] == [there[i] for i in shuffled]


def test_bases_that_are_not_one_of_four_are_n(tmp_path):
    fasta = write_fasta(tmp_path / "a.fa", {"chr1": "ACGTRYrykmN-"[:11]})
    assert BinDna(fasta, Vocabulary.from_chrom_sizes({"chr1": 11}, 5000))[0] == "ACGTNNNNNNN"


def test_a_last_bin_of_full_width_has_what_there_is(tmp_path, vocabulary):
    v = vocabulary
    wide = Vocabulary(v.chrom_names, v.chrom, v.start, v.start + 5000)
    assert len(BinDna(write_fasta(tmp_path / "a.fa", sequences()), wide)[2]) == 2345


def test_the_checksum_is_that_of_the_bases(tmp_path, vocabulary):
    one, same, other = (write_fasta(tmp_path / f"{i}.fa", sequences(seed)) for i, seed in enumerate((0, 0, 1)))
    sums = [BinDna(path, vocabulary).checksum for path in (one, same, other)]
    assert sums[0] == sums[1] != sums[2]


def test_a_folder_that_cannot_be_written_to_is_read(tmp_path, vocabulary, monkeypatch):
    fasta = write_fasta(tmp_path / "a.fa", sequences())
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert BinDna(fasta, vocabulary)[4] == sequences()["chr2"][5000:].upper()
    assert not (tmp_path / "a.fa.fai").exists()


def test_a_missing_chromosome_is_named(tmp_path, vocabulary):
    fasta = write_fasta(tmp_path / "a.fa", {"chr1": sequences()["chr1"]})
    with pytest.raises(ValueError, match=r"lacks 1 of the 2 chromosomes of the bins: chr2 \(2 of 5 bins\)"):
        BinDna(fasta, vocabulary)


def test_a_shorter_chromosome_is_named(tmp_path, vocabulary):
    named = sequences() | {"chr1": "ACGT" * 2000}
    with pytest.raises(ValueError, match=r"1 of 5 bins end beyond.*chr1:10000-12345, where chr1 has 8,000 bp"):
        BinDna(write_fasta(tmp_path / "a.fa", named), vocabulary)


def test_another_assembly_is_refused_by_the_length_of_its_chromosomes(tmp_path):
    v = Vocabulary(("chrM",), [0], [0], [5000], "hg38")
    fasta = write_fasta(tmp_path / "a.fa", {"chrM": "ACGT" * 5000})
    with pytest.raises(ValueError, match="another assembly than the bins: there chrM has 20,000 bp; in hg38"):
        BinDna(fasta, v)


def test_other_chromosomes_and_the_same_one_twice_are_refused(tmp_path, vocabulary):
    with pytest.raises(ValueError, match="has no chromosome with bins. Its chromosomes are scaffold_1"):
        BinDna(write_fasta(tmp_path / "a.fa", {"scaffold_1": "ACGT"}), vocabulary)
    named = sequences()
    with pytest.raises(ValueError, match="has 2 sequences of 1 different names"):
        BinDna(write_twice(tmp_path / "b.fa", named["chr1"]), vocabulary)


def write_twice(path, s):
    path.write_text(f">chr1\n{s}\n>chr1\n{s}\n")
    return path


def test_what_is_no_fasta_file_is_refused(tmp_path, vocabulary):
    with pytest.raises(FileNotFoundError, match="the FASTA file .* does not exist"):
        BinDna(tmp_path / "none.fa", vocabulary)
    (tmp_path / "a.fa").write_text("chr1\t0\t5000\n")
    with pytest.raises(ValueError, match="expected a FASTA file, which begins with .>."):
        BinDna(tmp_path / "a.fa", vocabulary)
    (tmp_path / "b.fa").write_text(">chr1\nACGT\nACGTACGT\nA\n>chr2\nA\n")
    with pytest.raises(ValueError, match="cannot be indexed"):
        BinDna(tmp_path / "b.fa", vocabulary)
