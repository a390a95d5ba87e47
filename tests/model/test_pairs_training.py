"""Pairs that were planted are found in held-out cells, shuffled ones are not; training keeps its word."""

from __future__ import annotations

import os
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import scatacformer as sf
from scatacformer.metrics import foscttm
from scatacformer.model.scatacformer.paired import _fit_pairs
from scatacformer.nn import PAIRINGS

from ._cells import assert_same_bits, quiet, weights
from ._pairs import N_GENES, PAIRED, TRAINING, fresh, pairs_of, planted_pairs, subset, trained

SF = sf.ScAtacFormer
SHORT = {"max_epochs": 2, "link_window": None}
MODALITIES = ("joint", "expression", "accessibility")


@pytest.fixture(scope="module")
def mdata():
    return planted_pairs(400)


@pytest.fixture(scope="module")
def model(mdata):
    """Tests must not train it."""
    return trained(mdata, setup={"batch_key": "sample", "labels_key": "type"})


@pytest.fixture(scope="module")
def new_cells():
    """Cells that the model has never met; copy before writing."""
    return planted_pairs(203, seed=9)


@pytest.fixture(scope="module")
def small():
    return planted_pairs(120)


# ── what is learned ────────────────────────────────────────────────────────────────────────────────────────────────


def test_new_cells_find_their_partner(model, new_cells):
    rna, atac = pairs_of(model, new_cells)
    found = foscttm(rna, atac)
    assert found < 0.12
    kind = new_cells["atac"].obs["type"].to_numpy()
    assert foscttm(rna, atac, within=kind) < 0.3  # not by their type alone
    assert 0.45 < foscttm(rna, np.random.default_rng(0).permutation(atac)) < 0.55
    # held out or not: no more than a little apart
    assert found < foscttm(*pairs_of(model, indices=model.train_indices)) + 0.06


def test_of_shuffled_pairs_nothing_is_learned(new_cells):
    shuffled = planted_pairs(300, seed=2)
    names = shuffled["rna"].obs_names.to_numpy()
    shuffled.mod["rna"].obs_names = np.random.default_rng(0).permutation(names)
    found = trained(shuffled, paired={"link_window": None, "max_epochs": 5})
    assert 0.44 < foscttm(*pairs_of(found, new_cells)) < 0.56
    assert foscttm(*pairs_of(found, indices=found.validation_indices)) > 0.35


def test_the_embedding_has_unit_length_and_uses_its_dimensions(model, mdata):
    for modality in MODALITIES:
        z = model.get_latent_representation(modality=modality)
        assert z.shape == (400, 2 * model.paired.config.d_latent)
        assert z.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
        assert (z.std(0) > 1e-3).all()  # none is dead
        share = np.linalg.svd(z - z.mean(0), compute_uv=False) ** 2
        assert share.sum() ** 2 / (share**2).sum() > 3  # effective number of dimensions: 4 were planted
        assert len(np.unique(z, axis=0)) == 400
    rna, atac = pairs_of(model)
    joint = (rna + atac) / np.linalg.norm(rna + atac, axis=1, keepdims=True)
    np.testing.assert_allclose(model.get_latent_representation(), joint, atol=1e-6)


def test_types_are_told_apart_in_both_modalities(model, new_cells):
    kind = new_cells["atac"].obs["type"].to_numpy()
    for z in pairs_of(model, new_cells):
        near = (z @ z.T - 9 * np.eye(len(z))).argmax(1)
        assert (kind[near] == kind).mean() > 0.6  # 1/4 by chance


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_cell_comes_back_in_its_place(model, new_cells, modality):
    z = model.get_latent_representation(new_cells, modality=modality)
    assert len(z) == 203
    for batch_size in (1, 50, 202, 1000):
        found = model.get_latent_representation(new_cells, modality=modality, batch_size=batch_size)
        np.testing.assert_allclose(found, z, atol=1e-5)
    some = [7, 202, 7, -1]
    found = model.get_latent_representation(new_cells, some, modality=modality)
    np.testing.assert_allclose(found, z[some], atol=1e-5)
    assert model.get_latent_representation(new_cells, [], modality=modality).shape == (0, z.shape[1])


def test_a_cell_is_the_same_alone_or_among_others(model, new_cells):
    alone = subset(new_cells, np.arange(11))
    for modality in MODALITIES:
        z = model.get_latent_representation(new_cells, modality=modality)[:11]
        np.testing.assert_allclose(model.get_latent_representation(alone, modality=modality), z, atol=1e-5)
    expected = model.predict_expression(new_cells, np.arange(11))
    np.testing.assert_allclose(model.predict_expression(alone), expected, atol=1e-4)


def test_what_is_read_of_chromatin_does_not_depend_on_the_rna(model, new_cells):
    atac = new_cells["atac"].copy()
    z = model.get_latent_representation(atac)
    expression, std = model.predict_expression(atac, return_std=True)
    potential = model.get_normalized_accessibility(atac, indices=[0, 1], return_numpy=True)
    for change in ("present", "zeroed", "permuted", "absent"):
        other = new_cells.copy()
        if change == "zeroed":
            other["rna"].X = other["rna"].X * 0
        elif change == "permuted":
            other["rna"].X = other["rna"].X[np.random.default_rng(0).permutation(203)]
        elif change == "absent":
            del other.mod["rna"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*have no RNA counts")
            np.testing.assert_array_equal(model.get_latent_representation(other, modality="accessibility"), z)
            found = model.predict_expression(other, return_std=True)
            np.testing.assert_array_equal(
                model.get_normalized_accessibility(other, indices=[0, 1], return_numpy=True), potential
            )
        pd.testing.assert_frame_equal(found[0], expression)
        pd.testing.assert_frame_equal(found[1], std)
        if change == "permuted":
            rna = model.get_latent_representation(other, modality="expression")
            assert np.abs(rna - model.get_latent_representation(new_cells, modality="expression")).max() > 0.1


# ── training ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_seed_gives_the_same_bits_and_another_gives_others(small):
    first, again, other = (
        trained(small, seed=s, train={"accelerator": "cpu"}, paired={"max_epochs": 2}) for s in (0, 0, 1)
    )
    assert_same_bits(weights(first), weights(again))
    np.testing.assert_array_equal(first.get_latent_representation(), again.get_latent_representation())
    assert (weights(other)["paired.heads.rna_teacher.mlp.0.weight"] != weights(first)["paired.heads.rna_teacher.mlp.0.weight"]).any()  # fmt: skip


def test_without_epochs_it_is_the_closed_form(small, new_cells):
    start = trained(small, paired={"max_epochs": 0, "link_window": None})
    w = weights(start)
    for name, value in w.items():
        if name.startswith("paired.") and name.endswith("mlp.3.weight"):
            assert not value.any(), name  # linear maps
    assert not w["paired.genes.query.weight"].any()
    rna, atac = pairs_of(start, new_cells)
    assert foscttm(rna, atac) < 0.25
    assert len(start.history["paired_train"]) == 0
    longer = trained(small, paired={"max_epochs": 3, "link_window": None})
    assert longer.history["paired_validation"].iloc[:, 0].min() < np.inf
    assert any(value.any() for name, value in weights(longer).items() if name.endswith("mlp.3.weight"))


def test_held_out_cells_teach_nothing(small):
    split = {"datasplitter_kwargs": {"external_indexing": [np.arange(30, 120), np.arange(30)]}}
    other = small.copy()
    held_out = other["rna"].obs_names.isin(other["atac"].obs_names[:30])
    x = other["rna"].X.toarray()
    x[held_out] = np.random.default_rng(0).poisson(3, (30, N_GENES))
    other["rna"].X = sp.csr_matrix(x)
    first, second = (
        weights(trained(m, train=split, paired={"max_epochs": 0, "link_window": None})) for m in (small, other)
    )
    variance = "paired.expression_variance"  # which is told from them alone
    assert np.abs(first.pop(variance) - second.pop(variance)).max() > 0.1
    assert_same_bits(first, second)


def test_the_best_epoch_for_held_out_cells_is_kept_not_the_last():
    class Two:  # all that is read of the inputs: one held-out cell behind two others
        inputs = type("Inputs", (), {"n_train": 2, "batch": np.zeros(3), "rows": np.arange(3)})

    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)

    def loss(cells):  # training goes to 10, and is best for the held-out cell where it passes 1
        return ((module.weight - (1.0 if cells[0] == 2 else 10.0)) ** 2).sum()

    plan = _fit_pairs.PairedOptions(max_epochs=60, lr=0.1, weight_decay=0.0, early_stopping_patience=99)
    outcome = _fit_pairs._descend(module, list(module.parameters()), loss, Two(), plan, 0, False, "it", smallest_step=1)
    found = list(outcome.history.record["validation_loss"].values())
    assert len(found) == 60 and found[-1] > 5
    assert float(loss([2]).detach()) == pytest.approx(min(found))
    assert module.weight.item() == pytest.approx(1, abs=0.06)
    torch.nn.init.zeros_(module.weight)
    stopped = _fit_pairs.PairedOptions(max_epochs=60, lr=0.1, weight_decay=0.0, early_stopping_patience=4)
    outcome = _fit_pairs._descend(
        module, list(module.parameters()), loss, Two(), stopped, 0, False, "it", smallest_step=1
    )
    assert len(outcome.history.record["validation_loss"]) == int(np.argmin(found)) + 1 + 4


def test_history_says_how_it_went(model):
    for name in ("paired_train", "paired_validation", "expression_train", "expression_validation"):
        values = model.history[name].iloc[:, 0]
        assert 1 <= len(values) <= PAIRED["max_epochs"]
        assert np.isfinite(values).all()
    assert model.history["paired_train"].iloc[-1, 0] < model.history["paired_train"].iloc[0, 0]
    assert "validation_loss" in model.history


@pytest.mark.parametrize("pairing", list(PAIRINGS))
def test_every_pairing_trains(small, new_cells, pairing):
    found = trained(small, paired={"max_epochs": 3, "pairing": pairing, "link_window": None})
    assert foscttm(*pairs_of(found, new_cells)) < 0.3
    assert any(
        value.any() for name, value in weights(found).items() if "heads" in name and name.endswith("mlp.3.weight")
    )


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"pairing": "teachers"}, ValueError, "pairing is 'teachers'; expected one of"),
        ({"temperature": 0}, ValueError, "temperature is 0; expected greater than 0"),
        ({"lr": -1.0}, ValueError, "lr is .*; expected greater than 0"),
        ({"dropout": 1.5}, ValueError, "dropout is 1.5; expected 0 ... 1"),
        ({"batch_size": 1}, ValueError, "batch_size is 1; expected at least 2"),
        ({"n_latent": 0}, ValueError, "n_latent is 0; expected at least 1"),
        ({"n_components": 0}, ValueError, "n_components is 0; expected at least 1"),
        ({"early_stopping_patience": 0}, ValueError, "early_stopping_patience is 0; expected at least 1"),
        ({"max_epochs": -1}, ValueError, "max_epochs is -1; expected at least 0"),
        ({"weight_decay": -1}, ValueError, "weight_decay is .*; expected 0 or more"),
        ({"link_window": -5}, ValueError, "link_window is -5; expected a distance in bp"),
        ({"epochs": 5}, TypeError, "paired_kwargs takes max_epochs, .*found 'epochs'"),
    ],
)
def test_arguments_are_looked_at_before_anything_is_trained(small, kwargs, error, message):
    untrained = fresh(small)
    before = weights(untrained)
    with pytest.raises(error, match=message):
        untrained.train(**TRAINING, paired_kwargs=kwargs)
    assert not untrained.is_trained
    assert_same_bits(weights(untrained), before)
    if error is ValueError:
        with pytest.raises(error, match=message):
            untrained.train_pairs(**kwargs)


def test_pairs_need_a_trained_atac_part(small):
    with pytest.raises(ValueError, match=r"ATAC part is not trained. Call train\(\).*from_atac_model"):
        fresh(small).train_pairs()


def test_pairs_can_be_trained_twice_and_anew_with_the_atac_part(small):
    found = trained(small, paired=SHORT)
    atac = {k: v for k, v in weights(found).items() if not k.startswith("paired.")}
    first = found.get_latent_representation()
    found.train_pairs(**SHORT | {"n_components": 3}, enable_progress_bar=False)
    assert found.paired.config.d_rna == 3
    assert found.get_latent_representation().shape[1] < first.shape[1]
    found.train_pairs(**PAIRED | SHORT, enable_progress_bar=False)
    np.testing.assert_array_equal(found.get_latent_representation(), first)
    assert_same_bits({k: v for k, v in weights(found).items() if not k.startswith("paired.")}, atac)
    with quiet():
        found.train(**TRAINING, paired_kwargs=PAIRED | SHORT)
    assert (weights(found)["decoder.bias.weight"] != atac["decoder.bias.weight"]).any()
    assert foscttm(*pairs_of(found, indices=found.train_indices)) < 0.3


def test_train_pairs_splits_the_cells_as_train_does(small):
    found = trained(small, paired=SHORT)
    train, held_out = found.train_indices, found.validation_indices
    found.train_pairs(**SHORT, enable_progress_bar=False)
    np.testing.assert_array_equal(found.train_indices, train)
    np.testing.assert_array_equal(found.validation_indices, held_out)
    split = [np.arange(100), np.arange(100, 120)]
    found.train_pairs(**SHORT, datasplitter_kwargs={"external_indexing": split}, enable_progress_bar=False)
    np.testing.assert_array_equal(found.validation_indices, split[1])


@pytest.mark.parametrize("n_held_out", [0, 1])
def test_without_held_out_cells_some_are_kept_back_for_the_pairs(small, n_held_out):
    split = [np.arange(120 - n_held_out), np.arange(120 - n_held_out, 120)]
    found = trained(
        small, paired=SHORT,
        train={"early_stopping": False, "datasplitter_kwargs": {"external_indexing": split}},
    )  # fmt: skip
    assert np.isfinite(found.history["paired_validation"]).all().all()


def test_few_cells_do_without_links_and_say_so():
    few = planted_pairs(22)
    with pytest.warns(
        UserWarning, match="genes do not attend to bins: there are .* cells for .* dimensions of the state"
    ):
        found = trained(few, paired={"max_epochs": 1})
    assert found.paired.links is None
    assert np.isfinite(found.predict_expression(return_numpy=True)).all()


def test_cells_without_a_bin_that_is_compared_do_not_spoil_the_scale(small):
    lonely = small.copy()
    x = lonely["atac"].X.tolil()
    x[0] = 0
    x[0, 999] = 1
    x[1:, 999] = 0  # a bin that no other cell has open
    lonely["atac"].X = x.tocsr()
    found = trained(lonely, paired=SHORT)
    expected = float(trained(small, paired=SHORT).paired.bins.scale)
    assert float(found.paired.bins.scale) == pytest.approx(expected, rel=0.1)
    assert np.isfinite(found.get_latent_representation()).all()


def test_ctrl_c_keeps_the_best_weights_and_says_so(small, monkeypatch):
    found = trained(small, paired=SHORT)
    network, called = _fit_pairs.PairedNetwork, []
    loss = network.contrastive_loss

    def interrupted(self, *args):
        called.append(1)
        if len(called) == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(self, *args)

    monkeypatch.setattr(network, "contrastive_loss", interrupted)
    with pytest.warns(
        UserWarning, match="the training of pairs was stopped by Ctrl-C; the best weights so far are kept"
    ):
        found.train_pairs(**PAIRED | {"max_epochs": 40}, enable_progress_bar=False)
    assert 1 <= len(found.history["paired_train"]) < 8
    assert len(found.history["expression_train"]) == 0  # nothing more is trained
    assert foscttm(*pairs_of(found)) < 0.25
    assert np.isfinite(found.predict_expression(return_numpy=True)).all()
    assert len(found.get_gene_bin_links(100_000))


def test_a_training_that_fails_leaves_the_model_as_it_was(small, monkeypatch):
    found = trained(small, paired=SHORT)
    before, z, history = weights(found), found.get_latent_representation(), found.history["paired_train"].copy()
    monkeypatch.setattr(
        _fit_pairs.PairedNetwork, "contrastive_loss", lambda self, inputs, *_: inputs["rna_teacher"].sum() * np.nan
    )
    with pytest.raises(
        FloatingPointError,
        match=r"loss of pairs is nan in epoch 0; cells \(row numbers\): \[.*\]. Lower lr of train_pairs",
    ):
        found.train_pairs(max_epochs=3, enable_progress_bar=False)
    assert_same_bits(weights(found), before)
    np.testing.assert_array_equal(found.get_latent_representation(), z)
    pd.testing.assert_frame_equal(found.history["paired_train"], history)


def test_the_global_generator_is_left_alone(small):
    found = trained(small, paired=SHORT)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    found.train_pairs(**SHORT, enable_progress_bar=False)
    assert torch.equal(torch.rand(4), expected)


def test_a_checkpoint_of_the_atac_part_is_resumed_with_pairs_beside_it(small, tmp_path):
    found = trained(small, paired=SHORT, train={"checkpoint_dir": tmp_path})
    with quiet():
        found.train(**TRAINING | {"max_epochs": 2}, checkpoint_dir=tmp_path, resume=True, paired_kwargs=PAIRED | SHORT)
    assert len(found.history["train_loss"]) == 2
    assert found.paired is not None
