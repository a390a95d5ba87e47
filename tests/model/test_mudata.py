"""MuData beside AnnData: nothing of the user's is reordered or written to, and what does not fit is said before training."""

from __future__ import annotations

import gc
import hashlib
import warnings

import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scatacformer as sf
from scatacformer.model.scatacformer import _mudata

from ._cells import quiet
from ._pairs import N_GENES, PAIRED, TRAINING, fresh, planted_pairs, subset, trained

SF = sf.ScAtacFormer
SHORT = {"max_epochs": 1, "link_window": None, "n_components": 5}


@pytest.fixture(scope="module")
def mdata():
    return planted_pairs(160)


@pytest.fixture(scope="module")
def model(mdata):
    """Tests must not train it."""
    return trained(mdata, setup={"batch_key": "sample", "labels_key": "type"}, paired={"max_epochs": 3})


def bits(value) -> object:
    """A value that two objects share exactly if they hold the same."""
    if value is None:
        return None
    if sp.issparse(value):
        return tuple(map(bits, (value.data, value.indices, value.indptr)))
    if isinstance(value, pd.DataFrame):
        parts = {str(name): bits(value[name].astype(str).to_numpy(dtype="U")) for name in value}
        return parts | {"": list(map(str, value.index)), "dtypes": list(map(str, value.dtypes))}
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if hasattr(value, "items"):
        return {str(k): bits(v) for k, v in value.items()}
    return str(value)


def snapshot(mdata: md.MuData) -> dict[str, object]:
    """All of a MuData, its two modalities included, in its order."""

    def of(part) -> dict[str, object]:
        names = ("obs", "var", "uns", "obsm", "varm", "obsp", "varp", "layers")
        return {name: bits(getattr(part, name)) for name in names if hasattr(part, name)} | {
            "obs_names": part.obs_names.tolist(), "var_names": part.var_names.tolist(),
        }  # fmt: skip

    found = {"": of(mdata), "order": list(mdata.mod), "obsmap": bits(mdata.obsmap)}
    for name, part in mdata.mod.items():
        found[name] = of(part) | {"X": bits(part.X)}
    return found


def getters(model, mdata):
    """Everything that reads."""
    for modality in ("joint", "expression", "accessibility"):
        model.get_latent_representation(modality=modality)
        model.get_latent_representation(mdata, indices=[3, 1], modality=modality)
    model.predict_expression(return_std=True)
    model.predict_expression(mdata, gene_list=["gene4"])
    model.chromatin_potential(gene_list=["gene1", "gene0"])
    model.modality_distance()
    model.get_normalized_accessibility(mdata, indices=[0, 5])
    model.get_mean_accessibility()
    model.differential_accessibility(groupby="type")
    if model.paired.links is not None:
        model.get_gene_bin_links(window=100_000)
        model.get_matching_logits([0, 1], [2, 3])


def test_nothing_of_the_user_s_changes_but_by_annotate(tmp_path):
    mdata = planted_pairs(160)
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    mdata["atac"].obsm["X_other"] = np.arange(320.0).reshape(160, 2)
    mdata.uns["note"] = "mine"
    before = snapshot(mdata)
    x = {name: mdata[name].X for name in mdata.mod}
    model = trained(mdata, setup={"batch_key": "sample", "labels_key": "type", "rna_layer": "counts"},
                    paired={"max_epochs": 2})  # fmt: skip
    getters(model, mdata)
    model.save(tmp_path / "model")
    loaded = SF.load(tmp_path / "model", mdata)
    getters(loaded, mdata)
    query = SF.load_query_data(mdata, model)
    query.get_latent_representation()
    assert snapshot(mdata) == before
    assert all(mdata[name].X is x[name] for name in x)
    model.annotate(accessibility=False)
    after = snapshot(mdata)
    assert after["order"] == before["order"]
    for name in ("rna", "atac"):
        for what in ("X", "var", "obs_names", "var_names"):
            assert after[name][what] == before[name][what]
        assert set(after[name]["obsm"]) - set(before[name]["obsm"]) == {"X_scatacformer"}
    assert set(after["rna"]["layers"]) == {"counts", "scatacformer_predicted"} | (
        set(before["rna"]["layers"]) - {"counts"}
    )


def test_the_order_of_rows_in_a_modality_does_not_matter():
    straight, mixed = planted_pairs(160, shuffled=False), planted_pairs(160, shuffled=True)
    assert mixed["rna"].obs_names.tolist() != straight["rna"].obs_names.tolist()
    a, b = (trained(m, paired={"max_epochs": 2}) for m in (straight, mixed))
    np.testing.assert_array_equal(a.get_latent_representation(), b.get_latent_representation())
    np.testing.assert_array_equal(a.modality_distance(), b.modality_distance())
    pd.testing.assert_frame_equal(a.chromatin_potential(), b.chromatin_potential())
    pd.testing.assert_frame_equal(a.get_gene_bin_links(100_000), b.get_gene_bin_links(100_000))


@pytest.fixture(scope="module")
def rna_first():
    """A model of a MuData whose ``obs_names`` are in the order of the RNA, and the same one of the order of the ATAC."""
    mixed, by_atac = planted_pairs(160, rna_first=True), planted_pairs(160)
    assert mixed.obs_names.tolist() == mixed["rna"].obs_names.tolist() != mixed["atac"].obs_names.tolist()
    assert by_atac.obs_names.tolist() == by_atac["atac"].obs_names.tolist()
    return trained(mixed, paired={"max_epochs": 2}), trained(by_atac, paired={"max_epochs": 2})


GETTERS = {
    "joint": lambda m, **k: m.get_latent_representation(**k),
    "expression": lambda m, **k: m.get_latent_representation(modality="expression", **k),
    "accessibility": lambda m, **k: m.get_latent_representation(modality="accessibility", **k),
    "normalized": lambda m, **k: m.get_normalized_accessibility(return_numpy=True, **k),
    "sparse": lambda m, **k: m.get_normalized_accessibility(threshold=0.2, **k).toarray(),
    "predicted": lambda m, **k: m.predict_expression(return_numpy=True, **k),
    "std": lambda m, **k: m.predict_expression(return_numpy=True, return_std=True, **k)[1],
    "potential": lambda m, **k: m.chromatin_potential(scaling="none", **k).to_numpy(),
    "distance": lambda m, **k: m.modality_distance(**k),
}


@pytest.mark.parametrize("name", GETTERS)
def test_every_getter_returns_rows_in_the_order_of_the_mudata(rna_first, name):
    """``mdata.obsm[...] = model.getter()`` is right whatever the order of the cells in each modality."""
    found, expected = rna_first
    order = expected.mdata.obs_names.get_indexer(found.mdata.obs_names)
    asked = GETTERS[name]
    np.testing.assert_allclose(asked(found), asked(expected)[order], atol=1e-5)
    indices = [5, 3, 80]
    np.testing.assert_allclose(asked(found, indices=indices), asked(found)[indices], atol=1e-5)
    mask = np.arange(160) % 7 == 0
    np.testing.assert_allclose(asked(found, indices=mask), asked(found)[mask], atol=1e-5)
    argument = "mdata" if name in ("potential", "distance") else "adata"
    other = planted_pairs(160, rna_first=True)  # not the model's own object
    np.testing.assert_allclose(asked(found, **{argument: other}), asked(found), atol=1e-5)


def test_tables_name_their_cells(rna_first):
    found, _ = rna_first
    for table in (
        found.predict_expression(), found.chromatin_potential(), found.get_normalized_accessibility(),
    ):  # fmt: skip
        assert table.index.tolist() == found.mdata.obs_names.tolist()


def test_row_numbers_that_a_model_takes_and_says_are_those_of_the_mudata(rna_first):
    found, expected = rna_first
    names = [set(m.mdata.obs_names[m.validation_indices]) for m in rna_first]
    assert names[0] == names[1]
    split = [np.arange(100), np.arange(100, 130), np.arange(130, 160)]
    model = trained(planted_pairs(160, rna_first=True), train={"datasplitter_kwargs": {"external_indexing": split}},
                    paired={"max_epochs": 1})  # fmt: skip
    for part, asked in zip((model.train_indices, model.validation_indices, model.test_indices), split, strict=True):
        assert sorted(part) == sorted(asked)
    logits = found.get_matching_logits([2, 7], [1, 2, 3])
    at = expected.mdata.obs_names.get_indexer(found.mdata.obs_names)
    np.testing.assert_allclose(logits, expected.get_matching_logits(at[[2, 7]], at[[1, 2, 3]]), atol=1e-4)
    table = found.differential_accessibility(idx1=np.arange(20), idx2=np.arange(100, 130))
    by_atac = expected.differential_accessibility(idx1=at[:20], idx2=at[100:130])
    np.testing.assert_allclose(table["emp_effect"], by_atac["emp_effect"])


def test_annotate_writes_each_row_to_its_cell(rna_first):
    found, expected = rna_first
    found.annotate(accessibility=False)
    expected.annotate(accessibility=False)
    for a, b in ((found.mdata, expected.mdata), (found.mdata["atac"], expected.mdata["atac"])):
        order = b.obs_names.get_indexer(a.obs_names)
        np.testing.assert_allclose(a.obsm["X_scatacformer"], b.obsm["X_scatacformer"][order], atol=1e-5)


def test_modalities_by_other_names_and_counts_in_layers(mdata, model):
    other = {"peaks": mdata["atac"].copy(), "GEX": mdata["rna"].copy()}
    for part in other.values():
        part.layers["counts"], part.X = part.X, part.X * 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named = md.MuData(other)
    setup = {
        "rna_layer": "counts", "atac_layer": "counts", "modalities": {"rna_layer": "GEX", "atac_layer": "peaks"},
        "batch_key": "sample", "labels_key": "type",
    }  # fmt: skip
    found = trained(named, setup=setup, paired={"max_epochs": 3})
    np.testing.assert_array_equal(found.get_latent_representation(), model.get_latent_representation())
    # an AnnData is read from the layer that the modality is read from
    expected = model.predict_expression(mdata["atac"].copy())
    pd.testing.assert_frame_equal(found.predict_expression(named["peaks"].copy()), expected)


def test_what_is_no_pair_is_refused_by_the_set_up(mdata):
    with pytest.raises(ValueError, match=r"modalities has the keys \['rna'\]; expected \['atac_layer', 'rna_layer'\]"):
        SF.setup_mudata(mdata, modalities={"rna": "rna"})
    with pytest.raises(KeyError, match="no modality .*GEX"):
        SF.setup_mudata(mdata, modalities={"rna_layer": "GEX"})
    with pytest.raises(KeyError, match="column .donor. is not in the obs"):
        SF.setup_mudata(mdata, batch_key="donor")
    with pytest.raises(ValueError, match=r"mdata\.copy\(\)"):
        SF.setup_mudata(mdata[:50])
    unmatched = planted_pairs(60)
    unmatched.mod["rna"] = unmatched["rna"][:50].copy()
    with pytest.raises(ValueError, match="10 of 60 cells of 'atac' have no RNA.*intersect_obs"):
        SF.setup_mudata(unmatched)


def test_a_mudata_that_was_not_set_up_is_refused():
    with pytest.raises(ValueError, match=r"setup_mudata\(mdata\)"):
        SF(planted_pairs(30))


def test_what_a_model_reads_does_not_set_it_up(mdata, model):
    other = planted_pairs(40, seed=3)
    model.get_latent_representation(other)
    with pytest.raises(ValueError, match=r"setup_mudata\(mdata\)"):
        SF(other)
    SF.setup_mudata(other)
    model.get_latent_representation(other)  # with another batch_key
    assert SF(other).registry_["setup_args"]["batch_key"] is None


def test_cells_that_were_taken_away_or_reordered_are_noticed(tmp_path):
    for change in (lambda part: part[:30].copy(), lambda part: part[::-1].copy()):
        mdata = planted_pairs(40)
        untrained = fresh(mdata)
        for name in list(mdata.mod):
            mdata.mod[name] = change(mdata[name])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mdata.update()
        with quiet(), pytest.raises(ValueError, match=r"have changed since it was set up.*setup_mudata\(mdata\) again"):
            untrained.train(**TRAINING)
        with pytest.raises(ValueError, match="have changed since it was set up"):
            SF(mdata)


def test_rna_that_goes_missing_or_is_normalised_in_place_is_noticed(mdata):
    own = mdata.copy()
    model = trained(own, paired=SHORT)
    expected = model.get_latent_representation()
    own["rna"].X = own["rna"].X * 0.5  # a matrix of its own: the counts are still there
    np.testing.assert_array_equal(model.get_latent_representation(), expected)
    own = mdata.copy()
    model = trained(own, paired=SHORT)
    own["rna"].X.data[:] = np.log1p(own["rna"].X.data)
    with pytest.raises(ValueError, match="no longer integers"):
        model.get_latent_representation()
    assert np.isfinite(model.get_latent_representation(modality="accessibility")).all()
    del own.mod["rna"]
    with pytest.raises(ValueError, match="have changed since it was set up"):
        model.get_latent_representation()


def test_other_cells_are_read_as_they_are_now(model):
    other = planted_pairs(40, seed=3)
    first = model.get_latent_representation(other, modality="expression")
    other["rna"].X = other["rna"].X[::-1].copy()
    second = model.get_latent_representation(other, modality="expression")
    assert np.abs(first - second).max() > 0.1
    anew = planted_pairs(40, seed=3)
    anew.mod["rna"].X = anew["rna"].X[::-1].copy()
    np.testing.assert_array_equal(second, model.get_latent_representation(anew, modality="expression"))
    half = planted_pairs(40, seed=3)
    model.get_latent_representation(half)
    for name in list(half.mod):
        half.mod[name] = half[name][half[name].obs_names.isin(half["atac"].obs_names[:20])].copy()
    assert model.get_latent_representation(half).shape[0] == 20


def test_columns_that_come_later_can_be_grouped_by(mdata):
    own = mdata.copy()
    model = trained(own, paired=SHORT)
    own["atac"].obs["cluster"] = pd.Categorical(np.where(own["atac"].obs["type"] == "t0", "x", "y"))
    table = model.differential_accessibility(groupby="cluster", group1="x")
    assert len(table) == model.config_.n_bins


def test_a_mudata_is_let_go_when_nobody_holds_it(mdata):
    gc.collect()
    before = len(_mudata._set_up), len(_mudata._read)
    other, read = planted_pairs(30, seed=5), planted_pairs(30, seed=6)
    own = fresh(other)
    assert len(_mudata._set_up) == before[0] + 1
    del other, read, own
    gc.collect()
    assert (len(_mudata._set_up), len(_mudata._read)) == before


def test_a_mudata_on_disk_is_trained_on_and_read(tmp_path, mdata, model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata.write(tmp_path / "pairs.h5mu")
        backed = md.read_h5mu(tmp_path / "pairs.h5mu", backed=True)
    found = trained(backed, setup={"batch_key": "sample", "labels_key": "type"}, paired={"max_epochs": 3})
    np.testing.assert_array_equal(found.get_latent_representation(), model.get_latent_representation())
    z = model.get_latent_representation(backed)
    np.testing.assert_array_equal(z, model.get_latent_representation())
    np.testing.assert_array_equal(model.get_latent_representation(backed), z)


def test_the_model_says_what_it_was_made_of(mdata, model):
    assert model.mdata is mdata
    assert model.adata.n_obs == mdata.n_obs
    atac = mdata["atac"].copy()
    SF.setup_anndata(atac)
    assert SF(atac).mdata is None


def test_pairs_are_not_asked_of_a_model_of_atac_alone(mdata):
    atac = mdata["atac"].copy()
    SF.setup_anndata(atac)
    model = SF(atac, d_model=16, n_layers=1, n_heads=2, d_embed=6)
    with pytest.raises(
        ValueError, match="paired_kwargs is for a model of a MuData, but this one was made of an AnnData"
    ):
        model.train(**TRAINING, paired_kwargs=PAIRED)
    assert not model.is_trained
    with quiet():
        model.train(**TRAINING)
    for ask in (model.train_pairs, lambda: model.get_gene_bin_links()):
        with pytest.raises(ValueError, match="ATAC alone|not trained on pairs"):
            ask()
    for ask in (
        lambda: model.get_latent_representation(modality="joint"), model.predict_expression,
        model.chromatin_potential, model.modality_distance, lambda: model.get_matching_logits([0], [1]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="not trained on pairs.*setup_mudata"):
            ask()
    # a MuData's ATAC can be read all the same, and annotated
    z = model.get_latent_representation(atac)
    np.testing.assert_array_equal(model.get_latent_representation(mdata), z)
    np.testing.assert_array_equal(model.get_latent_representation(modality="accessibility"), z)
    own = mdata.copy()
    model.annotate(own, accessibility=False)
    np.testing.assert_array_equal(own["atac"].obsm["X_scatacformer"], z)


def test_a_modality_must_be_one_of_three(model):
    with pytest.raises(ValueError, match="modality is 'rna'; expected one of"):
        model.get_latent_representation(modality="rna")


def test_cells_without_rna_have_no_expression(mdata, model):
    with pytest.raises(ValueError, match="160 of 160 cells have no RNA.*'accessibility'"):
        model.get_latent_representation(mdata["atac"].copy(), modality="expression")
    part = subset(mdata, np.arange(20))
    part.mod["rna"] = part["rna"][:12].copy()
    has = part["atac"].obs_names.isin(part["rna"].obs_names)
    with pytest.raises(ValueError, match="8 of 20 cells have no RNA"):
        model.get_latent_representation(part, modality="expression")
    with pytest.raises(ValueError, match="expected RNA for every cell"):
        model.chromatin_potential(part)
    joint = model.get_latent_representation(part)
    atac = model.get_latent_representation(part, modality="accessibility")
    np.testing.assert_array_equal(joint[~has], atac[~has])
    assert (np.abs(joint[has] - atac[has]).max(1) > 1e-3).all()
    assert len(model.genes_["name"]) == N_GENES
