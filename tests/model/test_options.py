"""Every option of the network trains, is saved, is queried, and works with labels."""

from __future__ import annotations

import numpy as np
import pytest

import scatacformer as sf

from ._cells import TRAINING, assert_same_bits, fresh, planted, quiet, trained, weights

SETUP = {"batch_key": "sample", "labels_key": "type"}
OPTIONS = [{"decoder": "cross_attention"}]


@pytest.fixture(params=OPTIONS, ids=str)
def options(request):
    return request.param


def test_an_option_learns_and_keeps_the_cells_apart(options):
    model = trained(planted(), train={"max_epochs": 5}, **options)
    loss = model.history["validation_loss"]["validation_loss"]
    assert loss.min() < loss.iloc[0]
    p = model.get_normalized_accessibility(return_numpy=True)
    own = np.stack([p[model.adata.obs["type"] == k][:, 10 + int(k) * 120 : 50 + int(k) * 120].mean() for k in "012"])
    assert (own > 2 * p.mean()).all()


def test_an_option_is_saved_loaded_and_queried(options, tmp_path):
    model = trained(planted(), setup=SETUP, supervised=True, **options)
    model.save(tmp_path)
    loaded = sf.ScAtacFormer.load(tmp_path, adata=planted())
    assert_same_bits(weights(loaded), weights(model))
    assert loaded.config_ == model.config_
    for f in ("get_latent_representation", "predict", "get_normalized_accessibility"):
        np.testing.assert_array_equal(getattr(loaded, f)(), getattr(model, f)(), err_msg=f)
    assert (model.predict() == model.adata.obs["type"]).mean() > 0.9
    query = sf.ScAtacFormer.load_query_data(planted(30, seed=4, batches=("c",)), tmp_path)
    before = weights(query)
    with quiet():
        query.train(**TRAINING)
    changed = {name for name, value in weights(query).items() if (value != before[name]).any()}
    assert changed == {"decoder.bias.weight"}


def test_an_option_learns_labels_jointly_and_predicts_all_closed_bins(options):
    plan = TRAINING["plan_kwargs"] | {"label_weight": 1.0}
    model = trained(planted(), setup=SETUP, supervised=True, train={"plan_kwargs": plan, "n_closed": None}, **options)
    assert np.isfinite(model.history["validation_loss"]).all().all()
    assert len(model.history["labels_joint_loss"]) == 2
    assert (model.predict() == model.adata.obs["type"]).mean() > 0.9


def test_an_option_is_resumed_to_the_bit(options, tmp_path):
    def train(model, **changes):
        with quiet():
            model.train(**(TRAINING | {"checkpoint_dir": tmp_path} | changes))
        return model

    # with early stopping off the learning rates alone know of the end
    whole = trained(planted(), train={"max_epochs": 4}, **options)

    class Stop(Exception):
        pass

    import lightning.pytorch as pl

    class After(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 2:
                raise Stop

    with pytest.raises(Stop):
        train(fresh(planted(), **options), max_epochs=4, callbacks=[After()])
    resumed = train(fresh(planted(), **options), max_epochs=4, resume=True)
    assert_same_bits(weights(resumed), weights(whole))
