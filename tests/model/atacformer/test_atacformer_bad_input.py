from __future__ import annotations

import gzip
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import scatacformer as sf

from ._checkpoints import N_REGIONS, config, planted, regions, tensors, write

Atacformer = sf.Atacformer


def refused(folder, match):
    with pytest.raises(ValueError, match=match):
        Atacformer.from_pretrained(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_half_a_download_is_refused(tmp_path, share):
    write(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(tmp_path, r"model\.safetensors is truncated or not a safetensors file .*Download it again")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "universe.bed.gz"])
def test_a_missing_file_is_named(tmp_path, name):
    (write(tmp_path) / name).unlink()
    refused(tmp_path, rf"lacks {name}")


def test_truncated_universe_and_config(tmp_path):
    path = write(tmp_path) / "universe.bed.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, "truncated or damaged gzip")
    path.write_bytes(whole)
    (tmp_path / "config.json").write_text('{"hidden_size": 2')
    refused(tmp_path, "config.json is truncated or not JSON")
    (tmp_path / "config.json").write_text("[1]")
    refused(tmp_path, "holds a list")


def test_a_pointer_of_git_lfs_is_told_from_weights(tmp_path):
    (write(tmp_path) / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    refused(tmp_path, "pointer of git-lfs")


def test_pickles_are_not_opened(tmp_path):
    folder = write(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"whatever")
    refused(tmp_path, "pytorch_model.bin may contain code and is not opened")


def test_universe_must_be_the_models(tmp_path):
    refused(
        write(tmp_path, universe=regions()[1:]),
        f"{N_REGIONS - 1} regions.* the model has {N_REGIONS + 7} tokens|It is not",
    )
    twice = regions()
    twice.loc[5] = twice.loc[9]
    refused(write(tmp_path, universe=twice), "line 10 repeats line 6")


def test_overlapping_regions_are_allowed(tmp_path):
    universe = regions()
    universe.loc[3] = ["chr1", 0, 100_000]
    Atacformer.from_pretrained(write(tmp_path, universe=universe))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"hidden_size": 384}, "has hidden_size 384, but the tensors .* have 24"),
        ({"intermediate_size": 8}, "has intermediate_size 8, but"),
        ({"num_hidden_layers": 6}, "has num_hidden_layers 6, .* have 2"),
        ({"vocab_size": 890711}, "has vocab_size 890711, but"),
        ({"max_position_embeddings": 8192}, "has max_position_embeddings 8192, but"),
        ({"num_attention_heads": 7}, "hidden_size is 24; expected a multiple of the 7"),
        ({"num_attention_heads": "four"}, "num_attention_heads is .*; expected a whole number"),
        ({"pad_token_id": 10_000}, "pad_token_id is 10000; expected one of the"),
    ],
)
def test_sizes_are_checked_against_the_tensors(tmp_path, change, match):
    refused(write(tmp_path, config(**change)), match)


def test_sizes_that_are_not_said_are_those_of_the_tensors(tmp_path):
    content = {k: v for k, v in config().items() if k not in ("hidden_size", "num_hidden_layers", "vocab_size")}
    assert Atacformer.from_pretrained(write(tmp_path, content)).config.hidden_size == 24
    del content["num_attention_heads"]  # the default of theirs may be wrong, and no tensor would tell
    refused(write(tmp_path, content), "has no num_attention_heads")


def test_tensors_must_be_all_there_and_fit(tmp_path):
    name = "atacformer.encoder.layers.1.norm2.bias"
    lacking = {k: v for k, v in tensors().items() if k != name}
    refused(write(tmp_path, weights=lacking), r"encoder.layers.1.norm2.bias is missing\.$")
    refused(write(tmp_path, weights=tensors() | {name: torch.zeros(5)}), r"norm2.bias is \(5,\); expected \(24,\)")
    refused(write(tmp_path, weights=tensors() | {"adapter.x": torch.zeros(5)}), "does not have .first: adapter.x")
    beyond = tensors() | {"atacformer.encoder.norm.weight": torch.zeros(24)}
    refused(write(tmp_path, weights=beyond), "encoder.norm.weight is not of this network")
    refused(write(tmp_path, weights=tensors() | {name: torch.full((24,), torch.nan)}), "not finite")
    whole = tensors() | {name: torch.zeros(24, dtype=torch.int64)}
    refused(write(tmp_path, weights=whole), "norm2.bias is torch.int64; expected floating point")


@pytest.mark.parametrize(
    ("weights", "content", "match"),
    [
        (
            {"bert.embeddings.word_embeddings.weight": torch.zeros(3, 2)},
            {"architectures": ["BertForMaskedLM"], "model_type": "bert"},
            "no Atacformer.*Found BertForMaskedLM, with 1 tensors .bert.embeddings",
        ),
        ({"craft.gene_encoder.bert.x": torch.zeros(3)}, {"x": 1}, "only the gene encoder of a CRAFT model"),
        ({"x": torch.zeros(3)}, {"model_type": "gpt2"}, "a model of type 'gpt2'"),
    ],
)
def test_another_class_is_refused_with_what_it_is(tmp_path, weights, content, match):
    refused(write(tmp_path, content, weights), match)


def test_our_own_class_is_refused(tmp_path):
    write(tmp_path, {"class": "ScAtacFormer", "format": 1})
    refused(tmp_path, "contains a ScAtacFormer, not an Atacformer")


# ---- the hub


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_no_such_folder(name):
    refused(name, "neither a folder that exists nor the name of a repository")


def test_a_file_is_no_folder(tmp_path):
    refused(write(tmp_path) / "config.json", "is a file; a model is a folder")
    with pytest.raises(ValueError, match="is a folder here and has no revisions"):
        Atacformer.from_pretrained(tmp_path, revision="v1")


def test_offline_and_not_in_the_cache(tmp_path):
    pytest.importorskip("huggingface_hub")
    with pytest.raises(OSError, match="not in the cache .* local_files_only=True was asked for"):
        Atacformer.from_pretrained("databio/atacformer-base-hg38", cache_dir=tmp_path, local_files_only=True)


def test_arguments_reach_the_hub(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    folder, asked = write(tmp_path), []

    def download(repo, **kwargs):
        asked.append((repo, kwargs))
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    given = {"revision": "v2", "cache_dir": "c", "token": "t", "local_files_only": True}
    assert Atacformer.from_pretrained("databio/x", **given).config.n_regions == N_REGIONS
    ((repo, kwargs),) = asked
    assert repo == "databio/x" and given.items() <= kwargs.items()
    assert set(kwargs["allow_patterns"]) == {"config.json", "model.safetensors", "universe.bed.gz"}
    (folder / "universe.bed.gz").unlink()  # a repository of something else
    refused("databio/x", "lacks universe.bed.gz")


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'scatacformer\[hub\]'"):
        Atacformer.from_pretrained("databio/x")


# ---- cells


@pytest.fixture
def model(tmp_path):
    return Atacformer.from_pretrained(write(tmp_path), assembly="hg38")


def test_cells_of_another_place_are_refused(model):
    adata = planted()
    adata.uns["assembly"] = "mm10"
    with pytest.raises(ValueError, match="regions are of mm10 .* the vocabulary is of hg38"):
        model.get_latent_representation(adata)
    adata.uns["assembly"] = "GRCh38"
    assert len(model.get_latent_representation(adata)) == 60
    adata.var["chrom"] = adata.var["chrom"].str.removeprefix("chr")
    with pytest.raises(ValueError, match=r"none of the .* overlaps .*Check the names of the chromosomes"):
        model.get_latent_representation(adata)
    adata.var = pd.DataFrame(index=[f"gene{i}" for i in range(adata.n_vars)])
    with pytest.raises(ValueError, match="does not contain the positions of the regions"):
        model.get_latent_representation(adata)


def test_arguments_of_the_embedding_are_checked(model, tmp_path):
    adata = planted()
    for change, match in (
        ({"max_tokens": 0}, "max_tokens is 0; expected 1 to 80"),
        ({"max_tokens": 81}, "max_tokens is 81; expected 1 to 80"),
        ({"layer": "x"}, "no layer 'x'"),
        ({"batch_size": 0}, "batch_size is .*; expected at least 1"),
        ({"barcodes": ["a"]}, "barcodes or min_tokens is given for an AnnData"),
    ):
        with pytest.raises(ValueError, match=match):
            model.get_latent_representation(adata, **change)
    for wrong in (60, -61):
        with pytest.raises(IndexError, match=f"indices reach .*{wrong}.*and adata has 60 cells"):
            model.get_latent_representation(adata, [0, wrong])
    with pytest.raises(TypeError, match="row numbers or a mask"):
        model.get_latent_representation(adata, ["c1"])
    assert np.array_equal(
        model.get_latent_representation(adata, slice(2, 9, 3)), model.get_latent_representation(adata, [2, 5, 8])
    )
    with pytest.raises(TypeError, match="expected an AnnData"):
        model.get_latent_representation(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="indices or layer is given for fragments"):
        model.get_latent_representation(tmp_path / "f.tsv", [1])
    with pytest.raises(FileNotFoundError, match="no fragments file"):
        model.get_latent_representation(tmp_path / "f.tsv")
    with pytest.raises(ValueError, match="fill is 'zero'; expected"):
        model.bin_vectors(model.vocabulary, fill="zero")
    assert model.get_latent_representation(adata, []).shape == (0, 24)


def test_sizes_of_a_new_model_must_fit():
    vocabulary = sf.Vocabulary.from_var(regions())
    with pytest.raises(ValueError, match="vocab_size is 240; expected 247"):
        Atacformer(vocabulary=vocabulary, config=sf.nn.AtacformerConfig(240))
    with pytest.raises(ValueError, match="hidden_size is .*; expected a whole number"):
        sf.nn.AtacformerConfig(247, hidden_size=0)
    with pytest.raises(ValueError, match="expected seven special tokens and at least one region"):
        sf.nn.AtacformerConfig(7)


def test_what_a_config_says_beside_is_kept(tmp_path):
    model = Atacformer.from_pretrained(write(tmp_path / "a", config(lambda_adv=0.5, auto_map={"x": "evil.py"})))
    model.save_pretrained(tmp_path / "b")
    content = json.loads((tmp_path / "b" / "config.json").read_text())
    assert content["lambda_adv"] == 0.5 and "auto_map" not in content  # which names code
    named = Atacformer.from_pretrained(tmp_path / "b", assembly="GRCh38")
    named.save_pretrained(tmp_path / "c")
    assert Atacformer.from_pretrained(tmp_path / "c").vocabulary.assembly == "hg38"
    assert not gzip.decompress((tmp_path / "c" / "universe.bed.gz").read_bytes()).startswith(b"#")


@pytest.mark.parametrize(("value", "what"), [(-1.0, "negative"), (np.nan, "NaN or infinite"), (0.5, "not integer")])
def test_what_is_no_count_is_refused_before_anything_is_embedded(tmp_path, value, what):
    model, adata = Atacformer.from_pretrained(write(tmp_path)), planted()
    adata.X = adata.X.astype(np.float32)
    adata.X.data[3] = value
    for call in (model.get_latent_representation, lambda cells: model.train(cells, max_epochs=1)):
        with pytest.raises(ValueError, match=f"1 counts are {what}"):
            call(adata)
