from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

import scatacformer as sf

SIZES = {"d_stem": 16, "d_model": 24, "n_layers": 1, "n_heads": 2, "d_feedforward": 32}
GEOMETRY = {"seq_len": 1024, "bin_size": 32, "crop": 4}
MOTIFS = {"A": "TGACTCATGG", "B": "GGGCGTGACC"}


def make_genome(
    folder: Path, seed: int = 0, n_chroms: int = 4, n_windows: int = 10
) -> tuple[Path, dict[str, str], dict[str, dict[str, np.ndarray]]]:
    """A genome in which a motif, on either strand, makes 64 bp around it open in its track, and nothing else does."""
    rng = np.random.default_rng(seed)
    sequences, signal = {}, {name: {} for name in MOTIFS}
    length = 1024 + 768 * n_windows
    for number in range(n_chroms):
        chrom = f"chr{number + 1}"
        bases = rng.choice(list("ACGT"), length)
        for track in MOTIFS:
            signal[track][chrom] = np.full(length, 0.05, dtype=np.float32)
        for place in range(100, length - 150, 192):
            track = (*MOTIFS, None)[rng.integers(3)]
            if track is None:
                continue
            motif = MOTIFS[track]
            if rng.random() < 0.5:
                motif = motif[::-1].translate(str.maketrans("ACGT", "TGCA"))
            start = place + int(rng.integers(60))
            bases[start : start + 10] = list(motif)
            signal[track][chrom][start - 27 : start + 37] += 4
        sequences[chrom] = "".join(bases)
    path = folder / "genome.fa"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in sequences.items()))
    return path, sequences, signal


def make_tracks(fasta: Path, signal: dict[str, dict[str, np.ndarray]], **geometry: int) -> AnnData:
    geometry = GEOMETRY | geometry
    length, width = geometry["seq_len"], geometry["bin_size"]
    step = length - 2 * geometry["crop"] * width
    regions, values = [], []
    for chrom, whole in next(iter(signal.values())).items():
        for start in range(0, len(whole) - length + 1, step):
            regions.append(f"{chrom}:{start}-{start + length}")
            values.append([signal[t][chrom][start : start + length].reshape(-1, width).mean(1) for t in signal])
    array = np.array(values, dtype=np.float32).transpose(1, 0, 2)
    return sf.pp.sequence_windows(array, fasta, regions=regions, names=list(signal), **geometry)


@pytest.fixture(scope="session")
def genome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict]:
    return make_genome(tmp_path_factory.mktemp("epiformer"))


@pytest.fixture
def tracks(genome: tuple[Path, dict, dict]) -> AnnData:
    adata = make_tracks(genome[0], genome[2])
    sf.Epiformer.setup_anndata(adata)
    return adata


@pytest.fixture(scope="session")
def _model(genome: tuple[Path, dict, dict]) -> sf.Epiformer:
    adata = make_tracks(genome[0], genome[2])
    sf.Epiformer.setup_anndata(adata)
    model = sf.Epiformer(adata, seed=1, **SIZES)
    model.train(3, holdout_chromosomes="chr4", validation_chromosomes="chr3", enable_progress_bar=False)
    return model


@pytest.fixture
def model(_model: sf.Epiformer) -> sf.Epiformer:
    """A model after three passes: what it predicts is not good, and depends on the sequence."""
    return _model
