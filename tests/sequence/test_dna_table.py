"""A table that is killed goes on, one of other things is never mixed with it, and no half of one is read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scatacformer.genome import Vocabulary
from scatacformer.sequence import DnaTableWriter, read_dna_table

ROWS = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float16)
MADE_OF = {"n_bins": 10, "settings": {"model": "a", "vocabulary": "v"}}


def writer(path, made_of=MADE_OF, **kwargs):
    return DnaTableWriter(path, (10, 3), "float16", made_of, **kwargs)


def test_a_killed_table_goes_on_and_is_whole(tmp_path):
    path = tmp_path / "dna.npy"
    first = writer(path)
    first.append(ROWS[:4])
    first.save()
    first.append(ROWS[4:7])  # killed before these were saved
    del first
    with pytest.raises(ValueError, match="is incomplete"):
        read_dna_table(path)
    again = writer(path)
    assert again.n_done == 4
    with pytest.raises(ValueError, match="4 of 10 rows"):
        again.finish()
    again.append(ROWS[4:])
    found = again.finish()
    np.testing.assert_array_equal(found, ROWS)
    assert not found.flags.writeable
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dna.npy", "dna.npy.json"]
    assert writer(path).done
    table, notes = read_dna_table(path)
    np.testing.assert_array_equal(table, ROWS)
    assert notes == MADE_OF


@pytest.mark.parametrize("finished", [False, True])
def test_a_table_of_something_else_is_kept_unless_it_may_be_replaced(tmp_path, finished):
    path = tmp_path / "dna.npy"
    one = writer(path)
    one.append(ROWS)
    one.finish() if finished else one.close()
    other = {"n_bins": 10, "settings": {"model": "b", "vocabulary": "v"}}
    with pytest.raises(ValueError, match=r"with other inputs \(model: a there, b now\).*overwrite=True"):
        writer(path, other)
    same = writer(path)
    assert same.n_done == 10
    same.close()
    replaced = writer(path, other, overwrite=True)
    assert replaced.n_done == 0
    replaced.append(-ROWS)
    np.testing.assert_array_equal(replaced.finish(), -ROWS)
    assert read_dna_table(path)[1] == other


def test_what_may_be_replaced_and_is_the_same_goes_on(tmp_path):
    one = writer(tmp_path / "dna.npy")
    one.append(ROWS[:4])
    one.close()
    assert writer(tmp_path / "dna.npy", overwrite=True).n_done == 4


def test_an_array_of_unknown_origin_is_not_replaced_unasked(tmp_path):
    np.save(tmp_path / "dna.npy", ROWS)
    with pytest.raises(ValueError, match="model: None there, a now"):
        writer(tmp_path / "dna.npy")
    assert read_dna_table(tmp_path / "dna.npy")[1] == {}


def test_a_table_of_other_bins_is_refused(tmp_path):
    bins = Vocabulary.from_chrom_sizes({"chr1": 50_000})
    one = writer(tmp_path / "dna.npy")
    one.append(ROWS)
    one.finish()
    with pytest.raises(ValueError, match="is of other bins"):
        read_dna_table(tmp_path / "dna.npy", bins)
    own = {"settings": {"vocabulary": bins.checksum}}
    (tmp_path / "dna.npy.json").write_text(json.dumps(own))
    assert read_dna_table(tmp_path / "dna.npy", bins)[1] == own


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="the DNA table .* does not exist"):
        read_dna_table(tmp_path / "dna.npy")
    np.save(tmp_path / "dna.npy", ROWS)
    content = (tmp_path / "dna.npy").read_bytes()
    for damaged in (content[:-1], content[:50], b"", b"PK"):
        (tmp_path / "dna.npy").write_bytes(damaged)
        with pytest.raises(ValueError, match="not a NumPy array|truncated"):
            read_dna_table(tmp_path / "dna.npy")
    np.save(tmp_path / "code.npy", np.array([print]), allow_pickle=True)
    with pytest.raises(ValueError, match="not a NumPy array"):
        read_dna_table(tmp_path / "code.npy")
    np.save(tmp_path / "dna.npy", ROWS)
    (tmp_path / "dna.npy.json").write_text('{"settings"')
    with pytest.raises(ValueError, match="truncated or not JSON"):
        read_dna_table(tmp_path / "dna.npy")


def make(path, made_of, rows):
    one = writer(path, made_of, overwrite=True)
    if not one.done:
        one.append(rows[one.n_done :])
    one.finish()


def test_killed_at_every_step_the_table_and_its_notes_are_of_one(tmp_path, killed_at):
    other = {"n_bins": 10, "settings": {"model": "b", "vocabulary": "v"}}
    path, seen, k = tmp_path / "dna.npy", set(), 0
    while True:
        k += 1
        make(path, MADE_OF, ROWS)
        killed = killed_at(k, lambda: make(path, other, -ROWS))
        table, notes = read_dna_table(path)
        is_old = notes == MADE_OF
        np.testing.assert_array_equal(table, ROWS if is_old else -ROWS)
        seen.add(is_old)
        if not killed:
            break
    assert seen == {False, True}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dna.npy", "dna.npy.json"]


def test_two_processes_do_not_write_one_table(tmp_path):
    first = writer(tmp_path / "dna.npy")
    first.append(ROWS[:4])
    with pytest.raises(RuntimeError, match="Another process is making"):
        writer(tmp_path / "dna.npy")
    first.close()
    assert writer(tmp_path / "dna.npy").n_done == 4


@pytest.mark.parametrize("n_done", [11, -1, "4", True, None])
def test_progress_that_is_not_ours_begins_anew(tmp_path, n_done):
    first = writer(tmp_path / "dna.npy")
    first.append(ROWS[:4])
    first.close()
    progress = tmp_path / ".dna.npy.progress.json"
    progress.write_text(json.dumps(json.loads(progress.read_text()) | {"n_done": n_done}))
    assert writer(tmp_path / "dna.npy").n_done == 0


@pytest.mark.parametrize("array", [np.zeros(5), np.zeros((2, 2), int), np.zeros((2, 2, 2))])
def test_an_array_of_another_kind_is_refused(tmp_path, array):
    np.save(tmp_path / "dna.npy", array)
    with pytest.raises(ValueError, match=r"dna\.npy is not a NumPy array.*expected \(n_bins, d\) of floating point"):
        read_dna_table(tmp_path / "dna.npy")


def test_one_changed_number_is_found(tmp_path):
    make(tmp_path / "dna.npy", MADE_OF, ROWS)
    content = bytearray((tmp_path / "dna.npy").read_bytes())
    content[-3] ^= 1
    (tmp_path / "dna.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"dna\.npy is not a NumPy array.*its checksum differs"):
        read_dna_table(tmp_path / "dna.npy")
