from __future__ import annotations

import time
import warnings
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scatacformer.genome import Vocabulary, overlap_matrix
from scatacformer.pp import match_vocabulary

SIZES = {"chr1": 52_000, "chr2": 31_000, "chr3": 9_000}


@pytest.fixture(scope="module")
def bins():
    return Vocabulary.from_chrom_sizes(SIZES, 1_000)


def peaks(kind, seed=0):
    """Disjoint regions: of at most 2 bins, of at most 2 but sparser, of up to 7 bins, sparser ones in no order."""
    rng = np.random.default_rng(seed)
    pitch = {"narrow": 900, "medium": 1_500, "wide": 12_000, "unsorted": 1_500}[kind]
    rows = []
    for chrom, size in enumerate(SIZES.values()):
        start = np.arange(0, size - pitch, pitch)
        start = start + rng.integers(0, pitch // 3, len(start))
        width = rng.integers(50, pitch // 2, len(start))
        rows.append(np.column_stack([np.full(len(start), chrom), start, start + width]))
    table = np.concatenate(rows)
    if kind == "unsorted":
        table = rng.permutation(table)
    return Vocabulary(tuple(SIZES), *table.T)


def cells(regions, n_cells=300, dtype=np.float32, seed=0, share=0.3):
    rng = np.random.default_rng(seed)
    shape = (n_cells, regions.n_bins)
    counts = sparse.csr_matrix((rng.integers(1, 5, shape) * (rng.random(shape) < share)).astype(dtype))
    return ad.AnnData(
        counts,
        obs=pd.DataFrame({"n": np.arange(n_cells)}, index=[f"c{i}" for i in range(n_cells)]),
        var=regions.to_frame(),
    )


@pytest.mark.parametrize("kind", ["narrow", "medium", "wide", "unsorted"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_equals_the_dense_product(bins, kind, dtype):
    regions = peaks(kind)
    adata = cells(regions, dtype=dtype)
    expected = adata.X.toarray() @ overlap_matrix(regions, bins).toarray()
    assert (overlap_matrix(regions, bins).sum(0) > 1).any() != (kind == "wide")  # the others share bins
    matched = match_vocabulary(adata, bins)
    assert np.array_equal(matched.X.toarray(), expected)
    assert matched.X.dtype == dtype
    assert isinstance(matched.X, sparse.csr_matrix)
    fresh = sparse.csr_matrix((matched.X.data, matched.X.indices, matched.X.indptr), matched.shape)
    assert fresh.has_canonical_format  # computed anew, not read from a flag
    assert Vocabulary.from_var(matched.var) == bins


def test_bins_in_another_order_only_change_their_column(bins):
    order = np.random.default_rng(1).permutation(bins.n_bins)[:50]  # and fewer of them
    shuffled = Vocabulary(bins.chrom_names, bins.chrom[order], bins.start[order], bins.end[order])
    adata = cells(shuffled)
    matched = match_vocabulary(adata, bins)
    assert np.array_equal(matched.X[:, order].toarray(), adata.X.toarray())
    assert matched.X.sum() == adata.X.sum()


def test_sum_of_narrow_integers_does_not_wrap(bins):
    halves = Vocabulary(("chr1",), [0, 0], [0, 500], [500, 1000])
    adata = ad.AnnData(sparse.csr_matrix(np.array([[200, 200]], dtype=np.uint8)), var=halves.to_frame())
    assert match_vocabulary(adata, bins).X[0, 0] == 400


@pytest.mark.parametrize(
    "kind", ["csr", "csr_array", "csc", "dense", "unsorted rows", "explicit zeros", "layer", "view"]
)
def test_input_may_come_in_any_form_and_stays_as_it_is(bins, kind):
    adata = cells(peaks("medium"))
    expected = match_vocabulary(adata, bins).X
    layer = None
    X = adata.X.copy()
    if kind == "csr_array":
        adata.X = sparse.csr_array(X)
    elif kind == "csc":
        adata.X = X.tocsc()
    elif kind == "dense":
        adata.X = X.toarray()
    elif kind == "unsorted rows":
        for row in range(X.shape[0]):
            part = slice(X.indptr[row], X.indptr[row + 1])
            X.indices[part], X.data[part] = X.indices[part][::-1].copy(), X.data[part][::-1].copy()
        adata.X = sparse.csr_matrix((X.data, X.indices, X.indptr), X.shape)
    elif kind == "explicit zeros":
        X.data[:5] = 0
        adata.X = X
        expected = match_vocabulary(ad.AnnData(sparse.csr_matrix(X.toarray()), var=adata.var), bins).X
    elif kind == "layer":
        adata.layers["counts"], adata.X, layer = X, None, "counts"
    elif kind == "view":
        adata, expected = adata[10:200], expected[10:200]
    before = adata.copy()
    matched = match_vocabulary(adata, bins, layer=layer)
    assert (matched.X != expected).nnz == 0
    assert matched.X.data.all()
    if kind != "layer":
        assert np.array_equal(ad_array(adata.X), ad_array(before.X))
        if kind == "unsorted rows":
            assert np.array_equal(adata.X.indices, X.indices)
            assert np.array_equal(adata.X.data, X.data)


def ad_array(X):
    return X.toarray() if sparse.issparse(X) else np.asarray(X)


def test_bins_to_bins_does_not_sort_the_callers_counts(bins):
    rows = sparse.csr_matrix(([7.0, 8.0], [9, 2], [0, 2]), shape=(1, bins.n_bins), dtype=np.float32)
    adata = ad.AnnData(rows, var=bins.to_frame())
    matched = match_vocabulary(adata, bins)
    assert matched.X[0, 9] == 7
    assert adata.X.data.tolist() == [7, 8]
    assert adata.X.indices.tolist() == [9, 2]


@pytest.mark.parametrize("store", ["h5ad", "zarr"])
def test_backed_equals_in_memory(bins, tmp_path, store):
    adata = cells(peaks("medium"), n_cells=2_500)  # more than are read at once
    expected = match_vocabulary(adata, bins)
    if store == "h5ad":
        adata.write_h5ad(tmp_path / "a.h5ad")
        backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    else:
        import zarr

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr on its own formats
            adata.write_zarr(tmp_path / "a.zarr")
        X = ad.io.sparse_dataset(zarr.open(tmp_path / "a.zarr", mode="r")["X"])
        backed = ad.AnnData(X, obs=adata.obs, var=adata.var)
    matched = match_vocabulary(backed, bins)
    assert (matched.X != expected.X).nnz == 0
    assert not matched.isbacked
    if store == "h5ad":
        some = match_vocabulary(backed[5:50], bins)
        assert (some.X != expected.X[5:50]).nnz == 0


def test_backed_by_columns_is_refused_with_the_remedy(bins, tmp_path):
    adata = cells(peaks("medium"))
    adata.X = adata.X.tocsc()
    adata.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match=r"column-compressed \(CSC\).*tocsr"):
        match_vocabulary(ad.read_h5ad(tmp_path / "a.h5ad", backed="r"), bins)


def test_obs_and_what_belongs_to_cells_comes_along(bins):
    adata = cells(peaks("medium"))
    adata.obsm["X_lsi"] = np.ones((adata.n_obs, 3))
    adata.obsp["near"] = sparse.identity(adata.n_obs, format="csr")
    adata.uns["colors"] = {"a": [1, 2]}
    matched = match_vocabulary(adata, bins)
    assert matched.obs.equals(adata.obs)
    assert np.array_equal(matched.obsm["X_lsi"], adata.obsm["X_lsi"])
    assert "near" in matched.obsp
    matched.uns["colors"]["a"].append(3)
    matched.obs["n"] = 0
    assert adata.uns["colors"]["a"] == [1, 2]
    assert adata.obs["n"].iloc[5] == 5
    assert "scatacformer" not in adata.uns


def test_what_is_lost_is_counted_and_warned_of(bins):
    regions = peaks("medium")
    chr1_only = Vocabulary.from_chrom_sizes({"chr1": SIZES["chr1"]}, 1_000)
    adata = cells(regions)
    outside = regions.chrom != 0
    with pytest.warns(UserWarning, match=rf"{outside.sum()} of {regions.n_bins} regions, with \d+.\d% of the open"):
        matched = match_vocabulary(adata, chr1_only)
    report = matched.uns["scatacformer"]["match_vocabulary"]
    assert report["n_regions"] == regions.n_bins
    assert report["n_regions_outside"] == outside.sum()
    assert report["share_open_outside"] == pytest.approx(adata.X[:, outside].nnz / adata.X.nnz)
    several = (overlap_matrix(regions, chr1_only).sum(1) > 1).sum()
    assert report["n_regions_over_several_bins"] == several > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = match_vocabulary(adata, bins).uns["scatacformer"]["match_vocabulary"]
    assert report["n_regions_outside"] == report["share_open_outside"] == 0


def test_report_can_be_written(bins, tmp_path):
    matched = match_vocabulary(cells(peaks("medium")), bins)
    matched.write_h5ad(tmp_path / "m.h5ad")
    again = ad.read_h5ad(tmp_path / "m.h5ad")
    assert again.uns["scatacformer"]["match_vocabulary"]["n_regions_outside"] == 0
    assert Vocabulary.from_var(again.var) == bins


def test_no_overlap_and_other_assembly_are_errors():
    hg19 = Vocabulary.from_chrom_sizes("hg19", 1_000_000)
    adata = cells(Vocabulary(("1",), [0, 0], [0, 10], [5, 15]))
    with pytest.raises(ValueError, match=r"None of the 2 regions overlaps.*1:0-5.*chr1 or 1"):
        match_vocabulary(adata, hg19)
    adata = cells(hg19)
    adata.uns["assembly"] = "GRCh38"
    with pytest.raises(ValueError, match=r"regions are of hg38 .*the vocabulary is of hg19"):
        match_vocabulary(adata, hg19)
    adata.uns["assembly"] = "GRCh37"
    assert match_vocabulary(adata, hg19).uns["assembly"] == "hg19"


def test_a_model_stands_for_its_vocabulary(bins):
    adata = cells(peaks("medium"))
    matched = match_vocabulary(adata, SimpleNamespace(vocabulary=bins))
    assert (matched.X != match_vocabulary(adata, bins).X).nnz == 0
    with pytest.raises(ValueError, match="Expected a Vocabulary, a model"):
        match_vocabulary(adata, "hg19")


def test_bad_requests(bins):
    adata = cells(peaks("medium"))
    with pytest.raises(ValueError, match="no layer 'counts'"):
        match_vocabulary(adata, bins, layer="counts")
    with pytest.raises(ValueError, match="no cells"):
        match_vocabulary(adata[:0], bins)
    adata.X = None
    with pytest.raises(ValueError, match=r"adata\.X is empty"):
        match_vocabulary(adata, bins)


def test_time_grows_with_open_regions_and_not_with_bins():
    # 2,000 cells a second at 8,000 open regions are asked for; a third of it is tested, for slow and busy machines
    hg19 = Vocabulary.from_chrom_sizes("hg19")
    rng = np.random.default_rng(0)
    at = np.sort(rng.choice(hg19.n_bins, 150_000, replace=False))
    start = hg19.start[at] + rng.integers(0, 4_000, len(at))
    regions = Vocabulary(hg19.chrom_names, hg19.chrom[at], start, start + 600)
    n, n_open = 400, 8_000
    columns = np.concatenate([np.sort(rng.choice(regions.n_bins, n_open, replace=False)) for _ in range(n)])
    counts = sparse.csr_matrix(
        (np.ones(n * n_open, np.float32), columns, np.arange(n + 1) * n_open), (n, regions.n_bins)
    )
    few, many = (ad.AnnData(counts[:rows], var=regions.to_frame()) for rows in (1, n))
    times = []
    for adata in (few, few, many):
        begin = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            match_vocabulary(adata, hg19)
        times.append(time.process_time() - begin)
    assert times[2] - times[1] < 3 * n / 2_000


def test_a_vocabulary_by_its_path_is_the_vocabulary(tmp_path):
    vocabulary = Vocabulary.from_chrom_sizes({"chr1": 52_000, "chr2": 30_000})
    adata = cells(vocabulary)
    expected = match_vocabulary(adata, vocabulary)
    vocabulary.to_bed(tmp_path / "bins.bed")
    (tmp_path / "model").mkdir()
    vocabulary.to_bed(tmp_path / "model" / "vocabulary.bed.gz")
    for path in (tmp_path / "bins.bed", str(tmp_path / "model"), tmp_path / "model"):
        found = match_vocabulary(adata, path)
        assert (found.X != expected.X).nnz == 0
        assert found.var.equals(expected.var)
    with pytest.raises(FileNotFoundError, match="is neither the folder of a model nor a BED file"):
        match_vocabulary(adata, tmp_path / "absent")
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds nothing; expected one vocabulary \(vocabulary\.bed\.gz"):
        match_vocabulary(adata, tmp_path / "other")


def test_counts_of_a_layer_are_in_that_layer_too():
    vocabulary = Vocabulary.from_chrom_sizes({"chr1": 52_000, "chr2": 30_000})
    adata = cells(vocabulary)
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X * 0.5
    found = match_vocabulary(adata, vocabulary, layer="counts")
    assert (found.layers["counts"] != adata.layers["counts"]).nnz == 0
    assert (found.X != found.layers["counts"]).nnz == 0
    assert found.X is not found.layers["counts"]


def test_open_or_not_is_added_up_as_numbers():
    adata = ad.AnnData(sparse.csr_matrix(np.ones((2, 4), bool)))
    adata.var_names = [f"chr1:{start}-{start + 500}" for start in (0, 2_500, 5_000, 9_000)]
    found = match_vocabulary(adata, Vocabulary.from_chrom_sizes({"chr1": 10_000}))
    assert found.X.toarray().tolist() == [[2, 2], [2, 2]]


def test_cells_of_another_assembly_are_refused_though_nothing_names_it():
    hg19, hg38 = Vocabulary.from_chrom_sizes("hg19", 100_000), Vocabulary.from_chrom_sizes("hg38", 100_000)
    adata = cells(hg19)
    adata.uns.clear()
    with pytest.raises(ValueError, match=r"regions are of hg19 .*the vocabulary is of hg38"):
        match_vocabulary(adata, hg38)
    unnamed = Vocabulary(hg38.chrom_names, hg38.chrom, hg38.start, hg38.end)
    with pytest.raises(ValueError, match=r"regions are of hg19 .*the vocabulary is of hg38"):
        match_vocabulary(adata, unnamed)
