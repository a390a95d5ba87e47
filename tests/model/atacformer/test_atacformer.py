from __future__ import annotations

import json
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from safetensors.torch import load_file

import scatacformer as sf

from ._checkpoints import (
    CONTEXT,
    ENCODER,
    HEAD,
    HIDDEN,
    N_REGIONS,
    SIZE,
    Replica,
    bins,
    config,
    overlapped,
    planted,
    regions,
    tensors,
    write,
)

Atacformer = sf.Atacformer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("atacformer") / "model")


@pytest.fixture
def model(folder):
    return Atacformer.from_pretrained(folder)


def sentences(adata):
    """Sorted tokens of each cell, each once: by hand."""
    hits = overlapped(adata.var[["chrom", "start", "end"]], regions())
    return [sorted({t for b in adata.X[i].indices for t in hits[b]}) for i in range(adata.n_obs)]


@pytest.mark.parametrize("positions", [False, True])
def test_same_numbers_as_plain_torch(tmp_path, positions):
    folder = write(tmp_path, config(use_pos_embeddings=positions))
    model, replica = Atacformer.from_pretrained(folder), Replica(folder)
    adata = planted()
    cells = sentences(adata)
    assert max(map(len, cells)) <= CONTEXT and min(map(len, cells)) > 0
    expected = replica.embed(cells)
    assert np.std(expected, 0).min() > 1e-3
    np.testing.assert_allclose(model.get_latent_representation(adata), expected, atol=1e-6, rtol=0)
    flat = torch.tensor([t for c in cells for t in c])
    cu = torch.tensor([0, *np.cumsum([len(c) for c in cells])], dtype=torch.int32)
    with torch.no_grad():
        logits = model.module.replaced_logits(flat, cu).numpy()
    np.testing.assert_allclose(logits, replica.logits(cells), atol=1e-6, rtol=0)


def test_embedding_does_not_depend_on_the_minibatch(model):
    adata = planted(mean=120)  # many cells beyond the context
    assert np.median([len(c) for c in sentences(adata)]) > CONTEXT
    z = model.get_latent_representation(adata)
    assert z.shape == (60, HIDDEN) and z.dtype == np.float32 and not model.module.training
    np.testing.assert_allclose(model.get_latent_representation(adata, batch_size=7), z, atol=1e-6)
    order = np.random.default_rng(0).permutation(60)[:20]
    np.testing.assert_allclose(model.get_latent_representation(adata, order), z[order], atol=1e-6)
    # nor on which other cells there are, nor on the order of a cell's bins in memory
    np.testing.assert_allclose(model.get_latent_representation(adata[order].copy()), z[order], atol=1e-6)
    np.testing.assert_array_equal(model.get_latent_representation(adata, np.arange(60) > 50), z[51:])
    np.testing.assert_array_equal(model.get_latent_representation(adata, [-1]), z[-1:])
    assert np.abs(model.get_latent_representation(adata, seed=1) - z).max() > 1e-3


def test_longer_cells_are_sampled_and_kept_in_order(model):
    adata = planted(mean=120)
    adata.X.data[:] = 3  # counts do not matter
    cell = int(np.argmax(adata.X.getnnz(1)))
    whole = sentences(adata)[cell]
    seen = []
    hook = model.module.embeddings.register_forward_pre_hook(lambda _, args: seen.append(args[0].tolist()))
    for seed in (0, 0, 1):
        model.get_latent_representation(adata, [cell], seed=seed)
    hook.remove()
    assert all(len(s) == CONTEXT and s == sorted(set(s)) and set(s) < set(whole) for s in seen)
    assert seen[0] == seen[1] != seen[2]


def test_cells_without_a_known_region_are_zero_and_named(model):
    adata = planted()
    outside = np.flatnonzero((adata.var["chrom"] == "chr7").to_numpy())
    x = adata.X.tolil()
    x[3] = 0
    x[3, outside[0]] = 1
    adata.X = x.tocsr()
    with pytest.warns(UserWarning, match=r"1 cells .* zero \(first: c3\)"):
        z = model.get_latent_representation(adata)
    assert not z[3].any() and np.abs(z[[2, 4]]).min(1).max() > 0
    assert np.isfinite(z).all()


@pytest.mark.parametrize("prefix", ["", "atacformer.", "atac_encoder.", "craft.atac_encoder."])
def test_prefixes_of_their_classes_are_taken_off(tmp_path, folder, prefix):
    weights = tensors(prefix, head=False) if "atac_encoder" in prefix else tensors(prefix)
    content = config()
    if "atac_encoder" in prefix:
        outer = prefix.removesuffix("atac_encoder.")
        weights |= {outer + "gene_encoder.bert.x": torch.zeros(2), outer + "logit_scale": torch.zeros(())}
        content = {"architectures": ["CraftForContrastiveLearning"], "atac_config": content, "projection_dim": 512}
    found = Atacformer.from_pretrained(write(tmp_path, content, weights))
    adata = planted()
    expected = Atacformer.from_pretrained(folder).get_latent_representation(adata)
    np.testing.assert_array_equal(found.get_latent_representation(adata), expected)
    assert (found.module.discriminator is None) == ("atac_encoder" in prefix)


def test_half_precision_is_read_as_single(tmp_path):
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in tensors().items()}
    model = Atacformer.from_pretrained(write(tmp_path, weights=weights))
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    replica = Replica(tmp_path)
    adata = planted()
    np.testing.assert_allclose(
        model.get_latent_representation(adata), replica.embed(sentences(adata)), atol=1e-6, rtol=0
    )


def test_special_tokens_follow_the_regions(model, tmp_path):
    ids = model.config.special_ids
    assert list(ids) == ["unk", "pad", "mask", "cls", "eos", "bos", "sep"]
    assert list(ids.values()) == list(range(N_REGIONS, N_REGIONS + 7))
    other = Atacformer.from_pretrained(write(tmp_path, config(pad_token_id=N_REGIONS + 2)))
    assert other.config.special_ids["pad"] == N_REGIONS + 2
    without = {k: v for k, v in config().items() if k != "use_pos_embeddings"}
    assert Atacformer.from_pretrained(write(tmp_path, without)).config.use_pos_embeddings


def test_a_model_is_pickled_and_copied(model):
    adata = planted(20)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.get_latent_representation(adata), model.get_latent_representation(adata))


# ---- files out


@pytest.mark.parametrize(
    ("architecture", "prefix", "head"),
    [
        ("AtacformerModel", "", False),
        ("AtacformerForCellClustering", "atacformer.", False),
        ("AtacformerForReplacedTokenDetection", "atacformer.", True),
    ],
)
def test_what_is_written_is_what_theirs_reads(model, folder, tmp_path, architecture, prefix, head):
    model.save_pretrained(tmp_path / "out", architecture=architecture)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors", "universe.bed.gz"}
    written, before = load_file(tmp_path / "out" / "model.safetensors"), load_file(folder / "model.safetensors")
    names = {prefix + name: shape for name, shape in ENCODER.items()} | (HEAD if head else {})
    assert {k: tuple(v.shape) for k, v in written.items()} == {k: tuple(SIZE[s] for s in v) for k, v in names.items()}
    for name, tensor in written.items():
        source = name if name.startswith("discriminator") else "atacformer." + name.removeprefix(prefix)
        assert torch.equal(tensor, before[source])
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    assert content["architectures"] == [architecture] and content["model_type"] == "atacformer"
    kept = {k: v for k, v in config().items() if k != "architectures"}
    assert kept.items() <= content.items()
    import gzip

    text = gzip.decompress((tmp_path / "out" / "universe.bed.gz").read_bytes()).decode()
    # no header, three columns, no line at the end: theirs breaks on each
    assert text == regions().to_csv(sep="\t", header=False, index=False)
    adata = planted()
    np.testing.assert_array_equal(
        Atacformer.from_pretrained(tmp_path / "out").get_latent_representation(adata),
        model.get_latent_representation(adata),
    )


def test_saving_refuses_before_it_writes(model, tmp_path):
    with pytest.raises(ValueError, match="architecture is .*; expected one of"):
        model.save_pretrained(tmp_path / "a", architecture="BertModel")
    model.save_pretrained(tmp_path / "b", architecture="AtacformerForCellClustering")
    headless = Atacformer.from_pretrained(tmp_path / "b")
    with pytest.raises(ValueError, match="head that this model lacks"):
        headless.save_pretrained(tmp_path / "a", architecture="AtacformerForReplacedTokenDetection")
    assert not (tmp_path / "a").exists()
    with pytest.raises(ValueError, match="already holds"):
        headless.save_pretrained(tmp_path / "b")
    headless.save_pretrained(tmp_path / "b", overwrite=True)


def test_a_broken_write_leaves_the_earlier_model(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fails(self, *args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(sf.genome.Vocabulary, "to_bed", fails)
    with pytest.raises(OSError, match="disk full"):
        model.save_pretrained(tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    Atacformer.from_pretrained(tmp_path)


# ---- other bins


def test_bin_vectors_are_means_of_what_overlaps(model):
    table = bins()
    vocabulary = sf.Vocabulary.from_var(table)
    found = model.bin_vectors(vocabulary)
    vectors = tensors()["atacformer.embeddings.token_embeddings.weight"].numpy()
    np.testing.assert_array_equal(model.get_region_vectors(), vectors[:N_REGIONS])
    hits = overlapped(table, regions())
    assert {len(h) for h in hits} >= {0, 1, 2}
    for row, hit in zip(found, hits, strict=True):
        if hit:
            np.testing.assert_allclose(row, vectors[hit].mean(0), atol=1e-6)
        else:
            assert np.isnan(row).all()
    filled = model.bin_vectors(vocabulary, fill="mean")
    empty = np.isnan(found).any(1)
    np.testing.assert_allclose(filled[empty], np.tile(found[~empty].mean(0), (empty.sum(), 1)), atol=1e-5)


def test_a_new_model_is_reproducible():
    vocabulary = sf.Vocabulary.from_var(regions())
    sizes = sf.nn.AtacformerConfig(N_REGIONS + 7, 16, 32, 2, 2, 64)
    a, b, c = (Atacformer(vocabulary=vocabulary, config=sizes, seed=s) for s in (0, 0, 1))
    za, zb, zc = (m.get_latent_representation(planted(20)) for m in (a, b, c))
    np.testing.assert_array_equal(za, zb)
    assert np.abs(za - zc).max() > 0.01
    weights = dict(a.module.named_parameters())
    first, second = (weights[f"encoder.layers.{i}.self_attn.in_proj_weight"] for i in (0, 1))
    assert not torch.equal(first, second)
    assert (
        Atacformer(vocabulary=vocabulary).config.hidden_size,
        Atacformer(vocabulary=vocabulary).config.num_hidden_layers,
    ) == (192, 6)


def test_cells_on_disk_and_a_layer(model, tmp_path):
    import anndata as ad

    adata = planted()
    z = model.get_latent_representation(adata)
    adata.layers["counts"] = sp.csr_matrix(adata.X)
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    np.testing.assert_array_equal(model.get_latent_representation(backed), z)
    backed.file.close()
    adata.X = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(model.get_latent_representation(adata, layer="counts"), z)
