from __future__ import annotations

from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

from matplotlib import pyplot as plt

from scatacformer import pl, pp
from scatacformer.pl._calibration import _wilson
from scatacformer.pl._genes import draw_genes, gene_table, genome_axis


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
    np.testing.assert_array_equal(lines["train"].get_xdata(), [1, 2, 3])  # epochs are counted from 1, as in the log
    assert lines["best epoch (2)"].get_xdata()[0] == 2


def test_training_curves_marks_where_the_encoder_joins(model):
    assert not [line for line in pl.training_curves(model).get_lines() if "encoder" in str(line.get_label())]
    model._decoder_epochs = 1
    lines = {line.get_label(): line for line in pl.training_curves(model).get_lines()}
    assert lines["encoder joins (epoch 2)"].get_xdata()[0] == 1.5


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


def test_embedding_has_dots_by_the_number_of_cells_and_named_axes(cells):
    ax = pl.embedding(cells, "cell_type")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("UMAP1", "UMAP2")
    assert ax.collections[0].get_sizes()[0] == 40
    many = cells[np.arange(30_000) % cells.n_obs].copy()
    many.obs_names_make_unique()
    assert pl.embedding(many, "cell_type").collections[0].get_sizes()[0] == 2


def test_the_legend_of_an_embedding_overlaps_no_panel(cells):
    cells.obs["long"] = ("a rather long name of a cell type, " + cells.obs["cell_type"].astype(str)).astype("category")
    axes = pl.embedding(cells, ["long", "batch"])
    axes[0].figure.canvas.draw()
    legend = axes[0].get_legend().get_window_extent()
    assert not legend.overlaps(axes[0].get_window_extent())
    assert not legend.overlaps(axes[1].get_window_extent())


def test_the_colorbar_of_an_embedding_is_no_higher_than_its_panel(cells):
    cells.obs["depth"] = np.arange(cells.n_obs, dtype=float)
    ax = pl.embedding(cells, "depth")
    ax.figure.canvas.draw()
    bar = ax.child_axes[0].get_window_extent()
    assert bar.height < ax.get_window_extent().height
    assert bar.x0 > ax.get_window_extent().x1


@pytest.mark.parametrize(
    ("width", "unit", "inside"), [(500, "bp", "150,200"), (100_000, "kb", "200"), (5_000_000, "Mb", "2.0")]
)
def test_the_axis_of_the_genome_has_readable_positions(width, unit, inside):
    _, ax = plt.subplots()
    genome_axis(ax, "chr1", 150_000, 150_000 + width)
    ax.figure.canvas.draw()
    assert ax.get_xlabel() == f"chr1, {unit}"
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert inside in labels
    assert len(set(labels)) == len(labels) <= 8
    assert "e" not in "".join(labels)


def test_genes_are_drawn_in_rows_that_do_not_overlap():
    genes = pd.DataFrame(
        {"chrom": "chr1", "start": [0, 1000, 50_000, 90_000], "end": [60_000, 2000, 60_000, 95_000],
         "strand": ["+", "-", ".", "+"], "name": ["long", "inside", "third", "apart"]}
    )  # fmt: skip
    _, ax = plt.subplots()
    draw_genes(ax, genes, "chr1", 0, 100_000)
    row = {text.get_text(): round(text.get_position()[1] - 0.15) for text in ax.texts if text.get_text()}
    assert row["long"] == 0 and row["inside"] == -1 and row["third"] < 0 and row["apart"] == 0
    assert len([text for text in ax.texts if not text.get_text()]) == 3  # arrows of those with a strand
    with pytest.raises(KeyError, match="genes lacks the columns strand"):
        gene_table(genes.drop(columns="strand"))


def test_intervals_of_a_share_are_wilsons():
    low, high = _wilson(np.array([0.0, 5.0]), np.array([10.0, 10.0]))
    np.testing.assert_allclose([low[0], high[0]], [0, 0.2775], atol=1e-3)
    np.testing.assert_allclose([low[1], high[1]], [0.2366, 0.7634], atol=1e-3)


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
