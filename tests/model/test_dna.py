"""A model with a DNA table: it learns from it, starts without it, and takes the table wherever it goes."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch

import scatacformer as sf
from scatacformer.model._folder import TRAVELS
from scatacformer.sequence import DnaTableWriter

from ._cells import N_BINS, SIZES, TRAINING, assert_same_bits, fresh, planted, quiet, trained, weights
from ._pairs import planted_pairs
from ._pretraining import pretrained

SETUP = {"batch_key": "sample", "labels_key": "type"}
OPTIONS = [
    {},
    {"decoder": "mlp"},
    {"decoder": "cross_attention"},
    {"embedding": "full"},
    {"embedding": "full", "decoder_input": "full"},
    {"cls_token": False},
]


def a_table(d=7, dtype=np.float16, seed=0):
    x = np.random.default_rng(seed).normal(3, 2, (N_BINS, d)).astype(dtype)
    x[5] = 0
    return x


@pytest.fixture
def path(tmp_path):
    """As sf.pp.dna_embeddings writes it."""
    bins = fresh(planted()).vocabulary
    made_of = {"n_bins": N_BINS, "model": "nt", "settings": {"vocabulary": bins.checksum}}
    writer = DnaTableWriter(tmp_path / "dna.npy", (N_BINS, 7), "float16", made_of)
    writer.append(a_table())
    writer.finish()
    return tmp_path / "dna.npy"


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_trained_saved_loaded_and_queried(path, tmp_path, options):
    model = trained(planted(), setup=SETUP, supervised=True, dna=path, **options)
    moved = {k for k, v in weights(model).items() if k.startswith("embedding.dna.to_") and np.abs(v).max() > 1e-4}
    both = {"embedding.dna.to_tokens", "embedding.dna.to_rows"}
    assert moved == (both if options.get("decoder_input") != "full" else {"embedding.dna.to_tokens"})
    model.save(tmp_path / "model")
    os.unlink(path)  # the folder is whole
    files = ["config.json", "dna.safetensors", "model.safetensors", "vocabulary.bed.gz"]
    assert sorted(os.listdir(tmp_path / "model")) == files
    loaded = sf.ScAtacFormer.load(tmp_path / "model", adata=planted())
    assert_same_bits(weights(loaded), weights(model))
    assert torch.equal(loaded.module.embedding.dna.table, model.module.embedding.dna.table)
    assert loaded.config_ == model.config_
    assert loaded.dna_ == model.dna_
    for f in ("get_latent_representation", "predict", "get_normalized_accessibility"):
        np.testing.assert_array_equal(getattr(loaded, f)(), getattr(model, f)(), err_msg=f)
    handed = sf.ScAtacFormer.load(tmp_path / "model", adata=False)
    np.testing.assert_array_equal(
        handed.get_normalized_accessibility(planted(), return_numpy=True),
        model.get_normalized_accessibility(return_numpy=True),
    )
    for reference in (tmp_path / "model", model):
        query = sf.ScAtacFormer.load_query_data(planted(30, seed=4, batches=("c",)), reference)
        assert torch.equal(query.module.embedding.dna.table, model.module.embedding.dna.table)
        before = weights(query)
        with quiet():
            query.train(**TRAINING)
        assert {k for k, v in weights(query).items() if (v != before[k]).any()} == {"decoder.bias.weight"}
    query.save(tmp_path / "query")
    again = sf.ScAtacFormer.load(tmp_path / "query", adata=False)
    assert again.dna_ == model.dna_


def test_it_travels(path, tmp_path):
    model = trained(planted(), dna=path)
    model.save_pretrained(tmp_path / "model")
    there = sf.ScAtacFormer.from_pretrained(tmp_path / "model", adata=planted())
    assert torch.equal(there.module.embedding.dna.table, model.module.embedding.dna.table)
    assert "dna.safetensors" in TRAVELS
    assert "dna.safetensors" in (tmp_path / "model" / "README.md").read_text()  # its checksum


def test_it_is_pretrained_from_a_file(path, tmp_path):
    from scatacformer.model.scatacformer.pretraining.config import read_config

    model = pretrained(tmp_path / "run", model={**SIZES, "dna": str(path)}, max_epochs=1)
    assert np.abs(weights(model)["embedding.dna.to_tokens"]).max() > 0
    loaded = sf.ScAtacFormer.load(tmp_path / "run", adata=False)
    assert torch.equal(loaded.module.embedding.dna.table, model.module.embedding.dna.table)
    (tmp_path / "config.toml").write_text("data = 'a'\noutput = 'b'\n[model]\ndna = 'dna.npy'\n")
    assert read_config(tmp_path / "config.toml")[2]["model"]["dna"] == str(path)
    with pytest.raises(TypeError, match="dna is ndarray; expected the path of a .npy file"):
        pretrained(tmp_path / "other", model={"dna": a_table()})


def test_it_starts_as_the_model_without_dna():
    plain, model = fresh(planted()), fresh(planted(), dna=a_table())
    found = {k: v for k, v in weights(model).items() if "embedding.dna" not in k}
    assert_same_bits(found, weights(plain))
    one_epoch = {"max_epochs": 1}  # of the decoder alone
    a, b = trained(planted(), train=one_epoch), trained(planted(), train=one_epoch, dna=a_table())
    np.testing.assert_array_equal(
        a.get_normalized_accessibility(return_numpy=True), b.get_normalized_accessibility(return_numpy=True)
    )
    assert "DNA of 7 numbers" in repr(b)
    assert "DNA" not in repr(a)


def test_a_file_of_float16_is_mapped_and_not_copied(path):
    held = fresh(planted(), dna=path).module.embedding.dna.table
    np.testing.assert_array_equal(held.numpy(), a_table())
    assert _is_mapped(held)
    assert fresh(planted(), dna=str(path)).dna_["model"] == "nt"


def _is_mapped(tensor):
    """Whether the memory of a tensor is that of a file, by the maps of this process (Linux alone)."""
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("no /proc")
    at = tensor.data_ptr()
    for line in open("/proc/self/maps", encoding="utf-8"):
        first, last = (int(x, 16) for x in line.split()[0].split("-"))
        if first <= at < last:
            return "dna" in line
    return False


@pytest.mark.parametrize("kind", ["array", "float32", "tensor", "memmap", "column order"])
def test_tables_of_any_kind_are_the_same(path, kind, tmp_path):
    table = {
        "array": a_table(), "float32": a_table(dtype=np.float64).astype(np.float32), "tensor": torch.from_numpy(a_table()),
        "memmap": np.load(path, mmap_mode="r"), "column order": np.asfortranarray(a_table()),
    }[kind]  # fmt: skip
    model = fresh(planted(), dna=table)
    np.testing.assert_array_equal(model.module.embedding.dna.table.numpy(), a_table())
    assert ("settings" in model.dna_) == (kind == "memmap")
    model.save(tmp_path / "model")
    assert "array" not in json.dumps(json.loads((tmp_path / "model" / "config.json").read_text())["state"]["options"])


def test_other_regions_are_fine_tuned_on_the_dna_of_those_that_overlap_them():
    model = trained(planted(), dna=a_table())
    same = sf.ScAtacFormer.for_fine_tuning(_set_up(planted(30, seed=3)), model)
    assert torch.equal(same.module.embedding.dna.table, model.module.embedding.dna.table)
    wide = planted(30, seed=3)[:, 10:200:2].copy()  # regions of two bins each
    wide.var_names = [f"chr1:{s}-{s + 10_000}" for s in range(50_000, 1_000_000, 10_000)]
    tuned = sf.ScAtacFormer.for_fine_tuning(_set_up(wide), model)
    mean = a_table().astype(np.float32)[10:200].reshape(95, 2, 7).mean(1)
    np.testing.assert_allclose(tuned.module.embedding.dna.table.float().numpy(), mean, atol=2e-3)
    for name in ("centre", "scale", "to_tokens", "to_rows"):
        assert torch.equal(getattr(tuned.module.embedding.dna, name), getattr(model.module.embedding.dna, name))
    wide.var_names = [f"chr9:{s}-{s + 10_000}" for s in range(50_000, 1_000_000, 10_000)]
    with pytest.raises(ValueError, match="none of the 95 regions"):
        sf.ScAtacFormer.for_fine_tuning(_set_up(wide), model)


def _set_up(adata):
    sf.ScAtacFormer.setup_anndata(adata, batch_key="sample")
    return adata


def test_pairs_start_from_a_model_with_dna():
    mdata = planted_pairs(60, shuffled=False)
    model = trained(mdata["atac"], setup={}, dna=np.random.default_rng(0).normal(size=(mdata["atac"].n_vars, 4)))
    both = sf.ScAtacFormer.from_atac_model(model, mdata)
    assert torch.equal(both.module.embedding.dna.table, model.module.embedding.dna.table)


def test_a_damaged_or_missing_table_is_refused(path, tmp_path):
    fresh(planted(), dna=path).save(tmp_path / "model")
    name = tmp_path / "model" / "dna.safetensors"
    content = name.read_bytes()
    name.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="dna.safetensors is truncated or was altered"):
        sf.ScAtacFormer.load(tmp_path / "model", adata=False)
    name.unlink()
    with pytest.raises(ValueError, match="dna.safetensors is missing"):
        sf.ScAtacFormer.load(tmp_path / "model", adata=False)


def test_tables_that_do_not_fit_are_refused(path, tmp_path):
    for table, message in (
        (a_table()[:-1], r"shape \(399, 7\); expected \(400, d\)"),
        (a_table()[:, :0], r"shape \(400, 0\)"),
        (np.full((N_BINS, 2), np.nan, np.float32), "NaN or infinite"),
        (np.full((N_BINS, 2), 1e6, np.float32), r"has values up to 1e\+06; expected at most 65,504"),
        (np.zeros((N_BINS, 2)), "zero everywhere"),
    ):
        with pytest.raises(ValueError, match=message):
            fresh(planted(), dna=table)
    for table in (5, np.array([["a"] * 2] * N_BINS)):
        with pytest.raises(TypeError, match="expected"):
            fresh(planted(), dna=table)
    with pytest.raises(FileNotFoundError, match="the DNA table .* does not exist"):
        fresh(planted(), dna=tmp_path / "none.npy")
    reordered = planted()[:, ::-1].copy()
    for same in (path, np.load(path, mmap_mode="r")):
        with pytest.raises(ValueError, match="is of other bins, or of the same in another order"):
            fresh(reordered, dna=same)
