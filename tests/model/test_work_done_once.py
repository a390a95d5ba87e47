"""What the encoder has said of cells is kept while the model and the cells are the same, and no longer."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import scatacformer as sf
from scatacformer.model.scatacformer._reader import Encodings

from ._cells import planted, quiet, trained, weights


@pytest.fixture
def counted(monkeypatch):
    """A model of its own, and the number of cells that its encoder has read so far."""
    model = trained(planted(), setup={"batch_key": "sample", "labels_key": "type"})
    n_cells = [0]
    encode = type(model.module).encode

    def counting(self, batch, *args, **kwargs):
        n_cells[0] += len(batch["depth"])
        return encode(self, batch, *args, **kwargs)

    monkeypatch.setattr(type(model.module), "encode", counting)
    return model, n_cells


def _with(x, rows, columns, value):
    dense = x.toarray()
    dense[rows, columns] = value
    return sp.csr_matrix(dense)


def test_comparisons_of_many_groups_read_each_cell_once(counted):
    model, n_cells = counted
    table = model.differential_accessibility(groupby="type", silent=True)
    assert n_cells[0] == 90
    for group in "012":
        one = model.differential_accessibility(groupby="type", group1=group, silent=True)
        part = table[table["group1"] == group]
        np.testing.assert_allclose(part["effect_size"], one["effect_size"].loc[part.index], atol=1e-6)
    kind = model.adata.obs["type"].to_numpy()
    mean = model.get_mean_accessibility(indices=np.flatnonzero(kind == "1"))
    found = table[table["group1"] == "1"]["est_prob1"].loc[model.adata.var_names]
    np.testing.assert_allclose(found, mean, atol=1e-6)


def test_the_estimates_of_many_comparisons_are_made_in_parts_of_bounded_size(counted, monkeypatch):
    model, _ = counted
    expected = model.differential_accessibility(groupby="type", silent=True)
    monkeypatch.setattr("scatacformer.model.scatacformer._differential.MAX_SUMS", 1)
    found = model.differential_accessibility(groupby="type", silent=True)
    np.testing.assert_allclose(found["est_prob1"], expected["est_prob1"], atol=1e-6)


def test_the_same_cells_are_encoded_once_and_others_anew(counted):
    model, n_cells = counted
    regions = list(model.adata.var_names[:3])
    first = model.get_normalized_accessibility(region_list=regions)
    assert n_cells[0] == 90
    again = model.get_normalized_accessibility(region_list=regions)
    np.testing.assert_array_equal(again, first)
    model.get_normalized_accessibility(region_list=list(model.adata.var_names[3:9]))
    model.get_normalized_accessibility(model.adata.copy(), region_list=regions)
    assert n_cells[0] == 90
    # a cell that was changed in place is another cell
    model.adata.X.data[:] = 1  # open is open
    model.get_normalized_accessibility(region_list=regions)
    assert n_cells[0] == 90
    model.adata.X = _with(model.adata.X, 0, slice(None), 1)
    assert not np.array_equal(model.get_normalized_accessibility(region_list=regions).iloc[0], first.iloc[0])


@pytest.mark.parametrize("change", ["in place", "data", "training", "loaded"])
def test_other_weights_are_other_encodings(counted, change):
    model, _ = counted
    before = model.get_normalized_accessibility(return_numpy=True)
    if change == "in place":
        with torch.no_grad():
            model.module.embedding.from_pool.weight.mul_(3.0)
    elif change == "data":
        model.module.embedding.from_pool.weight.data *= 3.0
    elif change == "training":
        with quiet():
            model.train(max_epochs=1, batch_size=16, accelerator="cpu", enable_progress_bar=False, sentence_kwargs={"n_closed": 128},
                        plan_kwargs={"n_decoder_epochs": 0, "embedding_lr": 1e-2})  # fmt: skip
    else:
        other = trained(planted(), seed=5, setup={"batch_key": "sample", "labels_key": "type"})
        model.module.load_state_dict(other.module.state_dict())
    found = model.get_normalized_accessibility(return_numpy=True)
    assert np.abs(found - before).max() > 1e-6
    model._kept = Encodings()
    np.testing.assert_array_equal(model.get_normalized_accessibility(return_numpy=True), found)


def test_what_is_kept_is_bounded_and_travels_nowhere(counted, tmp_path):
    import pickle

    model, n_cells = counted
    model._kept = Encodings(limit=1)
    for n in (90, 180):
        model.get_normalized_accessibility(region_list=list(model.adata.var_names[:3]))
        assert n_cells[0] == n
    model._kept = Encodings()
    model.get_normalized_accessibility()
    assert model._kept._n_bytes > 0
    assert pickle.loads(pickle.dumps(model._kept))._n_bytes == 0
    model.save(tmp_path)
    loaded = sf.ScAtacFormer.load(tmp_path, adata=planted())
    assert weights(loaded).keys() == weights(model).keys()


def test_a_perturbation_reads_again_only_what_it_changes(counted):
    model, n_cells = counted
    x = model.adata.X.toarray() > 0
    rare = int(np.argmin(np.where(x.sum(0) > 0, x.sum(0), 1000)))
    name = model.adata.var_names[rare]
    sf.tl.perturb_bins(model, remove=[name])
    n_cells[0] = 0
    found = sf.tl.perturb_bins(model, remove=[name])
    assert n_cells[0] <= 2 * x[:, rare].sum()  # the embedding of those that are changed; nothing of the others
    after = model.adata.copy()
    after.X = _with(after.X, slice(None), rare, 0)
    np.testing.assert_allclose(
        found.shift, model.get_latent_representation(after) - model.get_latent_representation(), atol=1e-5
    )
    np.testing.assert_allclose(found.regions["after"], model.get_mean_accessibility(after), atol=1e-6)
