"""A model that travels: what comes back is the same, what does not fit is refused, and nothing is executed."""

from __future__ import annotations

import json
import re
import shutil
import sys

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import scatacformer as sf
from scatacformer._io import sha256

from ._cells import assert_same_bits, planted, weights

SF = sf.ScAtacFormer


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return model.save_pretrained(
        tmp_path_factory.mktemp("hub") / "model", description="Planted types.", data="90 cells",
        license="cc-by-4.0\ntags: [x]", metrics={"AUROC": 0.75},
    )  # fmt: skip


def test_what_comes_back_is_the_same(model, folder):
    back = SF.from_pretrained(folder)
    assert_same_bits(weights(back), weights(model))
    assert back.vocabulary == model.vocabulary
    adata = planted()
    query = SF.load_query_data(adata, back)
    np.testing.assert_array_equal(query.get_latent_representation(), model.get_latent_representation())
    with_data = SF.from_pretrained(folder, adata=planted())
    np.testing.assert_array_equal(with_data.get_latent_representation(), model.get_latent_representation())


def test_nothing_in_the_folder_is_code(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json", "model.safetensors", "vocabulary.bed.gz", "README.md", "_scvi_required_metadata.json"
    }  # fmt: skip


def test_the_card_says_what_is_known(folder):
    from huggingface_hub import ModelCard

    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "scatacformer"
    assert card.data.license == "cc-by-4.0\ntags: [x]"  # one field, whatever it holds
    assert "scatac-seq" in card.data.tags
    for text in ("Planted types.", "90 cells", "| AUROC | 0.75 |", "400 of 5,000 bp", "1 layers, 16 wide, 2 heads"):
        assert text in card.text, text
    for name in ("model.safetensors", "vocabulary.bed.gz"):
        assert re.search(rf"`{re.escape(name)}` \| `{sha256(folder / name)}`", card.text)
    assert re.search(r"held-out cells, by which the epoch was chosen: \d", card.text)


def test_what_nobody_said_the_card_does_not_make_up(model, tmp_path):
    text = (model.save_pretrained(tmp_path / "m") / "README.md").read_text()
    assert text.count("Not stated by its authors.") == 3
    assert "license:" not in text


def test_scvi_tools_own_hub_model_opens_it(model, folder):
    hub = pytest.importorskip("scvi.hub")
    opened = hub.HubModel(str(folder))
    assert opened.metadata.model_cls_name == "ScAtacFormer"
    opened.load_model(adata=planted(), accelerator="cpu")
    np.testing.assert_array_equal(opened.model.get_latent_representation(), model.get_latent_representation())


def test_an_earlier_model_is_not_written_over_unasked(model, folder, tmp_path):
    with pytest.raises(ValueError, match="already holds config.json"):
        model.save_pretrained(folder)
    with pytest.raises(ValueError, match="is a file; a model is saved to a folder"):
        model.save_pretrained(folder / "README.md")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    model.save_pretrained(copy, data="other cells", overwrite=True)
    assert "other cells" in (copy / "README.md").read_text()
    SF.from_pretrained(copy)


def altered(folder, tmp_path, name="config.json", change=lambda c: c):
    copy = tmp_path / "altered"
    shutil.copytree(folder, copy)
    content = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps(change(content) or content))
    return copy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=99), "has format 99, expected at most 1; update scatacformer"),
        (lambda c: c.update({"class": "PEAKVI"}), "holds a PEAKVI, expected a ScAtacFormer"),
        (lambda c: c.update(vocabulary="0" * 64), "is not the vocabulary that config.json names"),
        (lambda c: c["sha256"].update({"model.safetensors": "0" * 64}), "truncated or was altered"),
        (
            lambda c: [c["state"]["options"].update(d_model=32), c["network"].update(d_model=32)][2:],
            r"decoder.from_eos.weight is \(6, 16\); expected \(6, 32\)",
        ),
        (
            lambda c: [c["state"]["options"].update(cls_token=False), c["network"].update(cls_token=False)][2:],
            "embedding.cls is not of this network",
        ),
        # the weights would fit, and mean something else
        (lambda c: c["state"]["options"].update(n_heads=4), r"n_heads 2 \(network\) and 4 \(options\)"),
        (lambda c: c["network"].update(n_bins=399), "has 400 regions, and the network of config.json 399"),
        # of a version to come
        (lambda c: c["state"]["options"].update(rotary=1), r"names 'rotary', which scatacformer .* update"),
        (lambda c: c["state"]["attributes"].update(train=1), "names 'train', which scatacformer"),
        (lambda c: c.update(format="2"), "format is '2', expected an integer"),
        (lambda c: c.update(sha256={}), "model.safetensors is truncated or was altered"),
        (lambda c: c.update(sha256=[]), r"sha256 is \[\], expected an object"),
        (lambda c: c["state"]["registry"].pop("setup_args") and None, "damaged: its registry lacks setup_args"),
        (lambda c: c["state"].pop("attributes") and None, "its state lacks attributes"),
        (lambda c: ["config"], "holds a list, expected an object"),
    ],
)
def test_what_differs_is_named(folder, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        SF.from_pretrained(altered(folder, tmp_path, change=change))


def test_files_with_the_right_checksum_are_looked_into_as_well(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = copy / "model.safetensors"

    def refused(message):
        config = json.loads((copy / "config.json").read_text())
        config["sha256"]["model.safetensors"] = sha256(weights)
        (copy / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=message):
            SF.from_pretrained(copy)

    tensors = load_file(weights)
    tensors["embedding.cls"][3] = float("nan")
    save_file(tensors, weights)
    refused("embedding.cls holds numbers that are not finite")
    weights.write_bytes(b"\xff" * 500)
    refused("not a safetensors file")
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused("is a pointer of git-lfs")


def test_another_class_is_named(tmp_path):
    config = {"model_type": "atacformer", "architectures": ["AtacformerForCellClustering"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"of another class, AtacformerForCellClustering.*sf\.Atacformer"):
        SF.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="of another class, bert"):
        SF.from_pretrained(tmp_path)


def test_a_folder_that_cannot_be_written_to_and_links_of_a_cache(model, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for path in (tmp_path / "blobs").iterdir():
        path.chmod(0o444)
        (tmp_path / "snapshot" / path.name).symlink_to(f"../blobs/{path.name}")
    (tmp_path / "snapshot").chmod(0o555)
    try:
        assert_same_bits(weights(SF.from_pretrained(tmp_path / "snapshot")), weights(model))
    finally:
        (tmp_path / "snapshot").chmod(0o755)


def test_half_a_download_is_refused(folder, tmp_path):
    for name in ("model.safetensors", "vocabulary.bed.gz", "config.json"):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=re.escape(name)):
            SF.from_pretrained(copy)
        (copy / name).unlink()
        with pytest.raises(ValueError, match=re.escape(name)):
            SF.from_pretrained(copy)


def test_weights_that_lack_a_tensor(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    tensors = load_file(copy / "model.safetensors")
    tensors.pop("to_latent.weight")
    save_file(tensors, copy / "model.safetensors")
    config = json.loads((copy / "config.json").read_text())
    config["sha256"]["model.safetensors"] = sha256(copy / "model.safetensors")
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="to_latent.weight is missing"):
        SF.from_pretrained(copy)


def test_the_hub_is_asked_for_the_files_of_a_model_alone(folder, monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}

    def snapshot_download(name, **kwargs):
        asked.update(kwargs, name=name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    model = SF.from_pretrained("lab/model", revision="v1", cache_dir=tmp_path, local_files_only=True)
    assert model.is_trained
    assert (asked["name"], asked["revision"], asked["local_files_only"]) == ("lab/model", "v1", True)
    # of a model with a DNA table that, too
    assert set(asked["allow_patterns"]) == {path.name for path in folder.iterdir()} | {"dna.safetensors"}
    # fine-tuning takes such a name too
    adata = planted(60, seed=2)
    SF.setup_anndata(adata)
    assert SF.for_fine_tuning(adata, "lab/model").is_trained


def test_a_hub_that_cannot_be_reached(tmp_path):
    with pytest.raises(OSError, match="local_files_only=True was asked for"):
        SF.from_pretrained("lab/model", cache_dir=tmp_path, local_files_only=True)
    with pytest.raises(ValueError, match="neither a folder that exists nor the name of a repository"):
        SF.from_pretrained(tmp_path / "no" / "such" / "folder")
    with pytest.raises(ValueError, match="neither a folder that exists"):
        SF.from_pretrained("")  # not the folder that one happens to be in


def test_a_part_of_a_model_in_the_cache_is_said_so(folder, tmp_path):
    """As it is left by who has read the tokenizer alone."""
    repo = tmp_path / "models--lab--model"
    snapshot = repo / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    for name in ("config.json", "vocabulary.bed.gz"):
        shutil.copy(folder / name, snapshot)
    assert sf.Tokenizer.from_pretrained("lab/model", cache_dir=tmp_path, local_files_only=True).vocabulary.n_bins == 400
    with pytest.raises(OSError, match=r"only a part of lab/model .*: model\.safetensors is not in it"):
        SF.from_pretrained("lab/model", cache_dir=tmp_path, local_files_only=True)
    shutil.copy(folder / "model.safetensors", snapshot)
    assert SF.from_pretrained("lab/model", cache_dir=tmp_path, local_files_only=True).is_trained


def test_a_push_is_one_commit_of_the_files_and_no_others(model, folder, monkeypatch):
    import huggingface_hub

    calls = []

    class Api:
        def __init__(self, token=None):
            calls.append(("token", token))

        def create_repo(self, repo_id, **kwargs):
            calls.append(("create", repo_id, kwargs["private"]))

        def upload_folder(self, repo_id, folder_path, revision, commit_message, allow_patterns):
            from pathlib import Path

            assert {p.name for p in Path(folder_path).iterdir()} == {p.name for p in folder.iterdir()}
            assert SF.from_pretrained(folder_path).is_trained
            calls.append(("upload", repo_id, revision))
            return "https://hub.example/lab/model/commit/1"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    address = model.push_to_hub("lab/model", private=True, token="t", license="mit")
    assert address.endswith("commit/1")
    assert calls == [("token", "t"), ("create", "lab/model", True), ("upload", "lab/model", None)]


def test_without_huggingface_hub(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: model.push_to_hub("lab/model"), lambda: SF.from_pretrained("lab/model")):
        with pytest.raises(ImportError, match=r"scatacformer\[hub\]"):
            call()


def test_an_untrained_model_and_metrics_that_are_none(model, tmp_path):
    adata = planted()
    SF.setup_anndata(adata)
    with pytest.raises(ValueError, match="not trained"):
        SF(adata).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="finite numbers by name, found 'AUROC': nan"):
        model.save_pretrained(tmp_path, metrics={"AUROC": float("nan")})
    assert not list(tmp_path.iterdir())
