from __future__ import annotations

from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

from matplotlib import pyplot as plt

from scatacformer import pl, pp


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def model():
    frame = {
        name: pd.DataFrame({name: values}, index=pd.RangeIndex(3, name="epoch"))
        for name, values in (("train_loss", [3.0, 2.0, 1.0]), ("validation_loss", [3.0, 2.0, 2.5]))
    }
    return SimpleNamespace(history=frame)


@pytest.fixture
def cells(small_adata):
    small_adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(small_adata.n_obs, 2))
    return small_adata


def test_training_curves_draws_both_losses_and_the_best_epoch(model):
    ax = pl.training_curves(model)
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_allclose(lines["train"].get_ydata().astype(float), [3, 2, 1])
    np.testing.assert_allclose(lines["validation"].get_ydata().astype(float), [3, 2, 2.5])
    assert lines["best epoch (1)"].get_xdata()[0] == 1


def test_training_curves_of_an_untrained_model_says_so():
    with pytest.raises(ValueError, match=r"Train it first with model.train\(\)"):
        pl.training_curves(SimpleNamespace(history=None))


def test_qc_sentences_counts_every_cell_and_names_those_beyond_the_limits(cells):
    pp.qc_sentences(cells)
    n_tokens = cells.obs["n_tokens"].to_numpy()
    low, high = np.quantile(n_tokens, [0.1, 0.9]).astype(int)
    ax = pl.qc_sentences(cells, min_tokens=low, max_tokens=high)
    assert sum(patch.get_height() for patch in ax.patches) == cells.n_obs
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0].startswith(f"{(n_tokens < low).sum()} cells below")
    assert labels[1].startswith(f"{(n_tokens > high).sum()} cells above")


def test_qc_sentences_shows_empty_cells_too(cells):
    cells.obs["n_tokens"] = 0
    ax = pl.qc_sentences(cells)
    assert sum(patch.get_height() for patch in ax.patches) == cells.n_obs


def test_qc_sentences_without_counts_names_the_remedy(cells):
    with pytest.raises(KeyError, match="sf.pp.qc_sentences"):
        pl.qc_sentences(cells)


def test_embedding_draws_every_cell_in_one_panel_per_color(cells):
    axes = pl.embedding(cells, ["cell_type", "batch"], basis="umap")
    assert [ax.get_title() for ax in axes] == ["cell_type", "batch"]
    assert len(axes[0].collections[0].get_offsets()) == cells.n_obs


def test_embedding_names_what_is_missing(cells):
    with pytest.raises(KeyError, match="'organ' is neither a column of adata.obs nor a bin"):
        pl.embedding(cells, "organ")
    with pytest.raises(KeyError, match="no 'X_tsne'; it has X_umap"):
        pl.embedding(cells, basis="X_tsne")


def test_save_writes_a_whole_picture_and_closes_it(tmp_path, model):
    path = tmp_path / "curves.png"
    pl.training_curves(model, save=path)
    assert plt.imread(path).shape[0] > 100
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
    assert not plt.get_fignums()


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path, model):
    with pytest.raises(ValueError, match="must end in one of"):
        pl.training_curves(model, save=tmp_path / "curves.docx")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        pl.training_curves(model, save=tmp_path / "absent" / "curves.png")
    assert not list(tmp_path.iterdir())


def test_an_earlier_picture_survives_a_failure(tmp_path, model, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_bytes(b"earlier")

    def fail(self, name, **kwargs):
        name.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        pl.training_curves(model, save=path)
    assert path.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
