"""What Epiformer learns of a genome with two planted motifs, and the way from fragments to bigWig files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics import roc_auc_score

import scatacformer as sf
from scatacformer.genome import BigWig

from .conftest import MOTIFS, make_genome, make_tracks


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[sf.Epiformer, dict[str, str]]:
    fasta, sequences, signal = make_genome(tmp_path_factory.mktemp("learned"), n_chroms=6, n_windows=80)
    tracks = make_tracks(fasta, signal)
    sf.Epiformer.setup_anndata(tracks)
    model = sf.Epiformer(tracks, d_stem=32, d_model=48, n_layers=1, d_feedforward=96, seed=0)
    model.train(
        25,
        holdout_chromosomes="chr6",
        validation_chromosomes="chr5",
        batch_size=8,
        lr=2e-3,
        early_stopping=False,
        enable_progress_bar=False,
    )
    return model, sequences


@pytest.mark.slow
def test_it_predicts_a_chromosome_that_it_has_not_seen(learned: tuple) -> None:
    model, _ = learned
    tracks = model.adata
    predicted = model.get_predicted_tracks(progress=False)
    held = (tracks.var["chrom"] == "chr6").to_numpy() & np.isfinite(predicted[0])
    logs = [np.log2(values[:, held] + 1) for values in (predicted, tracks.X)]
    for row in range(2):
        assert np.corrcoef(logs[0][row], logs[1][row])[0, 1] >= 0.7
    # the other track's motif says nothing of a track
    assert np.corrcoef(logs[0][0], logs[1][1])[0, 1] < 0.3


@pytest.mark.slow
def test_the_other_strand_says_the_same(learned: tuple) -> None:
    model, _ = learned
    data, predictor = model._prepared_of(None).data, model._predictor(None, None)
    rows = np.flatnonzero(data.chrom == "chr6")
    forward, reverse = (np.stack([data.sequence(i, 0, strand) for i in rows]) for strand in (False, True))
    pair = predictor(forward).ravel(), predictor(reverse)[..., ::-1].ravel()
    assert np.corrcoef(*pair)[0, 1] >= 0.95


@pytest.mark.slow
def test_letters_of_a_motif_matter_in_its_track_alone(learned: tuple) -> None:
    model, sequences = learned
    for row, (name, motif) in enumerate(MOTIFS.items()):
        place = sequences["chr6"].find(motif, 2000)
        change = model.mutagenesis(f"chr6:{place - 10}-{place + 20}", progress=False).values.sum(1) / 3  # (30, 2)
        own, other = change[10:20, row], change[10:20, 1 - row]
        outside = np.delete(change[:, row], np.arange(10, 20))
        assert (own < 0).mean() >= 0.8, name  # every change breaks it
        assert np.abs(outside).mean() < 0.35 * np.abs(own).mean()
        assert np.abs(other).mean() < 0.5 * np.abs(own).mean()


@pytest.mark.slow
def test_variants_that_break_a_motif_score_higher(learned: tuple) -> None:
    model, sequences = learned
    s, rng = sequences["chr6"], np.random.default_rng(0)
    near = np.zeros(len(s), dtype=bool)
    places = []
    for motif in MOTIFS.values():
        for pattern in (motif, motif[::-1].translate(str.maketrans("ACGT", "TGCA"))):
            start = s.find(pattern)
            while start >= 0:
                near[max(0, start - 40) : start + 50] = True
                if 1000 < start < len(s) - 1000:
                    places.append(start + int(rng.integers(2, 8)))
                start = s.find(pattern, start + 1)
    far = rng.choice(np.flatnonzero(~near), len(places), replace=False).tolist()
    chosen = [*places, *far]
    alt = ["ACGT"[("ACGT".index(s[p]) + 1) % 4] for p in chosen]
    table = pd.DataFrame({"chrom": "chr6", "pos": np.array(chosen) + 1, "ref": [s[p] for p in chosen], "alt": alt})
    scores = model.predict_variants(table, window=128, progress=False)
    size = scores.assign(size=scores["change"].abs()).groupby("pos", sort=False)["size"].max().reindex(table["pos"])
    labels = [True] * len(places) + [False] * len(far)
    assert len(places) > 50
    assert roc_auc_score(labels, size) >= 0.9


@pytest.mark.slow
def test_from_fragments_to_bigwig_files(tmp_path: Path) -> None:
    pytest.importorskip("pybigtools")
    fasta, _, signal = make_genome(tmp_path, seed=3)
    rng = np.random.default_rng(0)
    lines = []
    for group, name in enumerate(MOTIFS):
        for chrom, values in signal[name].items():
            starts = rng.choice(len(values), 40_000, p=values / values.sum())
            ends = np.minimum(starts + rng.integers(20, 150, len(starts)), len(values))
            cells = rng.integers(3, size=len(starts)) * 2 + group
            lines += [f"{chrom}\t{a}\t{b}\tcell{c}\t1\n" for a, b, c in zip(starts, ends, cells, strict=True) if b > a]
    (tmp_path / "f.tsv.gz").write_bytes(gzip.compress("".join(lines).encode()))
    groups = pd.DataFrame({"group": [list(MOTIFS)[i % 2] for i in range(6)]}, index=[f"cell{i}" for i in range(6)])
    tracks = sf.pp.sequence_windows(
        AnnData(obs=groups), fasta, groupby="group", fragments=tmp_path / "f.tsv.gz", seq_len=1024, bin_size=32, crop=4
    )
    sf.Epiformer.setup_anndata(tracks)
    model = sf.Epiformer(tracks, d_stem=16, d_model=24, n_layers=1, n_heads=2)
    model.train(2, holdout_chromosomes="chr4", validation_chromosomes="chr3", enable_progress_bar=False)
    for row, path in enumerate(model.to_bigwig(tmp_path / "out", chromosomes="chr4")):
        size = model._own_genome().fasta.sizes["chr4"]
        expected = np.repeat(model.predict_region(f"chr4:0-{size}").values[row], 32)[:size]
        np.testing.assert_allclose(BigWig(path).values("chr4", 0, size), expected, rtol=1e-4, atol=1e-5)
