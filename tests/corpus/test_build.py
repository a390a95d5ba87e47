"""A build to resume the build, leaves nothing half-written, and refuses what would make the corpus wrong."""

from __future__ import annotations

import os
import shutil

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer import Corpus, Vocabulary
from scatacformer.corpus import CorpusEntry, _build
from scatacformer.genome import chrom_sizes
from scatacformer.pp import match_vocabulary


def built(folder):
    """When each data set was written."""
    return {path.name: (path / "dataset.json").stat().st_mtime_ns for path in (folder / "datasets").iterdir()}


@pytest.fixture
def two(data_sets, small_genome, tmp_path):
    """(folder of the corpus, its two sources, arguments of build)."""
    folder, _ = data_sets
    return tmp_path / "corpus", [folder / "a.h5ad", folder / "b.zarr"], {"genome": small_genome, "min_bins": 10}


def test_what_is_finished_is_kept(two, data_sets):
    folder, sources, how = two
    Corpus.build(folder, sources[:1], **how)
    first = built(folder)
    corpus = Corpus.build(folder, sources, **how)
    assert corpus.dataset_names == ["a", "b"]
    assert built(folder)["a"] == first["a"]
    again = Corpus.build(folder, sources, min_bins=10)  # the vocabulary is that of the folder
    assert built(folder) == built(again.folder) and again.n_cells == 100
    os.unlink(sources[0])  # a source that is gone does no harm
    assert Corpus.build(folder, sources, **how).n_cells == 100


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_what_is_cut_or_gone_is_built_anew_by_the_same_command(two, damage):
    folder, sources, how = two
    whole = Corpus.build(folder, sources, **how).source.rows(np.arange(100))
    first, bins = built(folder), folder / "datasets" / "a" / "bins.npy"
    content = bins.read_bytes()
    bins.unlink()
    if damage == "cut":
        bins.write_bytes(content[:-8])
    with pytest.raises((ValueError, FileNotFoundError), match=r"bins\.npy is (damaged|gone).*Build it again"):
        Corpus(folder)
    again = Corpus.build(folder, sources, **how)
    np.testing.assert_array_equal(again.source.rows(np.arange(100)).bins, whole.bins)
    assert built(folder)["b"] == first["b"]
    assert built(folder)["a"] != first["a"]


def test_a_damaged_description_says_what_to_remove(two):
    folder, sources, how = two
    Corpus.build(folder, sources, **how)
    for name, content, message in (
        ("corpus.json", '{"format": 1}', "lacks .*Build it again"),
        ("datasets/a/dataset.json", "{", "Remove the folder .*a and build again"),
    ):
        (folder / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            Corpus(folder) if name == "corpus.json" else Corpus.build(folder, sources, **how)
    shutil.rmtree(folder / "datasets" / "a")
    assert Corpus.build(folder, sources, **how).validate()["n_cells"] == 100


def test_a_build_that_was_killed_goes_on(two, monkeypatch):
    folder, sources, how = two
    write = _build._write_cells

    def killed(partial, entry, vocabulary):
        found = write(partial, entry, vocabulary)
        if entry.name == "b":
            os.rename(partial, partial.with_name(".b.1.partial"))  # what a killed process leaves behind
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(_build, "_write_cells", killed)
    with pytest.raises(KeyboardInterrupt):
        Corpus.build(folder, sources, **how)
    assert sorted(path.name for path in (folder / "datasets").iterdir()) == [".b.1.partial", "a"]
    with pytest.raises(FileNotFoundError, match="to resume the build"):
        Corpus(folder)
    monkeypatch.undo()
    first = os.stat(folder / "datasets" / "a" / "dataset.json").st_mtime_ns
    corpus = Corpus.build(folder, sources, **how)
    assert corpus.n_cells == 100 and built(folder)["a"] == first
    assert sorted(built(folder)) == ["a", "b"]
    assert corpus.validate()["n_cells"] == 100


def test_a_source_that_changed_is_named_and_read_again(two, data_sets):
    folder, sources, how = two
    corpus = Corpus.build(folder, sources, **how)
    first = built(folder)
    os.utime(sources[0])  # another time, the same bytes
    assert corpus.validate(deep=True)["sources_missing"] == []
    data_sets[1]["a"][:50].write_h5ad(sources[0])
    with pytest.raises(ValueError, match=r"a\.h5ad changed since the data set a was built of it\. Build again"):
        corpus.validate()
    corpus = Corpus.build(folder, sources, **how)
    assert corpus.n_cells == 90 and built(folder)["b"] == first["b"]
    corpus.validate()


def test_a_file_changed_by_one_byte_in_place_is_found_by_deep(two):
    folder, sources, how = two
    corpus = Corpus.build(folder, sources, **how)
    before = sources[0].stat()
    with sources[0].open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    os.utime(sources[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    corpus.validate()
    with pytest.raises(ValueError, match="changed since"):
        corpus.validate(deep=True)


def test_other_settings_read_the_data_set_again(two):
    folder, sources, how = two
    assert Corpus.build(folder, sources, **how).batch_names == ("a", "b")
    first = built(folder)
    entries = [CorpusEntry(sources[0], batch_key="batch"), sources[1]]
    assert Corpus.build(folder, entries, **how).batch_names == ("a:batch 1", "a:batch 2", "b")
    assert built(folder)["b"] == first["b"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda bins: bins + (np.arange(len(bins)) == 5) * 5_000, r"bins\.npy is not what was written"),
        (lambda bins: bins[:-1], "damaged|row boundaries"),
    ],
)
def test_a_damaged_shard_is_named(two, damage, message):
    folder, sources, how = two
    Corpus.build(folder, sources, **how)
    path = folder / "datasets" / "a" / "bins.npy"
    np.save(path, damage(np.load(path)).astype(np.int32))
    with pytest.raises(ValueError, match=message):
        Corpus(folder).validate()


@pytest.mark.parametrize(
    ("bins", "message"), [([3, 2, 7], "not sorted"), ([2, 2, 7], "not sorted"), ([2, 3, 10], "names the bin 10, of 10")]
)
def test_bins_of_a_shard_are_checked(tmp_path, bins, message):
    from tqdm import tqdm

    from scatacformer.corpus import _validate

    np.save(tmp_path / "bins.npy", np.array([*bins, 1, 5], np.int32))
    np.save(tmp_path / "indptr.npy", np.array([0, 0, 3, 5]))
    with tqdm(disable=True) as bar, pytest.raises(ValueError, match=message):
        _validate.check_bins(tmp_path, 10, bar)
    np.save(tmp_path / "bins.npy", np.array([2, 3, 7, 1, 5], np.int32))
    _validate.check_bins(tmp_path, 10, bar)


def test_sorting_is_checked_over_the_borders_of_blocks(tmp_path, monkeypatch):
    from tqdm import tqdm

    from scatacformer.corpus import _validate

    monkeypatch.setattr(_validate, "_BLOCK", 2)
    np.save(tmp_path / "indptr.npy", np.array([0, 4, 6]))
    with tqdm(disable=True) as bar:
        np.save(tmp_path / "bins.npy", np.array([1, 2, 3, 4, 0, 1], np.int32))
        _validate.check_bins(tmp_path, 10, bar)
        np.save(tmp_path / "bins.npy", np.array([1, 3, 2, 4, 0, 1], np.int32))
        with pytest.raises(ValueError, match="not sorted"):
            _validate.check_bins(tmp_path, 10, bar)


def test_cells_out_of_bounds_are_left_out_and_counted(two, data_sets):
    folder, sources, how = two
    n_open = np.diff(data_sets[1]["a"].X.indptr)
    least, most = np.quantile(n_open, [0.25, 0.75]).astype(int)
    entries = [{"path": sources[0], "min_bins": least, "max_bins": most}, sources[1]]
    card = Corpus.build(folder, entries, **how).card["datasets"][0]
    assert card["n_cells_few"] == (n_open < least).sum() > 0
    assert card["n_cells_many"] == (n_open > most).sum() > 0
    assert card["n_cells"] == ((n_open >= least) & (n_open <= most)).sum()
    assert card["open_bins"]["min"] >= least and card["open_bins"]["max"] <= most


def test_regions_that_are_no_bins_open_the_bins_they_overlap(data_sets, small_genome, tmp_path):
    cells = data_sets[1]["a"].copy()
    vocabulary = Vocabulary.from_chrom_sizes(small_genome, 3_000)
    cells = cells[:, np.random.default_rng(0).permutation(cells.n_vars)].copy()
    cells.write_h5ad(tmp_path / "wide.h5ad")
    corpus = Corpus.build(tmp_path / "corpus", tmp_path / "wide.h5ad", vocabulary, min_bins=1)
    X = match_vocabulary(cells, vocabulary).X
    rows = corpus.source.rows(np.arange(cells.n_obs))
    np.testing.assert_array_equal(rows.bins, X.indices)
    np.testing.assert_array_equal(rows.indptr, X.indptr)
    assert corpus.card["datasets"][0]["n_regions_over_several_bins"] > 900


def test_some_regions_are_bins_and_some_lie_outside(data_sets, small_genome, tmp_path):
    cells = data_sets[1]["a"].copy()
    cells.write_h5ad(tmp_path / "a.h5ad")
    smaller = {name: size for name, size in small_genome.items() if name != "chr2"}
    vocabulary = Vocabulary.from_chrom_sizes(smaller)
    with pytest.warns(UserWarning, match="are outside the vocabulary"):
        corpus = Corpus.build(tmp_path / "corpus", tmp_path / "a.h5ad", vocabulary, min_bins=1)
    inside = cells[:, (cells.var["chrom"] != "chr2").to_numpy()]
    np.testing.assert_array_equal(corpus.source.rows(np.arange(60)).bins, sp.csr_matrix(inside.X).indices)
    card = corpus.card["datasets"][0]
    assert card["n_regions_outside"] == 300 and card["n_regions_exact"] == inside.n_vars
    assert card["share_open_outside"] == pytest.approx(1 - inside.X.nnz / cells.X.nnz)


def test_chromosomes_without_chr_are_the_same(data_sets, small_genome, tmp_path):
    cells = data_sets[1]["a"].copy()
    cells.var["chrom"] = cells.var["chrom"].astype(str).str.removeprefix("chr")
    cells.write_h5ad(tmp_path / "a.h5ad")
    corpus = Corpus.build(tmp_path / "corpus", tmp_path / "a.h5ad", genome=small_genome, min_bins=1)
    assert corpus.n_tokens == cells.X.nnz


def test_stored_zeros_and_repeats_and_disorder_do_not_matter(small_genome, tmp_path):
    vocabulary = Vocabulary.from_chrom_sizes(small_genome)
    X = sp.csr_matrix((2, vocabulary.n_bins), dtype=np.float32)
    X.indices, X.indptr = np.array([9, 4, 4, 7, 3], np.int32), np.array([0, 4, 5], np.int32)
    X.data = np.array([1, 2, 1, 0, 5], np.float32)
    adata = ad.AnnData(sp.csr_matrix((2, vocabulary.n_bins), dtype=np.float32), var=vocabulary.to_frame())
    adata.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        for name in ("indices", "indptr", "data"):
            del file["X"][name]
            file["X"][name] = getattr(X, name)
    corpus = Corpus.build(tmp_path / "corpus", tmp_path / "a.h5ad", genome=small_genome, min_bins=1)
    np.testing.assert_array_equal(corpus.source.rows(np.arange(2)).bins, [4, 9, 3])


@pytest.mark.parametrize("form", ["old_categories", "nullable", "numbers", "bytes"])
def test_columns_of_cells_as_versions_of_anndata_write_them(data_sets, small_genome, tmp_path, form):
    """anndata before 0.8 refers to categories elsewhere in the file; 0.13 writes texts that may be missing."""
    cells = data_sets[1]["a"].copy()
    expected = list(cells.obs["cell_type"].astype(str))
    cells.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        obs = file["obs"]
        codes = obs["cell_type/codes"][:]
        names = obs["cell_type/categories"].asstr()[:]
        barcodes = obs["_index"].asstr()[:]
        del obs["cell_type"], obs["_index"]
        obs["_index"] = barcodes
        if form == "old_categories":
            codes[3], expected[3] = -1, None
            obs["__categories/cell_type"] = names
            obs["cell_type"] = codes
            obs["cell_type"].attrs["categories"] = obs["__categories/cell_type"].ref
        elif form == "nullable":
            for key, values in (("cell_type", names[codes]), ("_index", barcodes)):
                if key in obs:
                    del obs[key]
                group = obs.create_group(key)
                group.attrs["encoding-type"] = "nullable-string-array"
                group["values"], group["mask"] = values.astype(object), np.zeros(60, bool)
            obs["cell_type/mask"][3], expected[3] = True, None
        elif form == "numbers":
            values = codes.astype(float)
            values[3] = np.nan
            obs["cell_type"] = values
            expected = [None if i == 3 else str(code) for i, code in enumerate(codes.astype(float))]
        else:
            obs["cell_type"] = names[codes].astype("S")
    entry = CorpusEntry(tmp_path / "a.h5ad", labels_key="cell_type")
    corpus = Corpus.build(tmp_path / "corpus", [entry], genome=small_genome, min_bins=1)
    assert [None if label != label else label for label in corpus.obs["label"]] == expected
    assert corpus.cell_names([7]) == [f"a:{cells.obs_names[7]}"]


# ── refused ────────────────────────────────────────────────────────────────────────────────────────────────────────


def refused(two, sources, message, error=ValueError, **how):
    folder, _, usual = two
    with pytest.raises(error, match=message):
        Corpus.build(folder, sources, **(usual | how))
    datasets = folder / "datasets"
    assert not datasets.exists() or not [path for path in datasets.iterdir() if path.name.startswith(".")]


def test_copies_are_refused(two, tmp_path):
    _, sources, _ = two
    shutil.copy(sources[0], tmp_path / "other_name.h5ad")
    refused(two, [*sources, tmp_path / "other_name.h5ad"], "are copies of each other")
    assert not two[0].exists()
    refused(two, [sources[0], sources[0]], "The path .* comes twice")
    os.makedirs(tmp_path / "elsewhere")
    shutil.copy(sources[0], tmp_path / "elsewhere" / "a.h5ad")
    refused(two, [sources[0], tmp_path / "elsewhere" / "a.h5ad"], "The name a comes twice")


def test_the_same_cells_in_another_file_are_refused(two, data_sets, tmp_path):
    data_sets[1]["a"].write_h5ad(tmp_path / "again.h5ad", compression="gzip")
    refused(two, [two[1][0], tmp_path / "again.h5ad"], "hold the same cells, though their files differ")


def test_wrong_assembly_is_named_before_anything_is_written(two, data_sets, tmp_path):
    refused(two, [{"path": two[1][0], "assembly": "mm10"}], "is of mm10, the vocabulary is of hg38", genome="hg38")
    assert not two[0].exists()
    cells = data_sets[1]["a"].copy()
    cells.uns["assembly"] = "hg19"
    cells.write_h5ad(tmp_path / "hg19.h5ad")
    refused(two, [tmp_path / "hg19.h5ad"], r"hg19\.h5ad is of hg19, the vocabulary is of hg38", genome="hg38")


def test_bins_of_another_assembly_that_does_not_say_so_are_refused(two, tmp_path):
    mouse = Vocabulary.from_chrom_sizes("mm10", 100_000)
    ad.AnnData(sp.csr_matrix(np.ones((2, mouse.n_bins), np.float32)), var=mouse.to_frame()).write_h5ad(
        tmp_path / "m.h5ad"
    )
    refused(two, [tmp_path / "m.h5ad"], "end beyond their chromosome in hg38", genome="hg38", bin_size=100_000)


@pytest.mark.parametrize(("cells_of", "vocabulary_of"), [("hg38", "hg19"), ("mm10", "mm39")])
def test_the_ends_of_bins_show_another_assembly_although_none_is_named(two, tmp_path, cells_of, vocabulary_of):
    # on chromosomes that are shorter than in the vocabulary's assembly: none of the bins is beyond an end
    sizes, longer = chrom_sizes(cells_of), chrom_sizes(vocabulary_of)
    shorter = {name: size for name, size in sizes.items() if size < longer.get(name, 0)}
    assert len(shorter) > 3
    bins = Vocabulary.from_chrom_sizes(shorter, 100_000)
    cells = ad.AnnData(sp.csr_matrix(np.ones((2, bins.n_bins), np.float32)), var=bins.to_frame())
    cells.write_h5ad(tmp_path / "other.h5ad")
    message = rf"other\.h5ad is of {cells_of}, the vocabulary is of {vocabulary_of}"
    refused(two, [tmp_path / "other.h5ad"], message, genome=vocabulary_of, bin_size=100_000)
    own = Vocabulary.from_chrom_sizes({name: longer[name] for name in shorter}, 100_000)
    cells = ad.AnnData(sp.csr_matrix(np.ones((2, own.n_bins), np.float32)), var=own.to_frame())
    cells.write_h5ad(tmp_path / "own.h5ad")
    built = Corpus.build(tmp_path / "corpus", [tmp_path / "own.h5ad"], genome=vocabulary_of, bin_size=100_000)
    assert built.n_cells == 2


def test_what_is_not_there_or_unknown_is_refused_first(two, tmp_path):
    _, sources, _ = two
    refused(two, [*sources, tmp_path / "none.h5ad"], "does not exist. Check the path", FileNotFoundError)
    (tmp_path / "x.dat").touch()
    refused(two, [*sources, tmp_path / "x.dat"], "does not show its format")
    refused(two, [*sources, tmp_path], "a folder, and no zarr store")
    refused(two, [], "at least one data set")
    refused(two, [{"path": sources[0], "label_key": "x"}], "unknown key 'label_key'. Did you mean 'labels_key'")
    refused(two, [{"path": sources[0], "is_cell_key": "x"}], "describes the table barcodes")
    assert not two[0].exists()


def test_columns_and_layers_that_are_not_there(two):
    _, sources, _ = two
    refused(two, [{"path": sources[0], "batch_key": "donor"}], "no column 'donor' of cells; it has .*cell_type")
    refused(two, [{"path": sources[0], "layer": "raw"}], "has no layers/raw; it has X, layers: none")


def test_what_holds_no_counts(two, data_sets, tmp_path):
    for name, change, message in (
        ("halves", lambda X: X * 0.5, "does not hold counts: .* in cell cell_"),
        ("negative", lambda X: -X, "does not hold counts"),
        ("dense", lambda X: X.toarray(), "on disk is dense"),
        ("csc", lambda X: X.tocsc(), "by column"),
    ):
        cells = data_sets[1]["a"].copy()
        cells.X = change(cells.X)
        cells.write_h5ad(tmp_path / f"{name}.h5ad")
        refused(two, [tmp_path / f"{name}.h5ad"], message)
    (tmp_path / "no.h5ad").write_text("not HDF5")
    refused(two, [tmp_path / "no.h5ad"], r"no\.h5ad is not a file of the kind h5ad, or is damaged")
    refused(two, [two[1][0]], "No cell of .* is left: .* fewer than 10,000 open bins", min_bins=10_000)


def test_barcodes_that_come_twice(two, data_sets, tmp_path):
    cells = data_sets[1]["a"].copy()
    cells.obs_names = ["x", *cells.obs_names[1:-1], "x"]
    cells.write_h5ad(tmp_path / "twice.h5ad")
    refused(two, [tmp_path / "twice.h5ad"], "the barcode x comes twice")


def test_folders_of_something_else(two, tmp_path, small_genome):
    folder, sources, how = two
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ValueError, match="holds something else than a corpus"):
        Corpus.build(tmp_path / "full", sources, **how)
    with pytest.raises(FileNotFoundError, match="There is no corpus"):
        Corpus(tmp_path / "full")
    Corpus.build(folder, sources, **how)
    with pytest.raises(ValueError, match="begun with another vocabulary"):
        Corpus.build(folder, sources, genome=small_genome, bin_size=1_000)
    with pytest.raises(ValueError, match="not among the sources: b"):
        Corpus.build(folder, sources[:1], **how)
    with pytest.raises(ValueError, match="not both"):
        Corpus.build(folder, sources, "bins.bed", genome="hg38")
    with pytest.raises(ValueError, match="Say which bins"):
        Corpus.build(tmp_path / "new", sources)
    assert Corpus(folder).n_cells == 100


def test_two_builds_in_one_folder(two, monkeypatch):
    folder, sources, how = two
    write = _build._write_cells

    def meanwhile(partial, entry, vocabulary):
        with pytest.raises(RuntimeError, match="Another process is building"):
            Corpus.build(folder, sources[1:], **how)
        return write(partial, entry, vocabulary)

    monkeypatch.setattr(_build, "_write_cells", meanwhile)
    assert Corpus.build(folder, sources[:1], **how).n_cells == 60
