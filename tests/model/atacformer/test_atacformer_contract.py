"""The contract of every model: setup_anndata, Model(adata), train(), getters without arguments, save and load, hub."""

from __future__ import annotations

import json

import numpy as np
import pytest

import scatacformer as sf
from scatacformer.nn import AtacformerConfig

from ._checkpoints import planted, write

Atacformer = sf.Atacformer
TRAINING = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "batch_size": 16}


def small(adata, seed=0):
    n = adata.n_vars
    return Atacformer(adata, config=AtacformerConfig(n + 7, 16, 32, 2, 2, 64), seed=seed)


@pytest.fixture
def adata():
    cells = planted(60)
    cells.layers["counts"], cells.X = cells.X.copy(), cells.X * 0.5
    Atacformer.setup_anndata(cells, layer="counts", labels_key="type")
    return cells


@pytest.mark.parametrize("objective", ["replaced_tokens", "triplet"])
def test_from_cells_to_an_embedding_and_back_from_disk(adata, tmp_path, objective):
    model = small(adata)
    assert model.adata is adata and not model.is_trained
    assert model.vocabulary.n_bins == adata.n_vars
    model.train(objective=objective, **TRAINING)
    assert model.is_trained
    z = model.get_latent_representation()
    assert z.shape == (60, 16) and z.std() > 0
    other = planted(60)  # not set up, no layer: what the model was set up with is looked for
    with pytest.raises(ValueError, match="no layer 'counts'"):
        model.get_latent_representation(other)
    other.layers["counts"] = adata.layers["counts"]
    np.testing.assert_array_equal(model.get_latent_representation(other), z)
    model.save(tmp_path / "m", save_anndata=True)
    for found in (
        Atacformer.load(tmp_path / "m"), Atacformer.load(tmp_path / "m", adata=adata),
        Atacformer.from_pretrained(tmp_path / "m", adata),
    ):  # fmt: skip
        np.testing.assert_array_equal(found.get_latent_representation(), z)
        assert found.is_trained and found.history.keys() == model.history.keys()
        assert (found.module.discriminator is None) == (model.module.discriminator is None)
    bare = Atacformer.load(tmp_path / "m", adata=False)
    with pytest.raises(ValueError, match="the model has no cells. Pass adata"):
        bare.get_latent_representation()
    np.testing.assert_array_equal(bare.get_latent_representation(adata), z)
    bare.save_pretrained(tmp_path / "theirs", description="Planted.")
    assert "Planted." in (tmp_path / "theirs" / "README.md").read_text()
    np.testing.assert_array_equal(Atacformer.load_published(tmp_path / "theirs").get_latent_representation(adata), z)


def test_a_published_model_has_cells_and_is_kept_in_our_folder_too(tmp_path, adata):
    published = Atacformer.from_pretrained(write(tmp_path / "databio"), adata, assembly="hg38")
    assert published.is_trained
    z = published.get_latent_representation()
    published.save(tmp_path / "ours")
    kept = Atacformer.load(tmp_path / "ours", adata=adata)
    np.testing.assert_array_equal(kept.get_latent_representation(), z)
    assert kept.vocabulary.assembly == "hg38"
    kept.save_pretrained(tmp_path / "back")
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("databio", "back"))
    assert before["architectures"] == after["architectures"]


def test_what_is_not_set_up_or_does_not_fit_is_refused(adata, tmp_path):
    with pytest.raises(ValueError, match=r"Atacformer.setup_anndata\(adata\)"):
        small(planted(20))
    with pytest.raises(ValueError, match="adata and vocabulary are both missing"):
        Atacformer()
    with pytest.raises(KeyError, match="no column 'kind'; it has"):
        Atacformer.setup_anndata(adata, labels_key="kind", layer="counts")
    with pytest.raises(ValueError, match="not integer"):
        Atacformer.setup_anndata(adata)
    with pytest.raises(ValueError, match="view"):
        Atacformer.setup_anndata(adata[:10])
    model = small(adata)
    model.save(tmp_path)
    with pytest.raises(ValueError, match="holds a Atacformer, expected a ScAtacFormer"):
        sf.ScAtacFormer.load(tmp_path, adata=False)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (({"num_hidden_layers": 10**6}, "num_hidden_layers=1,000,000"),
                            ({"hidden_size": 2**20, "intermediate_size": 2**21}, "are not of the network")):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(config | {"network": config["network"] | change}))
        with pytest.raises(ValueError, match=message):
            Atacformer.load(tmp_path, adata=False)


def test_a_push_uploads_databios_files_and_a_card(adata, monkeypatch):
    import huggingface_hub

    calls = []

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **kwargs):
            pass

        def upload_folder(self, folder_path, allow_patterns, **kwargs):
            from pathlib import Path

            calls.append(({path.name for path in Path(folder_path).iterdir()}, set(allow_patterns)))
            return "https://hub.example/1"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    model = small(adata)
    with pytest.raises(ValueError, match="not trained"):
        model.push_to_hub("lab/model")
    model.train(**TRAINING)
    model.push_to_hub("lab/model", license="mit")
    files = {"config.json", "model.safetensors", "universe.bed.gz", "README.md"}
    assert calls == [(files, files)]
