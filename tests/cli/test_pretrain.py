"""`scatacformer pretrain` from a corpus and a file of settings; wrong ones end with one line that says what to do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import scatacformer as sf
from scatacformer.cli import main

SETTINGS = """
data = "corpus"
output = "out"
max_epochs = 2
batch_size = 32
n_closed = 64
validation = ["second"]
start_cells = 100
accelerator = "cpu"
progress = false

[model]
d_model = 16
n_layers = 1
n_heads = 2
d_embed = 6
max_tokens = 32
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, _small_adata):
    """A corpus of two data sets, of two samples each, and settings that hold the second out."""
    folder = tmp_path_factory.mktemp("pretraining")
    for name, part in (("first", slice(0, 200)), ("second", slice(200, 300))):
        adata = _small_adata[part].copy()
        adata.obs_names = [f"{name[0]}{i}" for i in range(adata.n_obs)]
        adata.write_h5ad(folder / f"{name}.h5ad")
    sources = [{"path": folder / f"{name}.h5ad", "batch_key": "batch"} for name in ("first", "second")]
    sf.Corpus.build(folder / "corpus", sources, sf.Vocabulary.from_var(_small_adata.var), min_bins=1)
    (folder / "config.toml").write_text(SETTINGS)
    return folder


def test_a_corpus_is_pretrained_on_and_one_of_its_data_sets_held_out(folder, capsys, small_adata):
    assert main(["pretrain", str(folder / "config.toml"), "--quiet"]) == 0
    assert "written:" in capsys.readouterr().out
    model = sf.ScAtacFormer.load(folder / "out", adata=False)
    np.testing.assert_array_equal(model.validation_indices_, np.arange(200, 300))
    assert [data_set["name"] for data_set in model.pretrained_on_["card"]["datasets"]] == ["first", "second"]
    assert np.isfinite(model.history["validation_loss"].to_numpy()).all()
    small_adata.obs["batch"] = "another"
    query = sf.ScAtacFormer.load_query_data(small_adata, folder / "out")
    assert query.config_.n_batch == model.config_.n_batch + 1
    assert query.get_latent_representation().std() > 0
    # a second time: what is there is not written over
    assert main(["pretrain", str(folder / "config.toml"), "--quiet"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["pretrain", str(folder / "config.toml"), "--quiet", "--resume"]) == 0


def test_region_classes_come_from_the_files_that_the_config_names(folder, capsys):
    (folder / "bed").mkdir()
    names = sf.Corpus(folder / "corpus").vocabulary.names[:7]
    intervals = [name.replace(":", "-").split("-") for name in names]
    (folder / "bed" / "enhancers.bed").write_text("".join("\t".join(i) + "\n" for i in intervals))
    wanted = 'eos = "region_class"\nregion_classes = {bed = {enhancer = "bed/enhancers.bed"}}\n'
    for name, lines in (("classes", wanted), ("none", 'eos = "region_class"\n')):
        settings = SETTINGS.replace('"out"', f'"{name}"').replace("max_epochs = 2", "max_epochs = 1") + lines
        (folder / f"{name}.toml").write_text(settings)
    assert main(["pretrain", str(folder / "classes.toml"), "--quiet"]) == 0
    model = sf.ScAtacFormer.load(folder / "classes", adata=False)
    assert model.eos_names_ == ["intergenic", "enhancer"]
    np.testing.assert_array_equal(model.region_classes.bins_of("enhancer"), np.arange(7))
    assert main(["pretrain", str(folder / "none.toml"), "--quiet"]) == 2
    assert "region_classes = {gtf = 'gencode.gtf.gz'}" in capsys.readouterr().err
    # other intervals under the same name are another run
    (folder / "bed" / "enhancers.bed").write_text("".join("\t".join(i) + "\n" for i in intervals[:5]))
    assert main(["pretrain", str(folder / "classes.toml"), "--quiet", "--resume"]) == 2
    assert "cannot be resumed: model was" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_names_data_set_and_barcode(folder, capsys):
    wild = SETTINGS.replace('"out"', '"wild"').replace(
        "\n[model]", "lr = 1e30\ndecoder_lr = 1e30\ngradient_clip_val = 0\n[model]"
    )
    (folder / "wild.toml").write_text(wild)
    assert main(["pretrain", str(folder / "wild.toml"), "--quiet"]) == 1
    assert "cells: first:f" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("batch_size = 32", "batchsize = 32"), "no key 'batchsize' (did you mean 'batch_size'?)"),
        (("d_model = 16", "d_modle = 16"), "[model]: there is no key 'd_modle' (did you mean 'd_model'?)"),
        (("d_model = 16", 'eos = "region_class"\nregion_classes = {gft = "a"}'), "no key 'gft' (did you mean 'gtf'?)"),
        (
            ("d_model = 16", 'eos = "region_class"\nregion_classes = "a.gtf"'),
            "region_classes are a RegionClasses, or name",
        ),
        (
            ("d_model = 16", 'region_classes = {gtf = "a.gtf"}'),
            "region_classes are used only with eos = 'region_class'",
        ),
        (("d_model = 16", 'eos = "region_class"\nregion_classes = {bed = {a = "no.bed"}}'), "no.bed"),
        (('data = "corpus"', ""), "expected a path in quotes"),
        (('data = "corpus"', 'data = "corpsu"'), "does not exist"),
        (('data = "corpus"', 'data = "first.txt"'), "neither the folder of a corpus nor an .h5ad file"),
        (('data = "corpus"', 'data = "empty"'), "There is no corpus in"),
        (("max_epochs = 2", "max_epochs = "), "is not TOML"),
        (
            ('["second"]', '["third"]'),
            "validation contains 'third', which is not a data set; the data sets are first, second",
        ),
    ],
    ids=str,
)
def test_a_wrong_config_is_refused(folder, capsys, change, message):
    (folder / "first.txt").touch()
    (folder / "empty").mkdir(exist_ok=True)
    assert change[0] in SETTINGS
    (folder / "wrong.toml").write_text(SETTINGS.replace(*change).replace('"out"', '"never"'))
    assert main(["pretrain", str(folder / "wrong.toml"), "--quiet"]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "never").exists()


def child(folder, name, *arguments, **changes):
    """``scatacformer pretrain`` in a process of its own."""
    settings = SETTINGS.replace('"out"', f'"{name}"').replace("max_epochs = 2", "max_epochs = 500")
    (folder / f"{name}.toml").write_text(settings.replace('data = "corpus"', f'data = "{changes["data"]}"'))
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-m", "scatacformer", "pretrain", str(folder / f"{name}.toml"), *arguments],
        env=os.environ | {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status", "said"), [
    (signal.SIGTERM, 143, "training was ended by SIGTERM in epoch .*pretrain.* resumes it"),
    (signal.SIGINT, 130, "stopped by Ctrl-C in epoch .*--resume resumes it"),
])  # fmt: skip
def test_a_signal_ends_the_run_with_its_status_once_a_checkpoint_is_written(folder, number, status, said):
    output = folder / f"signal{status}"
    process = child(folder, output.name, data="corpus")
    while not (output / "training" / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    first = torch.load(output / "training" / "last.ckpt", weights_only=True)["global_step"]
    time.sleep(0.5)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert re.search(said, err), err
    assert "Traceback" not in err
    assert not (output / "config.json").exists()
    assert torch.load(output / "training" / "last.ckpt", weights_only=True)["global_step"] > first


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_the_run_starts_ends_it_at_once(folder, number, status):
    output = folder / f"start{status}"
    process = child(folder, output.name, data="corpus")
    while not (output / "training" / "run.json").exists():  # the start of the weights is next
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert err.strip() and "Traceback" not in err
    process = child(folder, output.name, "--resume", data="corpus")
    while not (output / "training" / "last.ckpt").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.kill()
    process.communicate()


def test_a_config_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["pretrain", str(tmp_path / "no.toml")]) == 2
    assert "does not exist. Check the path" in capsys.readouterr().err
