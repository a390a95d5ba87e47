"""Labels of paired RNA, for the ATAC of the same cells."""

from __future__ import annotations

import sys
import types

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scatacformer as sf

N_CELLS = 12


@pytest.fixture
def mdata():
    """Twelve cells with ATAC; the first nine have RNA, in another order, one of them without a label."""
    mudata = pytest.importorskip("mudata")
    names = [f"cell{i}" for i in range(N_CELLS)]
    atac = ad.AnnData(sp.csr_matrix(np.eye(N_CELLS, dtype=np.float32)), obs=pd.DataFrame(index=names))
    kind = pd.Series(np.where(np.arange(9) % 2, "T cell", "B cell"), index=names[:9]).astype("category")
    kind.iloc[4] = np.nan
    counts = np.random.default_rng(0).poisson(2.0, (9, 5)).astype(np.float32)
    rna = ad.AnnData(
        sp.csr_matrix(counts), obs=pd.DataFrame({"cell_type": kind}), var=pd.DataFrame(index=list("ABCDE"))
    )
    rna = rna[rna.obs_names[::-1]].copy()
    return mudata.MuData({"atac": atac, "rna": rna})


def test_cells_are_matched_by_name_and_the_others_are_unknown(mdata):
    labels = sf.pp.transfer_labels(mdata)
    expected = ["Unknown" if i >= 9 or i == 4 else ("T cell" if i % 2 else "B cell") for i in range(N_CELLS)]
    assert labels.tolist() == expected
    assert mdata["atac"].obs["cell_type"].tolist() == expected
    assert isinstance(labels.dtype, pd.CategoricalDtype)
    assert "Unknown" not in set(mdata["rna"].obs["cell_type"].dropna())


def test_a_column_of_the_whole_and_another_name(mdata):
    mdata.obs["fate"] = pd.Series("x", index=mdata.obs_names)
    assert set(sf.pp.transfer_labels(mdata, "fate", key_added="from_rna")) == {"x"}
    assert "fate" not in mdata["atac"].obs
    assert "from_rna" in mdata["atac"].obs


def test_a_supervised_model_takes_them():
    from tests.model._cells import SIZES, TRAINING, planted, quiet

    mudata = pytest.importorskip("mudata")
    atac = planted(60)
    truth = atac.obs.pop("type")
    rna = ad.AnnData(
        sp.csr_matrix((40, 3), dtype=np.float32), obs=pd.DataFrame({"cell_type": truth.iloc[:40].astype(str)})
    )
    mdata = mudata.MuData({"atac": atac, "rna": rna})
    sf.pp.transfer_labels(mdata)
    sf.ScAtacFormer.setup_anndata(mdata["atac"], labels_key="cell_type")
    model = sf.ScAtacFormer(mdata["atac"], supervised=True, **SIZES)
    with quiet():
        model.train(**TRAINING)
    assert (model.predict(indices=np.arange(40, 60)) == truth.iloc[40:].to_numpy()).mean() > 0.7


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"labels_key": "nothing"}, "has a column 'nothing'; found cell_type"),
        ({"rna": "expression"}, "no modality 'expression', found atac, rna"),
        ({"method": "guess"}, "method is .*; expected one of"),
        ({"max_distance": 0.1}, "are for method='scimilarity'"),
        ({"method": "scimilarity"}, "needs model_path"),
        ({"method": "scimilarity", "model_path": "nowhere"}, "'nowhere' is not a folder"),
        ({"method": "scimilarity", "model_path": ".", "layer": "raw"}, "no layer 'raw', found none"),
    ],
)
def test_bad_arguments(mdata, kwargs, message):
    with pytest.raises(ValueError, match=message):
        sf.pp.transfer_labels(mdata, **kwargs)


def test_cells_with_other_names_are_not_matched_by_place(mdata):
    rna = mdata["rna"].copy()
    rna.obs_names = [f"other{i}" for i in range(rna.n_obs)]
    import mudata

    apart = mudata.MuData({"atac": mdata["atac"], "rna": rna})
    with pytest.raises(ValueError, match=r"none of the 12 cells .* matched .* by name \(first: 'cell0' and 'other0'\)"):
        sf.pp.transfer_labels(apart)
    assert "cell_type" not in apart["atac"].obs


def test_scimilarity_gets_counts_in_its_genes_and_far_cells_stay_unknown(mdata, monkeypatch, tmp_path):
    """Its package is large and its model a download: a stand-in with the calls that its documentation names."""
    seen = {}

    class CellAnnotation:
        def __init__(self, model_path):
            seen["model_path"] = model_path
            self.gene_order = ["B", "A"]

        def annotate_dataset(self, data):
            seen["genes"], seen["counts"] = list(data.var_names), data.layers["counts"].toarray()
            data.obs["celltype_hint"] = [f"type of {name}" for name in data.obs_names]
            data.obs["min_dist"] = np.where(data.obs_names == "cell3", 0.9, 0.01)
            return data

    utils = types.SimpleNamespace(
        align_dataset=lambda data, genes: data[:, genes].copy(), lognorm_counts=lambda data: data
    )
    monkeypatch.setitem(sys.modules, "scimilarity", types.SimpleNamespace(CellAnnotation=CellAnnotation, utils=utils))
    monkeypatch.setitem(sys.modules, "scimilarity.utils", utils)
    before = mdata["rna"].X.toarray()
    labels = sf.pp.transfer_labels(mdata, method="scimilarity", model_path=tmp_path, max_distance=0.05)
    assert seen["genes"] == ["B", "A"]
    np.testing.assert_array_equal(seen["counts"], mdata["rna"][:, ["B", "A"]].X.toarray())
    np.testing.assert_array_equal(mdata["rna"].X.toarray(), before)
    assert labels["cell2"] == "type of cell2"
    assert labels["cell3"] == "Unknown"
    assert labels["cell11"] == "Unknown"


def test_scimilarity_missing_and_logarithms_for_counts(mdata, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "scimilarity", None)
    with pytest.raises(ImportError, match=r"scatacformer\[scimilarity\]"):
        sf.pp.transfer_labels(mdata, method="scimilarity", model_path=tmp_path)
    mdata["rna"].X = mdata["rna"].X.log1p()
    with pytest.raises(ValueError, match="not counts"):
        sf.pp.transfer_labels(mdata, method="scimilarity", model_path=tmp_path)
