from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from scatacformer.pp import scan_motifs
from scatacformer.sequence import Motifs, ScanSettings, scan_sequences


@pytest.fixture
def genome(tmp_path):
    rng = np.random.default_rng(0)
    bases = {name: "".join(rng.choice(list("ACGT"), 4000)) for name in ("chr1", "chr2")}
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in bases.items()))
    return path, bases


def motifs_of(seed=0):
    rng = np.random.default_rng(seed)
    matrices = [rng.dirichlet(np.full(4, 0.2), 7).T for _ in range(6)]
    return Motifs(tuple("abcdef"), tuple(matrices), np.full(6, 100.0))


def regions_of(names=("chr1", "chr2"), seed=1):
    rng = np.random.default_rng(seed)
    chrom = rng.permutation(np.repeat(names, 8))
    start = rng.permutation(np.tile(np.arange(8) * 480, 2)) + rng.integers(0, 20, 16)
    var = pd.DataFrame({"chrom": chrom, "start": start, "end": start + rng.integers(100, 140, 16)})
    var = var[~var.duplicated(["chrom", "start"])]
    var.index = [f"r{i}" for i in range(len(var))]
    return anndata.AnnData(np.ones((2, len(var)), dtype=np.float32), var=var)


def test_scores_lie_beside_the_regions_with_all_that_is_needed_to_scan_others(genome, tmp_path):
    path, bases = genome
    regions, motifs = regions_of(), motifs_of()
    clusters = dict(zip("abcdef", "xxyyzz", strict=True))
    scan_motifs(regions, path, motifs, clusters, p_value=2e-3)
    cut = [
        bases[chrom][start:end] for chrom, start, end in regions.var[["chrom", "start", "end"]].itertuples(index=False)
    ]
    expected = scan_sequences(cut, motifs.with_clusters(clusters), ScanSettings(2e-3))
    assert expected.any()
    assert np.array_equal(regions.varm["motif"], expected)
    regions.write_h5ad(tmp_path / "a.h5ad")
    notes = anndata.read_h5ad(tmp_path / "a.h5ad").uns["motif"]
    assert list(notes["names"]) == ["x", "y", "z"]
    np.testing.assert_array_equal(notes["scale"], np.where(expected.any(0), expected.max(0), 1))
    again = Motifs.from_dict(notes["motifs"])
    assert again.checksum == notes["checksum"]
    settings = ScanSettings(notes["p_value"], notes["reduce"], notes["cluster_reduce"], notes["pseudocount"])
    assert np.array_equal(scan_sequences(cut, again, settings), expected)


def test_bad_input_is_refused_before_the_scan(genome, tmp_path):
    path, _ = genome
    motifs = motifs_of()
    with pytest.raises(ValueError, match=r"They are named without 'chr': '1' where 'chr1'"):
        scan_motifs(regions_of(("1", "2")), path, motifs)
    regions = regions_of()
    regions.var["end"] += 1000
    with pytest.raises(ValueError, match=r"reach beyond the end of . chromosomes of the FASTA file"):
        scan_motifs(regions, path, motifs)
    with pytest.raises(ValueError, match="is a view"):
        scan_motifs(regions_of()[:, :3], path, motifs)
    with pytest.raises(ValueError, match="6 of 6 motifs are not in the mapping of clusters"):
        scan_motifs(regions_of(), path, motifs, {"g": 1})
    with pytest.raises(FileNotFoundError):
        scan_motifs(regions_of(), tmp_path / "none.fa", motifs)
    with pytest.raises(FileNotFoundError):
        scan_motifs(regions_of(), path, tmp_path / "none.meme")
    zero = Motifs(("a",), (np.array([[1.0, 0, 0, 0]] * 8).T,), [10])
    with pytest.raises(ValueError, match="Set pseudocount above 0"):
        scan_motifs(regions_of(), path, zero, pseudocount=0)
    with pytest.raises(ValueError, match="p_value is .*; expected"):
        scan_motifs(regions_of(), path, motifs, p_value=1)


@pytest.mark.slow
def test_archetypes_in_real_dna(data_dir, tmp_path):
    """Regions of DNase hold more CTCF than their neighbours, from hg38 written to a FASTA file."""
    folder = data_dir / "sequence"
    if not (folder / "hg38_windows.npz").is_file():
        pytest.skip(f"no windows of hg38 in {folder}")
    windows = np.load(folder / "hg38_windows.npz")
    codes, target = windows["seq"][:, 32_768:98_304], windows["target"][:, :, 24:34].astype(np.float32)
    path = tmp_path / "windows.fa"
    with path.open("w") as file:
        for number, row in enumerate(codes):
            file.write(f">w{number}\n" + "".join(np.array(list("ACGTN"))[row]) + "\n")
    start = np.tile(np.arange(0, 65_536, 512), len(codes))
    var = pd.DataFrame(
        {"chrom": np.repeat([f"w{n}" for n in range(len(codes))], 128), "start": start, "end": start + 512}
    )
    var.index = [f"r{i}" for i in range(len(var))]
    regions = anndata.AnnData(np.zeros((1, len(var)), dtype=np.float32), var=var)
    motifs = Motifs.from_file(*sorted((folder / "motifs").glob("*.meme")))
    with pytest.warns(UserWarning, match="cannot reach p <= 0.0001"):
        scan_motifs(regions, path, motifs, folder / "motifs" / "clusters.0.70.txt")
    assert regions.varm["motif"].shape == (65 * 128, 286)
    ctcf = (
        regions.uns["motif"]["names"]
        .tolist()
        .index(
            motifs.with_clusters(folder / "motifs" / "clusters.0.70.txt").clusters[
                motifs.names.index("CTCF_HUMAN.H11MO.0.A")
            ]
        )
    )
    dnase = np.log2(target.reshape(-1, 16, 10).sum(1) + 1).mean(1)
    is_open = dnase > np.quantile(dnase, 0.98)
    score = regions.varm["motif"][:, ctcf]
    assert score[is_open].mean() > 2 * score[~is_open].mean()


def test_kmers_stand_beside_the_motifs(genome):
    path, bases = genome
    regions, plain, motifs = regions_of(), regions_of(), motifs_of()
    scan_motifs(plain, path, motifs, p_value=0.01)
    scan_motifs(regions, path, motifs, p_value=0.01, kmers=2)
    assert np.array_equal(regions.varm["motif"][:, :6], plain.varm["motif"])
    names = list(regions.uns["motif"]["names"])
    assert names[:6] == list("abcdef") and len(names) == 6 + 10 and "kmers" not in plain.uns["motif"]
    column = names.index("AC/GT")
    for row, (chrom, start, end) in enumerate(regions.var[["chrom", "start", "end"]].itertuples(index=False)):
        text = bases[chrom][start:end]
        expected = sum(text[i : i + 2] in ("AC", "GT") for i in range(len(text) - 1))
        assert regions.varm["motif"][row, column] == pytest.approx(expected**0.5)
    np.testing.assert_allclose(regions.uns["motif"]["scale"], regions.varm["motif"].max(0).clip(1e-9) + 0.0)
    with pytest.raises(ValueError, match="the length of k-mers is 9"):
        scan_motifs(regions, path, motifs, kmers=9)
