from __future__ import annotations

import copy

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

import scatacformer as sf
from scatacformer.cells import OverlapSource, RowSource, SentenceLoader
from scatacformer.model.atacformer._sentences import ReplacedSentences, TripletSentences
from scatacformer.nn.optim import clip_gradients
from scatacformer.training import schedule

from ._checkpoints import N_REGIONS, Replica, bins, overlapped, planted, regions, write

QUICK = {"accelerator": "cpu", "enable_progress_bar": False, "batch_size": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("atacformer") / "model")


@pytest.fixture
def model(folder):
    return sf.Atacformer.from_pretrained(folder)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def test_replaced_tokens_are_learned_to_be_told():
    universe = regions()
    side = torch.tensor([hit[0] // 20 % 2 for hit in overlapped(universe, bins())]) * 2.0 - 1.0
    lowest = []
    for shuffled in (False, True):
        adata = planted(120, mean=40)
        if shuffled:  # no region goes with another
            adata.X = csr_matrix(np.random.default_rng(0).permuted(adata.X.toarray(), axis=1))
        config = sf.nn.AtacformerConfig(N_REGIONS + 7, 16, 32, 1, 2, 80)
        model = sf.Atacformer(vocabulary=sf.Vocabulary.from_var(universe), config=config)
        with torch.no_grad():  # vectors say which type has a region open: from nothing it takes 30 epochs to find out
            model.module.embeddings.token_embeddings.weight[:N_REGIONS, 0] += side
        model.train(adata, max_epochs=6, lr=1e-2, train_size=0.8, early_stopping=False, **(QUICK | {"batch_size": 8}))
        assert list(model.history["train_loss"].index) == list(range(6))
        lowest.append(model.history["validation_loss"].min().item())
        # to say of all tokens that they are their own is right for 55 %
        assert (model.history["validation_accuracy"].max().item() > 0.65) == (not shuffled)
    assert lowest[0] < lowest[1] - 0.05


def test_triplets_bring_labels_together(model, tmp_path):
    adata = planted(90)
    adata.obs["type"] = adata.obs["type"].astype(str)
    adata.obs.loc[adata.obs_names[:6], "type"] = "Unknown"
    adata.obs.loc[adata.obs_names[6:9], "type"] = np.nan
    before = model.get_latent_representation(adata)
    train = np.arange(90)
    model.train(adata, "triplet", labels_key="type", max_epochs=6, lr=2e-3, **QUICK)
    after = model.get_latent_representation(adata)
    kind = train % 2

    def separation(z):
        mean = np.array([z[kind == k].mean(0) for k in (0, 1)])
        within = np.sqrt(((z - mean[kind]) ** 2).sum(1)).mean()
        return np.linalg.norm(mean[0] - mean[1]) / within

    assert separation(after) > 1.5 * separation(before)
    assert model.history["validation_accuracy"].max().item() > 0.8
    model.save_pretrained(tmp_path)
    assert "AtacformerForCellClustering" in (tmp_path / "config.json").read_text()


def test_training_is_seeded_and_leaves_the_global_generator(folder):
    adata, found = planted(40), []
    state = torch.get_rng_state()
    for seed in (0, 0, 1):
        model = sf.Atacformer.from_pretrained(folder, seed=seed)
        model.train(adata, max_epochs=2, **QUICK)
        found.append(weights(model))
        assert not model.module.training
    assert torch.equal(torch.get_rng_state(), state)
    name = "encoder.layers.0.linear1.weight"
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])
    assert not torch.equal(found[0][name], found[2][name])


def test_regions_that_no_step_read_keep_their_vectors(model):
    adata = planted(30, mean=10)
    before = weights(model)
    model.train(adata, "triplet", labels_key="type", max_epochs=2, **QUICK)
    table = "embeddings.token_embeddings.weight"
    moved = (weights(model)[table] != before[table]).any(1).numpy()
    source = model._source(adata, None)
    read = np.zeros(N_REGIONS + 7, bool)
    read[source.rows(np.arange(30)).bins] = True
    assert moved.any() and not moved[~read].any() and (~read).sum() > 20


def test_gradients_of_the_region_table_are_sparse(model):
    tokens, cu_seqlens = torch.tensor([4, 9, 9]), torch.tensor([0, 2, 3], dtype=torch.int32)
    model.module.embed(tokens, cu_seqlens).square().sum().backward()
    grad = model.module.embeddings.token_embeddings.weight.grad
    assert grad.is_sparse and grad.coalesce().indices().tolist() == [[4, 9]]


def test_training_goes_on_from_a_file_as_from_memory_and_plain_torch_reads_what_comes_out(folder, tmp_path):
    adata = planted(40)
    model = sf.Atacformer.from_pretrained(folder, seed=3)
    for objective, label in (("replaced_tokens", None), ("triplet", "type")):
        model.save_pretrained(tmp_path / objective)
        other = sf.Atacformer.from_pretrained(tmp_path / objective, seed=3)
        for each in (model, other):
            each.train(adata, objective, labels_key=label, max_epochs=1, **QUICK)
        assert all(torch.equal(weights(model)[k], v) for k, v in weights(other).items())
    model.save_pretrained(tmp_path / "out")
    source = model._source(adata, None)
    cells = [source.rows(np.array([i])).bins.tolist() for i in range(40)]
    np.testing.assert_allclose(
        Replica(tmp_path / "out").embed(cells), model.get_latent_representation(adata), atol=1e-6
    )


def test_cells_without_a_known_region_teach_nothing(model):
    adata = planted(20)
    var = pd.concat([adata.var, pd.DataFrame({"chrom": ["chrOther"], "start": [0], "end": [500]}, index=["other"])])
    is_open = np.zeros((20, len(var)), np.float32)
    is_open[:, -1] = 1  # in every cell, and no region of the model is there
    adata = ad.AnnData(csr_matrix(is_open), obs=adata.obs, var=var)
    with pytest.raises(ValueError, match="no training cell has an open region"):
        model.train(adata, max_epochs=1, **QUICK)


def test_a_head_is_made_where_there_is_none(model, tmp_path):
    model.save_pretrained(tmp_path, architecture="AtacformerForCellClustering")
    headless = sf.Atacformer.from_pretrained(tmp_path)
    headless.train(planted(40), max_epochs=1, **QUICK)
    headless.save_pretrained(tmp_path, overwrite=True)
    again = sf.Atacformer.from_pretrained(tmp_path)
    assert again.module.discriminator is not None
    for name, tensor in weights(headless).items():
        assert torch.equal(weights(again)[name], tensor)


def test_the_weights_kept_are_those_of_the_best_epoch(model):
    adata = planted(60)
    adata.obs["type"] = np.random.default_rng(3).permutation(adata.obs["type"])  # nothing to learn but by heart
    train = {"objective": "triplet", "labels_key": "type", "warmup_steps": 0, "train_size": 0.5} | QUICK
    model.train(adata, max_epochs=8, lr=0.01, early_stopping_patience=2, **train)
    losses = model.history["validation_loss"]["validation_loss"]
    assert len(losses) < 8 and losses.iloc[-1] > losses.min()
    best = copy.deepcopy(model)
    best.train(adata, max_epochs=1, lr=1e-12, **train)
    assert best.history["validation_loss"].iloc[0].item() == pytest.approx(losses.min(), rel=1e-4)


def test_arguments_are_checked_before_anything_moves(model):
    adata, before = planted(), weights(model)
    adata.obs["one"] = "x"
    adata.obs["unique"] = adata.obs_names
    adata.obs["none"] = np.nan
    for change, match in (
        ({"objective": "mlm"}, "objective is .*; expected one of"),
        ({"objective": "triplet"}, "labels_key is None; expected a column of adata.obs"),
        ({"objective": "triplet", "labels_key": "zz"}, r"labels_key is 'zz'; expected a column of adata.obs \(type"),
        ({"objective": "triplet", "labels_key": "one"}, "triplets need two labels"),
        ({"objective": "triplet", "labels_key": "unique"}, "triplets need two labels"),
        ({"objective": "triplet", "labels_key": "none"}, "none of them has a label"),
        ({"objective": "triplet", "labels_key": "type", "train_size": 0.98}, "early stopping needs held-out cells"),
        ({"replaced_share": 1.0}, "replaced_share is 1.0; expected"),
        ({"lr": 0.0}, "lr is .*; expected above 0"),
        ({"max_epochs": 0}, "max_epochs is .*; expected at least 1"),
        ({"train_size": 1.0}, "early stopping needs cells"),
        ({"max_tokens": 9_000}, "max_tokens is 9000; expected 1 to"),
    ):
        with pytest.raises(ValueError, match=match):
            model.train(adata, **(QUICK | change))
    assert all(torch.equal(before[k], v) for k, v in weights(model).items())


def test_a_loss_that_is_not_finite_ends_the_training(model):
    with torch.no_grad():
        model.module.encoder.layers[0].linear1.weight[0] = torch.inf
    with pytest.raises(FloatingPointError, match=r"the loss is nan in epoch 0, step 0; cells"):
        model.train(planted(40), max_epochs=1, **QUICK)


# ---- what is drawn


def matrix_of(n_cells=50, n=30, seed=0):
    rng = np.random.default_rng(seed)
    return csr_matrix((rng.random((n_cells, n)) < 0.3).astype(np.float32))


def source_of():
    return RowSource.from_matrix(matrix_of())


def test_replaced_tokens_are_as_many_as_asked_and_labelled(n=200):
    x = csr_matrix(np.ones((n, 100), np.float32))
    keys = np.arange(n)
    draw = ReplacedSentences(keys, 100, 0, 0.45, 100)
    whole = next(iter(SentenceLoader(RowSource.from_matrix(x), batch_size=n, collate=draw)))
    new, replaced = whole["tokens"].numpy().reshape(n, 100), whole["replaced"].numpy().reshape(n, 100) > 0
    np.testing.assert_array_equal(new != np.arange(100), replaced)
    assert replaced.mean() == pytest.approx(0.45 * 0.99, abs=0.015)  # one in a hundred is drawn for itself
    counts = np.bincount(new[replaced], minlength=100)
    assert counts.min() > 0.5 * counts.mean() and counts.max() < 1.5 * counts.mean() and len(counts) == 100
    # in other minibatches the same; in another epoch not
    loader = SentenceLoader(RowSource.from_matrix(x), batch_size=7, collate=draw)
    np.testing.assert_array_equal(torch.cat([b["tokens"] for b in loader]), whole["tokens"])
    loader.set_epoch(1)
    assert (torch.cat([b["tokens"] for b in loader]) != whole["tokens"]).float().mean() > 0.4


def test_triplets_are_of_the_right_labels_and_reach_every_cell():
    rng = np.random.default_rng(1)
    codes = rng.integers(-1, 4, 50)
    codes[7] = 4  # alone: never an anchor, but another's opposite
    among = np.flatnonzero(rng.random(50) < 0.8)
    among = np.union1d(among, [7])
    draw = TripletSentences(np.arange(50), 99, 0, source_of(), codes, among)
    anchors = draw.anchors()
    assert 7 not in anchors and set(anchors) == set(among[(codes[among] >= 0) & (codes[among] < 4)])
    drawn_same, drawn_other = set(), set()
    for epoch in range(60):
        same, other = draw.drawn(anchors, epoch)
        assert (codes[same] == codes[anchors]).all() and (same != anchors).all()
        assert (codes[other] != codes[anchors]).all() and (codes[other] >= 0).all()
        drawn_same |= set(same)
        drawn_other |= set(other)
    assert drawn_same == set(anchors) and drawn_other == set(anchors) | {7}
    batch = next(iter(SentenceLoader(source_of(), anchors[:5], batch_size=5, collate=draw)))
    same, other = draw.drawn(anchors[:5], 0)
    expected = source_of().rows(np.concatenate([anchors[:5], same, other]))
    np.testing.assert_array_equal(batch["tokens"], expected.bins)
    np.testing.assert_array_equal(batch["cu_seqlens"], expected.indptr)


def test_an_overlap_source_is_the_matrix_product():
    rng = np.random.default_rng(0)
    overlap = csr_matrix((rng.random((30, 45)) < 0.08).astype(np.float32))
    x = matrix_of()
    source = RowSource.from_matrix(x)
    found = OverlapSource(source, overlap)
    cells = np.array([3, 3, 49, 0])
    rows = found.rows(cells)
    expected = (x @ overlap)[cells]
    expected.sort_indices()
    np.testing.assert_array_equal(rows.indptr, expected.indptr)
    np.testing.assert_array_equal(rows.bins, expected.indices)
    assert (found.n_cells, found.n_bins) == (50, 45)
    with pytest.raises(ValueError, match="tokens are given for 45 bins"):
        OverlapSource(source, overlap.T.tocsr())


def test_gradients_are_clipped_together():
    table, layer = torch.nn.Embedding(10, 3, sparse=True), torch.nn.Linear(3, 1)
    dense = copy.deepcopy(table)
    dense.sparse = False
    again = copy.deepcopy(layer)
    ids = torch.tensor([1, 1, 4])
    (layer(table(ids)) * 9).sum().backward()
    (again(dense(ids)) * 9).sum().backward()
    expected = torch.nn.utils.clip_grad_norm_([*dense.parameters(), *again.parameters()], 0.5)
    found = clip_gradients([*table.parameters(), *layer.parameters()], 0.5)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(table.weight.grad.to_dense(), dense.weight.grad)
    torch.testing.assert_close(layer.weight.grad, again.weight.grad)
    before = layer.weight.grad.clone()
    clip_gradients(layer.parameters(), 1e9)
    assert torch.equal(layer.weight.grad, before)


def test_schedule_rises_and_falls():
    values = [schedule(step, 100, 10) for step in range(101)]
    assert values[9] == 1.0 and np.all(np.diff(values[:10]) > 0) and np.all(np.diff(values[10:]) < 0)
    assert values[100] == pytest.approx(0.0) and schedule(0, 10, 0) == 1.0
