"""A model that was saved and loaded is the same to the bit; what is no whole model of ours is refused."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

import scatacformer as sf
from scatacformer._io import sha256

from ._cells import assert_same_bits, planted, quiet, weights

SF = sf.ScAtacFormer


@pytest.mark.parametrize("prefix", [None, "first_"])
def test_a_saved_model_embeds_to_the_bit(model, tmp_path, prefix, capsys):
    model.save(tmp_path, prefix=prefix, save_anndata=True)
    expected = model.get_latent_representation()
    for adata in (None, planted()):
        loaded = SF.load(tmp_path, adata=adata, prefix=prefix)
        np.testing.assert_array_equal(loaded.get_latent_representation(), expected)
        assert loaded.is_trained
        assert_same_bits(weights(loaded), weights(model))
        np.testing.assert_array_equal(loaded.validation_indices, model.validation_indices)
        np.testing.assert_array_equal(loaded.train_indices, model.train_indices)
        pd.testing.assert_frame_equal(loaded.history["train_loss"], model.history["train_loss"])
        batch = loaded.adata_manager.data_registry.batch
        assert (batch.attr_name, batch.attr_key) == ("obs", "_scvi_batch")
        assert loaded.init_params_ == model.init_params_
    SF.view_setup_args(tmp_path, prefix=prefix)
    assert "sample" in capsys.readouterr().out
    registry = SF.load_registry(tmp_path, prefix=prefix)
    assert registry["model_name"] == "ScAtacFormer"
    assert registry["setup_args"]["batch_key"] == "sample"


def test_a_model_without_data_embeds_what_it_is_handed(model, saved):
    loaded = SF.load(saved, adata=False)
    np.testing.assert_array_equal(loaded.get_latent_representation(planted()), model.get_latent_representation())


def saved_without(saved, folder, *names):
    """The saved model as a version without the tensors ``names`` would have written it."""
    shutil.copytree(saved, folder)
    path, config_path = folder / "model.safetensors", folder / "config.json"
    save_file({name: x for name, x in load_file(path).items() if name not in names}, path)
    config = json.loads(config_path.read_text())
    config["sha256"]["model.safetensors"] = sha256(path)
    config_path.write_text(json.dumps(config))
    return SF.load(folder, adata=planted())


def test_a_model_saved_before_batches_were_compared_place_by_place_is_read_as_it_was_made(model, saved, tmp_path):
    known = SF.load(saved, adata=planted())
    known.module.local_shift.zero_()
    expected = known.get_latent_representation()
    known.module.local_shift[1] = 0.1
    known.save(tmp_path / "now")
    now = SF.load(tmp_path / "now", adata=planted()).get_latent_representation()
    np.testing.assert_array_equal(now, known.get_latent_representation())
    assert np.abs(now - expected).max() > 1e-3
    before = saved_without(tmp_path / "now", tmp_path / "before", "local_shift", "shift_centres", "shift_width")
    np.testing.assert_array_equal(before.get_latent_representation(), expected)


def test_saving_does_not_replace_a_model_unasked(model, saved):
    with pytest.raises(ValueError, match="already holds config.json.*overwrite=True"):
        model.save(saved)
    model.save(saved, overwrite=True)
    assert sorted(os.listdir(saved)) == ["config.json", "model.safetensors", "vocabulary.bed.gz"]


def test_without_saved_data_loading_asks_for_it(saved):
    with pytest.raises(ValueError, match="contains no saved anndata and no adata was passed"):
        SF.load(saved)


def test_other_regions_are_refused(saved):
    with pytest.raises(ValueError, match="there are 200, the model has 400.*prepare_query_anndata"):
        SF.load(saved, adata=planted()[:, :200].copy())
    with pytest.raises(ValueError, match="others or in another order"):
        SF.load(saved, adata=planted()[:, ::-1].copy())


def test_batches_by_other_names_are_refused(saved):
    renamed = planted(batches=("x", "y"))
    with pytest.raises(ValueError, match="[Cc]ategory|batch"):
        SF.load(saved, adata=renamed)


def test_what_was_loaded_can_be_trained_on(saved):
    loaded = SF.load(saved, adata=planted())
    before = weights(loaded)
    with quiet():
        loaded.train(max_epochs=1, batch_size=16, accelerator="cpu", enable_progress_bar=False,
                     plan_kwargs={"n_decoder_epochs": 0, "embedding_lr": 1e-3})  # fmt: skip
    assert (weights(loaded)["embedding.table.weight"] != before["embedding.table.weight"]).any()


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.bed.gz", "config.json"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_damaged_folder_is_refused(saved, name, damage):
    path = saved / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        at = len(content) // 2
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    if (name, damage) == ("config.json", "altered"):
        path.write_text(json.dumps({"format": 1, "class": "ScAtacFormer"}))
    with pytest.raises(ValueError, match="is missing|truncated|altered|not a saved|not of a saved|it lacks"):
        SF.load(saved, adata=False)


def test_a_foreign_folder_is_named_as_such(tmp_path, saved):
    (tmp_path / "scvi").mkdir()
    (tmp_path / "scvi" / "model.pt").write_bytes(b"\x80\x04")
    with pytest.raises(
        ValueError, match=r"is not a saved ScAtacFormer: it has no config.json \(found: \['model.pt'\]\)"
    ):
        SF.load(tmp_path / "scvi", adata=False)
    with pytest.raises(ValueError, match="no such folder"):
        SF.load(tmp_path / "nowhere", adata=False)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"class": "PEAKVI"}))
    with pytest.raises(ValueError, match="holds a PEAKVI, expected a ScAtacFormer"):
        SF.load(saved, adata=False)
    (saved / "config.json").write_text(json.dumps(config | {"format": 99}))
    with pytest.raises(ValueError, match="format 99.*update scatacformer"):
        SF.load(saved, adata=False)


def test_a_config_of_a_bert_is_not_ours(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 768}')
    with pytest.raises(ValueError, match="not of a saved ScAtacFormer: it lacks"):
        SF.load(tmp_path, adata=False)
