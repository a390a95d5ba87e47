"""``train(embedding_only=True)``: the embedding that a whole training leaves, and nothing that was not trained."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import scatacformer as sf

from ._cells import SIZES, TRAINING, fresh, planted, quiet, weights


def embedded(adata, **options):
    model = fresh(adata)
    model.train(embedding_only=True, **options)
    return model


def test_the_embedding_is_that_of_a_whole_training_and_stays(tmp_path):
    adata = planted()
    model = embedded(adata)
    z = model.get_latent_representation()
    whole = fresh(adata)
    training = TRAINING | {"plan_kwargs": {"n_decoder_epochs": 1}}
    with quiet():
        whole.train(**training)
    np.testing.assert_array_equal(z, whole.get_latent_representation())
    model.save(tmp_path / "model")
    loaded = sf.ScAtacFormer.load(tmp_path / "model", adata)
    np.testing.assert_array_equal(z, loaded.get_latent_representation())
    with quiet():
        loaded.train(**training)
    np.testing.assert_array_equal(z, loaded.get_latent_representation())
    for name, value in weights(whole).items():  # the same training as if nothing had come before
        np.testing.assert_array_equal(value, weights(loaded)[name], err_msg=name)
    assert np.isfinite(loaded.get_normalized_accessibility(return_numpy=True)).all()


def test_what_was_not_trained_is_said_and_refused(caplog):
    adata = planted()
    with caplog.at_level(logging.INFO, "scatacformer"):
        model = embedded(adata)
    assert "Not trained: the encoder and the decoder, which predict accessibility; call train()" in caplog.text
    assert "embedding fitted" in repr(model)
    model.annotate(adata, accessibility=False)
    assert adata.obsm["X_scatacformer"].std() > 0
    for call in (
        model.get_normalized_accessibility,
        model.get_mean_accessibility,
        model.annotate,
        lambda: model.differential_accessibility(groupby="type"),
        lambda: sf.ScAtacFormer.for_fine_tuning(adata, model),
    ):
        with pytest.raises(ValueError, match=r"only the embedding of this model was fitted.*Call train\(\) first"):
            call()


def test_new_cells_are_embedded_without_a_training():
    adata = planted()
    model = embedded(adata)
    new = planted(seed=1)
    query = sf.ScAtacFormer.load_query_data(new, model)
    near = ((query.get_latent_representation()[:, None] - model.get_latent_representation()[None]) ** 2).sum(-1)
    same = adata.obs["type"].to_numpy()[near.argsort(1)[:, :5]] == new.obs["type"].to_numpy()[:, None]
    assert same.mean() > 0.9
    with pytest.raises(ValueError, match="only the embedding of this model was fitted"):
        query.get_normalized_accessibility()


def test_only_the_cells_of_the_split_are_used():
    adata = planted()
    rows = [np.arange(60), np.arange(60, 70), np.arange(70, 90)]
    model = embedded(adata, datasplitter_kwargs={"external_indexing": rows})
    few = planted()[:70].copy()
    np.testing.assert_array_equal(model.get_latent_representation()[:70], embedded(few).get_latent_representation())


def test_arguments_without_an_effect_and_trained_models_are_refused():
    adata = planted()
    with pytest.raises(ValueError, match=r"max_epochs, lr have no effect with embedding_only=True"):
        embedded(adata, max_epochs=3, lr=0.1)
    model = fresh(adata)
    with quiet():
        model.train(**TRAINING)
    with pytest.raises(ValueError, match="embedding_only is for an untrained model"):
        model.train(embedding_only=True)
    assert SIZES["d_embed"] >= model.get_latent_representation().shape[1]
