"""Pretraining ends in a model that is used like any other, and is the same however often it is stopped."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

import scatacformer as sf
from scatacformer.model.scatacformer.pretraining import files as run_files
from scatacformer.training import run as running

from ._cells import SIZES, assert_same_bits, planted, weights
from ._pretraining import SETTINGS, AfterStep, pretrained, run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing has stopped: its folder, and the model."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, pretrained(folder)


def last(folder):
    return weights(sf.ScAtacFormer.load(folder / "last", adata=False))


def neighbours_of_the_same_type(z, kind):
    distance = ((z[:, None] - z[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    return (kind[np.argsort(distance, 1)[:, :5]] == kind[:, None]).mean()


def test_the_result_is_a_saved_model_that_embeds_and_takes_new_batches(whole):
    folder, model = whole
    adata = planted()
    sf.ScAtacFormer.setup_anndata(adata, batch_key="sample")
    loaded = sf.ScAtacFormer.load(folder, adata)
    assert_same_bits(weights(loaded), weights(model))
    z = loaded.get_latent_representation()
    assert neighbours_of_the_same_type(z, adata.obs["type"].to_numpy()) > 0.8
    query = sf.ScAtacFormer.load_query_data(planted(30, batches=("c",)), folder)
    assert query.get_latent_representation().shape == (30, z.shape[1])
    attributes = json.loads((folder / "config.json").read_text())["state"]["attributes"]
    assert attributes["pretrained_on_"]["card"]["n_cells"] == 90
    assert len(attributes["validation_indices_"]["__array__"]) == 9


def test_it_learns_and_logs_what_held_out_cells_say(whole):
    folder, model = whole
    loss = model.history["validation_loss"]["validation_loss"]
    assert loss.index.tolist() == [0, 1]
    assert loss.iloc[1] < loss.iloc[0]
    rows = list(csv.DictReader((folder / "training" / "metrics" / "version_0" / "metrics.csv").open()))
    logged = [float(row["validation_loss"]) for row in rows if row["validation_loss"]]
    np.testing.assert_allclose(logged, loss)
    steps = [int(row["step"]) for row in rows if row["train_loss_step"]]
    assert steps == [5, 10, 15, 20]


def test_held_out_cells_change_no_weight(tmp_path, whole):
    folder, model = whole
    other = planted()
    rng = np.random.default_rng(5)
    X = other.X.toarray()
    X[model.validation_indices_] = rng.random((9, X.shape[1])) < 0.1
    other.X = type(other.X)(X.astype(np.float32))
    assert (other.X != planted().X).nnz > 0
    pretrained(tmp_path / "other", cells=other)
    assert_same_bits(last(tmp_path / "other"), last(folder))


def test_the_best_weights_are_kept_beside_the_last(tmp_path):
    model = pretrained(tmp_path, lr=0.1, gradient_clip_val=0.0, max_epochs=12)
    loss = model.history["validation_loss"]["validation_loss"]
    assert loss.idxmin() < 11  # it goes past the best
    assert (weights(model)["encoder.blocks.0.qkv.weight"] != last(tmp_path)["encoder.blocks.0.qkv.weight"]).any()


def cut(folder, step, monkeypatch, action, **changes):
    """A run to which something happens after a step."""
    monkeypatch.setattr(running, "StepCheckpoint", AfterStep.of(step, action))
    try:
        return pretrained(folder, **changes)
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize(
    "changes",
    [
        {"every_n_steps": 3},
        {"every_n_steps": 1, "validate_every_n_steps": 4},
        {"every_n_steps": 2, "accumulate_grad_batches": 2, "num_workers": 1},
    ],
    ids=str,
)
def test_a_run_stopped_within_an_epoch_and_resumed_ends_like_the_whole_one(tmp_path, monkeypatch, changes):
    class Broken(Exception):
        pass

    def broken():
        raise Broken

    expected = pretrained(tmp_path / "whole", **changes)
    with pytest.raises(Broken):
        cut(tmp_path / "cut", 4, monkeypatch, broken, **changes)
    state = torch.load(tmp_path / "cut" / "training" / "last.ckpt", weights_only=True)
    assert 0 < state["global_step"] <= 4
    found = pretrained(tmp_path / "cut", resume=True, **changes)
    assert_same_bits(last(tmp_path / "cut"), last(tmp_path / "whole"))
    assert_same_bits(weights(found), weights(expected))
    for name, frame in expected.history.items():
        np.testing.assert_array_equal(found.history[name].to_numpy(), frame.to_numpy(), err_msg=name)


@pytest.mark.slow
def test_a_process_killed_within_an_epoch_and_resumed_ends_like_the_whole_one(tmp_path, whole):
    process = run("until_killed", tmp_path, 5)
    assert process.returncode == -signal.SIGKILL, process.stderr
    pretrained(tmp_path, resume=True, every_n_steps=2)
    assert_same_bits(last(tmp_path), last(whole[0]))


def test_ctrl_c_writes_a_checkpoint_and_a_resumed_run_ends_like_the_whole_one(tmp_path, monkeypatch, whole):
    with pytest.warns(UserWarning, match=r"stopped by Ctrl-C in epoch 1 of 2; .* pretrain\(resume=True\) resumes it"):
        cut(tmp_path, 4, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert not (tmp_path / "config.json").exists()
    assert torch.load(tmp_path / "training" / "last.ckpt", weights_only=True)["global_step"] == 5
    pretrained(tmp_path, resume=True)
    assert_same_bits(last(tmp_path), last(whole[0]))


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path, monkeypatch, whole):
    save = torch.save
    written = []

    def full(content, file, *args, **kwargs):
        if written:
            raise OSError(28, "No space left on device")
        written.append(content["global_step"])
        save(content, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left on device.*checkpoint of step 2 is whole.*resume=True"):
        pretrained(tmp_path, every_n_steps=2)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "training").glob("*partial*")] == []
    pretrained(tmp_path, resume=True)
    assert_same_bits(last(tmp_path), last(whole[0]))


def test_a_loss_that_is_not_finite_names_the_cells(tmp_path):
    with pytest.raises(FloatingPointError, match=r"the loss is .*cells: cell\d+ \(row \d+\); cell"):
        pretrained(tmp_path, lr=1e30, decoder_lr=1e30, gradient_clip_val=0.0)


def test_cells_on_disk_are_read_like_those_in_memory(tmp_path, whole):
    planted().write_h5ad(tmp_path / "cells.h5ad")
    pretrained(tmp_path / "model", cells=tmp_path / "cells.h5ad", max_epochs=1)
    model = sf.ScAtacFormer.load(tmp_path / "model", adata=False)
    # the same start; the order of cells is that of a disk
    np.testing.assert_array_equal(weights(model)["embedding.eigenvalue"], weights(whole[1])["embedding.eigenvalue"])


def test_without_held_out_cells_the_last_weights_are_the_model(tmp_path):
    model = pretrained(tmp_path, validation=0, max_epochs=1, use_batches=False)
    assert_same_bits(weights(model), last(tmp_path))
    assert "validation_loss" not in model.history
    assert model.config_.n_batch == 1


def test_a_random_start_learns_its_embedding(tmp_path):
    changes = {"start": "random", "embedding_lr": None, "decoder_steps": None, "lr": 1e-2, "precision": "bf16-mixed"}
    model = pretrained(tmp_path, cells=planted(200), max_epochs=5, max_steps=80, **changes)
    loss = model.history["validation_loss"]["validation_loss"]
    assert loss.iloc[-1] < loss.iloc[0] - 0.005
    first = run_files.RunFiles(tmp_path)
    from safetensors.torch import load_file

    start = load_file(first.start)
    assert (weights(model)["embedding.table.weight"] != start["embedding.table.weight"].numpy()).any()


def test_region_classes_are_saved_with_the_model_and_compared_when_a_run_is_resumed(tmp_path):
    from scatacformer.genome import RegionClasses

    members = np.arange(400)[:, None] < np.array([[400, 200]])
    given = [
        {"eos": "region_class", "region_classes": RegionClasses(("all", "half"), csr_matrix(m))}
        for m in (members, members[::-1])
    ]
    first, second = ({"model": SIZES | changes, "max_epochs": 1} for changes in given)
    model = pretrained(tmp_path, **first)
    assert_same_bits(weights(sf.ScAtacFormer.load(tmp_path, adata=False)), weights(model))
    assert_same_bits(weights(pretrained(tmp_path, resume=True, **first)), weights(model))
    with pytest.raises(ValueError, match="cannot be resumed: model was"):
        pretrained(tmp_path, resume=True, **second)


def test_data_sets_can_be_held_out_by_name(tmp_path):
    model = pretrained(tmp_path, validation=["b"], max_epochs=1)
    sample = planted().obs["sample"].to_numpy()
    assert set(sample[model.validation_indices_]) == {"b"}
    assert set(sample[model.train_indices_]) == {"a"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batchsize": 8}, TypeError, "no key 'batchsize' .did you mean 'batch_size'"),
        ({"model": {"n_layer": 2}}, TypeError, r"\[model\]: there is no key 'n_layer' .did you mean 'n_layers'"),
        ({"model": {"size": "huge"}}, ValueError, "size is .*; expected one of"),
        ({"model": {"supervised": True}}, ValueError, "pretraining knows no labels"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; expected at least 1"),
        ({"batch_size": "8"}, ValueError, "batch_size is '8', expected int"),
        ({"max_epochs": 2.5}, ValueError, "max_epochs is 2.5, expected int"),
        ({"start": "warm"}, ValueError, "start is .*; expected one of spectral, random"),
        ({"precision": "16-mixed"}, ValueError, "precision is .*; expected one of .*loss scaling.*bf16-mixed"),
        ({"strategy": "deepspeed"}, ValueError, "strategy is .*; expected one of auto, ddp, fsdp"),
        ({"validation": 1.0}, ValueError, "share from 0 to below 1"),
        ({"validation": 0.001}, ValueError, "which is less than one of 90 cells"),
        ({"validation": ["c"]}, ValueError, "validation contains 'c', which is not a data set; the data sets are a, b"),
        ({"validation": ["a", "b"]}, ValueError, "validation contains every data set"),
        ({"batch_key": "donor"}, ValueError, "no column 'donor'; it has type, sample"),
        ({"layer": "counts"}, ValueError, "no layer 'counts'"),
        ({"logger": "wandb"}, ImportError, "pip install wandb"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path, changes, error, message):
    if changes == {"logger": "wandb"}:
        pytest.importorskip("lightning")
        try:
            import wandb  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("wandb is installed")
    with pytest.raises(error, match=message):
        pretrained(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_folders_that_hold_something_are_left_alone(tmp_path, whole):
    folder, _ = whole
    with pytest.raises(ValueError, match="contains a pretraining. Resume it with resume=True"):
        pretrained(folder)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="has other content than a pretraining"):
        pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be resumed: lr was 0.001 and is 0.01"):
        pretrained(folder, resume=True, lr=0.01)
    with pytest.raises(ValueError, match=r"cells of a minibatch .* was 8 and is 16"):
        pretrained(folder, resume=True, batch_size=16)
    with pytest.raises(ValueError, match="cannot be resumed: cells was 90 and is 80"):
        pretrained(folder, resume=True, cells=planted(80))
    with pytest.raises(ValueError, match="nothing does not exist"):
        pretrained(tmp_path / "new", cells=tmp_path / "nothing")


def test_a_finished_run_that_is_resumed_stays_as_it_is(whole):
    folder, model = whole
    assert_same_bits(weights(pretrained(folder, resume=True)), weights(model))


@pytest.mark.parametrize("damage", ["tensor", "header", "truncated", "empty"])
@pytest.mark.parametrize("name", ["start.safetensors", "best.safetensors", "last.ckpt"])
def test_a_damaged_file_is_named_before_a_run_is_resumed(tmp_path, whole, name, damage):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    path = folder / "training" / name
    content = bytearray(path.read_bytes())
    at = {"tensor": len(content) // 2, "header": 40}.get(damage)
    if at is not None:
        content[at] ^= 0x10
    path.write_bytes(content[: {"truncated": len(content) // 3, "empty": 0}.get(damage)])
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=re.escape(str(path))):
        pretrained(folder, resume=True)
    assert {file: file.read_bytes() for file in before} == before


def test_every_setting_is_documented():
    from dataclasses import fields
    from inspect import getdoc
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "user_guide" / "pretraining.md").read_text("utf-8")
    for setting in fields(sf.model.PretrainConfig):
        assert f"\n{setting.name}" in getdoc(sf.model.PretrainConfig) or f", {setting.name}" in getdoc(
            sf.model.PretrainConfig
        )
        assert f"`{setting.name}`" in page or f"{setting.name} = " in page or f"[{setting.name}]" in page, setting.name
    assert set(SETTINGS) <= {f.name for f in fields(sf.model.PretrainConfig)}


def test_the_options_of_the_network_are_those_of_the_model():
    from dataclasses import fields
    from inspect import signature

    from scatacformer.model.scatacformer.pretraining.options import NetworkOptions

    others = {"self", "adata", "registry", "vocabulary", "seed", "supervised"}
    expected = {k: p.default for k, p in signature(sf.ScAtacFormer.__init__).parameters.items() if k not in others}
    assert {f.name: f.default for f in fields(NetworkOptions)} == expected
    config = sf.model.PretrainConfig(model={"d_model": 32, "eos": "region_class"}, n_closed="all")
    assert config.model.d_model == 32
    assert config.to_dict()["model"] == {"d_model": 32, "eos": "region_class"}


@pytest.mark.parametrize("batch_key", ["sample", None])
@pytest.mark.parametrize("assembly", ["hg38", None])
def test_the_registry_without_cells_is_that_of_cells(batch_key, assembly):
    from scatacformer.model.scatacformer._setup import registry_without_cells

    cells = planted()
    if assembly is not None:
        cells.uns["assembly"] = assembly
    sf.ScAtacFormer.setup_anndata(cells, batch_key=batch_key)
    model = sf.ScAtacFormer(cells, **SIZES)
    made = registry_without_cells(model.vocabulary, batch_key, ["a", "b"])
    expected = dict(model.registry_)
    assert expected.pop("_scvi_uuid")
    regions = made["field_registries"]["X"]
    assert regions["state_registry"].pop("n_cells") == regions["summary_stats"].pop("n_cells") == 0
    for part in ("state_registry", "summary_stats"):
        expected["field_registries"]["X"][part] = dict(expected["field_registries"]["X"][part])
        assert expected["field_registries"]["X"][part].pop("n_cells") == cells.n_obs
    np.testing.assert_equal(
        made, {**expected, "field_registries": {k: dict(v) for k, v in expected["field_registries"].items()}}
    )


def test_regions_of_another_assembly_than_the_named_one_are_refused(tmp_path):
    cells = planted()
    cells.var_names = [name.replace("chr", "scaffold") for name in cells.var_names]
    cells.uns["assembly"] = "hg38"
    with pytest.raises(ValueError, match="chromosomes that hg38 does not have"):
        pretrained(tmp_path / "model", cells=cells)
