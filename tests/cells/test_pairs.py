"""Cells of two modalities are matched by name; what cannot be matched is said, and nothing of the user's is touched."""

from __future__ import annotations

import warnings

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scatacformer.cells import match_pairs

N_CELLS, N_GENES, N_BINS = 12, 7, 20


def modality(n_features: int, names: list[str], seed: int, prefix: str) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    x = rng.poisson(1.0, (len(names), n_features)).astype(np.float32)
    x[:, 0] = 1  # no cell is empty
    var = pd.DataFrame(index=[f"{prefix}{i}" for i in range(n_features)])
    return ad.AnnData(sp.csr_matrix(x), obs=pd.DataFrame(index=names), var=var)


def paired(order=None, rna_names=None, atac_names=None) -> md.MuData:
    names = [f"cell{i}" for i in range(N_CELLS)]
    rna, atac = modality(N_GENES, rna_names or names, 0, "gene"), modality(N_BINS, atac_names or names, 1, "")
    atac.var_names = [f"chr1:{i * 5000}-{i * 5000 + 5000}" for i in range(N_BINS)]
    if order is not None:
        rna = rna[order].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return md.MuData({"rna": rna, "atac": atac})


def match(mdata, **kwargs):
    return match_pairs(mdata, "rna", "atac", **kwargs)


ALL = np.arange(N_CELLS)


def test_rows_are_found_by_name_whatever_their_order():
    straight = match(paired())
    order = np.random.default_rng(5).permutation(N_CELLS)
    mixed = match(paired(order=order))
    np.testing.assert_array_equal(mixed.rna_row, np.argsort(order))
    np.testing.assert_array_equal(mixed.expression(ALL).toarray(), straight.expression(ALL).toarray())
    np.testing.assert_array_equal(straight.expression(ALL).toarray(), paired()["rna"].X.toarray())
    some = np.array([7, 2, 7])  # in the order asked for
    np.testing.assert_array_equal(mixed.expression(some).toarray(), straight.expression(ALL).toarray()[some])
    assert mixed.has_rna.all()
    assert mixed.genes.index.tolist() == [f"gene{i}" for i in range(N_GENES)]


def test_the_matrix_is_the_user_s_and_nothing_else_of_theirs_is():
    mdata = paired()
    cells = match(mdata)
    assert cells.atac.X is mdata["atac"].X
    cells.atac.obs["mine"] = 1
    cells.atac.var["mine"] = 1
    cells.atac.uns["mine"] = 1
    assert "mine" not in mdata["atac"].obs and "mine" not in mdata["atac"].var and "mine" not in mdata["atac"].uns


def test_unmatched_cells_are_counted_and_the_remedy_is_named():
    names = [f"cell{i}" for i in range(N_CELLS)]
    mdata = paired(rna_names=names[3:], atac_names=names[:-1])
    with pytest.raises(ValueError, match=r"3 of 11 cells of 'atac' have no RNA and 1 of 9 cells of 'rna' have no ATAC"):
        match(mdata)
    with pytest.raises(ValueError, match=r"muon\.pp\.intersect_obs\(mdata\)"):
        match(mdata)
    with pytest.raises(ValueError, match="1 of 9 cells.*without ATAC are not"):
        match(mdata, need_rna=False)
    atac_only = paired(rna_names=names[3:])
    cells = match(atac_only, need_rna=False)
    assert cells.has_rna.tolist() == [False] * 3 + [True] * 9
    np.testing.assert_array_equal(cells.expression(ALL[3:]).toarray(), atac_only["rna"].X.toarray())


def test_cells_of_other_names_altogether_are_shown():
    mdata = paired(rna_names=[f"cell{i}-1" for i in range(N_CELLS)])
    with pytest.raises(ValueError, match=r"none of the 12 cells.*'cell0' and 'cell0-1'.*the same name"):
        match(mdata)


def test_a_view_is_refused():
    mdata = paired()
    with pytest.raises(ValueError, match=r"view of another.*mdata\.copy\(\)"):
        match(mdata[:5])
    assert match(mdata[:5].copy()).atac.n_obs == 5


@pytest.mark.parametrize("lacking", ["rna", "atac"])
def test_a_modality_that_is_not_there_is_named(lacking):
    mdata = paired()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = md.MuData({"other" if name == lacking else name: mdata[name] for name in mdata.mod})
    with pytest.raises(KeyError, match=f"no modality .*{lacking}.*; it has .*other.*modalities="):
        match(other)
    if lacking == "rna":
        cells = match(other, need_rna=False)
        assert cells.rna is None and not cells.has_rna.any()


def test_a_layer_is_read_and_one_that_is_not_there_is_named():
    mdata = paired()
    for name in ("rna", "atac"):
        mdata[name].layers["counts"] = mdata[name].X * 2
        mdata[name].X = mdata[name].X * 0.5  # as normalised
    cells = match(mdata, rna_layer="counts", atac_layer="counts")
    np.testing.assert_array_equal(cells.expression(ALL).toarray(), 2 * paired()["rna"].X.toarray())
    assert cells.atac.layers["counts"] is mdata["atac"].layers["counts"]
    with pytest.raises(ValueError, match=r"mdata\['rna'\]: .*counts are not integer"):
        match(mdata, atac_layer="counts")
    for which in ("rna", "atac"):
        with pytest.raises(KeyError, match=rf"'{which}' has no layer 'raw'; it has \['counts'\] and X"):
            match(mdata, **{"rna_layer": "counts", "atac_layer": "counts"} | {f"{which}_layer": "raw"})


@pytest.mark.parametrize("where", ["atac", "rna", "mdata"])
def test_columns_are_taken_from_where_they_are(where):
    order = np.random.default_rng(1).permutation(N_CELLS)
    mdata = paired(order=order)
    values = np.array([f"s{i % 3}" for i in range(N_CELLS)])
    if where == "rna":
        mdata["rna"].obs["sample"] = values[order]
    elif where == "atac":
        mdata["atac"].obs["sample"] = values
    else:
        mdata.obs["sample"] = pd.Series(values, index=mdata["atac"].obs_names).reindex(mdata.obs_names)
    cells = match(mdata, obs_keys=("sample",))
    assert cells.atac.obs["sample"].tolist() == values.tolist()
    with pytest.raises(KeyError, match="column 'donor' is not in the obs of 'atac', of the RNA or of mdata"):
        match(mdata, obs_keys=("donor",))


def test_names_that_stand_twice_are_refused():
    names = [f"cell{i}" for i in range(N_CELLS)]
    twice = names[:-1] + ["cell0"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for which in ("rna", "atac"):
            with pytest.raises(ValueError, match=rf"mdata\['{which}'\]: 1 of 12 cells.*cell0"):
                match(paired(**{f"{which}_names": twice}))
        genes = paired()
        genes["rna"].var_names = ["gene0", *genes["rna"].var_names[:-1]]
    with pytest.raises(ValueError, match=r"1 of 7 genes have a name.*gene0.*mdata\['rna'\].var_names_make_unique"):
        match(genes)


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (-1, "negative"), (0.5, "not integer")],
)
def test_rna_that_is_no_counts_is_refused(value, message):
    mdata = paired()
    mdata["rna"].X.data[4] = value
    with pytest.raises(ValueError, match=rf"mdata\['rna'\]: 1 counts are {message} in 1 of 12 cells"):
        match(mdata)


def test_counts_that_are_changed_in_place_later_are_noticed():
    mdata = paired()
    cells = match(mdata)
    mdata["rna"].X.data[:] = np.log1p(mdata["rna"].X.data)
    with pytest.raises(ValueError, match="no longer integers.*rna_layer='counts'"):
        cells.expression(ALL)


def test_cells_without_rna_counts_cannot_be_trained_on_but_can_be_read():
    mdata = paired()
    x = mdata["rna"].X.tolil()
    x[[2, 5]] = 0
    mdata["rna"].X = x.tocsr()
    with pytest.raises(ValueError, match="2 of 12 cells of 'rna' have no RNA counts.*cell2"):
        match(mdata)
    with pytest.warns(UserWarning, match="2 of 12 cells of 'rna' have no RNA counts"):
        cells = match(mdata, need_rna=False)
    assert not cells.expression(np.array([2, 5])).toarray().any()
    mdata["rna"].X.data[:] = 0  # all of them, stored zeros
    with pytest.warns(UserWarning, match="12 of 12 cells"):
        match(mdata, need_rna=False)


def test_the_assembly_is_found_in_either():
    mdata = paired()
    assert "assembly" not in match(mdata).atac.uns
    mdata.uns["assembly"] = "hg38"
    assert match(mdata).atac.uns["assembly"] == "hg38"
    mdata["atac"].uns["assembly"] = "hg19"
    assert match(mdata).atac.uns["assembly"] == "hg19"


@pytest.mark.parametrize("layer", [None, "counts"])
def test_a_mudata_on_disk_is_read_where_it_lies(tmp_path, layer):
    mdata = paired(order=np.random.default_rng(2).permutation(N_CELLS))
    expected = match(mdata)
    for name in ("rna", "atac"):
        mdata[name].layers["counts"] = mdata[name].X.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata.write(tmp_path / "pairs.h5mu")
        backed = md.read_h5mu(tmp_path / "pairs.h5mu", backed=True)
    cells = match(backed, rna_layer=layer, atac_layer=layer)
    np.testing.assert_array_equal(cells.expression(ALL).toarray(), expected.expression(ALL).toarray())
    matrix = cells.atac.X if layer is None else cells.atac.layers[layer]
    np.testing.assert_array_equal(matrix[:].toarray(), mdata["atac"].X.toarray())
    if layer is None:
        assert cells.rna.on_disk
