from __future__ import annotations

import numpy as np
import pytest

from scatacformer.genome import DEFAULT_EXCLUDED, Vocabulary, assembly_name, chrom_sizes
from scatacformer.genome.chrom_sizes import KNOWN_ASSEMBLIES


@pytest.mark.parametrize(
    ("assembly", "chrom", "length"),
    [
        ("hg19", "chr1", 249_250_621),
        ("hg38", "chr1", 248_956_422),
        ("hs1", "chr1", 248_387_328),
        ("mm9", "chr1", 197_195_432),
        ("mm10", "chr1", 195_471_971),
        ("mm39", "chr1", 195_154_279),
        ("dm6", "chr2L", 23_513_712),
        ("danRer11", "chr1", 59_578_282),  # bioframe 0.8's own reader says danRer10's 58,871,917
    ],
)
def test_sizes_are_those_published_by_ucsc(assembly, chrom, length):
    assert chrom_sizes(assembly)[chrom] == length


def test_every_known_assembly_has_chromosomes_first_and_no_scaffold_among_the_standard_ones():
    for assembly in KNOWN_ASSEMBLIES:
        standard = chrom_sizes(assembly, standard_only=True, exclude=DEFAULT_EXCLUDED)
        assert 5 < len(standard) < 30, assembly
        assert not any("_" in name or name.startswith("chrUn") for name in standard), assembly
        assert list(standard)[0] in ("chr1", "chr2L", "chrI"), assembly


@pytest.mark.parametrize(
    ("alias", "assembly"),
    [("GRCh38", "hg38"), ("grch38.p14", "hg38"), ("GRCh37", "hg19"), ("GRCm38", "mm10"), ("T2T-CHM13v2.0", "hs1")],
)
def test_other_names_of_an_assembly(alias, assembly):
    assert assembly_name(alias) == assembly
    assert chrom_sizes(alias) == chrom_sizes(assembly)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'hg99'.*Known: hg19, hg38.*chrom.sizes"):
        chrom_sizes("hg99")


def test_chrom_sizes_file_and_fai_read_alike(tmp_path):
    (tmp_path / "toy.chrom.sizes").write_text("chrA\t1000\nchrB\t500\n")
    (tmp_path / "toy.fa.fai").write_text("chrA\t1000\t6\t60\t61\nchrB\t500\t1030\t60\t61\n")
    expected = {"chrA": 1000, "chrB": 500}
    assert chrom_sizes(tmp_path / "toy.chrom.sizes") == chrom_sizes(str(tmp_path / "toy.fa.fai")) == expected
    assert chrom_sizes({"chrA": np.int64(1000), "chrB": 500}) == expected


@pytest.mark.parametrize("line", ["chrA", "chrA\tlong", "chrA\t-5"])
def test_malformed_file_names_the_line(tmp_path, line):
    (tmp_path / "bad").write_text(f"chrB\t10\n{line}\n")
    with pytest.raises(ValueError, match="line 2"):
        chrom_sizes(tmp_path / "bad")


@pytest.mark.parametrize("length", [0, -1, 2.5, None, 2**31])
def test_a_length_must_be_a_positive_integer(length):
    with pytest.raises(ValueError, match="length of chrA"):
        chrom_sizes({"chrA": length})


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match="no chromosome"):
        chrom_sizes({"chrM": 16_571}, exclude=DEFAULT_EXCLUDED)


@pytest.mark.parametrize(
    ("mine", "organelles"),
    [
        (["Chr1", "Chr2"], ["ChrM", "ChrC"]),  # TAIR
        (["1", "2"], ["Mt", "Pt"]),  # Ensembl Plants
        (["2L", "X"], ["mitochondrion_genome"]),  # Ensembl, FlyBase
        (["I", "II"], ["MtDNA"]),  # WormBase
        (["I", "II"], ["Mito"]),  # Ensembl's yeast
    ],
)
def test_organelles_have_no_bins_under_any_name(mine, organelles):
    sizes = dict.fromkeys([*mine, *organelles], 60_000)
    assert list(chrom_sizes(sizes, exclude=DEFAULT_EXCLUDED)) == mine
    assert Vocabulary.from_chrom_sizes(sizes).chrom_names == tuple(mine)


def test_excluded_names_are_those_given_in_any_case():
    assert list(chrom_sizes({"chrX": 9, "chrx2": 9, "ChrUn": 5}, exclude=["CHRX", "absent"])) == ["chrx2", "ChrUn"]
