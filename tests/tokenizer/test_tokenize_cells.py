from __future__ import annotations

import copy
import gzip
import threading
import time
import warnings
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scatacformer as sf
from scatacformer.genome import Vocabulary
from scatacformer.pp import match_vocabulary
from scatacformer.tokenizer import TokenizedCells

CHROMS = ("chr1", "chr2", "chrX")


def random_universe(rng, n, widest):
    start = rng.integers(0, 20_000, n)
    frame = pd.DataFrame({"chrom": rng.choice(CHROMS, n), "start": start, "end": start + rng.integers(1, widest, n)})
    return frame.drop_duplicates(ignore_index=True)


@pytest.fixture(scope="module")
def universe(tmp_path_factory):
    path = tmp_path_factory.mktemp("universe") / "u.bed"
    frame = random_universe(np.random.default_rng(3), 400, 900)
    frame.to_csv(path, sep="\t", header=False, index=False)
    return path


@pytest.fixture(scope="module")
def tokenizer(universe):
    return sf.Tokenizer.from_bed(universe)


@pytest.fixture(scope="module")
def fragments():
    rng = np.random.default_rng(0)
    n = 3_000
    start = rng.integers(0, 24_000, n)
    return pd.DataFrame(
        {
            "chrom": rng.choice([*CHROMS, "chrUn_1"], n),
            "start": start,
            "end": start + rng.integers(1, 600, n),
            "barcode": [f"cell{i}-1" for i in rng.geometric(0.2, n)],
            "count": rng.geometric(0.6, n),
        }
    ).sort_values(["chrom", "start"], ignore_index=True)


def write(path, table, before=""):
    text = (before + table.to_csv(sep="\t", header=False, index=False)).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def test_fragments_give_the_tokens_of_gtars(tmp_path, universe, tokenizer, fragments):
    gtars = pytest.importorskip("gtars.tokenizers")
    path = write(tmp_path / "f.tsv.gz", fragments)
    theirs = gtars.Tokenizer(str(universe))
    expected = gtars.tokenize_fragment_file(str(path), theirs)
    cells = tokenizer.tokenize_fragments(path)
    assert cells.barcodes.tolist() == sorted(expected)
    assert cells.X.has_canonical_format
    for number, barcode in enumerate(cells.barcodes):
        ids = np.array(expected[barcode])
        known, counts = np.unique(ids[ids != theirs.unk_token_id], return_counts=True)
        assert cells[barcode].tolist() == cells[number].tolist() == known.tolist()
        assert cells.X[[number]].data.tolist() == counts.tolist()
        assert cells.n_unknown[number] == (ids == theirs.unk_token_id).sum()
    assert 0 < cells.n_unknown.sum() < len(fragments)


def test_file_and_blocks_do_not_matter(tmp_path, tokenizer, fragments, monkeypatch):
    expected = tokenizer.tokenize_fragments(write(tmp_path / "f.tsv", fragments))
    half = write(tmp_path / "a.gz", fragments[:1_500], "# made by hand\n").read_bytes()
    (tmp_path / "members.tsv.gz").write_bytes(half + write(tmp_path / "b.gz", fragments[1_500:], "#\n").read_bytes())
    shuffled = write(tmp_path / "shuffled.tsv", fragments.sample(frac=1, random_state=0))
    four = write(tmp_path / "four.tsv", fragments.drop(columns="count"))
    monkeypatch.setattr("scatacformer.cells.fragments.read.BLOCK", 2_000)
    for path in (tmp_path / "members.tsv.gz", shuffled, four):
        cells = tokenizer.tokenize_fragments(path)
        assert (cells.X != expected.X).nnz == 0
        assert cells.barcodes.tolist() == expected.barcodes.tolist()
        assert cells.n_unknown.tolist() == expected.n_unknown.tolist()


def test_bins_count_as_bin_fragments_does(tmp_path, small_genome):
    path = tmp_path / "f.tsv.gz"
    from scatacformer.datasets import simulated_cells, simulated_fragments

    adata = simulated_fragments(path, simulated_cells(40, 2, genome=small_genome, fragments=300, seed=2))
    cells = sf.Tokenizer.from_chrom_sizes(small_genome).tokenize_fragments(path, barcodes=adata.obs_names)
    found = cells.to_anndata()
    assert found.obs_names.tolist() == adata.obs_names.tolist()
    assert Vocabulary.from_var(found.var) == Vocabulary.from_var(adata.var)
    assert (found.X != adata.X).nnz == 0
    assert found.X.dtype == adata.X.dtype
    assert found.obs["n_unknown"].sum() == 0


def test_barcodes_are_kept_in_the_order_given(tmp_path, tokenizer, fragments):
    path = write(tmp_path / "f.tsv.gz", fragments)
    whole = tokenizer.tokenize_fragments(path)
    wanted = ["cell4-1", "cell1-1", "cell3-1"]
    cells = tokenizer.tokenize_fragments(path, wanted)
    assert cells.barcodes.tolist() == wanted
    assert [ids.tolist() for ids in cells] == [whole[barcode].tolist() for barcode in wanted]
    assert cells.n_unknown.tolist() == whole[wanted].n_unknown.tolist()
    (tmp_path / "barcodes.tsv").write_text("\n".join(wanted) + "\n")
    assert tokenizer.tokenize_fragments(path, tmp_path / "barcodes.tsv").barcodes.tolist() == wanted
    with pytest.warns(UserWarning, match="1 of 2 barcodes given are not in .* left out .*first: nobody"):
        assert tokenizer.tokenize_fragments(path, ["nobody", "cell1-1"]).barcodes.tolist() == ["cell1-1"]
    with pytest.raises(ValueError, match=r"None of the 1 barcodes is in .*suffix"):
        tokenizer.tokenize_fragments(path, ["cell1"])


def test_bad_fragments_are_refused(tmp_path, tokenizer, fragments):
    with pytest.raises(FileNotFoundError, match="no fragments file"):
        tokenizer.tokenize_fragments(tmp_path / "absent.tsv")
    path = write(tmp_path / "f.tsv.gz", fragments)
    (tmp_path / "half.tsv.gz").write_bytes(path.read_bytes()[:9_000])
    with pytest.raises(ValueError, match="truncated or damaged gzip"):
        tokenizer.tokenize_fragments(tmp_path / "half.tsv.gz")
    bare = fragments.assign(chrom=fragments["chrom"].str[3:])
    with pytest.raises(ValueError, match="No chromosome of .*named without 'chr'"):
        tokenizer.tokenize_fragments(write(tmp_path / "bare.tsv", bare))
    broken = write(tmp_path / "broken.tsv", fragments)
    broken.write_text(broken.read_text() + "chr1\t5\tten\tcell1-1\t1\n")
    with pytest.raises(ValueError, match="line 3,001, has a start or an end that is not a position"):
        tokenizer.tokenize_fragments(broken)
    odd = write(tmp_path / "odd.tsv", fragments.assign(end=fragments["start"] - 1)[:10])
    with pytest.warns(UserWarning, match="10 fragments .* end before their start"):
        assert tokenizer.tokenize_fragments(odd).X.nnz == 0


def test_fragments_of_another_assembly_are_refused(tmp_path, small_genome):
    beyond = pd.DataFrame({"chrom": ["chr1"], "start": [248_956_400], "end": [249_000_000], "barcode": ["a"], "n": [1]})
    path = write(tmp_path / "f.tsv", beyond)
    with pytest.raises(ValueError, match=r"end beyond the chromosomes of hg38.*fit hg19"):
        sf.Tokenizer.from_chrom_sizes("hg38", 100_000).tokenize_fragments(path)


@pytest.fixture(scope="module")
def peaks():
    rng = np.random.default_rng(1)
    regions = random_universe(rng, 300, 1_200).sample(frac=1, random_state=0)
    regions.index = [f"peak{i}" for i in range(len(regions))]
    counts = rng.integers(0, 4, (60, len(regions))) * (rng.random((60, len(regions))) < 0.2)
    X = sparse.csr_matrix(counts.astype(np.float32))
    X.data[::7] = 0  # stored, and not open
    return anndata.AnnData(X, var=regions, obs=pd.DataFrame(index=[f"c{i}" for i in range(60)]))


def test_anndata_gives_the_tokens_of_its_open_regions(tokenizer, peaks):
    cells = tokenizer.tokenize_anndata(peaks)
    dense = peaks.X.toarray()
    of_region = [
        set(tokenizer([region])["input_ids"]) - {tokenizer.unk_token_id}
        for region in peaks.var.itertuples(index=False, name=None)
    ]
    for row, ids in enumerate(cells):
        is_open = np.flatnonzero(dense[row])
        assert set(ids) == set().union(*(of_region[region] for region in is_open))
        assert cells.n_unknown[row] == sum(not of_region[region] for region in is_open)
    assert cells.n_unknown.sum() > 0
    assert cells.n_tokens.tolist() == [len(ids) for ids in cells]
    assert cells.barcodes.tolist() == peaks.obs_names.tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert (cells.X != match_vocabulary(peaks, tokenizer.vocabulary).X).nnz == 0


def test_how_cells_are_stored_does_not_matter(tmp_path, tokenizer, peaks):
    expected = tokenizer.tokenize_anndata(peaks)
    peaks.write_h5ad(tmp_path / "peaks.h5ad")
    in_layer = anndata.AnnData(var=peaks.var, obs=peaks.obs, layers={"counts": peaks.X.tocsc()})
    backed = anndata.read_h5ad(tmp_path / "peaks.h5ad", backed="r")
    dense = anndata.AnnData(peaks.X.toarray(), var=peaks.var, obs=peaks.obs)
    before = peaks.X.copy()
    for adata, layer in ((backed, None), (in_layer, "counts"), (dense, None), (peaks[:, ::-1], None)):
        found = tokenizer.tokenize_anndata(adata, layer=layer)
        assert (found.X != expected.X).nnz == 0
        assert found.n_unknown.tolist() == expected.n_unknown.tolist()
    backed.file.close()
    assert (before != peaks.X).nnz == 0


def test_anndata_that_does_not_fit_is_refused(tokenizer, peaks):
    for other in (None, "cells.h5ad", SimpleNamespace(obs_names=[], mod={})):
        with pytest.raises(TypeError, match="Expected an AnnData; found"):
            tokenizer.tokenize_anndata(other)
    bare = peaks.copy()
    bare.var["chrom"] = bare.var["chrom"].str[3:]
    with pytest.raises(ValueError, match="None of the 300 regions .*named without 'chr'"):
        tokenizer.tokenize_anndata(bare)
    other = peaks.copy()
    other.uns["assembly"] = "mm10"
    hg38 = sf.Tokenizer(Vocabulary.from_var(tokenizer.vocabulary.to_frame()[:5], assembly="hg38"))
    with pytest.raises(ValueError, match="of mm10 .*vocabulary is of hg38"):
        hg38.tokenize_anndata(other)
    with pytest.raises(ValueError, match="no cells"):
        tokenizer.tokenize_anndata(peaks[:0])
    with pytest.raises(ValueError, match="no layer 'counts'"):
        tokenizer.tokenize_anndata(peaks, layer="counts")


def test_fewer_cells(tokenizer, peaks):
    cells = tokenizer.tokenize_anndata(peaks)
    for chosen in (slice(3, 5), [3, 4], np.arange(60) // 3 == 1, ["c5", "c3"]):
        fewer = cells[chosen]
        assert isinstance(fewer, TokenizedCells)
        for barcode in fewer.barcodes:
            assert fewer[barcode].tolist() == cells[barcode].tolist()
        assert (
            fewer.n_unknown.tolist() == cells.n_unknown[pd.Index(cells.barcodes).get_indexer(fewer.barcodes)].tolist()
        )
    assert cells[["c5", "c3"]].barcodes.tolist() == ["c5", "c3"]
    assert cells[-1].tolist() == cells["c59"].tolist()
    assert len(copy.deepcopy(cells)) == 60
    with pytest.raises(KeyError, match="'nobody' is not a barcode of these 60 cells"):
        cells["nobody"]
    with pytest.raises(IndexError):
        cells[60]
    with pytest.raises(KeyError, match="'c0' is the name of several cells"):
        cells[[0, 0, 1]]["c1"]


def test_other_threads_run_while_a_file_is_tokenized(tmp_path, tokenizer, fragments):
    path = write(tmp_path / "f.tsv.gz", pd.concat([fragments] * 20))
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.perf_counter()
    tokenizer.tokenize_fragments(path)
    stop = time.perf_counter()
    done.set()
    thread.join()
    # the interpreter hands over every 5 ms; a call that holds the lock gives none
    assert sum(start < at < stop for at in ticks) > (stop - start) / 0.3


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_what_is_no_count_is_refused_and_named(value):
    x = sparse.csr_matrix(np.array([[1.0, 0.0], [2.0, value]], dtype=np.float32))
    adata = anndata.AnnData(x, var=pd.DataFrame(index=["chr1:0-5000", "chr1:5000-10000"]))
    tokenizer = sf.Tokenizer.from_chrom_sizes({"chr1": 20_000}, bin_size=5000)
    with pytest.raises(ValueError, match=rf"found {value} in cell 1, region 1"):
        tokenizer.tokenize_anndata(adata)


def test_a_few_fragments_outside_of_their_chromosome_are_unknown(tmp_path):
    tokenizer = sf.Tokenizer(Vocabulary.from_chrom_sizes("sacCer3", 50_000))
    rng = np.random.default_rng(0)
    starts = np.sort(rng.integers(0, 200_000, 5_000))
    table = pd.DataFrame({"chrom": "chrI", "start": starts, "end": starts + 90, "barcode": "a", "n": 1})
    odd = pd.DataFrame({"chrom": "chrI", "start": [-9, 230_100], "end": [40, 230_300], "barcode": "a", "n": 1})
    expected = tokenizer.tokenize_fragments(write(tmp_path / "a.tsv", table))
    with pytest.warns(UserWarning, match=r"2 of 5,002 fragments .* left out"):
        cells = tokenizer.tokenize_fragments(write(tmp_path / "b.tsv", pd.concat([table, odd])))
    assert (cells.X != expected.X).nnz == 0
