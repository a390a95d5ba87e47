"""`scatacformer tracks` and `scatacformer variants`: from files to a model, and from a model to scores."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scatacformer as sf
from scatacformer.cli import main

LENGTH = 1024 + 768 * 12
SMALL = ["--seq-len", "1024", "--bin-size", "32", "--crop", "4", "--max-epochs", "1", "--quiet"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genome, fragments of two groups, their groups, and three variants."""
    folder = tmp_path_factory.mktemp("sequence")
    rng = np.random.default_rng(0)
    sequences = {f"chr{i}": "".join(rng.choice(list("ACGT"), LENGTH)) for i in (1, 2, 3)}
    (folder / "g.fa").write_text("".join(f">{name}\n{s}\n" for name, s in sequences.items()))
    lines = []
    for _ in range(6000):
        start = int(rng.integers(0, LENGTH - 200))
        lines.append(
            f"chr{rng.integers(1, 4)}\t{start}\t{start + int(rng.integers(20, 180))}\tcell{rng.integers(6)}\t1\n"
        )
    (folder / "f.tsv.gz").write_bytes(gzip.compress("".join(lines).encode()))
    (folder / "groups.tsv").write_text("barcode\tgroup\n" + "".join(f"cell{i}\t{'AB'[i % 2]}\n" for i in range(6)))
    rows = [
        f"chr3\t{p}\trs{p}\t{sequences['chr3'][p - 1]}\t{'A' if sequences['chr3'][p - 1] != 'A' else 'C'}"
        for p in (900, 2000)
    ]
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (folder / "v.vcf").write_text(header + "".join(f"{row}\t.\t.\t.\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def model(files: Path) -> Path:
    arguments = [
        "tracks",
        "--fragments",
        files / "f.tsv.gz",
        "--groups",
        files / "groups.tsv",
        "--fasta",
        files / "g.fa",
    ]
    arguments += ["-o", files / "model", "--holdout", "chr3", "--validation", "chr2", *SMALL]
    assert main([str(part) for part in arguments]) == 0
    return files / "model"


def test_fragments_become_a_model(model: Path, capsys: pytest.CaptureFixture) -> None:
    loaded = sf.Epiformer.load(model, adata=False)
    assert loaded.track_names == ["A", "B"] and loaded.is_trained_
    assert loaded.training_["chromosomes"] == {"train": ["chr1"], "validation": ["chr2"], "holdout": ["chr3"]}


def test_variants_are_scored_to_a_table_and_a_vcf_file(files: Path, model: Path, tmp_path: Path) -> None:
    arguments = ["variants", model, files / "v.vcf", "--fasta", files / "g.fa", "-o", tmp_path / "s.tsv", "--quiet"]
    arguments = [str(part) for part in arguments]
    assert main([*arguments, "--vcf", str(tmp_path / "s.vcf")]) == 0
    scores = pd.read_csv(tmp_path / "s.tsv", sep="\t")
    assert scores["track"].tolist() == ["A", "B"] * 2 and scores["id"].tolist() == ["rs900"] * 2 + ["rs2000"] * 2
    loaded = sf.Epiformer.load(model, adata=False)
    loaded.set_genome(files / "g.fa")
    expected = loaded.predict_variants(files / "v.vcf", progress=False)
    np.testing.assert_allclose(scores["change"], expected["change"], rtol=1e-4, atol=1e-6)
    assert (tmp_path / "s.vcf").read_text().count("\nchr3\t") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tracks", "--fasta", "g.fa", "-o", "m2"], "pass either bigWig files, or --fragments"),
        (["tracks", "--fragments", "f.tsv.gz", "--fasta", "g.fa", "-o", "m2"], "--fragments needs --groups"),
        (["tracks", "none.bw", "--fasta", "none.fa", "-o", "m2"], "the FASTA file none.fa does not exist"),
        (["variants", "model", "none.vcf", "--fasta", "g.fa", "-o", "s.tsv"], "the file none.vcf does not exist"),
        (["variants", "nowhere", "v.vcf", "--fasta", "g.fa", "-o", "s.tsv"], "is not a saved Epiformer"),
        (["variants", "model", "v.vcf", "--fasta", "g.fa", "-o", "s.doc"], "must end in .tsv or .txt"),
        (["variants", "model", "v.vcf", "--fasta", "g.fa", "-o", "s.tsv", "--tracks", "C"], "there is no track 'C'"),
    ],
)
def test_wrong_input_ends_with_one_line(
    files: Path,
    model: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (files / "m2").exists() and not (files / "s.tsv").exists()
