"""A corpus holds the very cells of its sources, wherever these lie, and is read as other data on disk are."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer import Corpus
from scatacformer.cells import RowSource, SentenceLoader


def expected(cells, names):
    """Sorted open bins of each named cell."""
    X = sp.csr_matrix(cells[names].X)
    return [np.sort(X.indices[X.indptr[i] : X.indptr[i + 1]]) for i in range(len(names))]


def test_cells_are_those_of_the_sources(corpus, _data_sets):
    _, cells = _data_sets
    assert (corpus.n_cells, corpus.dataset_names) == (130, ["a", "b", "c"])
    assert corpus.n_tokens == sum(adata.X.nnz for adata in cells.values())
    order = np.random.default_rng(0).permutation(130)
    rows = corpus.source.rows(order)
    for i, name in enumerate(corpus.cell_names(order)):
        data_set, barcode = name.split(":", 1)
        found = rows.bins[rows.indptr[i] : rows.indptr[i + 1]]
        np.testing.assert_array_equal(found, expected(cells[data_set], [barcode])[0])


def test_vocabulary_and_card(corpus, small_genome):
    from scatacformer import Vocabulary

    assert corpus.vocabulary == Vocabulary.from_chrom_sizes(small_genome)
    card = corpus.card
    assert (card["n_cells"], card["n_tokens"], card["n_batches"]) == (130, corpus.n_tokens, 4)
    assert card["vocabulary"] == corpus.vocabulary.checksum
    assert card["organs"] == {"batch 1": 1, "batch 2": 1, "lung": 1}
    assert all(len(data_set["source"]["sha256"]) == 64 for data_set in card["datasets"])
    page = (corpus.folder / "README.md").read_text("utf-8")
    assert page == corpus.to_markdown()
    assert "130 cells" in page and "`c.tsv.gz`" in page and str(corpus.folder.parent) not in page
    assert "130 cells" in repr(corpus)


def test_columns_of_cells(corpus, _data_sets):
    _, cells = _data_sets
    obs = corpus.obs
    assert list(obs["dataset"]) == ["a"] * 60 + ["b"] * 40 + ["c"] * 30
    assert list(obs["label"][:60]) == list(cells["a"].obs["cell_type"])
    assert obs["label"][60:].isna().all() and obs["organ"][100:].isna().all()
    assert list(obs["organ"][:100]) == ["lung"] * 60 + list(cells["b"].obs["batch"])
    assert corpus.batch_names == ("a:batch 1", "a:batch 2", "b", "c")
    codes = corpus.batch_codes
    assert codes.dtype == np.int64
    assert [corpus.batch_names[code] for code in codes[:60]] == [f"a:{name}" for name in cells["a"].obs["batch"]]
    assert set(codes[60:100]) == {2} and set(codes[100:]) == {3}
    assert list(obs["batch"]) == [corpus.batch_names[code] for code in codes]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_cell_comes_once_an_epoch_in_an_order_of_the_seed(corpus, workers):
    loader = SentenceLoader(corpus.source, batch_size=16, shuffle=True, chunk_cells=4, num_workers=workers)
    assert loader.chunk_shuffle
    orders = []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        batches = list(loader)
        orders.append(np.concatenate([batch["cells"].numpy() for batch in batches]))
        np.testing.assert_array_equal(np.sort(orders[-1]), np.arange(130))
        for batch in batches:
            rows = corpus.source.rows(batch["cells"].numpy())
            np.testing.assert_array_equal(batch["bins"].numpy(), rows.bins)
            np.testing.assert_array_equal(batch["cu_seqlens"].numpy(), rows.indptr)
    assert (orders[0] != orders[1]).any()
    mixed = len(set(np.searchsorted(corpus.dataset_offsets, orders[0][:16], side="right")))
    assert mixed == 3, "a minibatch holds cells of all data sets"


def test_stretches_over_the_borders_of_data_sets(corpus):
    whole = corpus.source.rows(np.arange(130))
    for size in (1, 7, 59, 130):
        parts = [rows.bins for _, rows in corpus.source.iter_chunks(size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole.bins)
    mask = np.zeros(130, bool)
    mask[[0, 59, 60, 99, 100, 129]] = True
    assert len(corpus.source.rows(mask).indptr) == 7
    assert len(corpus.source.rows(np.array([], int)).bins) == 0
    counts = corpus.source.rows(np.array([60, 60]), counts=True)
    assert (counts.counts == 1).all() and len(counts.counts) == len(counts.bins)


def test_one_read_for_neighbouring_cells(corpus, monkeypatch):
    reads = []
    fromfile = np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *args, **kwargs: reads.append(args) or fromfile(*args, **kwargs))
    corpus.source.rows(np.arange(10, 50))
    assert len(reads) == 1
    corpus.source.rows(np.arange(50, 70))
    assert len(reads) == 3


def test_opening_reads_no_bins(_corpus_folder, monkeypatch):
    reads = []
    fromfile = np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *args, **kwargs: reads.append(args[2]) or fromfile(*args, **kwargs))
    Corpus(_corpus_folder)
    assert sum(reads) == 130 + 3  # where cells begin


def _sum_of(source):
    return int(source.rows(np.arange(source.n_cells)).bins.sum())


def test_survives_pickling_and_other_processes(corpus):
    source = corpus.source
    assert len(pickle.dumps(source)) < 1_500 and len(pickle.dumps(corpus)) < 500
    again = pickle.loads(pickle.dumps(corpus))
    assert again.n_cells == 130 and again.vocabulary == corpus.vocabulary
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert pool.submit(_sum_of, source).result() == _sum_of(source)


def test_statistics_need_no_matrix_in_memory(corpus):
    per_bin = corpus.source.n_open_per_bin()
    assert per_bin.sum() == corpus.n_tokens == corpus.source.n_open_per_cell().sum()
    np.testing.assert_array_equal(corpus.source.stored_per_cell, corpus.source.n_open_per_cell())


def test_damaged_files_are_refused(tmp_path):
    np.save(tmp_path / "indptr.npy", np.array([0, 2, 3]))
    (tmp_path / "bins.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"bins\.npy is damaged"):
        RowSource.from_shards([tmp_path], 10)
    np.save(tmp_path / "bins.npy", np.array([1, 2], np.int32))
    with pytest.raises(ValueError, match="damaged"):
        RowSource.from_shards([tmp_path], 10)
    np.save(tmp_path / "bins.npy", np.array([1, 2, 5], np.int32))
    assert RowSource.from_shards([tmp_path], 10).nnz == 3
    np.save(tmp_path / "bins.npy", np.array([1, None, 5], object), allow_pickle=True)
    with pytest.raises(ValueError, match="damaged"):
        RowSource.from_shards([tmp_path], 10)
