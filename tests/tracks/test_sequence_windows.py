"""The signal of output bins equals a count by hand; windows are where they should be; bad input is refused first."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scatacformer as sf
from scatacformer.genome import BigWig, write_bigwig

from ._genome import SIZES, write_fasta

GEOMETRY = {"seq_len": 1024, "bin_size": 64, "crop": 2}
pytestmark = pytest.mark.filterwarnings("ignore:.* of the bins of track")


def by_hand(coverage: dict[str, np.ndarray], var: pd.DataFrame, reduce: str) -> np.ndarray:
    rows = zip(var["chrom"], var["start"], var["end"], strict=True)
    return np.array([getattr(np, reduce)(coverage[chrom][start:end]) for chrom, start, end in rows], dtype=np.float32)


@pytest.mark.parametrize("reduce", ["mean", "sum", "max", "median"])
def test_bigwig_bins_equal_a_count_by_hand(bigwig: Path, fasta: Path, coverage: dict, reduce: str) -> None:
    tracks = sf.pp.sequence_windows({"T": bigwig}, fasta, reduce=reduce, scale=2.0, clip=4.0, **GEOMETRY)
    expected = by_hand(coverage, tracks.var, reduce)
    np.testing.assert_allclose(tracks.X[0], np.minimum(2 * expected, 4), rtol=1e-5)
    assert 0 < (tracks.X[0] == 4).sum() < tracks.n_vars


def test_windows_tile_the_genome_so_that_predicted_parts_touch(bigwig: Path, fasta: Path) -> None:
    tracks = sf.pp.sequence_windows([bigwig], fasta, **GEOMETRY)
    read = tracks.uns["sequence_windows"]
    windows = read["windows"]
    assert list(tracks.obs_names) == ["T"]
    step = 1024 - 2 * 2 * 64
    assert windows[windows["chrom"] == "chr1"]["start"].tolist() == list(range(0, 6000 - 1024 + 1, step))
    assert read["dropped"] == {"short chromosome": 1, "beyond an end": 2}
    assert tracks.var_names.is_unique
    for _, window in windows.iterrows():
        bins = tracks.var.iloc[window["first"] : window["first"] + 16]
        assert bins["start"].tolist() == list(range(window["start"], window["end"], 64))
        assert set(bins["chrom"]) == {window["chrom"]}
    predicted = np.concatenate([np.arange(first + 2, first + 14) for first in windows["first"]])
    assert len(np.unique(predicted)) == len(predicted)


def test_windows_with_n_or_blacklist_are_dropped_and_counted(
    bigwig: Path, tmp_path: Path, sequences: dict[str, str]
) -> None:
    sequences["chr1"] = sequences["chr1"][:2000] + "n" + sequences["chr1"][2001:]
    fasta = write_fasta(tmp_path / "with_n.fa", sequences)
    (tmp_path / "black.bed").write_text("chr2\t0\t1\nchr1\t2047\t2048\n")
    tracks = sf.pp.sequence_windows([bigwig], fasta, blacklist=tmp_path / "black.bed", **GEOMETRY)
    read = tracks.uns["sequence_windows"]
    # the window of chr1 that begins at 1,536 has both the N and the black base: it is counted once
    assert read["dropped"]["N"] == 1 and read["dropped"]["blacklist"] == 1
    starts = read["windows"].groupby("chrom")["start"].apply(list)
    assert starts["chr1"] == [0, 768, 2304, 3072, 3840, 4608] and starts["chr2"] == [768, 1536, 2304, 3072]


def test_windows_lie_around_regions(bigwig: Path, fasta: Path) -> None:
    regions = ["chr1:2000-2100", "chr1:2150-2200", "chr1:10-20", "chr2:2040-2060"]
    tracks = sf.pp.sequence_windows([bigwig], fasta, regions=regions, **GEOMETRY)
    read = tracks.uns["sequence_windows"]
    assert read["dropped"] == {"beyond an end": 1, "region already covered": 1}
    assert len(read["windows"]) == 2
    for (_, window), centre in zip(read["windows"].iterrows(), (2050, 2050), strict=True):
        assert window["start"] % 64 == 0 and abs((window["start"] + window["end"]) / 2 - centre) <= 64


def test_insertions_equal_a_count_by_hand(tmp_path: Path, fasta: Path) -> None:
    rng = np.random.default_rng(3)
    cells = [f"cell{i}" for i in range(6)]
    groups = dict(zip(cells, ["b", "a", "b", "a", None, "b"], strict=True))
    lines, coverage, total = [], {g: {c: np.zeros(s) for c, s in SIZES.items()} for g in "ab"}, {"a": 0, "b": 0}
    for _ in range(20_000):
        chrom = rng.choice(list(SIZES))
        start = int(rng.integers(0, SIZES[chrom] - 60))
        end = start + int(rng.integers(1, 60))
        cell = str(rng.choice([*cells, "other"]))
        lines.append(f"{chrom}\t{start}\t{end}\t{cell}\t{rng.integers(1, 5)}\n")
        if group := groups.get(cell):
            coverage[group][chrom][start] += 1
            coverage[group][chrom][end - 1] += 1
            total[group] += 2
    path = tmp_path / "fragments.tsv.gz"
    path.write_bytes(gzip.compress("".join(lines).encode()))
    adata = AnnData(obs=pd.DataFrame({"type": pd.Categorical(groups.values())}, index=cells))
    tracks = sf.pp.sequence_windows(adata, fasta, groupby="type", fragments=path, **GEOMETRY)
    assert list(tracks.obs_names) == ["a", "b"]
    assert tracks.obs["n_insertions"].tolist() == [total["a"], total["b"]]
    assert tracks.obs["n_cells"].tolist() == [2, 3]
    for row, group in enumerate("ab"):
        expected = by_hand(coverage[group], tracks.var, "sum") / total[group] * 1e6
        np.testing.assert_allclose(tracks.X[row], expected, rtol=1e-5)
    few = tmp_path / "few.tsv"
    few.write_text("chr1\t1000\t1100\tcell0\t1\nchr1\t1000\t1100\tcell1\t1\n")
    with pytest.warns(UserWarning, match=r"2 of 2 groups have fewer than 18 insertions.*a \(2\), b \(2\)"):
        sf.pp.sequence_windows(adata, fasta, groupby="type", fragments=few, **GEOMETRY)


def test_an_array_is_laid_on_its_windows(fasta: Path) -> None:
    values = np.random.default_rng(0).gamma(1, 1, (2, 2, 12)).astype(np.float32)
    values[1, 0, 3] = np.nan
    regions = ["chr2:1024-2048", "chr1:64-1088"]
    tracks = sf.pp.sequence_windows(values, fasta, regions=regions, names=["x", "y"], **GEOMETRY)
    windows = tracks.uns["sequence_windows"]["windows"]
    for row, first in enumerate(windows["first"]):
        np.testing.assert_array_equal(tracks.X[:, first + 2 : first + 14], values[:, row])
    assert np.isnan(tracks.X).sum() == 1 + 2 * 2 * 4  # one value and the crop of each window
    tracks.write_h5ad(fasta.with_suffix(".h5ad"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seq_len": 1000}, "multiple of bin_size .64 bp., found 1000; the nearest is 1024"),
        ({"crop": 8}, "leaves none of the 16"),
        ({"seq_len": 8192}, "no window of 8,192 bp is left .dropped: 3 for short chromosome.*longest .* 6,000 bp"),
        ({"regions": ["chrX:5-10"]}, "lie on chromosomes without DNA or signal: chrX"),
        ({"chromosomes": ["chr9"]}, "do not both have chr9; they share chr1, chr2, chr3"),
        ({"reduce": "mode"}, "reduce is .*; expected one of"),
    ],
)
def test_what_cannot_be_is_refused(bigwig: Path, fasta: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sf.pp.sequence_windows([bigwig], fasta, **(GEOMETRY | changes))


def test_files_of_other_genomes_are_refused(tmp_path: Path, bigwig: Path, sequences: dict[str, str]) -> None:
    named = write_fasta(tmp_path / "named.fa", {name[3:]: s for name, s in sequences.items()})
    with pytest.raises(ValueError, match="It has: chr1, chr2, chr3; the FASTA file has: 1, 2, 3.*named with 'chr'"):
        sf.pp.sequence_windows([bigwig], named, **GEOMETRY)
    short = write_fasta(tmp_path / "short.fa", {name: s[:-5] for name, s in sequences.items()})
    with pytest.raises(ValueError, match="another assembly .*chr1 has 6,000 bp in it and 5,995 bp in the FASTA file"):
        sf.pp.sequence_windows([bigwig], short, **GEOMETRY)
    adata = AnnData(obs=pd.DataFrame({"g": ["a"]}, index=["c"]))
    (tmp_path / "f.tsv").write_text("chr1\t5990\t6000\tc\t1\n")
    with pytest.raises(ValueError, match="ends at chr1:6,000, beyond the 5,995 bp"):
        sf.pp.sequence_windows(adata, short, groupby="g", fragments=tmp_path / "f.tsv", **GEOMETRY)
    with pytest.raises(ValueError, match="shares no chromosome with the FASTA file"):
        sf.pp.sequence_windows(adata, named, groupby="g", fragments=tmp_path / "f.tsv", **GEOMETRY)
    with pytest.raises(ValueError, match=r"need groupby=.*too coarse"):
        sf.pp.sequence_windows(adata, short, **GEOMETRY)


def test_tracks_that_are_no_coverage_are_refused(tmp_path: Path, fasta: Path) -> None:
    write_bigwig(tmp_path / "negative.bw", SIZES, [("chr1", 0, 500, -1.0), ("chr1", 500, 900, 2.0)])
    with pytest.raises(ValueError, match="track 'negative' has negative values"):
        sf.pp.sequence_windows([tmp_path / "negative.bw"], fasta, **GEOMETRY)
    write_bigwig(tmp_path / "zero.bw", SIZES, [("chr1", 5700, 5900, 1.0)])
    with pytest.raises(ValueError, match="track 'zero' is zero in all"):
        sf.pp.sequence_windows([tmp_path / "zero.bw"], fasta, **GEOMETRY)
    regions = ["chr1:64-1088", "chr2:1024-2048"]
    for value, message in (
        (np.nan, "track 'y' has no value: all .* bins are NaN"),
        (np.inf, "'y' has infinite values"),
    ):
        values = np.ones((2, 2, 16), dtype=np.float32)
        values[1] = value
        with pytest.raises(ValueError, match=message):
            sf.pp.sequence_windows(values, fasta, regions=regions, names=["x", "y"], **GEOMETRY)
    (tmp_path / "text.bw").write_text("chr1\t0\t5\n")
    with pytest.raises(ValueError, match="is not a bigWig file"):
        sf.pp.sequence_windows([tmp_path / "text.bw"], fasta, **GEOMETRY)


def test_a_bigwig_of_any_name_and_beyond_the_ends(bigwig: Path, coverage: dict[str, np.ndarray]) -> None:
    other = bigwig.rename(bigwig.with_suffix(".dat"))
    file = BigWig(other)
    np.testing.assert_allclose(file.values("chr2", 4000, 4200)[:100], coverage["chr2"][4000:], rtol=1e-6)
    assert not file.values("chr2", 4100, 4200).any() and not file.values("chr9", 0, 10).any()
    np.testing.assert_allclose(file.values("chr1", -50, 50)[50:], coverage["chr1"][:50], rtol=1e-6)
    write_bigwig(bigwig.with_name("nan.bw"), {"chr1": 100}, [("chr1", 0, 10, float("nan")), ("chr1", 10, 20, 2.0)])
    assert BigWig(bigwig.with_name("nan.bw")).values("chr1", 0, 30).tolist() == [0.0] * 10 + [2.0] * 10 + [0.0] * 10


def test_a_few_fragments_beyond_a_chromosome_are_not_counted(tmp_path: Path, fasta: Path) -> None:
    adata = AnnData(obs=pd.DataFrame({"g": ["a"]}, index=["c"]))
    lines = [f"chr1\t{start}\t{start + 40}\tc\t1\n" for start in range(100, 5_000, 2)]
    (tmp_path / "a.tsv").write_text("".join(lines))
    (tmp_path / "b.tsv").write_text("".join([*lines, "chr1\t5990\t6003\tc\t1\n", "chr1\t-5\t40\tc\t1\n"]))
    expected = sf.pp.sequence_windows(adata, fasta, groupby="g", fragments=tmp_path / "a.tsv", **GEOMETRY)
    with pytest.warns(UserWarning, match=r"2 of 2,452 fragments .* left out"):
        found = sf.pp.sequence_windows(adata, fasta, groupby="g", fragments=tmp_path / "b.tsv", **GEOMETRY)
    assert np.array_equal(np.asarray(found.X), np.asarray(expected.X), equal_nan=True)
