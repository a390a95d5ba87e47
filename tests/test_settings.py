"""``sf.settings``, and that the package is quiet where it should be and speaks where it should."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

import scatacformer as sf


@pytest.fixture
def settings():
    """The settings, put back afterwards."""
    before = sf.settings.seed, sf.settings.verbosity, sf.settings.progress
    yield sf.settings
    sf.settings.seed, sf.settings.verbosity, sf.settings.progress = before


def fresh(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_the_seed_of_a_model_is_its_own_before_that_of_the_session(settings):
    assert settings.pick_seed(5) == 5
    settings.seed = 3
    assert settings.pick_seed(None) == 3
    assert settings.pick_seed(0) == 0


def test_the_seed_of_the_session_gives_the_weights_of_that_seed(settings):
    vocabulary = sf.Vocabulary.from_chrom_sizes({"chr1": 50_000}, 5_000)
    config = sf.nn.AtacformerConfig(17, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    settings.seed = 7
    first = sf.Atacformer(vocabulary=vocabulary, config=config).get_region_vectors()
    again = sf.Atacformer(vocabulary=vocabulary, config=config, seed=7).get_region_vectors()
    other = sf.Atacformer(vocabulary=vocabulary, config=config, seed=0).get_region_vectors()
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    ("value", "level"), [("warning", 30), ("INFO", 20), (0, 40), (1, 30), (2, 20), (4, 10), (logging.DEBUG, 10)]
)
def test_verbosity_takes_the_levels_of_scanpy_and_of_scvi_tools(settings, value, level):
    settings.verbosity = value
    assert settings.verbosity == level == logging.getLogger("scatacformer").level


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", -1), ("seed", 1.5), ("verbosity", "loud"), ("verbosity", 7), ("progress", "no"), ("n_threads", 0)],
)
def test_values_out_of_range_are_refused(settings, name, value):
    with pytest.raises(ValueError, match=f"settings.{name} is {value!r}; expected"):
        setattr(settings, name, value)


def test_progress_false_hides_bars(settings, capsys):
    from scatacformer._io import tqdm

    assert list(tqdm(range(3), disable=False)) == [0, 1, 2]
    assert "3/3" in capsys.readouterr().err
    settings.progress = False
    assert list(tqdm(range(3), disable=False)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_threads_hold_for_torch():
    done = fresh(
        "import scatacformer as sf, torch; sf.settings.n_threads = 1; print(torch.get_num_threads())\n"
        "import os; print(os.environ['OMP_NUM_THREADS'])"
    )
    assert done.stdout.split() == ["1", "1"]


def test_torch_keeps_its_threads_where_numba_starts_its_own(monkeypatch):
    """In a training, numba's OpenMP threads set torch's number, and rounding with it."""
    import numba
    import numpy as np
    import torch

    from scatacformer.cells.start.open_bins import OpenBins

    before, starting = torch.get_num_threads(), numba.get_num_threads

    def starts_threads():
        torch.set_num_threads(before + 1)
        return starting()

    monkeypatch.setattr(numba, "get_num_threads", starts_threads)
    OpenBins(np.arange(4), np.arange(3), 3).sums_over_bins(np.ones(3))
    assert torch.get_num_threads() == before
    list(OpenBins(np.arange(4), np.arange(3), 3).columns_over_cells(np.ones((3, 2))))
    assert torch.get_num_threads() == before


def test_messages_reach_stderr_once_and_only_where_nobody_else_writes_them():
    message = "import logging; logging.getLogger('scatacformer').info('a message')"
    assert fresh(f"import scatacformer; {message}").stderr == "a message\n"
    configured = fresh(
        f"import logging; logging.basicConfig(format='root %(message)s', level=20); import scatacformer; {message}"
    )
    assert configured.stderr == "root a message\n"
    assert fresh(f"import scatacformer as sf; sf.settings.verbosity = 'warning'; {message}").stderr == ""


def test_counting_fragments_leaves_the_root_logger_as_it_was():
    done = fresh(
        "import logging; from scatacformer._io import snapatac2; root = logging.getLogger()\n"
        "snap = snapatac2('this'); print(root.level, len(root.handlers), snap.__name__)"
    )
    assert done.stdout.split() == ["30", "0", "snapatac2"]


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("snapatac2", "muon", "rustworkx"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
sys.meta_path.insert(0, Block())
import scatacformer as sf
adata = sf.datasets.simulated_cells(60, 2, genome={"chr1": 3_000_000, "chr2": 2_000_000}, fragments=500, seed=1)
"""


def test_what_starts_from_an_h5ad_needs_no_snapatac2_nor_muon(tmp_path):
    path = tmp_path / "cells.h5ad"
    done = fresh(
        f"{BLOCKED}"
        f"adata.write_h5ad({str(path)!r})\n"
        f"from scatacformer.cli import main; main(['qc', {str(path)!r}])\n"
        "sf.ScAtacFormer.setup_anndata(adata); model = sf.ScAtacFormer(adata); model.train(max_epochs=1)\n"
        f"corpus = sf.Corpus.build({str(tmp_path / 'corpus')!r}, [{str(path)!r}], "
        "genome={'chr1': 3_000_000, 'chr2': 2_000_000})\n"
        "print(model.get_latent_representation().shape[0], corpus.n_cells)"
    )
    assert done.stdout.split()[-2:] == ["60", "60"]


def test_fragments_without_snapatac2_are_an_error_that_says_what_to_install(tmp_path):
    done = fresh(
        f"{BLOCKED}"
        f"sf.datasets.simulated_fragments({str(tmp_path / 'f.tsv.gz')!r}, adata, seed=1)\n"
        "try:\n"
        f"    sf.pp.bin_fragments({str(tmp_path / 'f.tsv.gz')!r}, genome={{'chr1': 3_000_000, 'chr2': 2_000_000}})\n"
        "except ImportError as error:\n    print(error)"
    )
    assert "counting fragments needs snapatac2, which is not installed: pip install 'snapatac2'." in done.stdout
