"""Every kind of file, damaged: read as it is, or refused by an error that names it; what is under a checksum never differs.

The kinds, and the damage, are those of ``benchmarks/robustness.py``, which counts many more.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from scatacformer.cli._errors import InputError

DAMAGED = Path(__file__).parents[2] / "benchmarks" / "_damaged.py"
KINDS = (
    "model",
    "GET",
    "Epiformer",
    "Atacformer",
    "signal",
    "variants",
    "tokenizer",
    "corpus",
    "source",
    "pretrain.toml",
    "DNA table",
    "labels",
    "fragments",
    "genome.fa",
    "motifs",
)


@pytest.fixture(scope="module")
def attacks():
    if not DAMAGED.exists():
        pytest.skip(f"{DAMAGED} is not there: the benchmarks are not part of an installed package")
    sys.path.insert(0, str(DAMAGED.parent))  # for the modules that it imports
    try:
        module = importlib.import_module("_damaged")
    finally:
        sys.path.remove(str(DAMAGED.parent))
    return module


@pytest.fixture(scope="module")
def kinds(attacks, tmp_path_factory):
    # trained anew for each: only benchmarks/robustness.py does it
    slow = ("checkpoint", "pretraining")
    return [kind for kind in attacks.kinds(tmp_path_factory.mktemp("whole")) if not kind.name.startswith(slow)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("group", KINDS)
def test_damaged_files_are_refused_by_name_or_read_alike(attacks, kinds, group, tmp_path):
    rng = np.random.default_rng(3)
    chosen = [kind for kind in kinds if kind.name.startswith(group)]
    assert chosen
    for kind in chosen:
        expected = kind.read(copied(kind, tmp_path))
        n_refused = 0
        for _ in range(12):
            at = copied(kind, tmp_path)
            path = at / kind.file
            path.write_bytes(attacks.damaged(path.read_bytes(), rng))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = kind.read(at)
            except (ValueError, OSError, RuntimeError, InputError) as error:
                n_refused += 1
                # of two files that contradict each other either may be named
                assert str(at) in str(error), f"{kind.name}: {error!r}"
            else:
                assert found == expected or not kind.sealed, f"{kind.name}: another result"
        assert n_refused or not kind.sealed


def copied(kind, tmp_path):
    at = tmp_path / "at"
    shutil.rmtree(at, ignore_errors=True)
    shutil.copytree(kind.folder, at)
    return at
