from __future__ import annotations

import gzip
import importlib.util
import sys
import time
import warnings

import numpy as np
import pytest
from scipy import sparse

from scatacformer.genome import RegionClasses, Vocabulary, region_classes

from ._big_files import bigbed, bigwig
from ._gtf_files import SIZES, random_genes, written

GENE_CLASSES = ("promoter", "exon", "intron", "5' UTR", "3' UTR", "TTS", "ncRNA")
needs_pybigtools = pytest.mark.skipif(
    importlib.util.find_spec("pybigtools") is None, reason="pybigtools is not installed"
)


@pytest.fixture(scope="module")
def bins():
    return Vocabulary.from_chrom_sizes(SIZES, 500)


def by_base(bins, genes):
    """The same classes, base by base: one bool for each base of the genome and class."""
    bases = {name: {chrom: np.zeros(size, bool) for chrom, size in SIZES.items()} for name in (*GENE_CLASSES, "gene")}

    def put(name, chrom, first, last):  # both ends included
        bases[name][chrom][max(first, 0) : last + 1] = True

    for chrom, strand, start, end, _, kind, transcripts in genes:
        put("gene", chrom, start, end - 1)
        spans = [(start, end)] + [(exons[0][0], exons[-1][1]) for exons, _, _ in transcripts]
        for first, stop in spans:
            for distance, name in ((range(-2000, 501), "promoter"), (range(-100, 1001), "TTS")):
                at_first = (name == "promoter") == (strand == "+")
                origin = first if at_first else stop - 1
                ends = [origin + d * (1 if strand == "+" else -1) for d in (distance[0], distance[-1])]
                put(name, chrom, min(ends), max(ends))
        for exons, coding, codon in transcripts:
            for first, stop in exons:
                put("exon", chrom, first, stop - 1)
                if kind in ("lncRNA", "miRNA"):
                    put("ncRNA", chrom, first, stop - 1)
            for (_, left), (right, _) in zip(exons, exons[1:], strict=False):
                if left < right:
                    put("intron", chrom, left, right - 1)
            if coding:
                translated = [*coding, codon]
                first, stop = min(a for a, _ in translated), max(b for _, b in translated)
                names = ("5' UTR", "3' UTR") if strand == "+" else ("3' UTR", "5' UTR")
                for a, b in exons:
                    for base in range(a, b):
                        if base < first:
                            put(names[0], chrom, base, base)
                        elif base >= stop:
                            put(names[1], chrom, base, base)
    member = {
        name: np.array(
            [
                of_chrom[bins.chrom_names[chrom]][start:end].any()
                for chrom, start, end in zip(bins.chrom, bins.start, bins.end, strict=True)
            ]
        )
        for name, of_chrom in bases.items()
    }
    member["intergenic"] = ~(member["gene"] | member["promoter"] | member["TTS"])
    del member["gene"]
    return member


def dense(classes):
    return dict(zip(classes.names, classes.matrix.toarray().T, strict=True))


@pytest.mark.parametrize("dialect", ["gencode", "ensembl", "refseq"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_classes_of_a_gtf_are_those_of_its_bases(bins, tmp_path, dialect, seed):
    genes = random_genes(seed)
    path = written(tmp_path, genes, dialect, zipped=seed == 1, shuffle=seed == 2)
    expected = by_base(bins, genes)
    assert all(of_class.any() and not of_class.all() for of_class in expected.values())
    classes = region_classes(bins, path)
    assert classes.names == (*GENE_CLASSES, "intergenic")
    found = dense(classes)
    for name in expected:
        assert np.array_equal(found[name], expected[name]), name


def test_the_strand_decides_on_which_side_promoters_and_ends_lie(tmp_path):
    bins = Vocabulary.from_chrom_sizes({"chr1": 40_000}, 100)

    def reach(strand, promoter=(2000, 500)):
        path = written(
            tmp_path, [("chr1", strand, 10_000, 20_000, "A", "protein_coding", [([(10_000, 20_000)], [], None)])]
        )
        with pytest.warns(UserWarning, match="left out"):
            classes = region_classes(bins, path, promoter=promoter)
        return [bins.start[classes.bins_of(name)][[0, -1]].tolist() for name in ("promoter", "TTS")]

    # the first base transcribed is 10,000 on + and 19,999 on -; bins start every 100 bp
    assert reach("+") == [[8_000, 10_500], [19_800, 20_900]]
    assert reach("-") == [[19_400, 21_900], [9_000, 10_100]]
    assert reach("+", (0, 0))[0] == [10_000, 10_000]


def test_bins_may_be_in_any_order_and_overlap(bins, tmp_path):
    path = written(tmp_path, random_genes(3))
    order = np.random.default_rng(0).permutation(bins.n_bins)
    shuffled = Vocabulary(bins.chrom_names, bins.chrom[order], bins.start[order], bins.end[order])
    matrix = region_classes(bins, path).matrix.toarray()
    assert np.array_equal(region_classes(shuffled, path).matrix.toarray(), matrix[order])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        doubled = Vocabulary(
            bins.chrom_names,
            np.tile(bins.chrom, 2),
            np.concatenate([bins.start, bins.start // 2]),
            np.concatenate([bins.end, bins.end + 1]),
        )
    both = region_classes(doubled, path).matrix.toarray()
    assert np.array_equal(both[: bins.n_bins, :7], matrix[:, :7])


REFSEQ_NAMES = {"chr1": "NC_000001.11", "chr2": "NC_000002.12"}


@pytest.mark.parametrize("rename", [lambda name: name[3:], REFSEQ_NAMES.get], ids=["1", "NC_000001.11"])
def test_chromosomes_are_found_by_other_names(bins, tmp_path, rename):
    genes = random_genes(0)
    expected = region_classes(bins, written(tmp_path, genes)).matrix
    assert (region_classes(bins, written(tmp_path, genes, rename=rename)).matrix != expected).nnz == 0
    ensembl_bins = Vocabulary(("1", "2"), bins.chrom, bins.start, bins.end)
    assert (region_classes(ensembl_bins, written(tmp_path, genes)).matrix != expected).nnz == 0


def test_chromosomes_that_are_nowhere_are_refused_with_both_spellings(bins, tmp_path):
    path = written(tmp_path, random_genes(0), rename=lambda name: name.replace("chr", "scaffold_"))
    with pytest.raises(ValueError, match=r"has no chromosome with bins.*scaffold_.*chr1, chr2.*Rename"):
        region_classes(bins, path)
    hg38 = Vocabulary.from_chrom_sizes("hg38", 1_000_000)
    path = written(tmp_path, random_genes(0), rename={"chr1": "NC_000001.10", "chr2": "NC_000002.11"}.get)
    with pytest.raises(ValueError, match="These are names of hg19"):
        region_classes(hg38, path)


def test_another_assembly_is_told_by_what_the_file_says_and_by_where_genes_end(bins, tmp_path):
    hg19 = Vocabulary.from_chrom_sizes("hg19", 1_000_000)
    head = "##description: evidence-based annotation of the human genome (GRCh38), version 44 (Ensembl 110)\n"
    with pytest.raises(
        ValueError, match=r"is labelled as hg38, but the bins are from hg19.*Take the annotation of hg19"
    ):
        region_classes(hg19, written(tmp_path, random_genes(0), head=head))
    lifted = head.replace("(Ensembl 110)", "(Ensembl 110), mapped to GRCh37 with gencode-backmap")
    assert "promoter" in region_classes(hg19, written(tmp_path, random_genes(0), head=lifted)).names
    with pytest.raises(ValueError, match="labelled as mm10, but the bins are from hg19"):
        region_classes(hg19, written(tmp_path, random_genes(0), head="#!genome-version GRCm38.p6\n"))
    end = 83_250_000  # chr17 has 81,195,210 bp in hg19, 83,257,441 in hg38
    beyond = [("chr17", "+", end - 900, end, "A", "lncRNA", [([(end - 900, end)], [], None)])]
    message = r"1 of 1 intervals end beyond their chromosome in hg19 \(first: chr17:83249100-83250000.*They fit hg38"
    with pytest.raises(ValueError, match=message):
        region_classes(hg19, written(tmp_path, beyond))
    # bins that cover a made-up chromosome show where it ends, but for a last bin that is left out
    near, far = [
        [("chr1", "+", end - 900, end, "A", "lncRNA", [([(end - 900, end)], [], None)])] for end in (60_500, 60_501)
    ]
    with pytest.raises(ValueError, match="beyond their chromosome in the bins, which cover it whole"):
        region_classes(bins, written(tmp_path, far))
    with pytest.warns(UserWarning, match="left out"):
        region_classes(bins, written(tmp_path, near))


def test_files_that_are_no_gtf_of_genes_are_refused(bins, tmp_path):
    path = written(tmp_path, random_genes(0))
    text = path.read_text()
    path.write_text("".join(line for line in text.splitlines(True) if "\tgene\t" not in line))
    with pytest.raises(ValueError, match="has no line of type 'gene'"):
        region_classes(bins, path)
    path.write_text(text.replace('gene_id "', "ID=gene:").replace('transcript_id "', "Parent=transcript:"))
    with pytest.raises(ValueError, match="has no line of type 'gene'"):
        region_classes(bins, path)
    gff3 = "chr1\tx\tgene\t1\t90\t.\t+\t.\tID=gene:A;gene_id=A\nchr1\tx\texon\t1\t90\t.\t+\t.\tParent=transcript:B\n"
    path.write_text(gff3)
    with pytest.raises(ValueError, match="none names its transcript.*gffread"):
        region_classes(bins, path)
    path.write_text(gff3.replace("\t90\t", "\tx\t"))
    with pytest.raises(ValueError, match="positions are not 1 <= start <= end"):
        region_classes(bins, path)
    path = tmp_path / "cut.gtf.gz"
    path.write_bytes(gzip.compress(text.encode() * 20)[:-30])
    with pytest.raises(ValueError, match="truncated or damaged gzip"):
        region_classes(bins, path)


def test_classes_that_a_gtf_lacks_are_left_out_and_said(bins, tmp_path):
    path = written(tmp_path, random_genes(0))
    with_exons = region_classes(bins, path)
    genes_only = "".join(line for line in path.read_text().splitlines(True) if "\tgene\t" in line)
    path.write_text(genes_only)
    with pytest.warns(UserWarning) as caught:
        classes = region_classes(bins, path)
    assert classes.names == ("promoter", "TTS", "intergenic")
    said = [str(warning.message) for warning in caught]
    assert len(said) == 5
    assert any("no 5' UTR in any bin (there are no lines of type CDS)" in text for text in said)
    # without exons and introns nothing says what the inside of a gene is: every bin needs a class, and this is what is left
    in_no_class = ~classes.matrix[:, :2].toarray().any(1)
    assert np.array_equal(classes.bins_of("intergenic"), np.flatnonzero(in_no_class))
    assert set(with_exons.bins_of("intergenic")) <= set(classes.bins_of("intergenic"))
    path.write_text(genes_only.replace("gene_type", "kind"))
    with pytest.warns(UserWarning) as caught:
        region_classes(bins, path)
    assert any("no ncRNA in any bin (no gene_type or gene_biotype" in str(warning.message) for warning in caught)


HOMER = """PeakID (cmd=annotatePeaks.pl bins.bed {genome} -size given)\tChr\tStart\tEnd\tStrand\tPeak Score\t\
Focus Ratio/Region Size\tAnnotation\tDetailed Annotation\tDistance to TSS
p4\tchr1\t2001\t2500\t+\t0\tNA\t3' UTR (NM_1, exon 9 of 9)\tAluSx|SINE|Alu\t40
p1\tchr1\t1\t500\t+\t0\tNA\tintron (NM_032291, intron 1 of 24)\tL1MC5a|LINE|L1\t-20
p2\tchr1\t501\t1000\t+\t0\tNA\tpromoter-TSS (NM_1)\tpromoter-TSS (NM_1)\t0
p3\tchr1\t1001\t1500\t+\t0\tNA\tIntergenic\tCpG\t999
p5\tchr1\t1501\t2000\t+\t0\tNA\tnon-coding (NR_1, exon 1 of 3)\tNA\t1
p6\tchr2\t1\t500\t+\t0\tNA\tNA\tNA\tNA
p7\tchr2\t501\t1000\t+\t0\tNA\tmy class (x)\tNA\tNA
p8\tchr2\t1001\t1500\t+\t0\tNA\tmiRNA (MIR1)\tNA\tNA
p9\tchrUn\t1\t500\t+\t0\tNA\tTTS (NM_1)\tNA\tNA
"""


def homer(tmp_path, text=HOMER, genome="hg38"):
    path = tmp_path / "annotated.txt"
    path.write_text(text.format(genome=genome))
    return path


def test_the_table_of_homer_is_read_as_it_is(tmp_path):
    bins = Vocabulary.from_chrom_sizes({"chr1": 2_500, "chr2": 1_500}, 500)
    classes = region_classes(bins, homer=homer(tmp_path))
    found = {name: [str(one) for one in bins.names[classes.bins_of(name)]] for name in classes.names}
    assert list(found) == ["promoter", "intron", "3' UTR", "ncRNA", "my class", "intergenic"]
    assert found == {
        "promoter": ["chr1:500-1000"],  # the start 501 is 1-based: 500 does not touch the bin before
        "intron": ["chr1:0-500"],
        "3' UTR": ["chr1:2000-2500"],
        "ncRNA": ["chr1:1500-2000", "chr2:1000-1500"],
        "my class": ["chr2:500-1000"],
        "intergenic": ["chr1:1000-1500", "chr2:0-500"],  # HOMER's own, and the one that it has nothing for
    }


def test_tables_that_homer_did_not_make_are_refused(bins, tmp_path):
    with pytest.warns(UserWarning, match=r"no region in 194 of 202 bins \(first: chr1:2500-3000\)"):
        region_classes(bins, homer=homer(tmp_path))
    hg19 = Vocabulary.from_chrom_sizes("hg19", 1_000_000)
    with pytest.raises(ValueError, match="labelled as hg38, but the bins are from hg19"):
        region_classes(hg19, homer=homer(tmp_path, genome="GRCh38"))
    with pytest.raises(ValueError, match="not a table of HOMER's.*no column Annotation"):
        region_classes(bins, homer=homer(tmp_path, HOMER.replace("\tAnnotation", "\tOther")))
    with pytest.raises(ValueError, match="region 1 does not have 1 <= Start <= End.*1-based"):
        region_classes(bins, homer=homer(tmp_path, HOMER.replace("chr1\t1\t", "chr1\t0\t")))
    with pytest.raises(ValueError, match="has no region"):
        region_classes(bins, homer=homer(tmp_path, HOMER.splitlines(True)[0]))
    with pytest.raises(ValueError, match="Both gtf and homer are given"):
        region_classes(bins, "a.gtf", homer(tmp_path))


def bed_file(tmp_path, rows, name="a.bed"):
    path = tmp_path / name
    text = "".join(f"{chrom}\t{start}\t{end}\tname\n" for chrom, start, end in rows).encode()
    path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    return path


@pytest.mark.parametrize("name", ["a.bed", "a.bed.gz"])
def test_classes_of_bed_files_by_overlap_and_by_share(tmp_path, name):
    bins = Vocabulary.from_chrom_sizes({"chr1": 2_200}, 500)  # the last has 200 bp
    rows = [("chr1", 400, 501), ("chr1", 450, 490), ("chr1", 1_000, 1_125), ("chr1", 1_125, 1_250), ("chr9", 1, 2)]
    path = bed_file(tmp_path, [*rows, ("chr1", 2_100, 2_200), ("chr1", 1_600, 1_600)], name)

    def bins_of(**options):
        return region_classes(bins, bed={"repeat": path}, **options).bins_of("repeat").tolist()

    assert bins_of() == [0, 1, 2, 4]
    assert bins_of(min_share=0.2) == [0, 2, 4]  # 100, 1, 250 of 500, 100 of 200: what overlaps counts once
    assert bins_of(min_share={"repeat": 0.5}) == [2, 4]
    classes = region_classes(bins, bed={"repeat": path})
    assert classes.names == ("intergenic", "repeat")
    assert classes.bins_of("intergenic").tolist() == [3]


def test_bed_files_add_to_genes_and_change_nothing_of_them(bins, tmp_path):
    gtf = written(tmp_path, random_genes(0))
    alone = region_classes(bins, gtf)
    far = bins.names[alone.bins_of("intergenic")[0]]
    start = int(far.split(":")[1].split("-")[0])
    bed = {"CTCF site": bed_file(tmp_path, [("1", start + 10, start + 20)])}
    both = region_classes(bins, gtf, bed=bed)
    assert both.names == (*alone.names, "CTCF site")
    assert (both.matrix[:, : alone.n_classes] != alone.matrix).nnz == 0  # an insulator between genes is between genes
    assert bins.names[both.bins_of("CTCF site")].tolist() == [far]


def test_a_class_of_a_bed_file_is_there_or_an_error(bins, tmp_path):
    with pytest.raises(ValueError, match=r"empty\.bed is empty: no interval"):
        region_classes(bins, bed={"enhancer": bed_file(tmp_path, [], "empty.bed")})
    (tmp_path / "track.bed").write_text("track name=a\n#x\n")
    with pytest.raises(ValueError, match="empty: no interval"):
        region_classes(bins, bed={"enhancer": tmp_path / "track.bed"})
    gap = Vocabulary(("chr1",), [0, 0], [0, 5_000], [500, 5_500])
    path = bed_file(tmp_path, [("chr1", 700, 800), ("chr1", 900, 950)])
    with pytest.raises(ValueError, match=r"The class 'enhancer' .*has no bins: its 2 intervals overlap no bin"):
        region_classes(gap, bed={"enhancer": path})
    with pytest.raises(ValueError, match="has no bins: .*lower min_share"):
        region_classes(bins, bed={"enhancer": path}, min_share=0.9)
    with pytest.raises(ValueError, match=r"do not have 0 <= start <= end \(first: chr1:9-5\)"):
        region_classes(bins, bed={"enhancer": bed_file(tmp_path, [("chr1", 9, 5)])})
    with pytest.raises(ValueError, match="not a BED file"):
        (tmp_path / "b.bed").write_text("a b c\n")
        region_classes(bins, bed={"enhancer": tmp_path / "b.bed"})
    with pytest.raises(FileNotFoundError, match="of the class 'enhancer' does not exist"):
        region_classes(bins, bed={"enhancer": tmp_path / "absent.bed"})
    hg19 = Vocabulary.from_chrom_sizes("hg19", 1_000_000)
    (tmp_path / "c.bed").write_text("#assembly=mm10\nchr1\t1\t2\n")
    with pytest.raises(ValueError, match="labelled as mm10, but the bins are from hg19"):
        region_classes(hg19, bed={"enhancer": tmp_path / "c.bed"})
    with pytest.raises(ValueError, match="beyond their chromosome in hg19"):
        region_classes(hg19, bed={"enhancer": bed_file(tmp_path, [("chr17", 83_000_000, 83_000_500)])})
    widened = bed_file(tmp_path, [("chr17", 81_195_000, 81_195_400)])  # 190 bp past the end
    assert region_classes(hg19, bed={"enhancer": widened}).n_bins_of_class[1] == 1


def test_names_and_options_that_contradict_are_refused(bins, tmp_path):
    gtf = written(tmp_path, random_genes(0))
    bed = bed_file(tmp_path, [("chr1", 700, 800)])
    for name in ("promoter", "Intergenic", "Exon"):
        with pytest.raises(ValueError, match=f"The class '{name}' is given twice.*Use another name"):
            region_classes(bins, gtf, bed={name: bed})
    with pytest.raises(ValueError, match="given twice"):
        region_classes(bins, bed={"enhancer": bed, "Enhancer": bed})
    with pytest.warns(UserWarning, match="no region in"), pytest.raises(ValueError, match="'intron' is given twice"):
        region_classes(bins, homer=homer(tmp_path), bed={"intron": bed})
    with pytest.raises(ValueError, match="No annotation is given. Pass gtf, homer, or bed"):
        region_classes(bins)
    with pytest.raises(ValueError, match="is not the name of a class; expected a non-empty string"):
        region_classes(bins, bed={"": bed})
    with pytest.raises(ValueError, match="The class 'a' is given as list; expected the path of a file"):
        region_classes(bins, bed={"a": [("chr1", 1, 2)]})
    with pytest.raises(ValueError, match="promoter is .-5, 5.; expected .bp before"):
        region_classes(bins, gtf, promoter=(-5, 5))
    with pytest.raises(ValueError, match="min_share is .*; expected a share"):
        region_classes(bins, bed={"a": bed}, min_share={"a": 1.5})
    with pytest.raises(ValueError, match=r"min_share has unknown classes: \['b'\]"):
        region_classes(bins, bed={"a": bed}, min_share={"b": 0.5})
    with pytest.raises(ValueError, match="threshold is 'much'; expected a number"):
        region_classes(bins, bed={"a": bed}, threshold="much")


BIG_SIZES = {"1": 60_000, "2": 41_000, "MT": 900}


@needs_pybigtools
def test_bigbed_equals_bed(bins, tmp_path):
    rng = np.random.default_rng(0)
    rows = {
        name: sorted((int(a), int(a) + 90) for a in rng.integers(0, size - 90, 12)) for name, size in BIG_SIZES.items()
    }
    path = tmp_path / "a.bb"
    path.write_bytes(bigbed(BIG_SIZES, rows))
    bed = bed_file(tmp_path, [(f"chr{name}", *row) for name in ("1", "2") for row in rows[name]])
    for share in (0.0, 0.15):
        big = region_classes(bins, bed={"repeat": path}, min_share=share).matrix
        assert (big != region_classes(bins, bed={"repeat": bed}, min_share=share).matrix).nnz == 0
        assert 0 < big.sum()
    path.write_bytes(bigbed(BIG_SIZES, {"MT": [(1, 5)]}))
    with pytest.raises(ValueError, match="has no bins: its 0 intervals"):
        region_classes(bins, bed={"repeat": path})


@needs_pybigtools
def test_bigwig_gives_bins_whose_mean_is_high(tmp_path):
    bins = Vocabulary.from_chrom_sizes({"chr1": 2_200, "chr2": 700}, 500)
    path = tmp_path / "a.bw"
    values = {"chr1": [(100, 600, 1.0), (1_000, 1_500, 0.5), (2_000, 2_200, 0.25)], "chr2": [(0, 50, 9.0)]}
    path.write_bytes(bigwig({"chr1": 2_200, "chr2": 700}, values))
    # means over all bases: 0.8, 0.2, 0.5, 0, 0.25; 0.9, 0
    for least, expected in ((0.79, [0, 5]), (0.24, [0, 2, 4, 5]), (0.81, [5])):
        classes = region_classes(bins, bed={"conserved": path}, threshold={"conserved": least})
        assert classes.bins_of("conserved").tolist() == expected
    with pytest.raises(ValueError, match=r"bigWig file, whose values need a threshold. Pass threshold=\{'conserved'"):
        region_classes(bins, bed={"conserved": path})
    with pytest.raises(ValueError, match="no bins with a mean of at least 2.0. Lower"):
        region_classes(bins, bed={"conserved": path}, threshold=2)
    hg19 = Vocabulary.from_chrom_sizes("hg19", 1_000_000)
    with pytest.raises(ValueError, match="another assembly than the bins: there chr1 has 2,200 bp; in hg19"):
        region_classes(hg19, bed={"conserved": path}, threshold=0.1)


@pytest.mark.parametrize("kind", ["bigBed", "bigWig"])
def test_without_pybigtools_the_remedy_is_named(bins, tmp_path, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "pybigtools", None)
    path = tmp_path / "a.big"
    path.write_bytes(bigbed(SIZES, {"chr1": [(1, 5)]}) if kind == "bigBed" else bigwig(SIZES, {"chr1": [(1, 5, 1.0)]}))
    with pytest.raises(ImportError, match="pybigtools, which is not installed: pip install"):
        region_classes(bins, bed={"a": path}, threshold=0.5)


def test_memberships_are_the_classes_of_each_bin(bins, tmp_path):
    classes = region_classes(bins, written(tmp_path, random_genes(0)))
    table = classes.matrix.toarray()
    indptr, class_ids = classes.memberships()
    assert indptr.dtype == class_ids.dtype == np.int64
    for number in range(bins.n_bins):
        assert class_ids[indptr[number] : indptr[number + 1]].tolist() == np.flatnonzero(table[number]).tolist()
    assert np.diff(indptr).min() == 1 and np.diff(indptr).max() > 2
    some = np.array([7, 3, 3, 150])
    of_some = classes.memberships(some)
    for number, of_bin in zip(some, np.split(of_some.class_ids, of_some.indptr[1:-1]), strict=True):
        assert of_bin.tolist() == np.flatnonzero(table[number]).tolist()
    # the mean over the classes of a bin, as the docstring has it
    logits = np.random.default_rng(0).normal(size=table.shape)
    rows = np.repeat(np.arange(bins.n_bins), np.diff(indptr))
    mean = np.add.reduceat(logits[rows, class_ids], indptr[:-1]) / np.diff(indptr)
    assert np.allclose(mean, (logits * table).sum(1) / table.sum(1))


def test_a_record_is_checked_and_cannot_be_written_to():
    matrix = sparse.csr_matrix(np.array([[1, 0], [1, 1], [0, 1]], dtype=bool))
    classes = RegionClasses(("a", "b"), matrix)
    assert classes.n_bins_of_class.tolist() == [2, 2]
    assert repr(classes) == "2 classes of 3 bins: a 2, b 2"
    with pytest.raises(ValueError, match="read-only"):
        classes.matrix.data[0] = False
    assert matrix.data.flags.writeable
    with pytest.raises(ValueError, match="no class 'c'. The classes are a, b"):
        classes.bins_of("c")
    with pytest.raises(ValueError, match="There are 1 names for 2 classes"):
        RegionClasses(("a",), matrix)
    with pytest.raises(ValueError, match="The class 'A' is given twice"):
        RegionClasses(("a", "A"), matrix)
    with pytest.raises(ValueError, match="The class 'a' has none of the 1 bins.*Leave it out"):
        RegionClasses(("a", "b"), matrix[2:])
    with pytest.raises(ValueError, match=r"1 of 3 bins have no class \(first: bin 1\)"):
        RegionClasses(("a", "b"), np.array([[1, 0], [0, 0], [0, 1]]))


def test_a_whole_genome_takes_seconds(tmp_path):
    # 606,219 bins; 100,000 of the 1.7 million lines of a GENCODE file, so a twentieth of its 30 seconds and some start
    hg38 = Vocabulary.from_chrom_sizes("hg38")
    genes = []
    for number in range(10_000):
        start = 20_000 * (number % 5_000) + 1_000
        exons = [(start + 900 * k, start + 900 * k + 150) for k in range(8)]
        genes.append(("chr1" if number < 5_000 else "chr2", "+-"[number % 2], start, exons[-1][1], f"G{number}", "lncRNA", [(exons, [], None)]))  # fmt: skip
    path = written(tmp_path, genes)
    begin = time.process_time()
    with pytest.warns(UserWarning, match="UTR"):
        classes = region_classes(hg38, path)
    assert time.process_time() - begin < 5
    assert classes.n_bins == hg38.n_bins and len(classes.bins_of("exon")) > 10_000


@pytest.mark.parametrize("n_classes", [1, 3, 31, 33, 70])
def test_sets_of_classes_are_all_there_and_no_two_alike(n_classes):
    rng = np.random.default_rng(0)
    some = rng.random((7, n_classes)) < 0.3
    some[np.arange(7), rng.integers(0, n_classes, 7)] = True
    members = np.vstack([some[rng.integers(0, 7, 50)], np.eye(n_classes, dtype=bool)])
    sets = RegionClasses(tuple(f"c{i}" for i in range(n_classes)), sparse.csr_matrix(members)).sets()
    np.testing.assert_array_equal(sets.members[sets.set_of_bin], members)
    assert len(np.unique(sets.members, axis=0)) == len(sets.members) < n_classes + 8
    alone = sets.set_of_bin[50:]  # classes by themselves come in the order of the classes
    assert (np.diff(alone) > 0).all()
