"""Bad input is refused before training, with what was found, what was expected and what to do."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scatacformer as sf

from ._cells import N_BINS, SIZES, fresh, planted, quiet

setup = sf.ScAtacFormer.setup_anndata


def with_value(value: float) -> ad.AnnData:
    adata = planted()
    adata.X.data[17] = value
    return adata


def renamed(first: str) -> ad.AnnData:
    adata = planted()
    adata.var_names = [first, *adata.var_names[1:]]
    return adata


def empty_cell() -> ad.AnnData:
    adata = planted()
    adata.X = sp.vstack([adata.X[:89], sp.csr_matrix((1, N_BINS), dtype=np.float32)], format="csr")
    return adata


def nothing_open() -> ad.AnnData:
    adata = planted()
    adata.X = sp.csr_matrix(adata.shape, dtype=np.float32)
    return adata


def duplicate_bins() -> ad.AnnData:
    adata = planted()
    adata.var = pd.DataFrame({"chrom": "chr1", "start": np.arange(N_BINS) * 5000}, index=adata.var_names)
    adata.var["end"] = adata.var["start"] + 5000
    adata.var.iloc[1] = adata.var.iloc[0]
    return adata


def beyond_the_end() -> ad.AnnData:
    adata = renamed("chr1:900000000-900005000")
    adata.uns["assembly"] = "hg38"
    return adata


def unknown_chromosome() -> ad.AnnData:
    adata = renamed("chr99:0-5000")
    adata.uns["assembly"] = "hg38"
    return adata


def repeated_cells() -> ad.AnnData:
    adata = planted()
    adata.obs_names = ["cell0", *adata.obs_names[:-1]]
    return adata


def by_column() -> ad.AnnData:
    adata = planted()
    adata.X = adata.X.tocsc()
    return adata


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: planted()[:50], r"adata = adata.copy\(\)"),
        (lambda: with_value(-1), "1 counts are negative in 1 of 90 cells.*first: -1 in cell cell0"),
        (lambda: with_value(np.nan), "NaN or infinite"),
        (lambda: with_value(np.inf), "NaN or infinite"),
        (lambda: with_value(0.5), "not integer.*Raw counts are needed.*layer="),
        (empty_cell, r"1 of 90 cells have no open bin \(cell89\)"),
        (nothing_open, "no bin is open in any of 90 cells"),
        (duplicate_bins, "duplicates of another"),
        (lambda: renamed("enhancer"), "enhancer"),
        (unknown_chromosome, "chr99"),
        (beyond_the_end, "hg38"),
        (lambda: planted()[:1].copy(), "found 1 cell, expected at least 2"),
        (lambda: planted()[:, :0].copy(), "no bins"),
        (repeated_cells, "obs_names_make_unique"),
        (by_column, "CSC|by column|tocsr"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        setup(make())


def test_a_query_of_one_cell_is_refused_with_the_way_to_embed_it():
    adata, one = planted(), planted()[:1].copy()
    setup(adata)
    model = sf.ScAtacFormer(adata, **SIZES)
    with quiet():
        model.train(embedding_only=True)
    with pytest.raises(ValueError, match=r"found 1 cell.*model\.get_latent_representation\(adata\)"):
        sf.ScAtacFormer.load_query_data(one, model)
    found, whole = model.get_latent_representation(one), model.get_latent_representation()
    np.testing.assert_allclose(found, whole[:1], atol=1e-5)


def test_overlapping_bins_warn():
    with pytest.warns(UserWarning, match=r"1 of 400 regions overlap another.*chr1"):
        setup(renamed("chr1:0-6000"))


def test_what_is_not_there_is_named():
    with pytest.raises(KeyError, match=r"no layer 'counts'; it has \[\] and X"):
        setup(planted(), layer="counts")
    with pytest.raises(KeyError, match="donor"):
        setup(planted(), batch_key="donor")
    adata = planted()
    adata.X = None
    with pytest.raises(ValueError, match="adata.X is None|no counts"):
        setup(adata)


def test_batches_that_are_missing_are_refused():
    adata = planted()
    adata.obs["sample"] = adata.obs["sample"].where(np.arange(90) > 3)
    with pytest.raises(ValueError, match="NaN|missing|sample"):
        setup(adata, batch_key="sample")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "giant"}, "size is .giant.; expected one of"),
        ({"decoder": "linear"}, "decoder is .linear.; expected one of"),
        ({"removed_share": 1.0}, "removed_share is 1.0; expected 0 ... 0.9"),
        ({"attention": "fastest"}, "attention is .fastest.; expected one of"),
        ({"n_heads": 3}, "expected a multiple of n_heads"),
    ],
)
def test_sizes_that_cannot_be_are_refused_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        fresh(planted(), **changes)


def test_a_kernel_that_is_not_to_be_had_is_refused_with_a_remedy():
    model = fresh(planted(), attention="varlen")
    with pytest.raises(ValueError, match="'varlen' needs a CUDA device.*backend='auto'"):
        model.train(max_epochs=2, accelerator="cpu", enable_progress_bar=False, plan_kwargs={"n_decoder_epochs": 0})


def test_without_setup_the_remedy_is_named():
    with pytest.raises(ValueError, match="[Pp]lease set up your AnnData with ScAtacFormer.setup_anndata"):
        sf.ScAtacFormer(planted())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"train_size": 1.5}, ValueError, "train_size"),
        ({"train_size": 0.9, "validation_size": 0.5}, ValueError, "between 0 and 1"),
        ({"batch_size": 0}, ValueError, "batch_size is .*; expected at least 1"),
        ({"datasplitter_kwargs": {"shuffle": True}}, TypeError, "has .*shuffle.*expected only external_indexing"),
        ({"sentence_kwargs": {"max_tokens": 0}}, ValueError, "max_tokens"),
        ({"sentence_kwargs": {"n_closed": 0}}, ValueError, "n_closed"),
        ({"sentence_kwargs": {"max_targets": 0}}, ValueError, "max_targets"),
        ({"sentence_kwargs": {"neighbor_share": 1.5}}, ValueError, "neighbor_share"),
    ],
)
def test_training_options_that_cannot_be_are_refused(arguments, error, message):
    model = fresh(planted())
    with pytest.raises(error, match=message):
        model.train(**({"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False} | arguments))
    assert not model.is_trained
