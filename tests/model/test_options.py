"""Every option of the network trains, is saved, is queried, and works with labels."""

from __future__ import annotations

import numpy as np
import pytest

import scatacformer as sf

from ._cells import (
    SENTENCES,
    TRAINING,
    assert_same_bits,
    assert_types_are_told_apart,
    fresh,
    planted,
    quiet,
    trained,
    weights,
)

SETUP = {"batch_key": "sample", "labels_key": "type"}
OPTIONS = [
    {"decoder": "cross_attention"},
    {"cls_token": False},
    {"cls_token": False, "decoder": "cross_attention"},
    {"removed_share": 0.0},
    {"embedding": "full"},
    {"embedding": "full", "decoder_input": "full", "decoder": "mlp"},
    {"decoder_input": "full"},
]


@pytest.fixture(params=OPTIONS, ids=str)
def options(request):
    return request.param


def test_an_option_learns_and_keeps_the_cells_apart(options):
    n_epochs = 16 if options.get("decoder") == "mlp" else 8  # it starts from nothing
    model = trained(planted(), train={"max_epochs": n_epochs}, **options)
    loss = model.history["validation_loss"]["validation_loss"]
    assert loss.min() < loss.iloc[0]
    assert_types_are_told_apart(model)


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


@pytest.fixture
def together(tmp_path):
    """Cells with everything that a model can be given, and the arguments that ask for all of it."""
    adata = planted()
    adata.obs["organ"] = np.where(np.arange(adata.n_obs) % 2, "left", "right")
    (tmp_path / "promoters.bed").write_text("".join(f"{c}\t1000\t90000\n" for c in ("chr1", "chr3")))
    sf.pp.annotate_bins(adata, bed={"promoter": tmp_path / "promoters.bed"})
    np.save(tmp_path / "dna.npy", np.random.default_rng(0).normal(size=(adata.n_vars, 5)).astype(np.float16))
    return adata, {
        "eos": "region_class", "decoder": "cross_attention", "embedding": "full", "decoder_input": "full",
        "cls_token": False, "removed_share": 0.3, "dna": tmp_path / "dna.npy", "supervised": True,
    }  # fmt: skip


def test_all_options_together_train_travel_and_are_fine_tuned(together, tmp_path):
    adata, options = together
    label_weight = {"labels": 1.0, "organ": 0.3}
    changes = {
        "sentence_kwargs": SENTENCES | {"n_closed": "all"},
        "plan_kwargs": TRAINING["plan_kwargs"] | {"label_weight": label_weight},
    }
    model = trained(adata, setup=SETUP | {"organ_key": "organ"}, train=changes, **options)
    assert model.eos_names_ == ["intergenic", "promoter"]
    found = model.differential_accessibility(groupby="type", group1="0", group2="1")
    assert found.index[found["effect_size"].to_numpy().argmin()] in adata.var_names[10:50]
    model.save_pretrained(tmp_path / "model")
    bare = planted()  # neither classes nor a table: the model has its own
    bare.obs["organ"] = adata.obs["organ"]
    loaded = sf.ScAtacFormer.from_pretrained(tmp_path / "model", bare)
    for read in ("get_latent_representation", "predict", "get_normalized_accessibility"):
        np.testing.assert_array_equal(getattr(loaded, read)(), getattr(model, read)(), err_msg=read)
    new = planted(40, seed=3, batches=("c",))
    query = sf.ScAtacFormer.load_query_data(new, tmp_path / "model")
    assert (query.predict() == new.obs["type"]).mean() > 0.9
    for tune in ("all", "lora", "heads"):
        cells = planted(60, seed=4, batches=("d",))
        sf.ScAtacFormer.setup_anndata(cells, batch_key="sample", labels_key="type")
        tuned = sf.ScAtacFormer.for_fine_tuning(cells, tmp_path / "model", tune=tune)
        with quiet():
            tuned.train(**({} if tune == "heads" else TRAINING))
        assert (tuned.predict() == cells.obs["type"]).mean() > 0.9, tune
        assert_same_bits(
            {"classes": tuned.region_classes.matrix.toarray()}, {"classes": model.region_classes.matrix.toarray()}
        )


def test_an_option_learns_labels_jointly_and_predicts_all_closed_bins(options):
    plan = TRAINING["plan_kwargs"] | {"label_weight": 1.0}
    model = trained(
        planted(),
        setup=SETUP,
        supervised=True,
        train={"plan_kwargs": plan, "sentence_kwargs": SENTENCES | {"n_closed": "all"}},
        **options,
    )
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


def test_without_cls_the_embedding_is_the_pool_also_when_it_is_trained():
    adata = planted()
    model = trained(adata, cls_token=False, train={"plan_kwargs": {"n_decoder_epochs": 1, "embedding_lr": 1e-2}})
    start = trained(adata, cls_token=False, train={"max_epochs": 1})
    assert not any("cls" in name or "to_latent" in name for name in weights(model))
    z = model.get_latent_representation()
    assert np.abs(z - start.get_latent_representation()).max() > 1e-3
    model.module.encoder.forward = None  # the embedding needs no encoder
    np.testing.assert_array_equal(model.get_latent_representation(), z)


def test_a_full_table_does_not_move_the_embedding_and_learns():
    start = trained(planted(), embedding="full", train={"max_epochs": 1})  # the decoder alone
    after = trained(planted(), embedding="full", train={"plan_kwargs": {"n_decoder_epochs": 1}})
    default = trained(planted(), train={"plan_kwargs": {"n_decoder_epochs": 1}})
    np.testing.assert_array_equal(after.get_latent_representation(), default.get_latent_representation())
    moved = weights(after)["embedding.tokens.weight"] - weights(start)["embedding.tokens.weight"]
    assert 0 < np.abs(moved).max() < 0.1


def test_with_nothing_removed_no_bin_is_said_to_be_removed():
    import torch

    shares = {}
    for removed_share in (0.0, 0.5):
        model = trained(planted(), removed_share=removed_share, train={"max_epochs": 8, "lr": 1e-2})
        with torch.inference_mode():
            cells, batch = next(model._reader(model.adata).encoded(np.arange(model.adata.n_obs), 90))
            context = model.module.context(cells, batch["depth"], batch["batch"])
            states = model.module.states(context, torch.arange(400))
            p = model.module.accessibility(context, torch.arange(400))
        torch.testing.assert_close(states[..., 1:].sum(-1), p, atol=1e-6, rtol=0)
        shares[removed_share] = float(states[..., 2].sum() / states[..., 1:].sum())
    assert shares[0.0] == 0
    assert shares[0.5] > 0.2


@pytest.mark.parametrize("removed_share", [0.0, 0.15, 0.9])
def test_any_removed_share_trains(removed_share):
    model = trained(planted(), removed_share=removed_share, train={"max_epochs": 5})
    loss = model.history["validation_loss"]["validation_loss"]
    assert loss.min() < loss.iloc[0]


@pytest.mark.parametrize("max_tokens", [3, 1000])
def test_the_limit_of_tokens_is_seeded_and_cuts_the_encoder_alone(max_tokens):
    plan = {"n_decoder_epochs": 0, "embedding_lr": 1e-2}
    one, same, other = (
        trained(
            planted(),
            seed=s,
            max_tokens=max_tokens,
            train={"sentence_kwargs": SENTENCES | {"max_tokens": max_tokens}, "plan_kwargs": plan},
        )
        for s in (0, 0, 1)
    )
    assert_same_bits(weights(one), weights(same))
    bins = [next(m._reader(m.adata).minibatches(np.array([0]), 1))["tokens"].tolist() for m in (one, same, other)]
    pooled = next(one._reader(one.adata).minibatches(np.array([0]), 1))["bins"].tolist()
    assert bins[0] == bins[1]
    assert len(bins[0]) == min(max_tokens, len(pooled))
    assert set(bins[0]) <= set(pooled)
    assert (bins[0] == bins[2]) == (max_tokens == 1000)  # another seed reads others, where any are left out
