"""Plots of tracks, variants and attributions show the numbers that they are given."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from xarray import DataArray

import scatacformer as sf

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


class FakeModel:
    """What the plots ask of a model: predictions that are known."""

    def __init__(self, adata: AnnData) -> None:
        self.adata = adata

    def predict_region(self, region: str, groups: object, progress: bool) -> DataArray:
        start = np.arange(1280, 2560, 128)
        coords = {"track": ["T", "B"], "start": ("bin", start), "end": ("bin", start + 128)}
        values = np.arange(20, dtype=np.float32).reshape(2, 10)
        return DataArray(values, dims=("track", "bin"), coords=coords, attrs={"chrom": "chr1"})

    def predict_alleles(self, variant: str, groups: object, window: int) -> DataArray:
        coords = {"allele": ["reference", "alternative"], "track": ["T"], "offset": ("bin", [-64.0, 64.0])}
        return DataArray([[[1.0, 2.0]], [[3.0, 1.0]]], dims=("allele", "track", "bin"), coords=coords)


@pytest.fixture
def adata() -> AnnData:
    start = np.arange(0, 2048, 128)
    var = pd.DataFrame({"chrom": pd.Categorical(["chr1"] * 16), "start": start, "end": start + 128})
    var.index = [f"b{i}" for i in range(16)]
    obs = pd.DataFrame(index=["B", "T"])
    adata = AnnData(np.arange(32, dtype=np.float32).reshape(2, 16), obs=obs, var=var)
    adata.layers["epiformer"] = adata.X * 1.0
    adata.layers["epiformer"][:, :2] = np.nan
    return adata


def test_coverage_shows_measured_and_predicted_of_the_same_track(adata: AnnData, tmp_path: Path) -> None:
    genes = pd.DataFrame(
        {
            "chrom": "chr1",
            "start": [1300, 1500, 99_000],
            "end": [2000, 2500, 99_999],
            "strand": ["+", "-", "+"],
            "name": list("XYZ"),
        }
    )
    axes = sf.pl.coverage(FakeModel(adata), "chr1:1280-2560", genes=genes, mark=1500)
    assert len(axes) == 3
    assert [ax.get_ylabel() for ax in axes[:2]] == ["T", "B"]
    np.testing.assert_array_equal(axes[0].lines[0].get_ydata(), [*range(10), 9])  # the last to its end
    filled = axes[0].collections[0].get_paths()[0].vertices[:, 1].max()
    assert filled == adata.X[1, 15]  # the last bin that was measured, of the track T
    assert {text.get_text() for text in axes[2].texts} - {""} == {"X", "Y"}
    assert axes[0].lines[1].get_xdata()[0] == 1500
    assert axes[2].get_xlabel() == "chr1, bp" and axes[2].get_xlim() == (1280, 2560)
    sf.pl.coverage(FakeModel(adata), "chr1:1280-2560", save=tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 5000


def test_variant_shows_both_alleles_and_their_difference(adata: AnnData) -> None:
    axes = sf.pl.variant(FakeModel(adata), "chr1:5 A>C")
    np.testing.assert_array_equal(axes[0].lines[0].get_ydata(), [1, 2, 2])
    np.testing.assert_array_equal(axes[0].lines[1].get_ydata(), [3, 1, 1])
    heights = axes[1].collections[0].get_paths()[0].vertices[:, 1]
    assert heights.max() == 2 and heights.min() == -1
    assert axes[0].get_xlim() == (-128, 128)


def test_a_logo_has_a_letter_of_each_base_as_tall_as_it_counts() -> None:
    values = np.zeros((4, 4, 1), dtype=np.float32)
    for i, (base, height) in enumerate([(0, 1.0), (3, -0.5), (2, 0.25), (1, 2.0)]):
        values[i, base, 0] = height
    coords = {"position": np.arange(10, 14), "base": list("ACGT"), "track": ["T"]}
    logo = DataArray(
        values, dims=("position", "base", "track"), coords=coords, attrs={"chrom": "chr1"}, name="attribution"
    )
    ax = sf.pl.sequence_logo(logo)
    ax.figure.canvas.draw()
    boxes = [patch.get_window_extent().transformed(ax.transData.inverted()) for patch in ax.patches]
    assert [round(b.y1 - b.y0, 2) for b in boxes] == [1.0, 0.5, 0.25, 2.0]
    assert boxes[1].y1 == pytest.approx(0, abs=1e-6) and boxes[0].y0 == pytest.approx(0, abs=1e-6)
    assert [round((b.x0 + b.x1) / 2) for b in boxes] == [10, 11, 12, 13]
    change = logo.rename("change").assign_attrs(reference="ATGC")
    ax = sf.pl.sequence_logo(change)
    assert len(ax.patches) == 4
    with pytest.raises(ValueError, match="no track 'B'; the tracks are T"):
        sf.pl.sequence_logo(logo, "B")
    with pytest.raises(ValueError, match="position × base × track"):
        sf.pl.sequence_logo(logo.sum("base"))


def test_correlations_are_those_of_the_bins_that_have_both(adata: AnnData) -> None:
    adata.X = np.random.default_rng(0).gamma(1, 1, adata.shape).astype(np.float32)
    noise = np.random.default_rng(1).gamma(1, 1, adata.shape).astype(np.float32)
    adata.layers["epiformer"] = np.stack([noise[0], adata.X[0]])  # the second is predicted as the first was measured
    adata.layers["epiformer"][:, :2] = np.nan
    ax = sf.pl.track_correlation(adata)
    found = np.array(ax.images[0].get_array())
    assert found[0, 1] == pytest.approx(1)
    logs = [np.log2(values[0, 2:] + 1) for values in (adata.X, noise)]
    assert found[0, 0] == pytest.approx(np.corrcoef(*logs)[0, 1])
    with pytest.raises(KeyError, match="model.get_predicted_tracks"):
        sf.pl.track_correlation(adata, "other")
    with pytest.raises(ValueError, match="no bin on those chromosomes"):
        sf.pl.track_correlation(adata, chromosomes="chr7")
