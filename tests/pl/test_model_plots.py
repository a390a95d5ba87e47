"""Plots that ask a trained model."""

from __future__ import annotations

import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

mpl.use("Agg")

import anndata as ad
from matplotlib import pyplot as plt

import scatacformer as sf
from scatacformer.genome import Genes, links_table, window_pairs


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    kind = np.arange(200) % 2
    rate = np.full((2, 300), 0.08)
    rate[0, 20:60], rate[1, 150:190] = 0.5, 0.5
    x = sp.csr_matrix((rng.random((200, 300)) < rate[kind]).astype(np.float32))
    names = [f"chr1:{s}-{s + 5000}" for s in range(0, 1_500_000, 5000)]
    adata = ad.AnnData(x, obs=pd.DataFrame({"type": kind.astype(str)}), var=pd.DataFrame(index=names))
    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata, d_model=16, n_layers=1, n_heads=2, d_embed=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train(max_epochs=10, batch_size=16, sentence_kwargs={"n_closed": 128, "max_tokens": 32}, accelerator="cpu",
                    enable_progress_bar=False)  # fmt: skip
    return model


def test_a_track_shows_what_was_measured_and_what_is_predicted(model, tmp_path):
    axes = sf.pl.genome_track(model, "chr1:100,000-300,000", "type")
    assert [ax.get_title(loc="left") for ax in axes] == ["0", "1"]
    kind = model.adata.obs["type"].to_numpy()
    for ax, group in zip(axes, "01", strict=True):
        measured, predicted = (patch.get_data().values for patch in ax.patches)
        expected = np.asarray((model.adata.X[kind == group][:, 20:60] > 0).mean(0)).ravel()
        np.testing.assert_allclose(measured, expected, atol=1e-6)
        assert np.corrcoef(predicted, measured)[0, 1] > 0 or group == "1"
        assert abs(predicted.mean() - measured.mean()) < 0.15
    sf.pl.genome_track(model, "chr1:100000-300000", "type", save=tmp_path / "track.png")
    assert (tmp_path / "track.png").stat().st_size > 5_000
    plt.close("all")


def test_links_stand_below_what_is_measured_and_predicted(model):
    genes = Genes(["gene"], ("chr1",), [0], [500_000], ["+"])
    pairs = window_pairs(genes, model.vocabulary, 300_000)
    score = np.linspace(0, 1, len(pairs.bins))
    table = links_table(genes, model.vocabulary, pairs, score, 1 - score, 1 - score, np.ones(300, int))
    axes = sf.pl.links(table, "gene", "type", model=model, region="chr1:100,000-800,000")
    assert len(axes) == 4 and axes[2].patches
    tracks = sf.pl.genome_track(model, "chr1:100,000-800,000", "type")
    for ax, track in zip(axes[:2], tracks, strict=True):
        for ours, theirs in zip(ax.patches, track.patches, strict=True):
            np.testing.assert_allclose(ours.get_data().values, theirs.get_data().values)
    plt.close("all")


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("chr1", "region looks like 'chr1:1,000,000-1,500,000', found 'chr1'"),
        ("chr1:300-200", "ends before it starts"),
        ("chr7:0-1,000", "overlaps 0 of the regions"),
    ],
)
def test_a_region_that_cannot_be_drawn_is_refused(model, region, message):
    with pytest.raises(ValueError, match=message):
        sf.pl.genome_track(model, region, "type")
    with pytest.raises(KeyError, match="no column 'kind'"):
        sf.pl.genome_track(model, "chr1:0-5000", "kind")


def test_removed_bins_of_planted_cells_are_open_as_often_as_predicted(model):
    ax = sf.pl.calibration(model, indices=np.arange(200), n_groups=8)
    curve, _, (bars,) = ax.containers[0]
    predicted, measured = curve.get_xdata(), curve.get_ydata()
    for bar, value in zip(bars.get_segments(), measured, strict=True):
        assert bar[0, 1] <= value <= bar[1, 1]
        assert bar[0, 1] < bar[1, 1]
    (counts,) = ax.child_axes
    assert len(counts.collections[0].get_segments()) >= len(predicted)
    assert len(predicted) >= 3
    assert (np.diff(predicted) > 0).all()
    np.testing.assert_allclose(measured, predicted, atol=0.12)
    assert measured[-1] > 2 * measured[0]
    plt.close("all")
    few = sf.pl.calibration(model)  # held-out cells alone
    assert len(few.containers[0][0].get_xdata()) >= 1
    plt.close("all")
