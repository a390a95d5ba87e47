"""`scatacformer tracks` and `scatacformer variants`: from files to a model, and from a model to scores."""

from __future__ import annotations

import errno
import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scatacformer as sf
from scatacformer.cli import main
from scatacformer.model.epiformer import _variants

LENGTH = 1024 + 768 * 12
MEME = """MEME version 4

ALPHABET= ACGT

MOTIF MA0001.1 GATAAGATAA
letter-probability matrix: alength= 4 w= 10 nsites= 20
""" + "".join("\t".join("0.97" if base == one else "0.01" for one in "ACGT") + "\n" for base in "GATAAGATAA")
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


def tracks_of(files: Path, to: Path, *more: object) -> list[str]:
    """The command that trains on the fragments; the last of two same options counts."""
    given = ["--fragments", files / "f.tsv.gz", "--groups", files / "groups.tsv", "--fasta", files / "g.fa", "-o", to]
    return ["tracks", *map(str, given), "--holdout", "chr3", "--validation", "chr2", *SMALL, *map(str, more)]


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in sf.Epiformer.load(folder, adata=False).module.state_dict().items()}


def test_motifs_and_k_mers_are_counted_on_request(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "m.meme").write_text(MEME)
    for composition, n_motifs in ((tmp_path / "m.meme", 1), ("kmers", 0)):
        assert main(tracks_of(files, tmp_path / "m", "--composition", composition, "--overwrite")) == 0
        config = sf.Epiformer.load(tmp_path / "m", adata=False).config_
        assert config.composition and config.n_motifs == n_motifs
    assert main(tracks_of(files, tmp_path / "n", "--composition", tmp_path / "none.meme")) == 2
    assert "none.meme" in capsys.readouterr().err and not (tmp_path / "n").exists()


def stopped_at(phrase: str, number: int, command: list[str]) -> tuple[int, str]:
    """Exit status and stderr of a command that gets a signal when it has said the phrase."""
    with subprocess.Popen(
        [sys.executable, "-m", "scatacformer", *command], stderr=subprocess.PIPE, text=True
    ) as process:
        said = ""
        for line in process.stderr or ():
            said += line
            if phrase in line:
                process.send_signal(number)
                break
        said += process.stderr.read() if process.stderr else ""
        return process.wait(120), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "line"), [(signal.SIGTERM, "ended by SIGTERM"), (signal.SIGINT, "stopped by Ctrl-C")]
)
def test_a_training_that_is_ended_writes_no_model_and_is_resumed(
    files: Path, tmp_path: Path, number: int, line: str
) -> None:
    command = [part for part in tracks_of(files, tmp_path / "m", "--max-epochs", "8") if part != "--quiet"]
    status, said = stopped_at("epoch 2 of", number, [*command, "--checkpoint-dir", str(tmp_path / "ck")])
    assert status == 128 + number and line in said, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ck"]
    assert [path.name for path in (tmp_path / "ck").iterdir()] == ["last.ckpt"]
    for more in (["--checkpoint-dir", str(tmp_path / "ck"), "--resume"], ["-o", str(tmp_path / "whole")]):
        subprocess.run([sys.executable, "-m", "scatacformer", *command, *more], check=True)  # processes alike
    resumed, whole = weights(tmp_path / "m"), weights(tmp_path / "whole")
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)


def test_resume_needs_a_checkpoint(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(tracks_of(files, tmp_path / "m", "--resume")) == 2
    assert "--resume needs --checkpoint-dir" in capsys.readouterr().err
    assert main(tracks_of(files, tmp_path / "m", "--resume", "--checkpoint-dir", tmp_path / "ck")) == 2
    assert f"found none at {tmp_path / 'ck' / 'last.ckpt'}" in capsys.readouterr().err


@pytest.fixture
def scoring(files: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command that scores the variants, one at a time."""
    monkeypatch.setattr(_variants, "_AT_ONCE", 1)
    return [
        "variants",
        *map(str, (model, files / "v.vcf", "--fasta", files / "g.fa", "-o", tmp_path / "s.tsv")),
        "--quiet",
    ]


def at_the_second(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """``happens`` before the second variant is scored."""
    score, calls = _variants.score_variants, []

    def then(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            happens()
        return score(*arguments, **named)

    monkeypatch.setattr(_variants, "score_variants", then)


@pytest.mark.parametrize(
    ("number", "line"), [(signal.SIGTERM, "ended by SIGTERM"), (signal.SIGINT, "stopped by Ctrl-C")]
)
def test_scoring_that_is_ended_is_resumed(
    scoring: list[str],
    tmp_path: Path,
    number: int,
    line: str,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(scoring) == 0
    whole = (tmp_path / "s.tsv").read_text()
    (tmp_path / "s.tsv").unlink()
    with monkeypatch.context() as context:
        at_the_second(context, lambda: os.kill(os.getpid(), number))
        assert main(scoring) == 128 + number
    assert line in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["s.tsv.partial"]
    assert (tmp_path / "s.tsv.partial").read_text().count("\nchr3") == 2  # both tracks of the first
    assert main([*scoring, "--resume"]) == 0
    assert (tmp_path / "s.tsv").read_text() == whole and not (tmp_path / "s.tsv.partial").exists()
    assert main([*scoring, "--resume"]) == 2  # nothing to resume: scores that are there stay


@pytest.mark.parametrize("cut", [0, 5, 400])
def test_an_unfinished_file_without_its_first_lines_is_nothing(scoring: list[str], tmp_path: Path, cut: int) -> None:
    assert main(scoring) == 0
    whole = (tmp_path / "s.tsv").read_text()
    (tmp_path / "s.tsv").unlink()
    (tmp_path / "s.tsv.partial").write_text(("#" + "x" * 500)[:cut])
    assert main([*scoring, "--resume"]) == 0
    assert (tmp_path / "s.tsv").read_text() == whole


def test_scores_of_other_variants_are_not_continued(
    files: Path, scoring: list[str], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v.vcf").write_text((files / "v.vcf").read_text())
    scoring[2] = str(tmp_path / "v.vcf")
    with monkeypatch.context() as context:
        at_the_second(context, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert main(scoring) == 143
    lines = (tmp_path / "v.vcf").read_text().splitlines(keepends=True)
    (tmp_path / "v.vcf").write_text("".join([*lines[:-2], lines[-1]]))  # of the same name
    assert main([*scoring, "--resume"]) == 2
    assert "was made with another model, other variants" in capsys.readouterr().err


def test_a_full_disk_is_named_and_scoring_is_resumed(
    scoring: list[str], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        at_the_second(context, no_room)
        assert main(scoring) == 1
    err = capsys.readouterr().err
    assert f"{tmp_path / 's.tsv'} could not be written" in err and "resume=True continues them" in err
    assert not (tmp_path / "s.tsv").exists()
    assert main([*scoring, "--resume"]) == 0


def test_two_processes_do_not_score_into_one_file(
    scoring: list[str], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = []
    with monkeypatch.context() as context:
        at_the_second(context, lambda: status.append(main(scoring)))
        assert main(scoring) == 0
    assert status == [1] and "Another process is writing" in capsys.readouterr().err
    assert len((tmp_path / "s.tsv").read_text().splitlines()) == 5


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
