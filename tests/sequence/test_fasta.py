"""A FASTA file of which any interval can be read."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from scatacformer.sequence import Fasta, codes_of, letters, one_hot, reverse_complement, reverse_complement_one_hot

pysam = pytest.importorskip("pysam")

SEQUENCES = {"chr1": "acgtNNACGTRYacgtnACGTTGCA" * 9 + "G", "chr2": "TTTACG"}


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa"
    lines = []
    for name, sequence in SEQUENCES.items():
        lines += [f">{name} a description", *(sequence[i : i + 7] for i in range(0, len(sequence), 7))]
    path.write_text("\n".join(lines) + "\n")
    return path


def plain(name: str) -> str:
    return "".join(base if base in "ACGT" else "N" for base in SEQUENCES[name].upper())


@pytest.mark.parametrize("compressed", [False, True])
def test_intervals_equal_the_letters_of_the_file(fasta: Path, compressed: bool) -> None:
    if compressed:
        pysam.tabix_compress(str(fasta), f"{fasta}.gz")
        fasta = Path(f"{fasta}.gz")
    genome = Fasta(fasta)
    assert genome.sizes == {name: len(sequence) for name, sequence in SEQUENCES.items()}
    rng = np.random.default_rng(0)
    for name in SEQUENCES:
        for _ in range(20):
            start, end = np.sort(rng.integers(0, genome.sizes[name] + 1, size=2)).tolist()
            codes = genome.codes(name, start, end)
            assert codes.dtype == np.uint8
            assert letters(codes) == plain(name)[start:end]
    assert sorted(path.name for path in fasta.parent.iterdir() if path.name.startswith(".")) == []


def test_padding_fills_what_lies_beyond_the_ends(fasta: Path) -> None:
    genome = Fasta(fasta)
    assert genome.sequence("chr2", -2, 8, pad=True) == "NN" + plain("chr2") + "NN"
    assert genome.sequence("chr2", 10, 13, pad=True) == "NNN"
    assert genome.sequence("chr2", -5, -3, pad=True) == "NN"
    with pytest.raises(ValueError, match="reaches beyond chr2, which has 6 bp"):
        genome.codes("chr2", 0, 7)
    with pytest.raises(ValueError, match="ends before it starts"):
        genome.codes("chr2", 4, 2)


def test_names_that_differ_are_shown_with_both_sets(fasta: Path) -> None:
    genome = Fasta(fasta)
    genome.check({"chr1": len(SEQUENCES["chr1"]), "chr2": 6})
    with pytest.raises(
        ValueError,
        match="(?s)lacks 2 of the 2 .*The file has: chr1, chr2; the tracks have: 1, 2. They are named without 'chr'",
    ):
        genome.check({"1": 5, "2": 5}, "the tracks")
    with pytest.raises(ValueError, match="reach beyond the end of 1 chromosomes .*chr2 to 7, which has 6 bp"):
        genome.check({"chr2": 7})
    with pytest.raises(ValueError, match="no sequence 'chrX'"):
        genome.codes("chrX", 0, 1)


def test_index_is_made_elsewhere_where_the_folder_is_read_only(fasta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    genome = Fasta(fasta)
    assert not Path(f"{fasta}.fai").exists()
    assert genome.sequence("chr2", 0, 6) == plain("chr2")
    index = genome._index
    assert index is not None and index.exists()
    copy = pickle.loads(pickle.dumps(genome))
    del genome
    assert not index.exists()  # the temporary folder goes with the object
    assert copy.sequence("chr2", 0, 6) == plain("chr2")


def test_an_index_older_than_its_file_is_made_again(fasta: Path) -> None:
    Fasta(fasta).close()
    fasta.write_text(">chrNew\nACGT\n")
    later = fasta.stat().st_mtime + 10
    os.utime(fasta, (later, later))
    os.utime(f"{fasta}.fai", (later - 5, later - 5))
    assert Fasta(fasta).sizes == {"chrNew": 4}


def _read(genome: Fasta) -> str:
    return "".join(genome.sequence("chr1", start, start + 5) for start in range(0, 200, 5))


def test_forked_and_pickled_workers_read_the_same(fasta: Path) -> None:
    genome = Fasta(fasta)
    genome.codes("chr1", 0, 10)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert set(pool.map(_read, [genome] * 12)) == {plain("chr1")[:200]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"chr1\tACGT\n", "expected a FASTA file"),
        (b">a\nACGT\nAC\nACGT\n", "cannot be indexed"),
        (b"", "expected a FASTA file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Fasta(path)


def test_gzip_is_refused_with_the_command_that_helps(fasta: Path) -> None:
    path = Path(f"{fasta}.gz")
    path.write_bytes(gzip.compress(fasta.read_bytes()))
    with pytest.raises(ValueError, match="bgzip > genome.fa.bgz"):
        Fasta(path)
    with pytest.raises(FileNotFoundError, match="the FASTA file .* does not exist"):
        Fasta(fasta.parent / "absent.fa")


def test_one_hot_and_its_reverse_complement() -> None:
    codes = codes_of("ACGTNacgtR")
    np.testing.assert_array_equal(codes, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    encoded = one_hot(np.stack([codes, codes[::-1]]))
    assert encoded.shape == (2, 4, 10) and encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded.sum(1)[0], [1, 1, 1, 1, 0, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(encoded[0].argmax(0)[:4], [0, 1, 2, 3])
    assert letters(reverse_complement(codes_of("AACGN"))) == "NCGTT"
    np.testing.assert_array_equal(reverse_complement_one_hot(one_hot(codes)), one_hot(reverse_complement(codes)))
    with pytest.raises(ValueError, match="codes of bases are 0 to 4"):
        one_hot(np.array([0, 5]))
