"""What an error advises works: each test provokes the error, reads the remedy in it, follows it, and goes on."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import scatacformer as sf

from ._cells import GENOME, N_BINS, SIZES, TRAINING, fresh, planted, quiet, trained

SF = sf.ScAtacFormer


@pytest.fixture(scope="module")
def model():
    return trained(planted())


def advice(call, code: str, error: type[Exception] = ValueError) -> str:
    """The Python that an error advises: the part of its message that matches ``code``."""
    with pytest.raises(error) as raised:
        call()
    text = str(raised.value.args[0])
    found = re.search(code, text)
    assert found is not None, text
    return found[0]


def followed(line: str, **names: object) -> dict[str, object]:
    """The names after the advised line has run."""
    names |= {"sf": sf, "scatacformer": sf, "ScAtacFormer": SF, "anndata": ad, "np": np}
    exec(line, names)
    return names


# ── regions ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def spelled_differently() -> tuple[ad.AnnData, ad.AnnData]:
    x, y = planted(40), planted(40, seed=1)
    y.var_names = [name.replace(":", "-") for name in y.var_names]
    return x, y


def concatenated(x: ad.AnnData, y: ad.AnnData) -> ad.AnnData:
    return ad.concat({"1": x, "2": y}, join="outer", index_unique="_")


def test_duplicate_regions_are_joined_by_spelling_them_alike():
    x, y = spelled_differently()
    line = advice(
        lambda: SF.setup_anndata(concatenated(x, y)), r"x\.var_names = sf\.Vocabulary\.from_var\(x\.var\)\.names"
    )
    for one in (x, y):
        followed(line, x=one)
    both = concatenated(x, y)
    assert both.shape == (80, N_BINS)
    np.testing.assert_array_equal(
        both.X.toarray(), np.vstack([planted(40).X.toarray(), planted(40, seed=1).X.toarray()])
    )
    SF.setup_anndata(both)


@pytest.mark.parametrize("columns", [False, True])
def test_duplicate_regions_are_left_out_by_the_advised_selection(columns):
    adata = planted()
    names = ["chr1-5000-10000", *adata.var_names[1:]]  # the first is the second again
    if columns:
        chrom, start, end = zip(*(re.split("[:-]", name) for name in names), strict=True)
        adata.var = pd.DataFrame({"chrom": chrom, "start": [*map(int, start)], "end": [*map(int, end)]}, index=names)
        adata.var_names = [f"region {i}" for i in range(N_BINS)]
    else:
        adata.var_names = names
    line = advice(lambda: SF.setup_anndata(adata), r"adata\[:, ~adata\.var.*\]\.copy\(\)")
    kept = followed(f"kept = {line}", adata=adata)["kept"]
    assert kept.n_vars == N_BINS - 1
    SF.setup_anndata(kept)


@pytest.mark.parametrize("join", ["-", "_", "."])
@pytest.mark.parametrize("spelling", ["{}:{}-{}", "{}-{}-{}", "{}_{}_{}"])
def test_names_that_were_made_unique_are_taken_as_they_were(join, spelling):
    adata = planted()
    names = [spelling.format(*re.split("[:-]", name)) for name in adata.var_names]
    before = [names[5], *names[1:]]  # the first is the sixth again
    adata.var_names = before
    adata.var_names_make_unique(join)
    line = advice(lambda: SF.setup_anndata(adata), r"adata\[:, ~adata\.var_names\.duplicated\(\)\]\.copy\(\)")
    adata.var_names = before  # "take the names as they were before"
    SF.setup_anndata(followed(f"kept = {line}", adata=adata)["kept"])
    with pytest.raises(ValueError) as raised:
        SF.setup_anndata(_made_unique(before, join))
    assert "subtract 1" not in str(raised.value)


def _made_unique(names, join):
    adata = planted()
    adata.var_names = names
    adata.var_names_make_unique(join)
    return adata


def test_repeated_names_of_regions_are_left_out():
    adata = planted()
    adata.var_names = [adata.var_names[1], *adata.var_names[1:]]
    line = advice(lambda: SF.setup_anndata(adata), r"adata = adata\[:, ~adata\.var_names\.duplicated\(\)\]\.copy\(\)")
    SF.setup_anndata(followed(line, adata=adata)["adata"])


def test_chromosomes_that_were_read_as_fractions_are_converted():
    adata = planted()
    vocabulary = sf.Vocabulary.from_var(adata.var)
    names = [f"{name.removeprefix('chr')}.0" for name in vocabulary.to_frame()["chrom"]]
    adata.var = pd.DataFrame({"chrom": names, "start": vocabulary.start, "end": vocabulary.end}, index=adata.var_names)
    line = advice(lambda: SF.setup_anndata(adata), r"adata\.var\['chrom'\] = .*\('\.0'\)")
    followed(line, adata=adata)
    SF.setup_anndata(adata)
    assert set(adata.var["chrom"]) == {"1", "2", "3"}


def peaks_of(n_cells: int = 40) -> ad.AnnData:
    """Peaks of other ends than the model's bins, in X and, beside a normalised X, in a layer."""
    peaks = planted(n_cells, seed=3)
    place = [re.split("[:-]", name) for name in peaks.var_names]
    peaks.var_names = [f"{chrom}:{int(start) + 2200}-{int(start) + 2900}" for chrom, start, _ in place]
    return peaks


def test_other_regions_are_matched_as_the_error_says(model):
    peaks = peaks_of()
    line = advice(lambda: SF.load_query_data(peaks, model), r"scatacformer\.pp\.match_vocabulary\(adata, model\)")
    matched = followed(f"matched = {line}", adata=peaks, model=model)["matched"]
    expected = model.get_latent_representation(planted(40, seed=3))
    np.testing.assert_allclose(SF.load_query_data(matched, model).get_latent_representation(), expected, atol=1e-6)


def test_other_regions_of_a_model_of_a_layer_are_matched_in_that_layer():
    cells = planted()
    cells.layers["counts"] = cells.X.copy()
    cells.X = cells.X.log1p()
    model = trained(cells, setup={"layer": "counts"})
    peaks = peaks_of()
    peaks.layers["counts"] = peaks.X.copy()
    peaks.X = peaks.X.log1p()
    line = advice(
        lambda: SF.load_query_data(peaks, model), r"scatacformer\.pp\.match_vocabulary\(adata, model, layer='counts'\)"
    )
    matched = followed(f"matched = {line}", adata=peaks, model=model)["matched"]
    query = planted(40, seed=3)
    line = advice(
        lambda: model.get_latent_representation(query), r"adata\.layers\['counts'\] = adata\.X\.copy\(\)", KeyError
    )
    followed(line, adata=query)
    expected = model.get_latent_representation(query)
    np.testing.assert_allclose(SF.load_query_data(matched, model).get_latent_representation(), expected, atol=1e-6)


def test_regions_in_another_order_are_prepared_as_the_error_says(model):
    query = planted()[:, ::-1].copy()
    line = advice(
        lambda: model.get_latent_representation(query), r"ScAtacFormer\.prepare_query_anndata\(adata, model\)"
    )
    followed(line, adata=query, model=model)
    np.testing.assert_array_equal(model.get_latent_representation(query), model.get_latent_representation())


# ── cells ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_cell_is_embedded_by_the_model_itself(model):
    one = planted()[:1].copy()
    line = advice(lambda: SF.load_query_data(one, model), r"model\.get_latent_representation\(adata\)")
    z = followed(f"z = {line}", adata=one, model=model)["z"]
    np.testing.assert_allclose(z, model.get_latent_representation()[:1], atol=1e-6)


def test_a_batch_that_is_new_in_load_is_added_as_the_error_says(model, tmp_path):
    model.save(tmp_path / "m")
    new = planted(40, seed=3, batches=("new",))
    line = advice(lambda: SF.load(tmp_path / "m", adata=new), r"ScAtacFormer\.load_query_data\(adata, model\)")
    query = followed(f"query = {line}", adata=new, model=tmp_path / "m")["query"]
    assert query._batch_names() == ["a", "b", "new"]
    with quiet():
        query.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    assert np.isfinite(query.get_latent_representation()).all()


def test_views_are_copied_or_read_as_the_error_says(model, tmp_path):
    view = planted()[:50]
    SF.setup_anndata(followed(advice(lambda: SF.setup_anndata(view), r"adata = adata\.copy\(\)"), adata=view)["adata"])
    planted().write_h5ad(tmp_path / "a.h5ad")
    view = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")[:50]
    line = advice(lambda: SF.setup_anndata(view), r"adata = adata\.to_memory\(\)")
    SF.setup_anndata(followed(line, adata=view)["adata"])
    line = advice(lambda: model.get_latent_representation(view), r"adata\.to_memory\(\)")
    z = model.get_latent_representation(followed(f"cells = {line}", adata=view)["cells"])
    np.testing.assert_allclose(z, model.get_latent_representation(indices=np.arange(50)), atol=1e-6)


def test_names_counts_and_matrices_are_mended_as_the_error_says():
    adata = planted()
    adata.obs_names = ["cell0", *adata.obs_names[:-1]]
    followed(advice(lambda: SF.setup_anndata(adata), r"adata\.obs_names_make_unique\(\)"), adata=adata)
    adata.X = adata.X.tocsc()
    followed(advice(lambda: SF.setup_anndata(adata), r"adata\.X = adata\.X\.tocsr\(\)"), adata=adata)
    first = sp.csr_matrix(adata.X)
    twice = sp.csr_matrix((np.repeat(first.data, 2), np.repeat(first.indices, 2), 2 * first.indptr), shape=first.shape)
    adata.X = twice
    followed(advice(lambda: SF.setup_anndata(adata), r"adata\.X\.sum_duplicates\(\)"), adata=adata)
    adata.layers["counts"] = adata.X.copy()
    sc.pp.log1p(adata)
    layer = advice(lambda: SF.setup_anndata(adata), r"layer='counts'")
    followed(f"ScAtacFormer.setup_anndata(adata, {layer})", adata=adata)
    assert adata.layers["counts"].sum() == 2 * first.sum()


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_cell_ranger(path: Path) -> Path:
    """A file as Cell Ranger ARC writes it: genes and peaks of the same cells."""
    import h5py

    peaks = planted()
    x = sp.hstack([sp.csr_matrix(np.ones((90, 3), np.int32)), peaks.X.astype(np.int32)]).tocsr()
    names = ["GENE1", "GENE2", "GENE3", *peaks.var_names]
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["data"], group["indices"], group["indptr"] = x.data, x.indices, x.indptr
        group["shape"] = np.array([N_BINS + 3, 90])
        group["barcodes"] = np.array([f"b{i}" for i in range(90)], "S")
        features = group.create_group("features")
        features["id"] = features["name"] = np.array(names, "S")
        features["feature_type"] = np.array(["Gene Expression"] * 3 + ["Peaks"] * N_BINS, "S")
        features["genome"] = np.array([""] * (N_BINS + 3), "S")
    return path


def test_peaks_of_a_10x_matrix_are_taken_as_the_error_says(tmp_path):
    path = of_cell_ranger(tmp_path / "x.h5")
    genes = sc.read_10x_h5(path)
    option = advice(lambda: SF.setup_anndata(genes), r"gex_only=False")
    adata = followed(f"adata = read(path, {option})", read=sc.read_10x_h5, path=path)["adata"]
    line = advice(
        lambda: SF.setup_anndata(adata), r"adata = adata\[:, adata\.var\['feature_types'\] == 'Peaks'\]\.copy\(\)"
    )
    peaks = followed(line, adata=adata)["adata"]
    SF.setup_anndata(peaks)
    np.testing.assert_array_equal(peaks.X.toarray(), planted().X.toarray())


def fragments(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    rows = [(f"chr{1 + int(rng.integers(3))}", int(rng.integers(390_000)), f"c{rng.integers(4)}") for _ in range(2000)]
    text = "".join(f"{chrom}\t{start}\t{start + 100}\t{cell}\t1\n" for chrom, start, cell in sorted(rows))
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_a_list_of_fragment_files_is_binned_as_the_error_says(tmp_path):
    paths = {f"s{i}": fragments(tmp_path / f"{i}.tsv.gz", i) for i in range(2)}
    line = advice(lambda: sf.pp.bin_fragments(list(paths.values()), GENOME), r"anndata\.concat\(.*uns_merge='same'\)")
    adata = followed(f"adata = {line}", paths=paths, genome=GENOME)["adata"]
    assert adata.shape == (8, N_BINS) and adata.obs["sample"].value_counts().to_dict() == {"s0": 4, "s1": 4}
    SF.setup_anndata(adata, batch_key="sample")


def test_a_genome_of_snapatac2_is_taken_by_its_sizes(tmp_path):
    path = fragments(tmp_path / "f.tsv.gz", 0)
    genome = SimpleNamespace(chrom_sizes=GENOME, fasta=tmp_path / "g.fa")  # as snapatac2.genome.hg38 is made
    try:
        found = sf.pp.bin_fragments(path, genome)
    except (TypeError, ValueError) as error:
        line = re.search(r"genome\.chrom_sizes", str(error))
        assert line is not None, error
        found = sf.pp.bin_fragments(path, followed(f"sizes = {line[0]}", genome=genome)["sizes"])
    assert found.shape == (4, N_BINS)


# ── training ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wrong", "message", "right"),
    [
        ({"max_epochs": 1.0}, "max_epochs is 1.0; expected a whole number", {"max_epochs": 1}),
        (
            {"accelerator": "gpu"},
            "accelerator='gpu' needs a CUDA device.*use accelerator='cpu'",
            {"accelerator": "cpu"},
        ),
    ],
)
def test_arguments_are_corrected_as_the_error_says(wrong, message, right, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    model = fresh(planted())
    with quiet():
        with pytest.raises(ValueError, match=message):
            model.train(**(TRAINING | {"max_epochs": 1} | wrong))
        assert not model.is_trained_
        model.train(**(TRAINING | {"max_epochs": 1} | right))
    assert model.is_trained_


def test_regions_that_changed_are_set_up_again_as_the_error_says():
    adata = planted()
    model = trained(adata)
    sc.pp.filter_genes(adata, min_cells=15)
    line = advice(model.get_latent_representation, r"setup_anndata\(adata, \.\.\.\)")
    followed(f"ScAtacFormer.{line.replace('...', 'batch_key=key')}", adata=adata, key="sample")
    again = SF(adata, **SIZES)
    with quiet():
        again.train(**TRAINING)
    assert again.get_latent_representation().shape[0] == 90
