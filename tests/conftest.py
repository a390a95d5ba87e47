from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: one thread each, set before any library starts its own
    for _library in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import random
import signal
from pathlib import Path

import numpy as np
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what runs in the background like that
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


STEPS = ("replace", "fsync", "unlink", "open", "mkdir")


@pytest.fixture
def killed_at():
    """``killed_at(k, write)``: whether `write` was killed (SIGKILL) at the k-th call that changes the disk; else it ended."""

    def run(k, write):
        pid = os.fork()
        if pid == 0:
            _count_down(k)
            try:
                write()
            except BaseException:  # noqa: BLE001 of whatever kind: this process ends here
                os._exit(3)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), "the child failed by itself"
        return os.WIFSIGNALED(status)

    return run


def _count_down(k):
    left = [k]

    def counted(step):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*args, **kwargs)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
