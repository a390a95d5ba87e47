"""Baselines on the same hold-out, and pictures of what GET says."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest

import scatacformer as sf

from .conftest import small

matplotlib.use("Agg")
QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def trained(_regions):
    model = small(_regions.copy())
    model.train(30, lr=4e-3, holdout_chromosomes="chr4", holdout_groups="g5", early_stopping_patience=30, **QUIET)
    return model


@pytest.fixture(scope="module")
def table(trained):
    return trained.compare_baselines()


def test_context_is_what_the_baselines_lack(table):
    assert list(table.index) == ["GET", *sf.model.get._baselines.BASELINES]
    assert (table["n"] == 20).all()
    alone = table.loc[["ridge", "linear_svr", "random_forest", "mlp"], "r2"]
    assert table.loc["GET", "r2"] > alone.max() + 0.1
    assert table.loc["GET", "pearson_specific"] > 0.5
    assert np.isnan(table.loc["group_mean", "pearson_specific"])


def test_scores_are_those_of_the_tables(trained, table):
    predicted, measured, chrom = trained.get_expression_tables()
    rows = (chrom == "chr4").to_numpy()
    x, y = predicted.loc[rows, "g5"], measured.loc[rows, "g5"]
    assert table.loc["GET", "pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-5)
    mean = measured.loc[rows, [f"g{i}" for i in range(5)]].mean(axis=1)
    assert table.loc["group_mean", "pearson"] == pytest.approx(np.corrcoef(mean, y)[0, 1], abs=1e-5)
    near = np.corrcoef(trained.adata.layers["acpm"])[5, :5].argmax()
    expected = np.corrcoef(measured.loc[rows, f"g{near}"], y)[0, 1]
    assert table.loc["nearest_group", "pearson"] == pytest.approx(expected, abs=1e-5)


def test_without_a_group_held_out_there_is_no_mean_of_others(trained):
    found = trained.compare_baselines(holdout_chromosomes="chr4", baselines=["group_mean", "ridge"])
    assert list(found.index) == ["GET", "ridge"]
    assert found["n"].tolist() == [120, 120]
    with pytest.raises(ValueError, match="there is no baseline 'boosting'"):
        trained.compare_baselines(baselines=["boosting"])


def test_pictures(trained, tmp_path):
    gbm = trained.get_gene_by_motif()
    ax = sf.pl.gene_by_motif(gbm, genes=["gene_9", "gene_3"], n_motifs=4, save=tmp_path / "map.png")
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[:2] == ["gene_9, g0", "gene_9, g1"]
    assert len(labels) == 12
    assert len(ax.get_xticklabels()) == 4
    bars = sf.pl.gene_by_motif(gbm, "gene_9", "g1", save=tmp_path / "bars.png")
    heights = sorted(patch.get_width() for patch in bars.patches)
    np.testing.assert_allclose(heights, np.sort(gbm["gene_9:g1"].X[0]), rtol=1e-5)
    panels = sf.pl.regulation(trained.score_enhancers("gene_9", "g1"), "gene_9", "g1", save=tmp_path / "window.png")
    assert len(panels[1].patches) == 12
    assert sum(patch.get_height() for patch in panels[1].patches) == pytest.approx(1)
    scatter = sf.pl.predicted_expression(trained, save=tmp_path / "expression.png")
    assert [ax.get_title() for ax in scatter] == ["g5 (held out)"]
    assert len(scatter[0].collections[0].get_offsets()) == 20
    assert all((tmp_path / f"{name}.png").stat().st_size > 5_000 for name in ("map", "bars", "window", "expression"))
    with pytest.raises(KeyError, match="gbm has no gene 'TP53'"):
        sf.pl.gene_by_motif(gbm, "TP53")
    with pytest.raises(KeyError, match="enhancers has no rows of 'TP53'"):
        sf.pl.regulation(trained.score_enhancers("gene_9", "g1"), "TP53", "g1")
    with pytest.raises(KeyError, match="there is no group 'NK'"):
        sf.pl.predicted_expression(trained, "NK")


def test_all_genes_are_drawn_where_none_is_named(trained):
    gbm = trained.get_gene_by_motif(groups="g2")
    ax = sf.pl.gene_by_motif(gbm, n_genes=7, show=False)
    assert len(ax.get_yticklabels()) == 7
    best = pd.Series(np.abs(gbm.X).max(1), index=gbm.obs["gene"]).nlargest(7).index
    assert [label.get_text() for label in ax.get_yticklabels()] == list(best)
