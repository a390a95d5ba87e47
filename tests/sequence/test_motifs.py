from __future__ import annotations

import gzip

import numpy as np
import pytest

from scatacformer.sequence import Motifs

MEME = """MEME version 4

ALPHABET= ACGT

strands: + -

Background letter frequencies
A 0.25 C 0.25 G 0.25 T 0.25

MOTIF MA0001.1 AGL3
letter-probability matrix: alength= 4 w= 3 nsites= 40 E= 0
 0.1 0.2 0.3 0.4

 0.0 1.0 0.0 0.0
 0.7 0.1 0.1 0.1
URL http://example.org

MOTIF second
letter-probability matrix: alength= 4 w= 2
0.97\t0.01\t0.01\t0.01\t
0.01  0.97  0.01  0.01
"""
MEME = MEME.replace("0.4\n\n", "0.4\n")
JASPAR = """>MA0004.1 Arnt
A  [ 4 19  0  0  0  0 ]
C  [16  0 20  0  0  0 ]
G  [ 0  1  0 20  0 20 ]
T  [ 0  0  0  0 20  0 ]
>MA0006.1\tAhr::Arnt
3 0 0 0 0 0
8 0 23 0 0 0
2 23 0 23 0 24
11 1 1 1 24 0
"""
HOMER = """>ATGACTCATC\tAP-1(bZIP)/ThioMac-PU.1-ChIP-Seq(GSE21512)/Homer\t6.049537\t-1782.996808\t0\tT:9805.3
0.419\t0.275\t0.277\t0.028
0.001\t0.001\t0.001\t0.997
0.010\t0.002\t0.965\t0.023
0.984\t0.003\t0.001\t0.012
>SCCTSAGGSCAW\tAP-2gamma(AP2)/MCF7\t6.349794\t-24627.169865\t0
0.005\t0.431\t0.547\t0.017
0.001\t0.997\t0.001\t0.001
"""


@pytest.fixture
def write(tmp_path):
    def written(text, name="motifs.txt"):
        path = tmp_path / name
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)
        return path

    return written


@pytest.mark.parametrize("name", ["motifs.meme", "motifs.meme.gz"])
def test_meme(write, name):
    motifs = Motifs.from_file(write(MEME, name))
    assert motifs.names == ("AGL3_MA0001.1", "second")
    assert motifs.widths.tolist() == [3, 2]
    np.testing.assert_allclose(motifs.matrices[0], [[0.1, 0, 0.7], [0.2, 1, 0.1], [0.3, 0, 0.1], [0.4, 0, 0.1]])
    assert motifs.n_sites.tolist() == [40, 20]  # 20: MEME's own default


def test_jaspar_with_and_without_letters(write):
    motifs = Motifs.from_file(write(JASPAR))
    assert motifs.names == ("Arnt_MA0004.1", "Ahr::Arnt_MA0006.1")
    np.testing.assert_allclose(motifs.matrices[0][:, 0], [0.2, 0.8, 0, 0])
    assert motifs.n_sites.tolist() == [20, 24]
    np.testing.assert_allclose(motifs.matrices[1][:, 5], [0, 0, 1, 0])


def test_homer_has_positions_in_rows(write):
    motifs = Motifs.from_file(write(HOMER))
    assert motifs.names == ("AP-1(bZIP)/ThioMac-PU.1-ChIP-Seq(GSE21512)/Homer", "AP-2gamma(AP2)/MCF7")
    assert motifs.widths.tolist() == [4, 2]
    assert motifs.matrices[0][3, 1] == pytest.approx(0.997)


def test_several_files_are_one_set(write):
    motifs = Motifs.from_file(write(MEME, "a.meme"), write(JASPAR, "b.jaspar"))
    assert len(motifs) == 4
    with pytest.raises(ValueError, match=r"2 of 4 motifs share a name with another \(first: 'AGL3_MA0001.1'"):
        Motifs.from_file(write(MEME, "a.meme"), write(MEME, "b.meme"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty and contains no motifs"),
        ("chr1\t0\t100\n", "is not a file of motifs: its first line is 'chr1"),
        (MEME.replace("ALPHABET= ACGT", "ALPHABET= ACDEFGHIKLMNPQRSTVWY"), "Expected DNA"),
        (MEME.replace("w= 3", "w= 5"), "its header says w= 5. Is the file cut short"),
        (MEME[: MEME.index("letter-probability matrix: alength= 4 w= 2")], "'second' has no letter-probability"),
        (MEME[: MEME.index("0.97\t0.01")], "'second' is empty"),
        (MEME.replace("0.7 0.1 0.1 0.1", "0.7 0.1 0.1"), "has 3 numbers. Expected four"),
        (MEME.replace("0.7 0.1 0.1 0.1", "0.7 0.1 0.1 0.3"), "position 3 of motif 'AGL3_MA0001.1' sums to 1.2"),
        (MEME.replace("0.7 0.1 0.1 0.1", "0.25 0.25 0.25 0.25"), "position 3 .* carries no information"),
        (MEME.replace("0.7 0.1 0.1 0.1", "nan 0.1 0.1 0.1"), "NaN"),
        (MEME.replace("0.7 0.1 0.1 0.1", "1.2 -0.1 -0.1 0"), "negative"),
        (MEME.replace("MOTIF second", "MOTIF MA0001.1 AGL3"), "1 of 2 motifs share a name with another"),
        (MEME[: MEME.index("MOTIF")], "is a MEME file without a motif"),
        (JASPAR.replace("A  [", "C  ["), "rows of motif 'Arnt_MA0004.1' are C, C, G, T"),
        (JASPAR.replace("3 0 0 0 0 0", "3 0 0 0 0"), "is not a table of numbers"),
        (JASPAR.replace("[ 4 19  0", "[ 4 19 x"), "is not a table of numbers"),
        (JASPAR + ">last\n", "the motif 'last' is empty"),
        (JASPAR.replace("11 1 1 1 24 0", "11 1 1 1 24 0\n1 1 1 1 1 1"), r"\(5, 6\) numbers"),
        (
            JASPAR.replace("20  0 ]", "0  0 ]"),
            "'Arnt_MA0004.1' has no count at position 5",
        ),
    ],
    ids=range(19),
)
def test_what_is_no_motif_is_refused(write, text, message):
    with pytest.raises(ValueError, match=message):
        Motifs.from_file(write(text))


def test_damaged_files(tmp_path, write):
    with pytest.raises(FileNotFoundError):
        Motifs.from_file(tmp_path / "none.meme")
    packed = write(MEME, "a.meme.gz")
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(ValueError, match="truncated or damaged gzip"):
        Motifs.from_file(packed)
    other = tmp_path / "b.meme"
    other.write_bytes(b"\xff\xfe\x00MEME")
    with pytest.raises(ValueError, match="is not a text file"):
        Motifs.from_file(other)


def test_clusters_are_columns(write):
    motifs = Motifs.from_file(write(MEME), write(JASPAR, "b.jaspar"))
    table = write(
        "motif\tcluster\nsecond\t10\nAGL3_MA0001.1\t2\nArnt_MA0004.1\t10\nother\t3\nAhr::Arnt_MA0006.1\t1\n", "c.txt"
    )
    clustered = motifs.with_clusters(table)
    assert clustered.columns == ("1", "2", "10")  # as numbers
    assert clustered.column_of.tolist() == [1, 2, 2, 0]
    assert motifs.columns == motifs.names
    named = motifs.with_clusters(dict.fromkeys(motifs.names, "all") | {"second": "bHLH"})
    assert named.columns == ("all", "bHLH")
    with pytest.raises(ValueError, match=r"1 of 4 motifs are not in the mapping of clusters \(first: 'second'"):
        motifs.with_clusters({name: 1 for name in motifs.names if name != "second"})
    with pytest.raises(ValueError, match="is in two clusters, 10 and 11"):
        motifs.with_clusters(write("motif\tcluster\nsecond\t10\nsecond\t11\n", "d.txt"))
    with pytest.raises(ValueError, match="line 2 has no two columns"):
        motifs.with_clusters(write("motif\tcluster\nsecond\n", "e.txt"))


def test_what_uns_keeps_gives_the_motifs_back(write, tmp_path):
    import anndata

    motifs = Motifs.from_file(write(MEME), write(JASPAR, "b.jaspar")).with_clusters(
        {"AGL3_MA0001.1": "a", "second": "b", "Arnt_MA0004.1": "a", "Ahr::Arnt_MA0006.1": "c"}
    )
    adata = anndata.AnnData(np.zeros((1, 1), dtype=np.float32), uns={"motif": motifs.to_dict()})
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = Motifs.from_dict(anndata.read_h5ad(tmp_path / "a.h5ad").uns["motif"])
    assert again.checksum == motifs.checksum
    assert again.columns == motifs.columns
    assert again.source == motifs.source
    assert motifs.select(["second"]).checksum != motifs.checksum
    with pytest.raises(ValueError, match="lacks matrices"):
        Motifs.from_dict({name: value for name, value in motifs.to_dict().items() if name != "matrices"})
    with pytest.raises(ValueError, match="1 names are of no motif"):
        motifs.select(["third"])


def test_log_odds_in_bits(write):
    motifs = Motifs.from_file(write(MEME))
    found = motifs.log_odds(0.1)[0]
    assert found.shape == (4, 3)
    assert found[1, 1] == pytest.approx(np.log2((40 + 0.025) / 40.1 / 0.25))
    assert found[0, 1] == pytest.approx(np.log2(0.025 / 40.1 / 0.25))
    with pytest.raises(ValueError, match="1 of 2 motifs hold a probability of 0 .* Set pseudocount above 0"):
        motifs.log_odds(0)
    assert np.isfinite(motifs.select(["second"]).log_odds(0)[0]).all()
    with pytest.raises(ValueError, match="pseudocount is .*; expected 0 or more"):
        motifs.log_odds(-1)


def test_jaspar_without_a_network(monkeypatch):
    pytest.importorskip("pyjaspar")
    motifs = Motifs.from_jaspar("JASPAR2026")
    assert len(motifs) > 800
    assert motifs.source == "JASPAR2026 CORE vertebrates"
    (ctcf,) = [name for name in motifs.names if name.startswith("CTCF_MA0139")]
    assert motifs.widths[motifs.names.index(ctcf)] >= 15
    assert Motifs.from_jaspar("JASPAR2026").checksum == motifs.checksum
    with pytest.raises(ValueError, match="no release 'JASPAR1999'. It has: JASPAR2014"):
        Motifs.from_jaspar("JASPAR1999")
    with pytest.raises(ValueError, match="no CORE motifs of dragons"):
        Motifs.from_jaspar(tax_group="dragons")


def test_without_pyjaspar_it_is_said_how_to_get_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyjaspar", None)
    with pytest.raises(ImportError, match=r"pip install 'scatacformer\[motif\]'"):
        Motifs.from_jaspar()


def test_the_archetypes_of_real_files(data_dir):
    folder = data_dir / "sequence" / "motifs"
    if not folder.is_dir():
        pytest.skip(f"no motifs: {folder} is not a folder")
    motifs = Motifs.from_file(*sorted(folder.glob("*.meme"))).with_clusters(folder / "clusters.0.70.txt")
    assert len(motifs) == 2179
    assert len(motifs.columns) == 286
    assert np.array_equal(np.unique(motifs.column_of), np.arange(286))
