"""Variants are read as they are written, checked against the genome, and their alleles lie in the middle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scatacformer.sequence import Fasta, Variant, VariantReader, allele_codes, letters, write_vcf

CHR1 = "ACGTTGCAAC" + "GGATCCTTAA" + "TTTTTCCCCC"
HEADER = "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=30>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


@pytest.fixture
def fasta(tmp_path: Path) -> Fasta:
    (tmp_path / "g.fa").write_text(f">chr1\n{CHR1.lower()}\n>chr2\nACGT\n")
    return Fasta(tmp_path / "g.fa")


def vcf(path: Path, *rows: str) -> Path:
    path.write_text(HEADER + "".join(f"{row}\t.\t.\t.\n".replace(" ", "\t") for row in rows))
    return path


def test_every_allele_of_a_file_is_a_variant(tmp_path: Path, fasta: Fasta) -> None:
    path = vcf(tmp_path / "a.vcf", "chr1 1 rs1 A G,T", "chr1 11 . GGA G", "chr1 20 . A AC,<DEL>", "chr2 2 . C *")
    reader = VariantReader(path, fasta)
    expected = [("A", "G", 0), ("A", "T", 0), ("GGA", "G", 10), ("A", "AC", 19)]
    assert [(v.ref, v.alt, v.start) for v in reader] == expected
    assert reader.skipped == {"allele not in letters": 2}
    assert next(iter(reader)) == Variant("chr1", 0, "A", "G", "rs1")
    table = pd.DataFrame(
        {"CHROM": ["chr1"] * 3, "POS": [1, 11, 20], "REF": ["a", "GGA", "A"], "ALT": ["G,T", "g", "AC"]}
    )
    assert [(v.ref, v.alt, v.start) for v in VariantReader(table, fasta)] == expected


def test_a_reference_allele_that_the_genome_does_not_have_is_refused_or_counted(tmp_path: Path, fasta: Fasta) -> None:
    path = vcf(tmp_path / "a.vcf", "chr1 1 . A G", "chr1 2 . T G", "chr1 3 . G A", "chr9 3 . G A")
    with pytest.raises(ValueError, match="the reference allele of chr1:2 T>G is T, and the FASTA file .* has C there"):
        VariantReader(path, fasta)
    reader = VariantReader(path, fasta, mismatch="skip")
    assert [v.start for v in reader] == [0, 2]
    assert reader.skipped == {
        "reference allele differs from the FASTA file": 1,
        "chromosome not in the FASTA file": 1,
    }
    other = pd.DataFrame({"chrom": "chr1", "pos": range(1, 21), "ref": "C", "alt": "A"})
    with pytest.raises(ValueError, match="of the first 20 variants have a reference allele .* of another assembly"):
        VariantReader(other, fasta, mismatch="skip")


def test_other_input_is_refused(tmp_path: Path, fasta: Fasta) -> None:
    with pytest.raises(FileNotFoundError, match="the file of variants .* does not exist"):
        VariantReader(tmp_path / "none.vcf", fasta)
    (tmp_path / "text.vcf").write_text("chr1\t1\tA\tG\n")
    with pytest.raises(ValueError, match="cannot be read as a VCF file"):
        VariantReader(tmp_path / "text.vcf", fasta)
    with pytest.raises(ValueError, match="holds no variant"):
        VariantReader(vcf(tmp_path / "empty.vcf"), fasta)
    with pytest.raises(ValueError, match=r"needs columns chrom, pos \(1-based\), ref and alt; alt not found"):
        VariantReader(pd.DataFrame({"chrom": ["chr1"], "pos": [1], "ref": ["A"]}), fasta)
    with pytest.raises(ValueError, match="It has: 1; the FASTA file has: chr1, chr2.*named without 'chr'"):
        VariantReader(pd.DataFrame({"chrom": ["1"], "pos": [1], "ref": ["A"], "alt": ["C"]}), fasta)


@pytest.mark.parametrize(
    ("start", "ref", "alt"), [(12, "A", "C"), (12, "A", "ACGTG"), (11, "GAT", "G"), (0, "A", "T"), (29, "C", "CAAA")]
)
@pytest.mark.parametrize("length", [8, 9])
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_alleles_lie_in_the_middle_of_their_windows(
    fasta: Fasta, start: int, ref: str, alt: str, length: int, shift: int
) -> None:
    variant = Variant("chr1", start, ref, alt, ".")
    padded = "N" * 20 + CHR1 + "N" * 20
    for codes, allele in zip(allele_codes(fasta, variant, length, shift), (ref, alt), strict=True):
        haplotype = padded[: 20 + start] + allele + padded[20 + start + len(ref) :]
        begin = 20 + start - (length - len(allele)) // 2 + shift
        assert letters(codes) == haplotype[begin : begin + length]
    with pytest.raises(ValueError, match="longer than the window of 4 bp"):
        allele_codes(fasta, Variant("chr1", 0, "A", "ACGTA", "."), 4)


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz"])
def test_scores_go_to_a_vcf_file_and_back(tmp_path: Path, fasta: Fasta, suffix: str) -> None:
    pysam = pytest.importorskip("pysam")
    scores = pd.DataFrame(
        {
            "chrom": "chr1",
            "pos": [11, 11, 1, 1],
            "id": ["rs2", "rs2", ".", "."],
            "ref": ["GGA", "GGA", "A", "A"],
            "alt": ["G", "G", "T", "T"],
            "track": ["T", "B"] * 2,
            "change": [1.5, -2.0, 0.25, 0.5],
        }
    )
    path = tmp_path / f"scores{suffix}"
    write_vcf(path, scores, fasta.sizes)
    with pysam.VariantFile(str(path)) as file:
        found = [(r.pos, r.ref, r.alts, r.id, r.info["change"]) for r in file]
    assert found == [(1, "A", ("T",), None, (0.25, 0.5)), (11, "GGA", ("G",), "rs2", (1.5, -2.0))]
    assert "##tracks=T,B" in (path.read_text() if suffix == ".vcf" else str(pysam.VariantFile(str(path)).header))
    reread = VariantReader(path, fasta)
    assert [str(v) for v in reread] == ["chr1:1 A>T", "chr1:11 GGA>G"]
    np.testing.assert_equal(reread.skipped, {})
