from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

SMALL_GENOME = {"chr1": 2_000_000, "chr2": 1_500_000, "chr3": 999_000, "chrX": 503_000}


@pytest.fixture(autouse=True)
def _seeds():
    """What draws from a global generator in spite of the house rule draws the same in every order of tests."""
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data: the environment variable SCATACFORMER_TEST_DATA, or ../shared/data beside the repository."""
    named = os.environ.get("SCATACFORMER_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not a folder (set SCATACFORMER_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def small_genome() -> dict[str, int]:
    """Chromosome sizes of a made-up genome of 1,001 bins of 5 kb."""
    return dict(SMALL_GENOME)


@pytest.fixture(scope="session")
def _small_adata():
    from scatacformer.datasets import simulated_cells

    return simulated_cells(300, 3, genome=SMALL_GENOME, fragments=400, batches=2, turnover=1.0, seed=1)


@pytest.fixture
def small_adata(_small_adata):
    """300 cells of 3 types and 2 batches × 1,001 bins; a copy for each test."""
    return _small_adata.copy()
