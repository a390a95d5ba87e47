from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scatacformer.cells.fragments import read, scan
from scatacformer.genome import Vocabulary, chrom_sizes
from scatacformer.pp import bin_fragments

SIZES = {"chr1": 23_000, "chr2": 12_000, "chr10": 30_000, "chrX": 9_000, "chrM": 800, "chrY": 5_000, "chrUn_1": 700}


def simulate(n=3_000, n_cells=12, seed=0):
    """Fragments on all chromosomes, sorted by position: chromosome, start, end, barcode, count."""
    rng = np.random.default_rng(seed)
    chrom = rng.choice(list(SIZES), n)
    size = pd.Series(SIZES)[chrom].to_numpy()
    start = rng.integers(0, size - 1)
    end = np.minimum(start + rng.integers(1, 900, n), size)
    barcode = np.array([f"S#cell_{i}-1" for i in rng.permutation(n_cells)])[rng.geometric(0.3, n).clip(max=n_cells) - 1]
    table = pd.DataFrame({"chrom": chrom, "start": start, "end": end, "barcode": barcode, "count": 1})
    order = {name: i for i, name in enumerate(SIZES)}
    return table.sort_values(["chrom", "start", "end"], key=lambda c: c.map(order) if c.name == "chrom" else c)


def write(path, table, *, before="", compress=True):
    text = (before + table.to_csv(sep="\t", header=False, index=False)).encode()
    path.write_bytes(gzip.compress(text) if compress else text)
    return path


def count_by_hand(table, vocabulary, cells, counting):
    """(n_cells, n_bins), dense, one fragment after the other."""
    bin_of = {name: i for i, name in enumerate(vocabulary.names)}
    ends = {name: min(size, 10**9) for name, size in SIZES.items()}
    width = vocabulary.bin_size
    row = {cell: i for i, cell in enumerate(cells)}
    counts = np.zeros((len(cells), vocabulary.n_bins))

    def column(chrom, number):
        return bin_of.get(f"{chrom}:{number * width}-{min((number + 1) * width, ends[chrom])}")

    for chrom, start, end, barcode, _ in table.itertuples(index=False):
        if barcode not in row or column(chrom, 0) is None:
            continue
        first, last = start // width, (end - 1) // width
        if counting == "fragment":
            for number in range(first, last + 1):
                counts[row[barcode], column(chrom, number)] += 1
        else:
            counts[row[barcode], column(chrom, first)] += 1
            if counting == "insertion" or first != last:
                counts[row[barcode], column(chrom, last)] += 1
    return counts


@pytest.fixture(scope="module")
def fragments():
    return simulate()


@pytest.mark.parametrize("counting", ["fragment", "insertion", "paired-insertion"])
def test_counts_equal_those_by_hand(tmp_path, fragments, counting):
    adata = bin_fragments(
        write(tmp_path / "f.tsv.gz", fragments), SIZES, 2_500, min_fragments=50, counting=counting, temp_dir=tmp_path
    )
    vocabulary = Vocabulary.from_chrom_sizes(SIZES, 2_500)
    on_counted = fragments[fragments["chrom"].isin(vocabulary.chrom_names)]
    expected_cells = on_counted["barcode"].value_counts()
    expected_cells = expected_cells[expected_cells >= 50].sort_index()
    assert list(adata.obs_names) == list(expected_cells.index)
    assert 2 < adata.n_obs < 12  # some were too small
    assert adata.obs["n_fragments"].tolist() == expected_cells.tolist()
    assert np.array_equal(adata.X.toarray(), count_by_hand(fragments, vocabulary, adata.obs_names, counting))
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    assert adata.X.has_canonical_format
    assert [path.name for path in tmp_path.iterdir()] == ["f.tsv.gz"]  # no temporary file stays behind


def test_columns_are_all_bins_of_the_vocabulary_in_its_order(tmp_path, fragments):
    adata = bin_fragments(write(tmp_path / "f.tsv.gz", fragments), SIZES, min_fragments=1)
    assert Vocabulary.from_var(adata.var) == Vocabulary.from_chrom_sizes(SIZES)
    assert adata.var["chrom"].unique().tolist() == ["chr1", "chr2", "chr10", "chrX"]
    report = adata.uns["scatacformer"]["bin_fragments"]
    assert report["n_fragments"] == 3_000
    outside = fragments["chrom"].isin(["chrM", "chrY", "chrUn_1"]).sum()
    assert report["n_fragments_outside"] == outside
    assert report["n_fragments_of_cells"] == 3_000 - outside == adata.obs["n_fragments"].sum()


def test_excluded_chromosomes_can_be_chosen(tmp_path, fragments):
    adata = bin_fragments(write(tmp_path / "f.tsv.gz", fragments), SIZES, exclude_chroms=("chrX",), min_fragments=1)
    assert adata.var["chrom"].unique().tolist() == ["chr1", "chr2", "chr10", "chrM", "chrY"]


def test_result_does_not_depend_on_order_compression_or_comments(tmp_path, fragments):
    expected = bin_fragments(write(tmp_path / "sorted.tsv.gz", fragments), SIZES, min_fragments=1)
    half = write(tmp_path / "a", fragments[:1500], before="# id=x\n#\n").read_bytes()
    rest = write(tmp_path / "b", fragments[1500:], before="# 2\n").read_bytes()
    (tmp_path / "members.tsv.gz").write_bytes(half + rest)  # as bgzip does, and `cat` of two files
    by_barcode = fragments.sort_values("barcode", kind="stable")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in (
            write(tmp_path / "plain.tsv", fragments, compress=False),
            tmp_path / "members.tsv.gz",
            write(tmp_path / "by_barcode.tsv.gz", by_barcode),
        ):
            adata = bin_fragments(path, SIZES, min_fragments=1)
            assert (adata.X != expected.X).nnz == 0, path
            assert adata.obs.equals(expected.obs), path
    shuffled = write(tmp_path / "shuffled.tsv.gz", fragments.sample(frac=1, random_state=0))
    with pytest.warns(UserWarning, match=r"not sorted by position \(first at fragment \d+\)"):
        adata = bin_fragments(shuffled, SIZES, min_fragments=1)
    assert (adata.X != expected.X).nnz == 0


def test_first_unsorted_fragment_is_the_right_one(tmp_path):
    lines = ["chr1\t10\t20\ta\t1", "chr1\t30\t40\tb\t1", "chr2\t5\t9\ta\t1", "chr1\t90\t95\tb\t1", "chr2\t1\t2\ta\t1"]
    (tmp_path / "f.tsv").write_text("\n".join(["#c", *lines]) + "\n")
    with pytest.warns(UserWarning, match="first at fragment 4"):  # chr1 comes back
        bin_fragments(tmp_path / "f.tsv", SIZES, min_fragments=1)


@pytest.mark.parametrize("by", ["position", "barcode", "nothing"])
def test_scan_in_small_blocks_equals_scan_at_once(tmp_path, fragments, by, monkeypatch):
    table = {
        "position": fragments,
        "barcode": fragments.sort_values("barcode", kind="stable"),
        "nothing": fragments.sample(frac=1, random_state=1),
    }[by]
    path = write(tmp_path / "f.tsv.gz", table, before="# c\n")
    at_once = scan.scan_fragments(path, SIZES)
    monkeypatch.setattr(read, "BLOCK", 500)
    assert scan.scan_fragments(path, SIZES) == at_once
    assert at_once.n_fragments == 3_000
    assert sum(at_once.fragments_per_barcode.values()) == 3_000
    assert at_once.barcodes_contiguous == (by == "barcode")
    assert (at_once.unsorted_at is None) == (by == "position")


def test_barcodes_choose_the_cells_and_their_order(tmp_path, fragments):
    path = write(tmp_path / "f.tsv.gz", fragments)
    everything = bin_fragments(path, SIZES, min_fragments=1)
    chosen = list(everything.obs_names[[5, 0, 3]])
    (tmp_path / "barcodes.tsv").write_text("barcode\tcell_type\n" + "".join(f"{name}\tT\n" for name in chosen))
    (tmp_path / "barcodes.tsv.gz").write_bytes(gzip.compress("\n".join(chosen).encode()))
    for barcodes in (chosen, tmp_path / "barcodes.tsv", str(tmp_path / "barcodes.tsv.gz"), pd.Index(chosen)):
        adata = bin_fragments(path, SIZES, barcodes=barcodes)
        assert list(adata.obs_names) == chosen
        assert (adata.X != everything[chosen].X).nnz == 0
    with pytest.warns(UserWarning, match="1 of 4 barcodes given are left out: 1 are not in"):
        assert bin_fragments(path, SIZES, barcodes=[*chosen, "absent"]).n_obs == 3
    with pytest.raises(ValueError, match=r"None of the 1 barcodes given is in.*suffix"):
        bin_fragments(path, SIZES, barcodes=[chosen[0].removesuffix("-1")])
    with pytest.raises(FileNotFoundError, match="no barcodes file"):
        bin_fragments(path, SIZES, barcodes=tmp_path / "none.tsv")


def test_of_a_table_of_cell_ranger_the_cells_are_read(tmp_path, fragments):
    path, table = write(tmp_path / "f.tsv.gz", fragments), tmp_path / "singlecell.csv"
    names = list(bin_fragments(path, SIZES, min_fragments=1).obs_names)
    rows = [f"{name},{k},{int(k in (1, 4))}\n" for k, name in enumerate(names)]
    table.write_text("barcode,total,is__cell_barcode\nNO_BARCODE,99,0\n" + "".join(rows))
    assert list(bin_fragments(path, SIZES, barcodes=table).obs_names) == [names[1], names[4]]
    table.write_text(table.read_text().replace("total", "is_GRCh38_cell_barcode"))
    with pytest.raises(ValueError, match="several columns that mark cells: is_GRCh38_cell_barcode"):
        bin_fragments(path, SIZES, barcodes=table)
    table.write_text("barcode,is_cell\n" + "".join(f"{name},0\n" for name in names))
    with pytest.raises(ValueError, match="barcodes is empty"):
        bin_fragments(path, SIZES, barcodes=table)


def test_no_barcode_with_enough_fragments_shows_the_distribution(tmp_path, fragments):
    path = write(tmp_path / "f.tsv.gz", fragments)
    with pytest.raises(ValueError, match=r"None of 12 barcodes .* has 5,000 fragments.*median.*Lower min_fragments"):
        bin_fragments(path, SIZES, min_fragments=5_000)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no fragments file"):
        bin_fragments(tmp_path / "none.tsv.gz", SIZES)


def test_plain_text_named_gz(tmp_path, fragments):
    with pytest.raises(ValueError, match=r"named \.gz but is not gzip.*rename it to \.tsv"):
        bin_fragments(write(tmp_path / "f.tsv.gz", fragments, compress=False), SIZES)


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:-4], lambda b: b[:900] + b"\0\0" + b[902:]]
)
def test_truncated_or_damaged_gzip(tmp_path, fragments, damage):
    path = write(tmp_path / "f.tsv.gz", fragments)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="truncated or damaged gzip"):
        bin_fragments(path, SIZES)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr1\t5\t9", "line 3, has 3 columns"),
        ("chr1 5 9 a 1", "line 3, has 1 column:"),
        ("chr1\t5\t9\t\t1", "line 3, has no barcode"),
        ("chr1\tx\t9\ta\t1", "line 3, has a start or an end that is not a position"),
        ("chr1\t-5\t9\ta\t1", "line 3, has a start or an end that is not a position"),
        ("chr1\t5.5\t9\ta\t1", "line 3, has a start or an end that is not a position"),
        ("", "line 3, has 1 column:"),
    ],
)
def test_a_line_that_is_no_fragment_is_shown(tmp_path, line, message):
    (tmp_path / "f.tsv").write_text(f"#c\nchr1\t1\t4\ta\t1\n{line}\nchr1\t7\t9\ta\t1\n")
    with pytest.raises(ValueError, match=message):
        bin_fragments(tmp_path / "f.tsv", SIZES)


def test_header_line_without_hash(tmp_path):
    (tmp_path / "f.tsv").write_text("chrom\tstart\tend\tbarcode\tcount\nchr1\t1\t4\ta\t1\n")
    with pytest.raises(ValueError, match="line 1.*header line must begin with '#'"):
        bin_fragments(tmp_path / "f.tsv", SIZES)


def test_three_columns_throughout_and_four(tmp_path, fragments):
    with pytest.raises(ValueError, match="line 1, has 3 columns"):
        bin_fragments(write(tmp_path / "three.tsv.gz", fragments.iloc[:, :3]), SIZES)
    with pytest.warns(UserWarning, match="four columns; a fragments file has five"):
        four = bin_fragments(write(tmp_path / "four.tsv.gz", fragments.iloc[:, :4]), SIZES, min_fragments=1)
    assert four.obs["n_fragments"].sum() == (~fragments["chrom"].isin(["chrM", "chrY", "chrUn_1"])).sum()


def test_empty_file(tmp_path):
    for content in (b"", b"# only a comment\n"):
        (tmp_path / "f.tsv.gz").write_bytes(gzip.compress(content))
        with pytest.raises(ValueError, match="holds no fragments"):
            bin_fragments(tmp_path / "f.tsv.gz", SIZES)


def test_chromosomes_named_differently(tmp_path, fragments):
    bare = fragments.assign(chrom=fragments["chrom"].str.removeprefix("chr"))
    with pytest.raises(ValueError, match="No chromosome of .*named without 'chr'"):
        bin_fragments(write(tmp_path / "f.tsv.gz", bare), SIZES)


def test_unknown_chromosomes_in_part_are_reported(tmp_path, fragments):
    sizes = {name: size for name, size in SIZES.items() if name != "chr10"}
    with pytest.warns(UserWarning, match=r"of 3,000 fragments are on chromosomes that .* does not have \(chr10"):
        bin_fragments(write(tmp_path / "f.tsv.gz", fragments), sizes, min_fragments=1)


def test_wrong_assembly(tmp_path):
    table = pd.DataFrame([["chr1", 10, 20, "a", 1], ["chr1", 249_200_000, 249_200_100, "a", 1]])
    path = write(tmp_path / "f.tsv.gz", table)
    with pytest.raises(ValueError, match=r"end beyond 1 of 1 chromosomes of hg38 .*they fit hg19\."):
        bin_fragments(path, "hg38")
    assert bin_fragments(path, "hg19", min_fragments=1).uns["assembly"] == "hg19"


def test_empty_intervals_are_reported(tmp_path):
    table = pd.DataFrame([["chr1", 10, 10, "a", 1], ["chr1", 30, 20, "a", 1], ["chr1", 40, 50, "a", 1]])
    with pytest.warns(UserWarning, match="2 of 3 fragments .* end at or before their start"):
        adata = bin_fragments(write(tmp_path / "f.tsv.gz", table), SIZES, min_fragments=1)
    assert adata.X.sum() == adata.obs["n_fragments"].sum() == 1


def test_unknown_counting(tmp_path):
    with pytest.raises(ValueError, match="counting is 'reads'; expected"):
        bin_fragments(tmp_path / "f.tsv.gz", SIZES, counting="reads")


def test_real_fragments_equal_a_count_with_pandas():
    data = os.environ.get("SCATACFORMER_TEST_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data"
    path = Path(data) / "fragments" / "gm12878_hek293t_hg19.tsv.gz"
    if not path.is_file():
        pytest.skip("real fragments are absent: set SCATACFORMER_TEST_DATA to the folder of the test data")
    adata = bin_fragments(path, "hg19", barcodes=path.with_name("labels.tsv"))
    assert adata.shape == (714, 607_271)
    assert adata.uns["assembly"] == "hg19"

    table = pd.read_csv(path, sep="\t", header=None, names=["chrom", "start", "end", "barcode", "count"])
    table = table[~table["chrom"].isin(["chrM", "chrY"])]
    assert adata.obs["n_fragments"].tolist() == table["barcode"].value_counts()[adata.obs_names].tolist()
    vocabulary = Vocabulary.from_var(adata.var)
    offset = dict(zip(vocabulary.chrom_names, vocabulary.chrom_offsets, strict=False))
    first = table["start"].to_numpy() // 5000
    last = (table["end"].to_numpy() - 1) // 5000
    assert (last - first).max() <= 1  # no fragment spans a whole bin
    column = table["chrom"].map(offset).to_numpy() + first
    row = adata.obs_names.get_indexer(table["barcode"])
    crosses = last > first
    rows, columns = np.concatenate([row, row[crosses]]), np.concatenate([column, column[crosses] + 1])
    expected = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=adata.shape)
    assert (adata.X != expected).nnz == 0


def many(n=20_000, seed=0):
    """So many fragments that one in a thousand may be misplaced."""
    table = simulate(n, seed=seed)
    return table[table["end"] > table["start"]]


def appended(path, table, lines):
    """A file with `lines` (chromosome, start, end) of an existing barcode after the table's."""
    more = pd.DataFrame([(*line, table["barcode"].iloc[0], 1) for line in lines], columns=table.columns)
    order = {name: i for i, name in enumerate(SIZES)}
    both = pd.concat([table, more]).sort_values("chrom", key=lambda c: c.map(order), kind="stable")
    return write(path, both)


@pytest.mark.parametrize(
    "line",
    [
        ("chr1", 22_900, 23_003),
        ("chr1", 90_000, 155_000),
        ("chr2", -4, 60),
        ("chr1", -90, -4),
        ("chrX", 8_999, 9_001),
    ],
)
@pytest.mark.parametrize("counting", ["fragment", "insertion"])
def test_a_few_fragments_outside_of_their_chromosome_are_left_out_and_counted(tmp_path, line, counting):
    table = many()
    expected = bin_fragments(write(tmp_path / "a.tsv.gz", table), SIZES, min_fragments=1, counting=counting)
    path = appended(tmp_path / "b.tsv.gz", table, [line, line])
    with pytest.warns(UserWarning, match=r"2 of [\d,]+ fragments \(0\.01\d* %\) .* left out"):
        adata = bin_fragments(path, SIZES, min_fragments=1, counting=counting)
    assert (adata.X != expected.X).nnz == 0
    assert adata.obs.equals(expected.obs)
    report = adata.uns["scatacformer"]["bin_fragments"]
    assert report["n_fragments_misplaced"] == 2
    assert report["n_fragments"] == len(table) + 2


@pytest.mark.parametrize("line", [("chrM", 700, 872), ("chrUn_1", 600, 703), ("chrY", 4_000, 90_000)])
def test_what_lies_beyond_an_end_of_a_chromosome_without_bins_does_not_matter(tmp_path, line):
    path = appended(tmp_path / "b.tsv.gz", simulate(), [line] * 500)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*beyond")
        with pytest.warns(UserWarning, match="not sorted"):
            bin_fragments(path, SIZES, min_fragments=1)


def test_from_some_share_on_misplaced_fragments_are_an_error_that_says_the_share(tmp_path):
    table = many()
    n = len(table[~table["chrom"].isin(["chrM", "chrY", "chrUn_1"])])
    too_many = [("chr1", 22_900, 23_100)] * (n // 500)
    with pytest.raises(ValueError, match=r"beyond 1 of 4 chromosomes of the given sizes .*\(0\.\d+ %\); up to 0\.1 %"):
        bin_fragments(appended(tmp_path / "b.tsv.gz", table, too_many), SIZES)
    negative = [("chr1", -5, 9)] * (n // 500)
    with pytest.raises(ValueError, match=r"line [\d,]+, .*not a position.*\(0\.\d+ %\) lie outside"):
        bin_fragments(appended(tmp_path / "b.tsv.gz", table, negative), SIZES)


def test_a_file_of_another_assembly_is_refused_though_its_share_beyond_the_ends_is_small(tmp_path):
    rng = np.random.default_rng(0)
    sizes = {f"chr{k}": v for k, v in ((1, 249_250_621), (4, 191_154_276), (8, 146_364_022), (9, 141_213_431))}
    rows = [
        (name, start, start + 100, "a", 1)
        for name, size in sizes.items()
        for start in [*np.sort(rng.integers(0, size - 9_000_000, 2_500)).tolist(), size - 200]
    ]
    path = write(tmp_path / "f.tsv.gz", pd.DataFrame(rows))  # 4 in 10,000
    with pytest.raises(ValueError, match=r"end beyond 4 of 4 chromosomes of hg38 .*\(0\.04 %\).*they fit hg19\."):
        bin_fragments(path, "hg38")


def same_cells(found, expected):
    assert (found.X != expected.X).nnz == 0
    assert found.obs.equals(expected.obs)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("{0}\t{1}\t{2}\t{3}\t1\tfoo\tbar", "has 7 columns; a fragments file has five"),
        ("{0}\t{1}\t{2}\t{3}\t1\t", "has 6 columns"),
        ("{0}\t{1}\t{2}\t{3}\t1\t+", "has 6 columns"),
        ("{0}\t{1}\t{2}\t{3}\t1.0", "fifth column that does not hold whole numbers"),
        ("{0}\t{1}\t{2}\t{3}\tx", "fifth column that does not hold whole numbers"),
    ],
)
@pytest.mark.parametrize("counting", ["fragment", "insertion"])
def test_other_columns_are_read_with_a_warning(tmp_path, fragments, columns, message, counting):
    expected = bin_fragments(write(tmp_path / "a.tsv.gz", fragments), SIZES, min_fragments=1, counting=counting)
    lines = [columns.format(*row) + "\n" for row in fragments.itertuples(index=False)]
    (tmp_path / "b.tsv").write_text("".join(lines))
    with pytest.warns(UserWarning, match=message):
        same_cells(bin_fragments(tmp_path / "b.tsv", SIZES, min_fragments=1, counting=counting), expected)


@pytest.mark.parametrize("block", [500, 1 << 24])
def test_byte_order_mark_carriage_returns_and_empty_lines_at_the_end_lose_no_fragment(
    tmp_path, fragments, block, monkeypatch
):
    expected = bin_fragments(write(tmp_path / "a.tsv.gz", fragments), SIZES, min_fragments=1)
    text = fragments.to_csv(sep="\t", header=False, index=False)
    monkeypatch.setattr(read, "BLOCK", block)
    for odd in (
        "\ufeff" + text,
        "\ufeff#c\n" + text,
        text + "\n",
        text + "\n" * 1200,
        text.replace("\n", "\r\n") + "\r\n\r\n",
        text.removesuffix("\n"),
    ):
        (tmp_path / "b.tsv").write_text(odd, newline="")
        same_cells(bin_fragments(tmp_path / "b.tsv", SIZES, min_fragments=1), expected)


def test_bedpe_is_named_with_the_way_to_convert_it(tmp_path, fragments):
    lines = [
        f"{c}\t{s}\t{s + 1}\t{c}\t{e - 1}\t{e}\t{k}\t60\t-\t+\n" for c, s, e, k, _ in fragments.itertuples(index=False)
    ]
    (tmp_path / "f.bed.gz").write_bytes(gzip.compress("".join(lines).encode()))
    with pytest.raises(ValueError, match=r"is a BEDPE file: .*awk"):
        bin_fragments(tmp_path / "f.bed.gz", SIZES)


@pytest.mark.parametrize("name", ["Mt", "ChrC", "mitochondrion_genome", "MtDNA", "Pt", "chrMT"])
def test_organelles_have_no_bins_whatever_their_name(tmp_path, name):
    table = simulate().replace({"chrom": {"chrM": name}})
    sizes = {name if one == "chrM" else one: size for one, size in SIZES.items()}
    adata = bin_fragments(write(tmp_path / "f.tsv.gz", table), sizes, min_fragments=1)
    assert name not in set(adata.var["chrom"])


def test_an_organelle_of_another_name_is_noticed_by_its_density(tmp_path):
    rng = np.random.default_rng(0)
    sizes = {"chr1": 3_000_000, "chr2": 2_000_000, "scaffold_77": 16_000}
    rows = [
        (name, start, start + 50, "a", 1)
        for name, size, n in zip(sizes, sizes.values(), (900, 600, 800), strict=True)
        for start in np.sort(rng.integers(0, size - 60, n)).tolist()
    ]
    path = write(tmp_path / "f.tsv.gz", pd.DataFrame(rows))
    with pytest.warns(UserWarning, match=r"35% of all fragments are on scaffold_77.*exclude_chroms="):
        bin_fragments(path, sizes)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="one core is needed for the race to be lost")
def test_a_process_that_ends_on_an_error_ends_well(tmp_path):
    rows = [
        (str(1 + k // 2_000), (k % 2_000) * 1_000, (k % 2_000) * 1_000 + 150, f"c{k % 20}", 1) for k in range(20_000)
    ]
    path = write(tmp_path / "ensembl.tsv.gz", pd.DataFrame(rows))
    code = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import scatacformer as sf\n"
        "try: sf.pp.bin_fragments(sys.argv[1], 'hg38')\n"
        "except ValueError as error: print('caught', 'without' in str(error))"
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "caught True\n"), done.stderr


def test_several_files_are_refused_with_the_way_to_join_them(tmp_path, fragments):
    paths = {"a": write(tmp_path / "a.tsv.gz", fragments[:1_500]), "b": write(tmp_path / "b.tsv.gz", fragments[1_500:])}
    with pytest.raises(
        ValueError, match=r"path is list; expected the path of one fragments file.*anndata\.concat"
    ) as error:
        bin_fragments(list(paths.values()), "hg38")
    code = re.search(r"anndata\.concat\(.*\)", str(error.value))[0]
    adata = eval(
        code,
        {
            "anndata": anndata,
            "sf": SimpleNamespace(pp=SimpleNamespace(bin_fragments=small)),
            "paths": paths,
            "genome": SIZES,
        },
    )
    assert adata.obs["sample"].cat.categories.tolist() == ["a", "b"]
    assert adata.X.sum() == small(tmp_path / "a.tsv.gz", SIZES).X.sum() + small(tmp_path / "b.tsv.gz", SIZES).X.sum()


def small(path, genome):
    return bin_fragments(path, genome, min_fragments=1)


def test_genomes_of_snapatac2_and_sizes_of_a_known_assembly(tmp_path):
    import snapatac2

    path = write(tmp_path / "f.tsv.gz", pd.DataFrame([["chr1", 10, 20, "a", 1], ["chr2", 50, 90, "a", 1]]))
    expected = small(path, "hg38")
    for genome in (snapatac2.genome.hg38, dict(chrom_sizes("hg38"))):
        adata = small(path, genome)
        assert adata.uns["assembly"] == "hg38"
        assert (adata.X != expected.X).nnz == 0
    with pytest.raises(ValueError, match="name of an assembly, the path of one file, or a mapping .*found list"):
        bin_fragments(path, ["hg38"])
