"""A corpus is the old one or the new one; what is read is what was opened; every fault is named."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest

from scatacformer import Corpus
from scatacformer.corpus import validate


def cells_of(corpus):
    return corpus.source.rows(np.arange(corpus.n_cells)).bins


@pytest.fixture
def built(data_sets, small_genome, tmp_path):
    """build(min_bins) of one data set in one folder: the more open bins a cell must have, the fewer cells."""
    source = data_sets[0] / "a.h5ad"
    return lambda least=10: Corpus.build(tmp_path / "corpus", [source], genome=small_genome, min_bins=least)


def a_higher_limit(corpus):
    return int(np.quantile(corpus.source.n_open_per_cell(), 0.5))


# ── killed ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_killed_at_every_step_of_the_first_build_the_same_command_goes_on(built, killed_at, tmp_path):
    whole = cells_of(built())
    k = 0
    while True:
        k += 1
        shutil.rmtree(tmp_path / "corpus")
        killed = killed_at(k, built)
        np.testing.assert_array_equal(cells_of(built()), whole)
        assert not [path.name for path in (tmp_path / "corpus").rglob(".*")]
        if not killed:
            break
    assert k > 20


@pytest.mark.slow
def test_killed_at_every_step_of_another_build_the_old_corpus_or_the_new_one_is_there(built, killed_at, tmp_path):
    old = built()
    limit = a_higher_limit(old)
    new = built(limit)
    n_cells = {old.n_cells, new.n_cells}
    assert len(n_cells) == 2
    seen, k = set(), 0
    while True:
        k += 1
        built()
        killed = killed_at(k, lambda: built(limit))
        found = Corpus(tmp_path / "corpus")
        found.validate()
        seen.add(found.n_cells)
        assert built(limit).n_cells == new.n_cells
        assert [path.name for path in (tmp_path / "corpus" / "datasets").iterdir()] == ["a"]
        if not killed:
            break
    assert seen == n_cells


def test_a_full_disk_names_the_file_and_the_next_build_goes_on(built, tmp_path, monkeypatch):
    from scatacformer.corpus import _shard

    def full(self, values):
        with _shard.writing(self._shown, _shard._KEPT):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(_shard.NpyWriter, "append", full)
    with pytest.raises(OSError, match=r"datasets/a/\w+\.npy could not be written: No space left on device"):
        built()
    monkeypatch.undo()
    assert built().validate()["n_cells"] == 60


# ── replaced while it is read ──────────────────────────────────────────────────────────────────────────────────────


def test_a_corpus_that_is_replaced_is_not_read_on(built):
    corpus = built()
    sent = pickle.dumps((corpus, corpus.source))
    cells_of(corpus)
    built(a_higher_limit(corpus))
    with pytest.raises(OSError, match="was replaced|became shorter"):
        cells_of(corpus)
    for columns in (lambda: corpus.obs, lambda: corpus.cell_names([0])):
        with pytest.raises((OSError, ValueError)):
            columns()
    with pytest.raises((OSError, ValueError), match=r"rebuilt|replaced|expected"):
        pickle.loads(sent)  # what a worker is handed


def test_a_file_that_is_written_over_in_place_is_not_read_on(built):
    corpus = built()
    path = corpus.folder / "datasets" / "a" / "bins.npy"
    content = bytearray(path.read_bytes())
    content[-4:] = (3).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(OSError, match="was replaced while it was read"):
        cells_of(corpus)


# ── damaged ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("old", "new"), [(b"<i4", b"<f4"), (b"<i4", b">i4"), (b"False", b"True ")])
def test_the_type_of_bins_is_not_what_the_file_says(built, old, new):
    corpus = built()
    path = corpus.folder / "datasets" / "a" / "bins.npy"
    before = cells_of(corpus)
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    if new == b"True ":  # of one dimension: the same
        np.testing.assert_array_equal(cells_of(Corpus(corpus.folder)), before)
        return
    with pytest.raises(ValueError, match=r"bins\.npy is damaged: it has (float32|>i4) .*expected int32"):
        Corpus(corpus.folder)
    with pytest.raises(ValueError, match=r"bins\.npy"):
        corpus.validate()


@pytest.mark.parametrize("number", [10**9, -1])
def test_bins_out_of_range_are_refused_where_they_are_read(built, number):
    corpus = built()
    path = corpus.folder / "datasets" / "a" / "bins.npy"
    path.write_bytes(path.read_bytes()[:-4] + number.to_bytes(4, "little", signed=True))
    with pytest.raises(ValueError, match=rf"bins\.npy is damaged: it holds {number}"):
        cells_of(Corpus(corpus.folder))


def test_every_fault_is_named(built, tmp_path):
    corpus = built()
    folder = corpus.folder / "datasets" / "a"
    for name in ("bins", "label", "barcodes"):
        path = folder / f"{name}.npy"
        path.write_bytes(path.read_bytes()[:-4] + b"\x07\0\0\0")
    (folder / "organ.npy").unlink()
    (corpus.folder / "vocabulary.bed.gz").write_bytes(b"chr1\t0\t5\n")
    for check in (corpus.validate, lambda: validate(corpus.folder, deep=False)):
        with pytest.raises(ValueError, match="has 5 faults") as caught:
            check()
        for name in ("bins.npy", "label.npy", "barcodes.npy", "organ.npy", "vocabulary.bed.gz"):
            assert name in str(caught.value)


def test_cut_columns_are_named(built):
    corpus = built()
    path = corpus.folder / "datasets" / "a" / "label.npy"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"label\.npy is damaged"):
        Corpus(corpus.folder).obs  # noqa: B018


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../secret"},
        {"name": "/etc"},
        {"name": 5},
        {"n_cells": 10**12},
        {"n_cells": -5},
        {"n_cells": True},
        {"n_tokens": "many"},
        {"names": []},
        {"names": {"batch": 3, "organ": [], "label": []}},
        {"checksums": {"../../x.npy": "0" * 64}},
        {"source": 3},
        {"source": {"path": 5, "size": 1, "mtime_ns": 1, "sha256": ""}},
    ],
)
def test_a_card_that_is_not_ours_is_refused_by_name(built, change):
    corpus = built()
    path = corpus.folder / "corpus.json"
    card = json.loads(path.read_text())
    card["datasets"][0] |= change
    path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"corpus\.json|corpus/datasets/a/"):
        Corpus(corpus.folder)
    with pytest.raises(ValueError, match=r"corpus\.json|corpus/datasets/a/|The card of"):
        validate(corpus.folder, deep=False)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"format": "1"}', '{"format": 99}', "\0"])
def test_a_card_that_is_not_even_json(built, text):
    corpus = built()
    (corpus.folder / "corpus.json").write_text(text)
    with pytest.raises(ValueError, match=r"corpus\.json"):
        Corpus(corpus.folder)
    assert built().n_cells == 60  # the data sets are whole
