"""A model that was saved and loaded is the same to the bit; what is no whole model of ours is refused."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import numpy as np
import pandas as pd
import pytest

import scatacformer as sf

from ._cells import assert_same_bits, fresh, planted, quiet, weights

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


def test_saving_does_not_replace_a_model_unasked(model, saved):
    with pytest.raises(ValueError, match="already holds config.json.*overwrite=True"):
        model.save(saved)
    model.save(saved, overwrite=True)
    assert set(os.listdir(saved)) == {"config.json", "model.safetensors", "vocabulary.bed.gz"}


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


def killed_at(rename: int, call) -> None:
    """Call in a child that is killed after its so many-th rename."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    replace, n = os.replace, 0

    def counted(source, target):
        nonlocal n
        replace(source, target)
        n += 1
        if n == rename:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = counted
    call()
    os._exit(0)


@pytest.mark.parametrize("rename", range(1, 7))
@pytest.mark.parametrize("save", ["save", "save_pretrained"])
def test_a_save_that_is_killed_leaves_the_earlier_model_or_the_new_one(model, tmp_path, rename, save):
    earlier = fresh(planted(), seed=3)
    earlier.is_trained_ = True
    earlier.save(tmp_path, save_anndata=True)
    killed_at(rename, lambda: getattr(model, save)(tmp_path, overwrite=True))
    found = weights(SF.load(tmp_path, adata=False))
    assert any(
        all(np.array_equal(found[name], whole[name]) for name in found) for whole in (weights(earlier), weights(model))
    )
    model.save(tmp_path, overwrite=True)
    assert set(os.listdir(tmp_path)) - {"README.md", "_scvi_required_metadata.json"} == {
        "config.json", "model.safetensors", "vocabulary.bed.gz"
    }  # fmt: skip
    with pytest.raises(ValueError, match="contains no saved anndata"):  # not that of the earlier model
        SF.load(tmp_path)


def test_a_full_disk_leaves_the_earlier_model(model, saved, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    expected = weights(SF.load(saved, adata=False))
    for what in ("safetensors.torch.save_file", "scatacformer._io.folder._write_pointer", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(what, full)
            with pytest.raises(OSError, match="No space left"):
                fresh(planted(), seed=3).save(saved, overwrite=True)
        assert not [name for name in os.listdir(saved) if name.endswith(".partial")]
        assert_same_bits(weights(SF.load(saved, adata=False)), expected)


def test_two_that_save_at_once_leave_one_whole_model(model, tmp_path):
    """Who comes second while the first writes is refused; what is there is whole at any time."""
    others = [fresh(planted(), seed=seed) for seed in range(3)]
    children = []
    for other in others:
        pid = os.fork()
        if not pid:
            for _ in range(5):
                with contextlib.suppress(RuntimeError):
                    other.save(tmp_path / "m", overwrite=True)
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    found = weights(SF.load(tmp_path / "m", adata=False))
    assert any(all(np.array_equal(found[k], w[k]) for k in found) for w in map(weights, others))
    assert set(os.listdir(tmp_path / "m")) == {"config.json", "model.safetensors", "vocabulary.bed.gz"}


def test_a_backed_anndata_still_points_to_its_own_file(tmp_path):
    import anndata as ad

    planted().write_h5ad(tmp_path / "cells.h5ad")
    adata = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    model = fresh(adata)
    model.save(tmp_path / "m", save_anndata=True)
    assert adata.filename == tmp_path / "cells.h5ad"
    assert adata.X[:5].nnz
    assert SF.load(tmp_path / "m").adata.shape == adata.shape


def test_pickles_are_not_converted(tmp_path):
    with pytest.raises(NotImplementedError, match="A pickle is not read"):
        SF.convert_legacy_save(tmp_path, tmp_path / "new")


@pytest.mark.parametrize(
    ("options", "network", "message"),
    [
        ({"n_layers": 10**6}, {"n_layers": 10**6}, "n_layers=1,000,000, and the weights are"),
        ({"d_model": 2**20}, {"d_model": 2**20}, r"embedding.cls is \(16,\); expected \(1048576,\)"),
        ({"d_model": 2**20}, {}, "d_model 16 .network. and 1048576 .options."),
    ],
)
def test_sizes_are_compared_with_the_weights_before_a_network_is_made(saved, options, network, message):
    config = json.loads((saved / "config.json").read_text())
    config["state"]["options"].update(options)
    config["network"].update(network)
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        SF.load(saved, adata=False)


@pytest.mark.parametrize("method", ["load", "__init_subclass__", "setup_anndatas"])
def test_a_registry_may_name_two_methods_and_no_other(saved, method):
    config = json.loads((saved / "config.json").read_text())
    config["state"]["registry"]["setup_method_name"] = method
    (saved / "config.json").write_text(json.dumps(config))
    for adata in (False, planted()):
        with pytest.raises(ValueError, match=f"names the set-up method '{method}', expected setup_anndata or"):
            SF.load(saved, adata=adata)
