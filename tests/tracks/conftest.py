from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ._genome import SIZES, write_fasta


@pytest.fixture
def sequences() -> dict[str, str]:
    rng = np.random.default_rng(0)
    return {name: "".join(rng.choice(list("ACGT"), size)) for name, size in SIZES.items()}


@pytest.fixture
def fasta(tmp_path: Path, sequences: dict[str, str]) -> Path:
    return write_fasta(tmp_path / "genome.fa", sequences)


@pytest.fixture
def coverage() -> dict[str, np.ndarray]:
    """A value a base, zero on half of the genome."""
    rng = np.random.default_rng(1)
    out = {}
    for name, size in SIZES.items():
        values = np.repeat(rng.gamma(0.5, 4.0, size // 10 + 1), 10)[:size].astype(np.float32)
        values[np.repeat(rng.random(size // 50 + 1) < 0.5, 50)[:size]] = 0
        out[name] = values
    return out


@pytest.fixture
def bigwig(tmp_path: Path, coverage: dict[str, np.ndarray]) -> Path:
    pytest.importorskip("pybigtools")
    from scatacformer.genome import write_bigwig

    def runs() -> Iterator[tuple[str, int, int, float]]:
        for name, values in coverage.items():
            edges = np.append(np.flatnonzero(np.diff(values, prepend=-1)), len(values))
            for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
                if values[start] > 0:  # what is 0 is left uncovered
                    yield name, start, end, float(values[start])

    write_bigwig(tmp_path / "T.bw", SIZES, runs())
    return tmp_path / "T.bw"
