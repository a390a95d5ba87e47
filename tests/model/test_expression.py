"""Expression is predicted from chromatin alone with an honest spread; its residual says which genes lag behind."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import scatacformer as sf
from scatacformer.cells import log_normalised

from ._pairs import N_GENES, planted_pairs, subset, trained

SF = sf.ScAtacFormer


@pytest.fixture(scope="module")
def mdata():
    return planted_pairs(400)


@pytest.fixture(scope="module")
def model(mdata):
    """Tests must not train it."""
    return trained(mdata, setup={"batch_key": "sample"})


@pytest.fixture(scope="module")
def new_cells():
    return planted_pairs(300, seed=9)


def measured(mdata) -> np.ndarray:
    """log(1 + counts per 10,000), cells in the order of the ATAC modality."""
    return log_normalised(mdata["rna"][mdata["atac"].obs_names].X).toarray()


def genewise(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([np.corrcoef(predicted[:, g], true[:, g])[0, 1] for g in range(true.shape[1])]))


# ── predict_expression ─────────────────────────────────────────────────────────────────────────────────────────────


def test_new_cells_are_predicted_better_than_by_their_type(model, mdata, new_cells):
    predicted, true, known = model.predict_expression(new_cells), measured(new_cells), measured(mdata)
    assert predicted.shape == (300, N_GENES)
    assert (predicted.to_numpy() >= 0).all()
    assert ((predicted - true) ** 2).to_numpy().mean() < 0.9 * ((known.mean(0) - true) ** 2).mean()
    kind = mdata["atac"].obs["type"].to_numpy()
    of_type = np.stack([known[kind == t].mean(0) for t in new_cells["atac"].obs["type"]])
    assert genewise(predicted.to_numpy(), true) > genewise(of_type, true) + 0.05
    assert abs(genewise(predicted.to_numpy(), true[np.random.default_rng(0).permutation(300)])) < 0.05


def test_linked_bins_add_to_what_the_state_says(model, new_cells):
    with_links, true = model.predict_expression(new_cells, return_numpy=True), measured(new_cells)
    links = model.paired.links
    try:
        model.paired.links = None
        without = model.predict_expression(new_cells, return_numpy=True)
    finally:
        model.paired.links = links
    assert genewise(with_links, true) > genewise(without, true) + 0.03


def test_the_standard_deviation_covers_new_cells(model, new_cells):
    predicted, std = model.predict_expression(new_cells, return_std=True)
    assert std.shape == predicted.shape
    assert (std.to_numpy() > 0).all()
    z = (measured(new_cells) - predicted.to_numpy()) / std.to_numpy()
    of_gene = np.sqrt((z**2).mean(0))
    assert 0.5 < of_gene.min() and of_gene.max() < 2
    assert 0.85 < np.sqrt((z**2).mean()) < 1.15
    # it is larger for the genes that are farther off
    error = np.sqrt(((measured(new_cells) - predicted.to_numpy()) ** 2).mean(0))
    assert np.corrcoef(std.mean(0), error)[0, 1] > 0.25


def test_cells_and_genes_come_in_the_order_asked_for(model, mdata, new_cells):
    everything, std = model.predict_expression(new_cells, return_std=True)
    assert everything.index.tolist() == new_cells["atac"].obs_names.tolist()
    assert everything.columns.tolist() == mdata["rna"].var_names.tolist()
    genes, rows = ["gene41", "gene3", "gene17"], [5, 0, -1]
    found, spread = model.predict_expression(new_cells, rows, genes, return_std=True)
    assert found.columns.tolist() == genes
    assert found.index.tolist() == new_cells["atac"].obs_names[rows].tolist()
    np.testing.assert_allclose(found, everything.iloc[rows][genes], atol=1e-5)
    np.testing.assert_allclose(spread, std.iloc[rows][genes], atol=1e-5)
    array = model.predict_expression(new_cells, rows, genes, return_numpy=True)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, found.to_numpy())
    assert array.dtype == np.float32
    np.testing.assert_allclose(model.predict_expression(new_cells, batch_size=7), everything, atol=1e-4)


def test_an_unknown_gene_is_named(model):
    with pytest.raises(ValueError, match="1 of 2 genes are not in the model .first: FOXP3.; it has 60, such as gene0"):
        model.predict_expression(gene_list=["gene1", "FOXP3"])


# ── annotate ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_annotate_writes_into_each_modality_in_its_own_order(model, new_cells):
    own = new_cells.copy()
    assert own["rna"].obs_names.tolist() != own["atac"].obs_names.tolist()
    model.annotate(own, accessibility=False)
    expected = model.predict_expression(new_cells)
    layer = pd.DataFrame(own["rna"].layers["scatacformer_predicted"], own["rna"].obs_names, own["rna"].var_names)
    np.testing.assert_allclose(layer.loc[expected.index, expected.columns], expected, atol=1e-4)
    # and so does each cell's embedding
    for name, modality in (("rna", "expression"), ("atac", "accessibility"), (None, "joint")):
        part = own if name is None else own[name]
        z = pd.DataFrame(model.get_latent_representation(new_cells, modality=modality), new_cells["atac"].obs_names)
        found = pd.DataFrame(np.asarray(part.obsm["X_scatacformer"]), part.obs_names)
        np.testing.assert_allclose(found.loc[z.index], z, atol=1e-5)
    distance = pd.Series(model.modality_distance(new_cells), new_cells["atac"].obs_names)
    found = own["rna"].obs["scatacformer_distance"]
    np.testing.assert_allclose(found, distance[found.index], atol=1e-5)
    # the predicted layer goes with the measured values of its cells, not with those of others
    true = log_normalised(own["rna"].X).toarray()
    assert genewise(layer.to_numpy(), true) > 0.3


def test_annotate_of_the_model_s_own_cells_and_of_cells_without_rna(model, mdata, new_cells):
    own = planted_pairs(60, seed=4)
    own.mod["rna"] = own["rna"][:25].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own.update()
    model.annotate(own, accessibility=False)
    assert own["rna"].layers["scatacformer_predicted"].shape == (25, N_GENES)
    expected = model.predict_expression(own).loc[own["rna"].obs_names]
    np.testing.assert_allclose(own["rna"].layers["scatacformer_predicted"], expected, atol=1e-4)
    alone = planted_pairs(60, seed=4)
    del alone.mod["rna"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone.update()
    model.annotate(alone, region_list=["chr1:0-5000"])
    np.testing.assert_allclose(alone["atac"].obsm["scatacformer_expression"].loc[expected.index], expected, atol=1e-4)
    assert alone["atac"].obsm["scatacformer_accessibility"].shape == (60, 1)
    order = alone.obs_names.get_indexer(alone["atac"].obs_names)  # versions of mudata order the cells differently
    np.testing.assert_array_equal(alone.obsm["X_scatacformer"][order], alone["atac"].obsm["X_scatacformer"])


def test_where_the_genes_are_others_the_prediction_is_a_table_of_its_own(model, new_cells):
    own = new_cells.copy()
    own.mod["rna"] = own["rna"][:, 3:].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own.update()
        model.annotate(own, accessibility=False)
    table = own["rna"].obsm["scatacformer_predicted"]
    assert table.columns.tolist() == [f"gene{g}" for g in range(N_GENES)]
    assert table.index.tolist() == own["rna"].obs_names.tolist()
    np.testing.assert_allclose(table, model.predict_expression(new_cells).loc[table.index], atol=1e-4)


# ── chromatin_potential, modality_distance ─────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def lagging():
    """In the second half of the cells the RNA of genes 0 ... 9 has not caught up with chromatin yet."""
    return planted_pairs(300, seed=3, lag=np.repeat([0.0, 1.2], 150))


def test_the_residual_ranks_genes_that_lag_and_its_sign_says_that_chromatin_is_ahead(model, lagging):
    potential = model.chromatin_potential(lagging)
    late = potential.iloc[150:].mean() - potential.iloc[:150].mean()
    lags = np.arange(N_GENES) < 10
    assert roc_auc_score(lags, late) >= 0.8
    assert late[lags].mean() > 0.2
    assert abs(late[~lags].mean()) < 0.1
    none = model.chromatin_potential(planted_pairs(300, seed=3))
    assert abs((none.iloc[150:].mean() - none.iloc[:150].mean())[lags].mean()) < 0.15


def test_each_gene_is_brought_to_one_scale_over_the_cells_asked_for(model, new_cells):
    potential = model.chromatin_potential(new_cells)
    assert potential.shape == (300, N_GENES)
    np.testing.assert_allclose(potential.mean(), 0, atol=1e-4)
    predicted, true = model.predict_expression(new_cells).to_numpy(), measured(new_cells)

    def z(x):
        return (x - x.mean(0)) / x.std(0)

    np.testing.assert_allclose(potential, z(predicted) - z(true), atol=1e-3)
    plain = model.chromatin_potential(new_cells, scaling="none")
    np.testing.assert_allclose(plain, predicted - true, atol=1e-4)
    by_extremes = model.chromatin_potential(new_cells, scaling="minmax")
    assert by_extremes.abs().to_numpy().max() <= 1
    scaled = (true - true.min(0)) / (true.max(0) - true.min(0))
    scaled_prediction = (predicted - predicted.min(0)) / (predicted.max(0) - predicted.min(0))
    np.testing.assert_allclose(by_extremes, scaled_prediction - scaled, atol=1e-3)
    rows, genes = [9, 4, 30, 31], ["gene7", "gene2"]
    few = model.chromatin_potential(new_cells, rows, genes)
    np.testing.assert_allclose(few, z(predicted[rows][:, [7, 2]]) - z(true[rows][:, [7, 2]]), atol=1e-3)
    assert few.columns.tolist() == genes
    assert few.index.tolist() == new_cells["atac"].obs_names[rows].tolist()


def test_a_gene_that_does_not_vary_is_not_divided_by_nothing(model, new_cells):
    own = subset(new_cells, np.arange(40))
    x = own["rna"].X.tolil()
    x[:, 5] = 0
    own["rna"].X = x.tocsr()
    potential = model.chromatin_potential(own)
    assert np.isfinite(potential).all().all()
    predicted = model.predict_expression(own)["gene5"]
    np.testing.assert_allclose(potential["gene5"], (predicted - predicted.mean()) / predicted.std(ddof=0), atol=1e-3)


def test_what_the_potential_cannot_compare_is_refused(model, mdata, new_cells):
    with pytest.raises(ValueError, match="scaling is 'max'; expected 'zscore', 'minmax' or 'none'"):
        model.chromatin_potential(scaling="max")
    with pytest.raises(ValueError, match="some cells have no RNA; expected RNA for every cell"):
        model.chromatin_potential(new_cells["atac"].copy())
    with pytest.raises(ValueError, match="are not in the model"):
        model.chromatin_potential(gene_list=["FOXP3"])


def test_modalities_of_one_cell_lie_closer_than_those_of_two(model, new_cells, lagging):
    own = model.modality_distance(new_cells)
    assert own.shape == (300,) and own.dtype == np.float32
    assert own.min() >= 0 and own.max() <= 2
    rna, atac = (model.get_latent_representation(new_cells, modality=m) for m in ("expression", "accessibility"))
    np.testing.assert_allclose(own, 1 - (rna * atac).sum(1), atol=1e-5)
    other = new_cells.copy()
    other["rna"].obs_names = np.roll(other["rna"].obs_names, 7)
    assert model.modality_distance(other).mean() > own.mean() + 0.3
    np.testing.assert_allclose(model.modality_distance(new_cells, [4, 2]), own[[4, 2]], atol=1e-5)
    late = model.modality_distance(lagging)
    assert late[150:].mean() > late[:150].mean() + 0.02  # where RNA lags behind
    with pytest.raises(ValueError, match="have no RNA"):
        model.modality_distance(new_cells["atac"].copy())
