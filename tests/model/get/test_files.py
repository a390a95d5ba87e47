"""A GET model on disk: whole, its adapter alone, and under published names."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
import torch

import scatacformer as sf
from scatacformer.nn import GETConfig, GETNetwork

from .conftest import make_regions, small

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def trained(_regions):
    model = small(_regions.copy(), seed=3)
    model.train(2, holdout_chromosomes="chr4", **QUIET)
    return model


def test_save_and_load_change_nothing(trained, tmp_path):
    trained.save(tmp_path / "model")
    again = sf.GET.load(tmp_path / "model", trained.adata, accelerator="cpu")
    np.testing.assert_array_equal(again.get_predicted_expression(), trained.get_predicted_expression())
    np.testing.assert_array_equal(again.motif_scale_, trained.motif_scale_)
    assert again.training_ == trained.training_
    assert again.history["train_loss"].equals(trained.history["train_loss"])
    assert repr(again) == repr(trained)
    without = sf.GET.load(tmp_path / "model", adata=False, accelerator="cpu")
    with pytest.raises(ValueError, match="read without data"):
        without.get_predicted_expression()
    table = without.get_predicted_expression(trained.adata)
    np.testing.assert_array_equal(table, trained.get_predicted_expression())


def test_a_shared_folder_says_what_was_trained_on(trained, tmp_path):
    trained.save_pretrained(tmp_path / "shared", license="cc-by-4.0")
    card = (tmp_path / "shared" / "README.md").read_text("utf-8")
    assert "Chromosomes: chr1, chr2, chr3. Held out: chr4." in card
    again = sf.GET.from_pretrained(tmp_path / "shared", trained.adata, accelerator="cpu")
    np.testing.assert_array_equal(again.get_predicted_expression(), trained.get_predicted_expression())
    with pytest.raises(ValueError, match="not trained"):
        small(trained.adata).save_pretrained(tmp_path / "other")


def test_a_damaged_folder_is_refused(trained, tmp_path):
    trained.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="truncated or was altered"):
        sf.GET.load(tmp_path, adata=False)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("network", "n_layers"), 10**6),
        (("network", "d_model"), 2**40),
        (("network", "n_regions"), "many"),
        (("state", "motif_names"), 5),
        (("state", "is_trained"), {}),
        (("state", "seed"), 8),
    ],
)
def test_a_configuration_that_was_altered_is_refused_by_name(trained, tmp_path, path, value):
    """Among them sizes that would hang or need terabytes, and a seed that nothing else contradicts."""
    trained.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[path[0]][path[1]] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=str(tmp_path)):
        sf.GET.load(tmp_path, adata=False)


def test_an_adapter_travels_alone(trained, tmp_path):
    base = sf.GET.load_query_data(trained.adata, trained)
    tuned = sf.GET.load_query_data(make_regions(seed=5), trained)
    tuned.train(2, lora=2, holdout_chromosomes="chr4", **QUIET)
    path = tuned.save_adapter(tmp_path / "adapter.safetensors")
    base.load_adapter(path)
    expected = tuned.get_predicted_expression(trained.adata)
    np.testing.assert_allclose(base.get_predicted_expression(), expected, atol=1e-6)
    tuned.save(tmp_path / "merged")
    merged = sf.GET.load(tmp_path / "merged", trained.adata, accelerator="cpu")
    np.testing.assert_allclose(merged.get_predicted_expression(), expected, atol=1e-5)
    base.remove_adapter()
    for name, value in trained.module.state_dict().items():
        if not name.startswith("head"):
            assert torch.equal(base.module.state_dict()[name], value)
    with pytest.raises(ValueError, match="has no adapter"):
        base.save_adapter(tmp_path / "none.safetensors")
    other = small(trained.adata, d_model=16)
    with pytest.raises(ValueError, match="the adapter is of another network"):
        other.load_adapter(path)


def test_an_adapter_of_the_base_size_is_below_five_megabytes():
    from scatacformer.model.get._adapter import adapter_state, add_adapter

    with torch.device("meta"):
        network = GETNetwork(GETConfig.of_size("base", 283))
        try:
            add_adapter(network, 8, seed=0)
        except NotImplementedError:  # a generator has no meaning on the meta device
            pytest.skip("this torch samples nothing on the meta device")
    n = sum(value.numel() for value in adapter_state(network).values())
    assert 4 * n < 5_000_000
    assert n == 1_188_056 + 2 * 768 + 2  # the published number, and the head


def test_published_checkpoints_go_in_and_out(trained, tmp_path):
    path = trained.save_published(tmp_path / "published.pth")
    state = torch.load(path, weights_only=True)["state_dict"]
    assert "encoder.blocks.0.attn.q_bias" in state
    again = sf.GET.load_published(path, trained.adata, n_heads=2, n_regions=12)
    np.testing.assert_array_equal(again.get_predicted_expression(), trained.get_predicted_expression())
    fewer = trained.adata.copy()
    fewer.varm["motif"] = fewer.varm["motif"][:, :5].copy()
    fewer.uns["motif"] = {"names": fewer.uns["motif"]["names"][:5]}
    with pytest.raises(ValueError, match="published.pth reads 6 motifs, and the regions have 5"):
        sf.GET.load_published(path, fewer)
    content = bytearray(path.read_bytes())
    at = content.index(next(iter(state.values())).numpy().tobytes()[:16])
    content[at : at + 4] = b"\x11\x22\x33\x40"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="published.pth is damaged: the checksum of .* does not match"):
        sf.GET.load_published(path, trained.adata, n_heads=2, n_regions=12)
    torch.save({"state_dict": {name: value[:1] for name, value in state.items()}}, path)
    with pytest.raises(ValueError, match="published.pth is not a checkpoint of GET"):
        sf.GET.load_published(path, trained.adata, n_heads=2, n_regions=12)


class Exploit:
    def __reduce__(self):
        return os.mkdir, ("run-by-a-checkpoint",)


def test_code_in_a_checkpoint_is_not_run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("bad.pth", "wb") as file:
        pickle.dump({"state_dict": Exploit()}, file)
    with pytest.raises(ValueError, match="cannot be read as tensors alone"):
        sf.GET.load_published("bad.pth", trained.adata)
    assert not (tmp_path / "run-by-a-checkpoint").exists()
    with pytest.raises(FileNotFoundError):
        sf.GET.load_published("nothing.pth", trained.adata)
