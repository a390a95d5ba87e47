"""GET on planted regulation: it finds the rule on unseen chromosomes in unseen groups, and says which motifs did it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import scatacformer as sf
from scatacformer.pseudobulk import WindowLoader

from .conftest import make_regions, small

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def trained(_regions):
    model = small(_regions.copy())
    model.train(40, lr=3e-3, holdout_chromosomes="chr4", holdout_groups="g5", early_stopping_patience=40, **QUIET)
    return model


def measured(regions, sites):
    """(groups, sites) the planted expression."""
    layers = np.stack([regions.layers["exp_pos"], regions.layers["exp_neg"]], -1)
    return layers[:, sites["column"], sites["strand"]]


def test_the_rule_is_found_where_nothing_was_seen(trained):
    regions = trained.adata
    sites = trained._prepared.sites()
    held = regions.var["chrom"].to_numpy()[sites["column"]] == "chr4"
    truth = measured(regions, sites)[5, held]
    predicted = trained.get_predicted_expression(groups="g5")["g5"].to_numpy()[held]
    assert held.sum() == 20
    assert truth.std() > 0.3
    assert np.corrcoef(predicted, truth)[0, 1] > 0.9
    assert trained.history["validation_pearson"].max().item() > 0.85
    assert trained.training_["groups"] == ["g0", "g1", "g2", "g3", "g4"]
    assert trained.training_["chromosomes"] == ["chr1", "chr2", "chr3"]


def test_layers_hold_what_the_table_does(trained):
    regions = trained.adata.copy()
    trained.get_predicted_expression(regions, inplace=True, groups=["g1", "g0"])
    sites = trained._prepared.sites()
    layers = np.stack([regions.layers["get_exp_pos"], regions.layers["get_exp_neg"]], -1)
    table = trained.get_predicted_expression(groups=["g1", "g0"])
    assert list(table.columns) == ["g1", "g0"]
    np.testing.assert_array_equal(table["g0"], layers[0, sites["column"], sites["strand"]])
    assert np.isfinite(layers[:2]).all()
    assert np.isnan(layers[2:]).all()
    some = trained.get_predicted_expression(genes=["gene_9", "gene_3"], groups="g0")
    assert list(some.index) == ["gene_9", "gene_3"]
    np.testing.assert_array_equal(some["g0"], table.loc[["gene_9", "gene_3"], "g0"])


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_nothing_depends_on_the_batch_size(trained, batch_size):
    genes = ["gene_3", "gene_9", "gene_459"]
    for getter in (trained.get_predicted_expression, trained.get_gene_by_motif, trained.get_region_embedding):
        expected, found = getter(genes=genes), getter(genes=genes, batch_size=batch_size)
        if hasattr(expected, "X"):
            assert list(found.obs_names) == list(expected.obs_names)
            expected, found = expected.X, found.X
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-5)


def test_scores_of_motifs_equal_the_mean_of_derivative_times_score(trained):
    gbm = trained.get_gene_by_motif(["gene_9", "gene_3"], ["g2", "g1"])
    assert gbm.obs["group"].tolist() == ["g2", "g2", "g1", "g1"]
    assert gbm.obs["gene"].tolist() == ["gene_9", "gene_3"] * 2
    whole = trained.get_jacobian(["gene_9", "gene_3"], ["g2", "g1"])
    product = (whole["jacobian"] * whole["features"]).mean("place")
    for row, (gene, group) in enumerate(zip(gbm.obs["gene"], gbm.obs["group"], strict=True)):
        site = product.sel(site=(whole["gene"] == gene) & (whole["group"] == group)).to_numpy()[0]
        np.testing.assert_allclose(gbm.X[row], site[:-1], atol=1e-6)
        assert gbm.obs["accessibility"].iloc[row] == pytest.approx(site[-1], abs=1e-6)
    predicted = trained.get_predicted_expression(genes=["gene_9"], groups=["g2"])
    assert gbm.obs["predicted"].iloc[0] == pytest.approx(predicted.iloc[0, 0], abs=0.05)


def test_the_motifs_that_were_planted_drive_the_genes(trained):
    gbm = trained.get_gene_by_motif(null=True)
    active = gbm[gbm.obs["predicted"] > 1]
    assert active.n_obs > 10
    strength = dict(zip(gbm.var_names, np.abs(active.X).mean(0), strict=True))
    assert strength["B"] > 2 * max(strength["decoy_0"], strength["decoy_1"])
    assert gbm.layers["null"].shape == gbm.shape
    assert not np.array_equal(gbm.layers["null"], gbm.X)
    best = sf.tl.motif_genes(gbm, "B", n=5)
    assert (best["p"] < 0.1).all()


def test_jacobians_come_in_pieces_that_are_the_whole(trained):
    pieces = list(trained.iter_jacobian(["gene_3", "gene_9"], batch_size=5))
    assert [piece.sizes["site"] for piece in pieces] == [5, 5, 2]
    whole = trained.get_jacobian(["gene_3", "gene_9"])
    found = np.concatenate([piece["jacobian"] for piece in pieces])
    np.testing.assert_allclose(found, whole["jacobian"], atol=1e-6)
    assert whole["jacobian"].dtype == np.float32
    focus = whole["region"].to_numpy()[np.arange(12), whole["focus"].to_numpy()]
    assert set(focus) == set(trained.adata.uns["gene_tss"].query("gene in ['gene_3', 'gene_9']")["region"])
    embedding = trained.get_jacobian("gene_3", wrt="region_embedding")
    assert embedding["jacobian"].shape == (6, 12, 32)
    with pytest.raises(ValueError, match="wrt is 'output'; expected 'input' or"):
        trained.get_jacobian("gene_3", wrt="output")


def test_new_groups_and_regions_are_predicted_by_the_models_scale(trained):
    other = make_regions(seed=7, n_groups=2, per_chrom=60)
    sf.GET.setup_anndata(other)
    other.varm["motif"] = other.varm["motif"][:, ::-1].copy()
    other.uns["motif"] = {"names": other.uns["motif"]["names"][::-1]}
    sites = trained._prepared_of(other).sites()
    truth = measured(other, sites).T
    predicted = trained.get_predicted_expression(other).to_numpy()
    assert np.corrcoef(predicted.ravel(), truth.ravel())[0, 1] > 0.8
    np.testing.assert_array_equal(trained._prepared_of(other).data.motif_scale, trained.motif_scale_)
    other.uns["motif"] = {"names": ["X", *other.uns["motif"]["names"][1:]]}
    with pytest.raises(ValueError, match=r"1 of the model's 6 are missing \(first: decoy_1\), 1 are unknown to it"):
        trained.get_predicted_expression(other)


def test_one_seed_one_model(regions):
    weights = []
    for _ in range(2):
        model = small(regions)
        model.train(2, holdout_chromosomes="chr4", **QUIET)
        weights.append(torch.cat([value.flatten() for value in model.module.state_dict().values()]))
    assert torch.equal(*weights)


def test_accessibility_is_trained_without_seeing_it(regions):
    model = small(regions)
    model.train(3, target="accessibility", holdout_chromosomes="chr4", **QUIET)
    found = model.get_predicted_accessibility()
    assert found.shape == regions.shape
    shuffled = regions.copy()
    shuffled.layers["acpm"] = shuffled.layers["acpm"][:, ::-1].copy()
    np.testing.assert_allclose(model.get_predicted_accessibility(shuffled), found, atol=1e-6)
    assert list(model.get_predicted_accessibility(groups="g2").index) == ["g2"]
    assert np.abs(found.loc["g1"] - found.loc["g2"]).max() > 1e-4
    with pytest.raises(ValueError, match="Hold out chromosomes"):
        model.train(1, target="accessibility", holdout_groups="g1", **QUIET)
    with pytest.raises(KeyError, match="not trained on a group 'NK'"):
        model.get_predicted_accessibility(groups="NK")
    with pytest.raises(RuntimeError, match="predicts accessibility, and this needs one that predicts expression"):
        model.get_predicted_expression()


def test_pretraining_is_carried_over_to_training(regions):
    model = small(regions)
    model.pretrain(2, **QUIET)
    assert not model.is_trained
    before = model.module.blocks[0].up.weight.clone()
    assert not torch.equal(before, small(regions).module.blocks[0].up.weight)
    again = model.module.with_target("expression", 0)
    assert torch.equal(again.blocks[0].up.weight, before)
    model.train(1, holdout_chromosomes="chr4", **QUIET)
    assert model.target_ == "expression"


@pytest.mark.slow
def test_pretraining_beats_the_column_means_on_regions_that_resemble_their_neighbours(regions):
    rng = np.random.default_rng(0)
    profile = np.repeat(rng.random((48, 6)), 10, 0)  # the motifs of a domain
    regions.varm["motif"] = np.clip(profile + 0.1 * rng.normal(size=profile.shape), 0, 1).astype(np.float32)
    model = small(regions)
    model.pretrain(25, lr=3e-3, holdout_chromosomes="chr4", **QUIET)
    x = model._prepared.data.features(np.zeros(120, int), np.arange(360, 480)[:, None], "quantitative")[:, 0]
    assert model.history["validation_loss"].min().item() < 0.75 * x.var(0).mean()


def test_open_regions_alone(regions):
    model = small(regions, open_only=True)
    model.train(2, holdout_chromosomes="chr4", **QUIET)
    regions.layers["acpm"][0, regions.var_names.get_indexer(regions.uns["gene_tss"]["region"])[:3]] = 0
    table = model.get_predicted_expression(regions)
    assert table["g0"].isna().sum() == 3
    assert table.drop(columns="g0").notna().all(axis=None)
    assert model.get_gene_by_motif(adata=regions).n_obs == 6 * 80 - 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Nothing is held out"),
        ({"holdout_chromosomes": ["chr9"]}, "holdout_chromosomes names 'chr9'"),
        ({"holdout_groups": [f"g{i}" for i in range(6)]}, "Nothing is left to train on"),
        ({"holdout_chromosomes": "chr4", "target": "methylation"}, "target is 'methylation'; expected 'expression' or"),
        ({"holdout_chromosomes": "chr4", "lora": 0}, "lora is 0; expected the rank"),
        ({"holdout_chromosomes": "chr4", "lr": 0.0}, "lr is .*; expected above 0"),
    ],
)
def test_bad_training_is_refused_before_it_starts(regions, arguments, message):
    model = small(regions)
    before = model.module.head.weight.clone()
    with pytest.raises(ValueError, match=message):
        model.train(1, **arguments, **QUIET)
    assert torch.equal(model.module.head.weight, before)


def test_bad_data_is_refused(regions):
    fresh = regions.copy()
    del fresh.uns["scatacformer_get"]
    with pytest.raises(ValueError, match="call sf.GET.setup_anndata"):
        sf.GET(fresh)
    with pytest.raises(ValueError, match="adata.varm has no 'motifs'; it has motif, tss"):
        sf.GET.setup_anndata(regions, motif_key="motifs")
    with pytest.raises(ValueError, match="adata.layers has no 'cpm'"):
        sf.GET.setup_anndata(regions, accessibility_layer="cpm")
    for layer, message in (("acpm", "accessibility must be finite"), ("exp_neg", "expression must be finite")):
        bad = regions.copy()
        bad.layers[layer][0, 0] = np.nan
        with pytest.raises(ValueError, match=message):
            sf.GET.setup_anndata(bad)
    bad = regions.copy()
    bad.layers["acpm"][2] = 0
    with pytest.raises(ValueError, match="all zero in 1 of 6 groups"):
        sf.GET.setup_anndata(bad)
    with pytest.raises(RuntimeError, match="not trained"):
        small(regions).get_predicted_expression()
    del regions.layers["exp_pos"]
    with pytest.raises(ValueError, match="adata.layers has no 'exp_pos'"):
        small(regions).train(1, holdout_chromosomes="chr4", **QUIET)


def test_a_mudata_of_pseudobulks_is_read_as_its_regions(regions):
    from mudata import MuData

    expected = small(regions).module.state_dict()
    del regions.uns["scatacformer_get"]
    rna = regions[:, :3].copy()
    rna.var_names = ["x", "y", "z"]
    mdata = MuData({"atac": regions, "rna": rna})
    with pytest.raises(ValueError, match=r"call sf.GET.setup_mudata\(mdata\) first"):
        small(mdata)
    with pytest.raises(KeyError, match="no modality 'peaks'; it has atac, rna"):
        sf.GET.setup_mudata(mdata, "peaks")
    with pytest.raises(TypeError, match="expected a MuData, found AnnData"):
        sf.GET.setup_mudata(regions)
    sf.GET.setup_mudata(mdata)
    model = small(mdata)
    assert all(torch.equal(value, expected[name]) for name, value in model.module.state_dict().items())
    model.train(1, holdout_chromosomes="chr4", **QUIET)
    found = model.get_predicted_expression()
    np.testing.assert_array_equal(model.get_predicted_expression(mdata), found)
    model.get_predicted_expression(mdata, inplace=True)
    assert "get_exp_pos" in mdata["atac"].layers
    assert sf.GET.load_query_data(mdata, model).adata is mdata["atac"]


def test_unknown_names_are_said(trained):
    with pytest.raises(KeyError, match=r"1 of 2 genes have no region at their TSS \(first: 'TP53'\)"):
        trained.get_predicted_expression(genes=["TP53", "gene_3"])
    with pytest.raises(KeyError, match="there is no group 'NK'"):
        trained.get_gene_by_motif(groups="NK")


def test_low_rank_changes_leave_the_weights_alone(trained):
    model = sf.GET.__new__(sf.GET)
    model.__dict__.update(trained.__dict__)
    model.module = trained.module.with_target("expression")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.train(2, lora=4, holdout_chromosomes="chr4", holdout_groups="g5", early_stopping=False, **QUIET)
    state = model.module.state_dict()
    for name, value in before.items():
        kept = name.replace(".weight", ".parametrizations.weight.original")
        if not name.startswith("head"):
            assert torch.equal(state[kept if kept in state else name], value), name
    assert not torch.equal(state["head.weight"], before["head.weight"])
    unmerged = model.get_predicted_expression()
    with pytest.raises(ValueError, match="the model has an adapter"):
        model.train(1, holdout_chromosomes="chr4", **QUIET)
    model.merge_adapter()
    np.testing.assert_allclose(model.get_predicted_expression(), unmerged, atol=1e-5)
    assert set(model.module.state_dict()) == set(before)
    assert not torch.equal(model.module.blocks[0].up.weight, before["blocks.0.up.weight"])


@pytest.mark.parametrize("closed", [0.0, 0.1, 0.3])
def test_no_training_window_touches_what_is_held_out(regions, monkeypatch, closed):
    loaders = []

    class Spy(WindowLoader):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            loaders.append(self)

    monkeypatch.setattr("scatacformer.model.get._train.WindowLoader", Spy)
    is_closed = np.random.default_rng(0).random(regions.shape) < closed
    regions.layers["acpm"][is_closed] = 0
    model = small(regions, open_only=True)
    model.train(1, holdout_chromosomes="chr4", holdout_groups="g5", early_stopping=False, **QUIET)
    chrom = regions.var["chrom"].to_numpy()
    for loader, held in zip(loaders, (False, True), strict=True):
        seen = 0
        for epoch in range(3):
            loader.set_epoch(epoch)
            for batch in loader:
                for group, window in zip(batch["group"].tolist(), batch["regions"].numpy(), strict=True):
                    columns = window[window >= 0]
                    seen += len(columns)
                    assert len(set(chrom[columns])) == 1
                    assert (regions.layers["acpm"][group, columns] > 0).all()
                    assert (chrom[columns[0]] == "chr4", group == 5) == (held, held)
        assert seen > 100


def test_data_changed_in_place_are_refused_and_read_anew_where_passed():
    regions = make_regions()
    sf.GET.setup_anndata(regions)
    model = small(regions)
    model.train(1, holdout_chromosomes="chr4", **QUIET)
    before = model.get_predicted_expression()
    order = np.random.default_rng(0).permutation(regions.n_obs)
    regions._inplace_subset_obs(order)
    with pytest.raises(ValueError, match="adata has other groups, or the same in another order"):
        model.get_predicted_expression()
    again = model.get_predicted_expression(regions)  # the remedy
    np.testing.assert_allclose(again[before.columns], before, atol=1e-5)
    regions._inplace_subset_var(np.arange(240))
    for call in (
        model.get_predicted_expression,
        lambda: model.get_expression_tables(),
        lambda: model.train(1, **QUIET),
    ):
        with pytest.raises(ValueError, match=r"adata has other .*changed in place"):
            call()
