"""Arguments that a method does not have, and models as a notebook shows them."""

from __future__ import annotations

import pytest

import scatacformer as sf

from ._cells import planted


@pytest.mark.parametrize("cls", [sf.ScAtacFormer, sf.Atacformer])
def test_an_argument_of_the_setup_that_is_not_there_names_the_closest(cls):
    with pytest.raises(TypeError, match=r"setup_anndata\(\) has no argument 'label_key'; did you mean 'labels_key'\?"):
        cls.setup_anndata(planted(), label_key="type")


def test_models_without_labels_name_their_own_arguments():
    with pytest.raises(TypeError, match="did you mean 'motif_key'"):
        sf.GET.setup_anndata(planted(), motifs_key="motif")
    with pytest.raises(TypeError, match="did you mean 'fasta'"):
        sf.Epiformer.setup_anndata(planted(), fastas="hg38.fa")


@pytest.mark.parametrize(("name", "remedy"), [("categorical", "combination"), ("continuous", "classes")])
def test_covariates_say_what_to_use_instead(name, remedy):
    with pytest.raises(TypeError, match=f"no argument '{name}_covariate_keys'.*{remedy}"):
        sf.ScAtacFormer.setup_anndata(planted(), **{f"{name}_covariate_keys": ["donor"]})


def test_an_argument_of_train_that_is_not_there_names_the_closest():
    adata = planted()
    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata)
    with pytest.raises(TypeError, match=r"train\(\) has no argument 'n_epochs'; did you mean 'max_epochs'\?"):
        model.train(n_epochs=3)
    with pytest.raises(TypeError, match="did you mean 'precision'"):  # of Lightning's trainer
        model.train(precisoin="bf16-mixed")
    assert not model.is_trained_


def test_the_set_up_can_be_viewed(capsys):
    adata = planted()
    sf.ScAtacFormer.setup_anndata(adata)
    sf.ScAtacFormer(adata).view_anndata_setup()
    shown = capsys.readouterr().out
    assert "ScAtacFormer.setup_anndata" in shown
    assert "n_vars" in shown


def test_a_model_is_shown_in_a_line_and_as_a_table_of_its_sizes():
    adata = planted()
    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata)
    assert "\n" not in repr(model)
    table = model._repr_html_()
    assert f">{adata.n_vars:,}" in table and "not trained" in table
    assert table.count("<tr>") < 15


def test_other_cells_are_read_without_a_message_of_scvi_tools(capfd, caplog):
    adata = planted()
    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata)
    with caplog.at_level("INFO"):
        model._validate_anndata(planted())
    assert "attempting to transfer" not in caplog.text + "".join(capfd.readouterr())
