"""Labels: learned from some cells, predicted for others; the unlabelled take no part; what is wrong is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scatacformer as sf

from ._cells import TRAINING, assert_same_bits, fresh, planted, quiet, trained, weights

SF = sf.ScAtacFormer
SETUP = {"batch_key": "sample", "labels_key": "type"}


def partly(n_cells: int = 120, seed: int = 0, share: float = 0.6):
    """Planted cells; a share of them keeps its label, in ``type``; ``truth`` has all."""
    adata = planted(n_cells, seed)
    adata.obs["truth"] = adata.obs["type"].astype(str)
    hidden = np.random.default_rng(seed).random(n_cells) >= share
    adata.obs["type"] = adata.obs["truth"].where(~hidden, "Unknown")
    adata.obs["tissue"] = np.where(adata.obs["truth"] == "0", "brain", "blood")
    return adata


@pytest.fixture(scope="module")
def supervised():
    """Must not be trained by a test."""
    return trained(partly(), setup=SETUP | {"organ_key": "tissue"}, supervised=True)


def test_hidden_labels_are_predicted(supervised):
    obs = supervised.adata.obs
    hidden = (obs["type"] == "Unknown").to_numpy()
    predicted = supervised.predict()
    assert predicted.shape == (120,)
    assert (predicted[hidden] == obs["truth"][hidden]).mean() > 0.9
    assert (supervised.predict(task="organ") == obs["tissue"]).mean() > 0.9
    new = planted(60, seed=5)
    truth = new.obs.pop("type").astype(str)  # cells of which nothing is known
    assert (supervised.predict(new) == truth).mean() > 0.9


def test_labels_that_say_nothing_of_the_cells_are_not_learned():
    adata = partly()
    for kind in ("0", "1", "2"):  # as many of each label in each type
        at = np.flatnonzero((adata.obs["truth"] == kind) & (adata.obs["type"] != "Unknown"))
        adata.obs.iloc[at, adata.obs.columns.get_loc("type")] = [str(i % 3) for i in range(len(at))]
    model = trained(adata, setup=SETUP, supervised=True)
    hidden = (adata.obs["type"] == "Unknown").to_numpy()
    assert (model.predict()[hidden] == adata.obs["truth"][hidden]).mean() < 0.7


def test_probabilities_are_those_of_the_labels_in_the_order_asked(supervised):
    soft = supervised.predict(soft=True)
    assert list(soft.columns) == ["0", "1", "2"]
    assert soft.index.equals(supervised.adata.obs_names)
    np.testing.assert_allclose(soft.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(soft.columns[soft.to_numpy().argmax(1)], supervised.predict())
    some = supervised.predict(indices=[7, 3, -1], soft=True, batch_size=2)
    pd.testing.assert_frame_equal(some, soft.iloc[[7, 3, -1]], atol=1e-5)
    assert supervised.predict(indices=[]).shape == (0,)


def test_nan_and_the_unlabelled_category_mean_the_same():
    one, other = partly(), partly()
    other.obs["type"] = other.obs["type"].replace("Unknown", "?").astype("category")
    third = partly()
    third.obs["type"] = third.obs["type"].where(third.obs["type"] != "Unknown", np.nan)
    a = trained(one, setup=SETUP, supervised=True)
    b = trained(other, setup=SETUP | {"unlabeled_category": "?"}, supervised=True)
    c = trained(third, setup=SETUP, supervised=True)
    for model in (b, c):
        assert_same_bits(weights(model), weights(a))
        np.testing.assert_array_equal(model.predict(), a.predict())


def test_labels_do_not_touch_the_rest_unless_asked_to():
    plain = trained(partly(), setup=SETUP)
    heads = trained(partly(), setup=SETUP, supervised=True)
    found = weights(heads)
    own = {name for name in found if name.startswith("heads.")}
    assert own
    assert_same_bits({k: v for k, v in found.items() if k not in own}, weights(plain))
    joint = trained(partly(), setup=SETUP, supervised=True,
                    train={"plan_kwargs": TRAINING["plan_kwargs"] | {"label_weight": 1.0}})  # fmt: skip
    for name in ("encoder.blocks.0.qkv.weight", "embedding.table.weight", "to_latent.weight"):
        assert (weights(joint)[name] != weights(plain)[name]).any(), name
    loss = joint.history["labels_joint_loss"]["labels_joint_loss"]
    assert loss.iloc[-1] < loss.iloc[0]
    hidden = (joint.adata.obs["type"] == "Unknown").to_numpy()
    assert (joint.predict()[hidden] == joint.adata.obs["truth"][hidden]).mean() > 0.9


def test_heads_are_fitted_anew_with_the_same_result_and_the_rest_stays():
    model = trained(partly(), setup=SETUP, supervised=True)
    before, history = weights(model), model.history
    model.train_labels()
    assert_same_bits(weights(model), before)
    assert model.history.keys() == history.keys()
    accuracy = model.history["labels_validation_accuracy"]
    assert accuracy.index.name == "epoch"
    assert accuracy.iloc[-1, 0] > 0.5
    model.train_labels(class_weight="balanced", max_epochs=5)
    changed = {name for name, value in weights(model).items() if (value != before[name]).any()}
    assert changed
    assert all(name.startswith("heads.labels.head") for name in changed)
    assert len(model.history["labels_train_loss"]) == 5


def test_a_rare_label_counts_with_balanced_weights():
    adata = planted(180)
    rng = np.random.default_rng(0)
    kind = adata.obs["type"].astype(str).to_numpy()
    # 4 of type 2, and labels that are wrong in a third of the others
    rare = np.flatnonzero(kind == "2")
    kind[rare[4:]] = "Unknown"
    noisy = rng.random(180) < 0.3
    kind[noisy & (kind == "2")] = "0"
    adata.obs["noisy"] = kind
    model = trained(adata, setup={"labels_key": "noisy"}, supervised=True)
    plain = model.predict(soft=True)["2"].iloc[rare].mean()
    model.train_labels(class_weight="balanced")
    assert model.predict(soft=True)["2"].iloc[rare].mean() > plain


def test_a_saved_model_predicts_to_the_bit(supervised, tmp_path):
    supervised.save(tmp_path, save_anndata=True)
    expected = supervised.predict(soft=True)
    for loaded in (SF.load(tmp_path), SF.load(tmp_path, adata=partly())):
        pd.testing.assert_frame_equal(loaded.predict(soft=True), expected)
        np.testing.assert_array_equal(loaded.predict(task="organ"), supervised.predict(task="organ"))
    alone = SF.load(tmp_path, adata=False)
    pd.testing.assert_frame_equal(alone.predict(partly(), soft=True), expected)
    assert "3 labels; 2 organs" in repr(alone)


@pytest.mark.parametrize("unfrozen", [False, True])
def test_a_query_predicts_what_its_reference_knows(supervised, unfrozen):
    query = planted(60, seed=3, batches=("c",))
    truth = query.obs.pop("type").astype(str)
    model = SF.load_query_data(query, supervised, unfrozen=unfrozen)
    assert (model.predict() == truth).mean() > 0.9
    with quiet():
        model.train(**TRAINING)
    assert (model.predict() == truth).mean() > 0.9
    head = {k: v for k, v in weights(supervised).items() if k.startswith("heads.")}
    assert_same_bits({k: v for k, v in weights(model).items() if k.startswith("heads.")}, head)


def test_a_query_with_labels_of_its_own_can_be_learned_from(supervised):
    query = partly(90, seed=8)
    model = SF.load_query_data(query, supervised, unfrozen=True)
    model.train_labels()
    assert (model.predict() == query.obs["truth"]).mean() > 0.9
    frozen = SF.load_query_data(partly(90, seed=8), supervised)
    with pytest.raises(ValueError, match="a query, whose weights are those of its reference"):
        frozen.train_labels()


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unsupervised_model_says_how_to_make_a_supervised_one(model):
    for call in (model.predict, model.train_labels):
        with pytest.raises(ValueError, match=r"not supervised.*labels_key.*supervised=True.*train\(\)"):
            call()
    with pytest.raises(ValueError, match="labels can be fitted by a supervised model"):
        with quiet():
            fresh(planted()).train(**TRAINING, labels_kwargs={"lr": 0.1})
    with pytest.raises(
        ValueError,
        match=r"label_weight is given for a model without labels. Create it with ScAtacFormer\(adata, supervised=True",
    ):
        fresh(planted()).train(**TRAINING | {"plan_kwargs": {"label_weight": 1.0}})


def test_a_supervised_model_needs_labels():
    with pytest.raises(ValueError, match=r"supervised=True is set, but no labels are registered.*labels_key"):
        fresh(planted(), supervised=True)
    adata = planted()
    adata.obs["type"] = "a"
    with pytest.raises(ValueError, match=r"obs\['type'\] has 1 label besides 'Unknown'.*at least 2"):
        fresh(adata, setup=SETUP, supervised=True)


def test_no_labelled_cell_in_training_is_refused_before_the_weights_change():
    adata = partly(60)
    labelled = np.flatnonzero(adata.obs["type"] != "Unknown")
    rest = np.setdiff1d(np.arange(60), labelled)
    model = fresh(adata, setup=SETUP, supervised=True)
    before = weights(model)
    with pytest.raises(ValueError, match=r"none of the \d+ training cells has a label in adata.obs\['type'\]"):
        model.train(**TRAINING, datasplitter_kwargs={"external_indexing": [rest, labelled]})
    assert_same_bits(weights(model), before)


def test_a_label_of_one_cell_is_refused_by_name():
    adata = partly()
    adata.obs.iloc[3, adata.obs.columns.get_loc("type")] = "lonely"
    model = fresh(adata, setup=SETUP, supervised=True)
    with pytest.raises(ValueError, match="1 of the labels in .*have one cell.*'lonely'.*'Unknown'"):
        model.train(**TRAINING)


def test_a_label_without_training_cells_is_warned_of():
    adata = partly()
    third = np.flatnonzero(adata.obs["type"] == "2")
    rest = np.setdiff1d(np.arange(120), third)
    with pytest.warns(UserWarning, match="1 of the labels .* have no training cell.*: 2"):
        trained(adata, setup=SETUP, supervised=True,
                train={"datasplitter_kwargs": {"external_indexing": [rest, third]}})  # fmt: skip


def test_labels_that_the_model_does_not_know_are_refused(supervised, tmp_path):
    adata = planted(60, seed=5)
    adata.obs["type"] = adata.obs["type"].cat.rename_categories({"2": "new one"})
    message = r"1 of the labels in adata.obs\['type'\] are unknown to the model.*'new one'.*0, 1, 2.*'Unknown'"
    with pytest.raises(ValueError, match=message):
        supervised.predict(adata)
    with pytest.raises(ValueError, match=message):
        SF.load_query_data(adata, supervised)
    supervised.save(tmp_path)
    with pytest.raises(ValueError, match=message):
        SF.load(tmp_path, adata=adata)
    # it embeds them all the same
    assert len(supervised.get_latent_representation(adata)) == 60


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"class_weight": "rare"}, ValueError, "class_weight is 'rare'; expected None or 'balanced'"),
        ({"lr": 0}, ValueError, "lr is 0 and .*; expected lr above 0"),
        ({"max_epochs": 0}, ValueError, "max_epochs is .*; expected at least 1"),
        ({"patience": 3}, TypeError, "labels_kwargs takes max_epochs.*found 'patience'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, error, message):
    model = fresh(partly(30), setup=SETUP, supervised=True)
    with pytest.raises(error, match=message):
        model.train(**TRAINING, labels_kwargs=wrong)


def test_tasks_are_those_that_were_set_up(supervised):
    with pytest.raises(ValueError, match=r"task is 'tissue'; expected one of \('labels', 'organ'\)"):
        supervised.predict(task="tissue")
    untrained = fresh(partly(30), setup=SETUP, supervised=True)
    with pytest.raises((ValueError, RuntimeError), match="train"):
        untrained.predict()
    with pytest.raises(ValueError, match="label_weight names organ; the model predicts labels"):
        untrained.train(**TRAINING | {"plan_kwargs": {"label_weight": {"organ": 1.0}}})
