from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

import scatacformer as sf
from scatacformer.genome import Genes


def var(**columns):
    return pd.DataFrame(columns, index=["A", "B", "C"])


CHROM, STRAND = ["chr2", "chr1", "chr2"], ["+", "-", "+"]
# a gene of bases 100 … 199 on +, one of 500 … 599 on -, one of a single base
START, END = [100, 500, 900], [200, 600, 901]
LAYOUTS = {
    "scglue": var(chrom=CHROM, chromStart=START, chromEnd=END, strand=STRAND),
    "start and end": var(chromosome=CHROM, start=START, end=END, strand=[1, -1, 1]),
    "tss": var(chrom=pd.Categorical(CHROM), tss=[100.0, 599.0, 900.0], strand=pd.Categorical(STRAND)),
    "muon": var(interval=["chr2:100-200", "chr1:500-600", "chr2:900-901"], strand=STRAND),
    "text": var(Chromosome=CHROM, Start=list(map(str, START)), End=list(map(str, END)), Strand=STRAND),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_first_base_that_is_transcribed(layout):
    genes = Genes.from_var(LAYOUTS[layout])
    assert genes.names.tolist() == ["A", "B", "C"]
    assert [genes.chrom_names[code] for code in genes.chrom] == CHROM
    assert genes.tss.tolist() == [100, 599, 900]
    assert genes.strand.tolist() == STRAND
    assert genes.known.all() and len(genes) == 3


def test_a_tss_counts_more_than_the_ends():
    genes = Genes.from_var(var(chrom=CHROM, start=START, end=END, tss=[7, 8, 9], strand=STRAND))
    assert genes.tss.tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    "missing",
    [
        var(chrom=["chr1", None, "chr1"], tss=[1.0, 2.0, np.nan], strand=STRAND),
        var(chrom=["chr1", "", "chr1"], chromStart=[1.0, 5.0, np.nan], chromEnd=[9, 9, 9], strand=["+", "+", "+"]),
        var(interval=["chr1:1-9", "NA", np.nan], strand=["+", "-", "."]),
        var(chrom=["chr1", "chr1", "chr1"], start=[1, 9, -1], end=[9, 2, 5], strand=["+", "+", "+"]),
    ],
)
def test_genes_without_a_position_stay_and_are_marked(missing):
    genes = Genes.from_var(missing)
    assert genes.known.tolist() == [True, False, False]
    assert genes.tss.tolist() == [1, -1, -1]
    assert genes.names.tolist() == ["A", "B", "C"]


def test_without_a_strand_the_middle_is_taken_and_said():
    with pytest.warns(UserWarning, match="1 of 3 genes have a start and an end but no strand"):
        genes = Genes.from_var(var(interval=["chr1:100-201", "chr1:500-600", "chr1:900-901"], strand=[".", "-", None]))
    assert genes.tss.tolist() == [150, 599, 900]


def test_tables_without_positions_name_their_columns_and_the_remedy():
    with pytest.raises(
        ValueError, match=r"does not contain the positions.*found the columns \['gene_ids'\].*Genes.from_gtf"
    ):
        Genes.from_var(var(gene_ids=["a", "b", "c"]))
    with pytest.raises(ValueError, match=r"None of 3 genes has a position.*Genes.from_gtf"):
        Genes.from_var(var(chrom=CHROM, tss=[np.nan] * 3))


def test_two_genes_of_one_name_are_refused():
    twice = LAYOUTS["tss"].set_axis(["A", "B", "A"])
    with pytest.raises(
        ValueError, match=r"1 of 3 genes have a name that another has \(first: A\).*var_names_make_unique"
    ):
        Genes.from_var(twice)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tss": [1, 2]}, "one name, chromosome, tss and strand each"),
        ({"chrom": [0, 1, 5]}, "indices into 2 chrom_names"),
        ({"tss": [1, -5, 3]}, "1 of 3 genes start outside"),
        ({"strand": ["+", "x", "-"]}, "A strand is"),
    ],
)
def test_what_cannot_be_a_gene_is_refused(change, message):
    fields = {
        "names": list("ABC"),
        "chrom_names": ("c", "d"),
        "chrom": [0, 1, -1],
        "tss": [1, 2, -1],
        "strand": ["."] * 3,
    }
    assert Genes(**fields).known.tolist() == [True, True, False]
    with pytest.raises(ValueError, match=message):
        Genes(**{**fields, **change})


GENCODE = """##description: made up
chr1\tHAVANA\tgene\t101\t200\t.\t+\t.\tgene_id "ENSG01.5"; gene_type "protein_coding"; gene_name "A"; level 2;
chr1\tHAVANA\texon\t101\t150\t.\t+\t.\tgene_id "ENSG01.5"; gene_name "A"; exon_number 1;
chr1\tHAVANA\tgene\t501\t600\t.\t-\t.\tgene_id "ENSG02.1"; gene_type "lncRNA"; gene_name "B"; level 2;
chrX\tHAVANA\tgene\t11\t20\t.\t+\t.\tgene_id "ENSG03.1"; gene_name "P";
chrY\tHAVANA\tgene\t31\t40\t.\t+\t.\tgene_id "ENSG03.1_PAR_Y"; gene_name "P";
"""
ENSEMBL = """#!genome-build made up
1\tensembl\tgene\t101\t200\t.\t+\t.\tgene_id "ENSG01"; gene_version "5"; gene_name "A"; gene_source "ensembl";
1\tensembl\ttranscript\t101\t200\t.\t+\t.\tgene_id "ENSG01"; gene_name "A";
1\tensembl\tgene\t501\t600\t.\t-\t.\tgene_id "ENSG02"; gene_version "1"; gene_source "ensembl";
"""
REFSEQ = """#gtf-version 2.2
NC_01.1\tBestRefSeq\tgene\t101\t200\t.\t+\t.\tgene_id "A"; transcript_id ""; db_xref "GeneID:1"; gene "A"; gene_synonym "B";
NC_01.1\tBestRefSeq\tgene\t501\t600\t.\t-\t.\tgene_id "B_1"; transcript_id ""; db_xref "GeneID:2"; gene "B"; note "x; gene y";
"""


def written(tmp_path, text, zipped=False):
    path = tmp_path / ("a.gtf.gz" if zipped else "a.gtf")
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("text", "names", "chrom"),
    [(GENCODE, ["A", "B", "P"], "chr1"), (ENSEMBL, ["A", "ENSG02"], "1"), (REFSEQ, ["A", "B"], "NC_01.1")],
)
def test_gtf_files_give_their_genes(tmp_path, text, names, chrom, zipped):
    genes = Genes.from_gtf(written(tmp_path, text, zipped))
    assert genes.names.tolist() == names
    assert genes.tss.tolist()[:2] == [100, 599]  # 1-based 101 on +, 1-based closed 600 on -
    assert genes.strand.tolist()[:2] == ["+", "-"]
    assert genes.chrom_names[0] == chrom


def test_genes_of_a_gtf_by_name_id_and_id_without_version(tmp_path):
    path = written(tmp_path, GENCODE)
    genes = Genes.from_gtf(path, ["ENSG02", "nowhere", "P", "ENSG01.5"])
    assert genes.names.tolist() == ["ENSG02", "nowhere", "P", "ENSG01.5"]
    assert genes.known.tolist() == [True, False, True, True]
    assert genes.tss.tolist() == [599, -1, 10, 100]
    assert genes.chrom_names[genes.chrom[2]] == "chrX"
    with pytest.raises(ValueError, match=r"None of the 2 genes \(first: Abc\).*called A or ENSG01\.5.*another species"):
        Genes.from_gtf(path, ["Abc", "Def"])
    with pytest.raises(ValueError, match="have a name that another has"):
        Genes.from_gtf(path, ["A", "A"])


def test_files_that_are_no_gtf_of_genes_are_refused(tmp_path):
    transcripts = GENCODE.replace("\tgene\t", "\ttranscript\t")
    with pytest.raises(ValueError, match="has no line of type 'gene'"):
        Genes.from_gtf(written(tmp_path, transcripts))
    path = tmp_path / "cut.gtf.gz"
    path.write_bytes(gzip.compress(GENCODE.encode() * 50)[:-20])
    with pytest.raises(ValueError, match="truncated or damaged gzip"):
        Genes.from_gtf(path)
    with pytest.raises(FileNotFoundError):
        Genes.from_gtf(tmp_path / "absent.gtf")


@pytest.mark.parametrize("dialect", ["gencode", "ensembl", "refseq"])
def test_starts_of_all_transcripts_of_a_gene(tmp_path, dialect):
    from scatacformer.genome import gene_starts

    from ._gtf_files import gene, transcript

    lines = [gene("chr1", "+", 100, 900, "B", "protein_coding", dialect)]
    lines += transcript("chr1", "+", [(300, 400)], [], "B.2", "B", "protein_coding", dialect)
    lines += transcript("chr1", "+", [(100, 200), (700, 900)], [], "B.1", "B", "protein_coding", dialect)
    lines += transcript("chr1", "+", [(300, 600)], [], "B.3", "B", "protein_coding", dialect)  # starts where B.2 does
    lines += [gene("chr2", "-", 50, 60, "A", "lncRNA", dialect)]  # without a transcript
    lines += [gene("chr2", "-", 500, 600, "C", "lncRNA", dialect)]
    lines += transcript("chr2", "-", [(500, 580)], [], "C.1", "C", "lncRNA", dialect)
    path = tmp_path / "genes.gtf"
    path.write_text("".join(lines))
    table = gene_starts(path, ["C", "missing", "A", "B"])
    assert table.columns.tolist() == ["gene", "chrom", "strand", "tss"]
    assert [tuple(row) for row in table.itertuples(index=False)] == [
        (0, "chr2", "-", 579),
        (2, "chr2", "-", 59),
        (3, "chr1", "+", 300),
        (3, "chr1", "+", 100),
    ]
    own = gene_starts(path, ["C", "missing", "A", "B"], tss="gene")
    assert own["tss"].tolist() == [599, 59, 100]
    assert own["gene"].tolist() == [0, 2, 3]
    assert len(gene_starts(path, ["missing"])) == 0
    with pytest.raises(ValueError, match="tss is 'exon'; expected 'transcript' or 'gene'"):
        gene_starts(path, ["A"], tss="exon")


def test_a_gene_table_has_both_ends(tmp_path):
    path = tmp_path / "genes.gtf"
    path.write_text(
        'chr1\tx\tgene\t101\t500\t.\t-\t.\tgene_id "G1"; gene_name "ABC";\n'
        'chr1\tx\texon\t101\t200\t.\t-\t.\tgene_id "G1";\n'
        'chr2\tx\tgene\t11\t20\t.\t+\t.\tgene_id "G2";\n'
    )
    found = sf.genome.read_gene_table(path)
    assert found.to_numpy().tolist() == [["ABC", "chr1", 100, 500, "-", 499], ["G2", "chr2", 10, 20, "+", 10]]
    path.write_text('chr1\tx\tgene\t501\t500\t.\t-\t.\tgene_id "G1";\n')
    with pytest.raises(ValueError, match="expected 1 <= start <= end"):
        sf.genome.read_gene_table(path)
