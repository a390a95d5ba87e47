"""Data that changed after the set-up, batches by other names, another assembly: right, or refused in a sentence."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import scatacformer as sf
from scatacformer.genome import chrom_sizes

from ._cells import SIZES, fresh, planted, quiet, trained

SF = sf.ScAtacFormer
GETTERS = {
    "embedding": lambda m, a: m.get_latent_representation(a),
    "accessibility": lambda m, a: m.get_normalized_accessibility(a),
    "mean": lambda m, a: m.get_mean_accessibility(a),
    "differential": lambda m, a: m.differential_accessibility(a, groupby="type", silent=True),
    "annotate": lambda m, a: m.annotate(m.adata if a is None else a),
    "labels": lambda m, a: m.predict(a),
    "training": lambda m, a: m.train_labels(),
}


@pytest.fixture
def own(adata):
    return trained(adata, setup={"batch_key": "sample", "labels_key": "type"}, supervised=True), adata


@pytest.mark.parametrize("name", GETTERS)
def test_regions_that_were_removed_or_reordered_in_place_are_refused_by_every_getter(own, name):
    model, adata = own
    whole = adata.copy()
    for change, message in (
        (lambda a: a._inplace_subset_var(np.arange(400)[::-1]), "the same in another order .*then 400, now 400"),
        (lambda a: sc.pp.filter_genes(a, min_cells=15), "other regions than when it was set up .then 400, now"),
    ):
        change(adata)
        with pytest.raises(ValueError, match=message):
            GETTERS[name](model, None)
        with pytest.raises(ValueError, match="regions|order"):
            GETTERS[name](model, adata)
    if name != "training":
        GETTERS[name](model, whole)


def test_cells_that_were_removed_or_reordered_in_place_are_read_as_they_are(own):
    model, adata = own
    z = model.get_latent_representation()
    order = np.random.default_rng(0).permutation(90)[:50]
    adata._inplace_subset_obs(order)
    np.testing.assert_allclose(model.get_latent_representation(), z[order], atol=1e-6)


def test_regions_by_other_names_are_the_same(own):
    model, adata = own
    z = model.get_latent_representation()
    adata.var_names = [name.replace(":", "-") for name in adata.var_names]
    np.testing.assert_array_equal(model.get_latent_representation(), z)


def test_regions_that_change_between_set_up_and_model_are_refused(adata):
    SF.setup_anndata(adata)
    sc.pp.filter_genes(adata, min_cells=15)
    with pytest.raises(ValueError, match="then 400, now .*changed in place.*Call setup_anndata"):
        SF(adata)


def test_columns_of_the_set_up_that_are_gone_are_named(own):
    model, adata = own
    adata.obs = adata.obs[["type"]].copy()
    with pytest.raises(ValueError, match="lacks '_scvi_batch', which setup_anndata added: obs was replaced"):
        model.get_latent_representation()


# ── batches ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def numbered():
    """A model whose batches are the numbers 0 and 1."""
    adata = planted()
    adata.obs["sample"] = np.arange(90) % 2
    return trained(adata)


@pytest.mark.parametrize("kind", [str, int, "category"])
def test_batches_are_compared_by_name(numbered, kind):
    query = planted(20, seed=4)
    query.obs["sample"] = (np.arange(20) % 2).astype(str if kind == "category" else kind)
    query.obs["sample"] = query.obs["sample"].astype(kind)
    found = SF.load_query_data(query, numbered)
    assert (found.config_.n_batch, found._trainable().new_batches) == (2, ())
    np.testing.assert_array_equal(query.obs["_scvi_batch"], np.arange(20) % 2)


def test_a_new_batch_beside_numbers(numbered):
    query = planted(20, seed=4)
    query.obs["sample"] = "new"
    assert SF.load_query_data(query, numbered)._trainable().new_batches == (2,)
    with pytest.raises(
        ValueError, match="1 of the 1 batches .* not the model's .first: 'new'; the model's: 0, 1.*load_query_data"
    ):
        numbered.get_latent_representation(query)


def test_batches_of_mixed_types(adata):
    adata.obs["sample"] = [1, "a"] * 45
    model = fresh(adata)
    assert model._batch_names() == ["1", "a"]


@pytest.mark.parametrize("missing", [None, np.nan])
def test_cells_without_a_batch_are_counted(adata, model, missing):
    for column in (["a"] * 88 + [missing] * 2, pd.Categorical(["a"] * 88 + [missing] * 2)):
        adata.obs["sample"] = column
        for call in (lambda: fresh(adata), lambda: SF.load_query_data(adata, model),
                     lambda: model.get_latent_representation(adata)):  # fmt: skip
            with pytest.raises(ValueError, match=r"2 of 90 cells have no adata.obs\['sample'\] .first: cell88"):
                call()


def test_a_category_that_no_cell_has_is_no_batch():
    adata = planted()
    adata.obs["sample"] = pd.Categorical(adata.obs["sample"].astype(str), categories=["a", "b", "z"])
    model = trained(adata)
    assert model.config_.n_batch == 2
    np.testing.assert_array_equal(model.get_latent_representation(), trained(planted()).get_latent_representation())
    query = planted(20, seed=4, batches=("z",))
    assert SF.load_query_data(query, model)._trainable().new_batches == (2,)


def test_cells_without_the_column_are_one_new_batch(model, tmp_path):
    """As those of a model that was pretrained on a corpus, whose column the user's cells do not have."""
    query = planted(40, seed=4)
    del query.obs["sample"]
    found = SF.load_query_data(query, model)
    assert (found.config_.n_batch, found._trainable().new_batches) == (3, (2,))
    assert "sample" not in query.obs
    z = found.get_latent_representation()
    assert np.isfinite(z).all()
    np.testing.assert_array_equal(found.get_latent_representation(query.copy()), z)
    found.save(tmp_path / "m")
    again = SF.load(tmp_path / "m", adata=query.copy())
    np.testing.assert_array_equal(again.get_latent_representation(), z)
    with pytest.raises(ValueError, match="no column 'sample'.*load_query_data"):
        model.get_latent_representation(_without(planted(40)))


def _without(adata):
    del adata.obs["sample"]
    return adata


# ── queries ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("missing", [0, 60])
def test_the_remedy_that_the_error_names_works(model, dtype, missing):
    """Regions in another order, with sorted indices, as any file holds them."""
    query = planted()
    query.X = query.X.astype(dtype)
    query = query[:, np.random.default_rng(0).permutation(400)[: 400 - missing]].copy()
    query.X.sort_indices()
    with pytest.raises(ValueError, match="prepare_query_anndata"):
        model.get_latent_representation(query)
    before = query.X.copy()
    new = SF.prepare_query_anndata(query, model, inplace=False)
    assert (query.X != before).nnz == 0
    if not missing:
        np.testing.assert_array_equal(new[:, model.adata.var_names].X.toarray(), planted().X.toarray())
        np.testing.assert_array_equal(SF.load_query_data(new.copy(), model).get_latent_representation(),
                                      model.get_latent_representation())  # fmt: skip
    sc.pp.normalize_total(new, target_sum=1e4)
    sc.pp.log1p(new)
    assert (query.X != before).nnz == 0  # nothing is shared
    SF.prepare_query_anndata(query, model)
    assert query.n_vars == 400


def test_the_copy_shares_nothing_where_nothing_had_to_be_moved(model):
    query = planted()
    new = SF.prepare_query_anndata(query, model, inplace=False)
    first = query.X.data[0]
    new.X.data[:] = 7
    assert query.X.data[0] == first


# ── assemblies ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _binned(assembly: str, named: bool, seed: int = 0) -> ad.AnnData:
    sizes = {name: size for name, size in chrom_sizes(assembly).items() if name in ("chr20", "chr21", "chr22")}
    names = [f"{c}:{s}-{min(s + 500_000, n)}" for c, n in sizes.items() for s in range(0, n, 500_000)]
    rng = np.random.default_rng(seed)
    counts = (rng.random((40, len(names))) < 0.2).astype(np.float32)
    adata = ad.AnnData(sp.csr_matrix(counts), obs=pd.DataFrame({"sample": ["a", "b"] * 20},
                       index=[f"c{i}" for i in range(40)]), var=pd.DataFrame(index=names))  # fmt: skip
    if named:
        adata.uns["assembly"] = assembly
    return adata


@pytest.mark.parametrize("named", [True, False])
def test_cells_of_another_assembly_are_refused_though_nothing_names_it(named):
    """``anndata.concat`` drops ``uns``; the ends of the bins still say it."""
    model = fresh(_binned("hg38", named=False))
    model.is_trained_ = True
    assert model.vocabulary.assembly == "hg38"
    for call in (
        lambda: SF.load_query_data(_binned("hg19", named), model),
        lambda: SF.load_query_data(_binned("hg19", named), model, inplace_subset_query_vars=True),
        lambda: SF.prepare_query_anndata(_binned("hg19", named), model),
        lambda: model.get_latent_representation(_binned("hg19", named)),
    ):
        with pytest.raises(ValueError, match="hg19"):
            call()
    SF.load_query_data(_binned("hg38", named, seed=1), model)


def test_a_name_that_the_ends_of_the_bins_contradict_is_refused():
    adata = _binned("hg38", named=False)
    adata.uns["assembly"] = "hg19"
    with pytest.raises(ValueError, match="named hg19, but the bins end where the chromosomes of hg38 end"):
        fresh(adata)


def test_a_loop_over_data_sets_does_not_keep_them(model):
    """scvi-tools' managers hold every AnnData that was ever set up; ours do not."""
    gone = []
    for seed in range(3):
        query = planted(40, seed=seed)
        found = SF.load_query_data(query, model)
        found.get_latent_representation()
        model.get_latent_representation(other := planted(30, seed=seed + 10))
        gone += [weakref.ref(query), weakref.ref(other)]
        del query, found, other
    gc.collect()
    assert [one() for one in gone] == [None] * 6


@pytest.mark.slow
def test_twenty_data_sets_take_the_memory_of_one():
    def cells(seed):
        return sf.datasets.simulated_cells(
            200, genome={"chr1": 10_000_000, "chr2": 10_000_000}, fragments=1_500, seed=seed
        )

    def embed(adata):
        SF.setup_anndata(adata)
        own = SF(adata, **SIZES)
        own.train(embedding_only=True)
        own.get_latent_representation()
        SF.load_query_data(adata.copy(), reference).get_latent_representation()
        reference.get_latent_representation(adata.copy())

    reference = fresh(cells(99), setup={})
    reference.train(embedding_only=True)
    size = 8 * cells(0).X.nnz  # bytes
    with quiet():
        for seed in range(23):
            embed(cells(seed))
            gc.collect()
            if seed == 2:  # what is made once is there
                tracemalloc.start()
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert taken < size
