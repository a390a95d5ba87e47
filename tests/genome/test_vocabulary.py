from __future__ import annotations

import gzip
import pickle
import re
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scatacformer.genome import Vocabulary, chrom_sizes

TOY = {"chr1": 12_000, "chr2": 10_000, "chrX": 4_000, "chrM": 100, "chrY": 9_000, "chr1_KI270706v1_random": 7_000}


@pytest.fixture(scope="module")
def toy():
    return Vocabulary.from_chrom_sizes(TOY, 5000)


@pytest.fixture(scope="module")
def hg19():
    return Vocabulary.from_chrom_sizes("hg19")


def frame(chrom, start, end):
    return pd.DataFrame({"chrom": chrom, "start": start, "end": end}, index=[f"r{i}" for i in range(len(chrom))])


def test_bins_tile_the_standard_chromosomes(toy):
    assert list(toy.names) == [
        "chr1:0-5000",
        "chr1:5000-10000",
        "chr1:10000-12000",
        "chr2:0-5000",
        "chr2:5000-10000",
        "chrX:0-4000",
    ]
    assert toy.bin_size == 5000
    assert toy.chrom.dtype == np.int16
    assert toy.start.dtype == toy.end.dtype == np.int32


@pytest.mark.parametrize(("assembly", "n_bins"), [("hg19", 607_271), ("hg38", 606_219)])
def test_number_of_bins_of_human(assembly, n_bins):
    vocabulary = Vocabulary.from_chrom_sizes(assembly)
    assert vocabulary.n_bins == n_bins
    assert vocabulary.n_tokens == n_bins + 25  # <cls>, <pad> and an <eos> for each of 23 chromosomes
    assert vocabulary.assembly == assembly


def test_token_ids_are_disjoint_and_fill_the_range(toy):
    ids = np.concatenate([np.arange(toy.n_bins), [toy.cls_id, toy.pad_id], toy.eos_ids])
    assert np.array_equal(ids, np.arange(toy.n_tokens))
    assert toy.n_chroms == len(toy.eos_ids) == 3


def test_bed_round_trip_is_exact_and_deterministic(tmp_path, toy):
    for name in ("a.bed", "a.bed.gz"):
        toy.to_bed(tmp_path / name)
        again = Vocabulary.from_bed(tmp_path / name)
        assert again == toy
        assert again.checksum == toy.checksum
        assert again.chrom_names == toy.chrom_names
    toy.to_bed(tmp_path / "b.bed.gz")
    assert (tmp_path / "a.bed.gz").read_bytes() == (tmp_path / "b.bed.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bed", "a.bed.gz", "b.bed.gz"]


def test_bed_keeps_the_assembly_and_skips_headers(tmp_path):
    Vocabulary.from_chrom_sizes("sacCer3", 50_000).to_bed(tmp_path / "yeast.bed")
    assert Vocabulary.from_bed(tmp_path / "yeast.bed").assembly == "sacCer3"
    (tmp_path / "ucsc.bed").write_text("track name=x\n#c\nchr2\t5\t9\tpeak\t0\nchr1\t0\t7\tpeak\t0")
    assert list(Vocabulary.from_bed(tmp_path / "ucsc.bed").names) == ["chr2:5-9", "chr1:0-7"]


def test_failed_write_leaves_nothing(tmp_path, toy):
    (tmp_path / "taken.bed").mkdir()
    with pytest.raises(OSError, match="taken"):
        toy.to_bed(tmp_path / "taken.bed")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.bed"]


def test_truncated_gzip_and_no_bed(tmp_path, toy):
    toy.to_bed(tmp_path / "a.bed.gz")
    whole = (tmp_path / "a.bed.gz").read_bytes()
    (tmp_path / "a.bed.gz").write_bytes(whole[:-12])
    with pytest.raises(ValueError, match="truncated"):
        Vocabulary.from_bed(tmp_path / "a.bed.gz")
    (tmp_path / "text.bed").write_text("no bed here\n")
    with pytest.raises(ValueError, match="not a BED file"):
        Vocabulary.from_bed(tmp_path / "text.bed")


@pytest.mark.parametrize("template", ["{}:{}-{}", "{}-{}-{}", "{}_{}_{}", "{}:{}_{}"])
def test_names_with_separators_in_the_chromosome(template):
    regions = [("chr1", 0, 5000), ("chr1_KI270706v1_random", 10, 20), ("HLA-A*01:01", 3, 4), ("2", 5, 99)]
    var = pd.DataFrame(index=[template.format(*region) for region in regions])
    vocabulary = Vocabulary.from_var(var)
    assert vocabulary.chrom_names == tuple(region[0] for region in regions)
    assert vocabulary.start.tolist() == [0, 10, 3, 5]
    assert vocabulary.end.tolist() == [5000, 20, 4, 99]


@pytest.mark.parametrize(
    "columns",
    [
        ("chrom", "start", "end"),
        ("chromosome", "chromStart", "chromEnd"),
        ("chr", "chr_start", "chr_end"),
        ("seqnames", "start", "end"),
        ("Chromosome", "Start", "End"),
    ],
)
def test_columns_by_their_usual_names(columns):
    var = frame(["chr2", "chr1"], [5.0, 0.0], [9, 7]).set_axis(columns, axis=1)
    assert list(Vocabulary.from_var(var).names) == ["chr2:5-9", "chr1:0-7"]


def test_given_order_is_the_token_order(hg19):
    order = np.random.default_rng(0).permutation(hg19.n_bins)
    shuffled = Vocabulary.from_var(hg19.to_frame().iloc[order])
    assert np.array_equal(shuffled.names[:100], hg19.names[order[:100]])
    assert shuffled != hg19
    assert shuffled.checksum != hg19.checksum
    assert np.array_equal(hg19.lookup(shuffled), order)


def test_names_of_a_whole_genome_parse(hg19):
    var = hg19.to_frame()[[]]
    assert Vocabulary.from_var(var) == hg19


def test_lookup_is_exact_on_all_three_of_chrom_start_end(toy):
    other = Vocabulary.from_var(
        frame(["chrX", "chr2", "chr1", "chr1", "chr9"], [0, 5000, 5000, 10_001, 0], [4000, 10_000, 9_999, 12_000, 5000])
    )
    assert toy.lookup(other).tolist() == [5, 4, -1, -1, -1]


def test_lookup_with_shared_starts():
    with pytest.warns(UserWarning, match="2 of 3 regions overlap"):
        nested = Vocabulary.from_var(frame(["chr1"] * 3, [0, 0, 0], [30, 10, 20]))
    assert nested.lookup(Vocabulary.from_var(frame(["chr1"], [0], [20]))).tolist() == [2]


def test_bins_of_chrom_partition_the_vocabulary():
    interleaved = Vocabulary.from_var(frame(["b", "a", "b", "a"], [0, 0, 9, 9], [5, 5, 14, 14]))
    assert interleaved.bins_of_chrom("b").tolist() == [0, 2]
    assert interleaved.bins_of_chrom(1).tolist() == [1, 3]
    assert sorted(interleaved.chrom_order.tolist()) == [0, 1, 2, 3]
    assert interleaved.chrom_offsets.tolist() == [0, 2, 4]
    with pytest.raises(ValueError, match="No bin is on 'c'"):
        interleaved.bins_of_chrom("c")


def test_bin_size_only_where_bins_share_it(toy):
    assert Vocabulary.from_var(toy.to_frame().iloc[::-1]).bin_size == 5000
    assert Vocabulary.from_var(frame(["1", "1"], [0, 5], [4, 10])).bin_size is None  # the short one is not the last


def test_duplicates_name_count_and_first():
    with pytest.raises(ValueError, match=r"2 of 4 regions are duplicates.*chr1:0-5"):
        Vocabulary.from_var(frame(["chr1", "chr2", "chr1", "chr1"], [0, 0, 0, 0], [5, 5, 5, 5]))


def test_overlap_within_a_wide_earlier_region_is_seen():
    with pytest.warns(UserWarning, match=r"2 of 3 regions overlap another \(first: chr1:10-20\)"):
        Vocabulary.from_var(frame(["chr1"] * 3, [0, 10, 50], [100, 20, 60]))


def test_touching_regions_do_not_overlap():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Vocabulary.from_var(frame(["chr1", "chr1", "chr2"], [0, 10, 5], [10, 20, 15]))


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ([0, 7], [5, 7], "1 of 2 regions end at or before their start"),
        ([0, -7], [5, 7], "negative"),
        ([0, np.nan], [5, 7], "NaN"),
        ([0, 1.5], [5, 7], "not an integer"),
        ([0, 1], [5, 2**31], "beyond"),
        ([0, 1], [5, np.inf], "infinite"),
        (["0", "x"], [5, 7], "must be integers"),
    ],
)
def test_bad_positions(start, end, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_var(frame(["chr1", "chr1"], start, end))


@pytest.mark.parametrize(
    "name", ["GATA1", "chr1:5", "chr1:a-b", "chr1:-5-10", "chr1:0-5000-", ":1-2", "chr1:1-99999999999"]
)
def test_names_that_say_no_interval(name):
    with pytest.raises(ValueError, match=r"does not contain the positions of the regions.*first: '" + name):
        Vocabulary.from_var(pd.DataFrame({"highly_variable": [1, 2]}, index=["chr1:0-5", name]))


def test_missing_chromosome_name():
    with pytest.raises(ValueError, match="1 of 2 regions in adata.var have no 'chrom'"):
        Vocabulary.from_var(frame(["chr1", None], [0, 5], [5, 9]))


def test_empty_is_refused():
    with pytest.raises(ValueError, match="at least one bin"):
        Vocabulary.from_var(frame([], [], []))


def test_wrong_assembly_is_named_and_the_right_one_suggested(hg19):
    hg19.validate_assembly()
    hg38 = Vocabulary.from_chrom_sizes("hg38")
    with pytest.raises(ValueError, match=r"bins end beyond their chromosome in hg19.*These bins fit hg38\."):
        hg38.validate_assembly("hg19")
    with pytest.raises(ValueError, match=r"does not have: chr20, chr21, chr22.*fit hg19\."):
        hg19.validate_assembly("mm10")


def test_chromosomes_named_without_chr_get_the_remedy():
    with pytest.raises(ValueError, match="named without 'chr': '1' where 'chr1' is expected"):
        Vocabulary.from_var(frame(["1"], [0], [5000])).validate_assembly("hg38")
    with pytest.raises(ValueError, match="named with 'chr': 'chr1' where '1' is expected"):
        Vocabulary.from_var(frame(["chr1"], [0], [5000])).validate_assembly({"1": 10_000})


def test_last_bin_at_full_width_is_no_assembly_mismatch():
    Vocabulary.from_var(frame(["chr1"] * 3, [0, 5000, 10_000], [5000, 10_000, 15_000])).validate_assembly(TOY)
    with pytest.raises(ValueError, match="1 of 4 bins end beyond"):
        Vocabulary.from_var(frame(["chr1"] * 4, np.arange(4) * 5000, np.arange(1, 5) * 5000)).validate_assembly(TOY)


def test_scaffolds_of_the_assembly_are_not_unknown():
    Vocabulary.from_var(frame(["chr1_KI270706v1_random"], [0], [5000])).validate_assembly("GRCh38")


def test_frozen_hashable_picklable(toy):
    with pytest.raises(ValueError, match="read-only"):
        toy.start[0] = 1
    with pytest.raises(AttributeError):
        toy.assembly = "hg38"
    copy = pickle.loads(pickle.dumps(toy))
    assert copy == toy
    assert hash(copy) == hash(toy)
    assert "names" not in toy.__getstate__()
    assert toy != "toy"
    assert "6 bins of 5,000 bp on 3 chromosomes" in repr(toy)
    assert len(toy) == 6


def test_checksum_is_pinned(toy):
    # The checksum is written into saved models: a change of it would make every one of them look foreign.
    assert toy.checksum == "62becc8233ac220e679119d409f37cac265833568fd5c1acdfd42f24c6011f0c"


def test_gzip_holds_no_time_of_day(tmp_path, toy):
    toy.to_bed(tmp_path / "a.bed.gz")
    assert (tmp_path / "a.bed.gz").read_bytes()[4:8] == b"\0\0\0\0"
    assert gzip.decompress((tmp_path / "a.bed.gz").read_bytes()).startswith(b"chr1\t0\t5000\n")


@pytest.mark.parametrize("bin_size", [0, -5, 2.5])
def test_bin_size_must_be_a_positive_integer(bin_size):
    with pytest.raises(ValueError, match="bin_size"):
        Vocabulary.from_chrom_sizes(TOY, bin_size)


def test_a_peak_that_reaches_over_the_end_is_warned_of_and_many_are_refused_with_their_share():
    starts = np.arange(0, 40_000_000, 40_000)
    near = frame(["chr23"] * 1000, starts, starts + 700)
    end = chrom_sizes("danRer11")["chr23"]
    fine = Vocabulary.from_var(pd.concat([near, frame(["chr23"], [end - 684], [end + 46])]))
    with pytest.warns(UserWarning, match=r"1 of 1,001 bins end beyond .*all 0\.1 %\).* stay as they are"):
        fine.validate_assembly("danRer11")
    beyond = frame(["chr23"] * 20, end + np.arange(20) * 700, end + np.arange(20) * 700 + 640)
    with pytest.raises(ValueError, match=r"20 of 1,020 bins end beyond .*all 2 %\).*These bins fit"):
        Vocabulary.from_var(pd.concat([near, beyond])).validate_assembly("danRer11")


@pytest.mark.parametrize(
    "chrom",
    [
        [1.0, 2.0],
        np.array([1, 2], np.float32),
        pd.array([1, 2], dtype="Float64"),
        pd.Categorical([1.0, 2.0]),
        pd.Series([1.0, "2"], dtype=object),
        [1, 2],
    ],
)
def test_chromosomes_that_are_numbers_are_named_without_a_fraction(chrom):
    table = pd.DataFrame({"chrom": chrom, "start": [0, 0], "end": [5, 5]})
    assert Vocabulary.from_var(table).chrom_names == ("1", "2")


def test_chromosomes_that_are_fractions_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"named '1\.0': a number .*read the column as text"):
        Vocabulary.from_var(frame(["1.0", "X"], [0, 0], [5, 5]))
    with pytest.raises(ValueError, match=r"is the number 1\.5; expected names"):
        Vocabulary.from_var(pd.DataFrame({"chrom": [1.5, 2], "start": [0, 0], "end": [5, 5]}))
    with pytest.raises(ValueError, match=r"named '1\.0'"):
        Vocabulary.from_var(pd.DataFrame(index=["1.0:0-5000"]))
    (tmp_path / "f.bed").write_text("1.0\t0\t5\n")
    with pytest.raises(ValueError, match=r"f\.bed: A chromosome is named '1\.0'"):
        Vocabulary.from_bed(tmp_path / "f.bed")


def advice(message):
    """The columns that an error's remedy keeps: the code between `adata[:, ` and `].copy()`."""
    return re.search(r"adata\[:, (.*)\]\.copy\(\)", message)[1]


@pytest.mark.parametrize("with_columns", [False, True])
def test_the_remedy_for_duplicates_works(with_columns):
    names = ["chr1:0-5", "chr2:5-9", "chr1-0-5"]
    var = frame(["chr1", "chr2", "chr1"], [0, 5, 0], [5, 9, 5]) if with_columns else pd.DataFrame(index=names)
    adata = ad.AnnData(np.ones((2, 3), np.float32), var=var.set_axis(names))
    with pytest.raises(ValueError, match=r"1 of 3 regions are duplicates .*spell them alike first") as error:
        Vocabulary.from_var(adata.var)
    kept = adata[:, eval(advice(str(error.value)), {"adata": adata})].copy()
    assert list(kept.var_names) == names[:2]
    Vocabulary.from_var(kept.var)
    adata.var_names = names = ["chr1:0-5000", "chr2:5-9", "chr1:0-5000-1"]
    if not with_columns:
        with pytest.raises(ValueError, match=r"were made unique \(first: 'chr1:0-5000-1'\)"):
            Vocabulary.from_var(adata.var)


def test_genes_among_the_peaks_are_named_with_the_way_to_take_the_peaks():
    types = ["Gene Expression", "Peaks", "Peaks"]
    var = pd.DataFrame({"feature_types": types}, index=["MIR1302-2HG", "chr1:5-9", "chr1:10-19"])
    adata = ad.AnnData(np.ones((2, 3), np.float32), var=var)
    with pytest.raises(ValueError, match="keep the peaks") as error:
        Vocabulary.from_var(adata.var)
    kept = adata[:, eval(advice(str(error.value)), {"adata": adata})].copy()
    assert Vocabulary.from_var(kept.var).n_bins == 2
    with pytest.raises(ValueError, match=r"no peaks.*gex_only=False"):
        Vocabulary.from_var(adata.var[:1])
