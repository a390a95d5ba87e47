"""A folder is the old one or the new one, at every moment and whatever happens."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading

import pytest

from scatacformer._io import alone, listed_file, read_json, read_whole, sha256, whole_folder


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


OWNS = ("weights", "regions", "cells")


def write(folder, text, names=("weights", "regions"), **options):
    with whole_folder(folder, "config.json", OWNS, **{"overwrite": True, **options}) as new:
        for name in names:
            with new.file(name) as path:
                path.write_text(f"{name} of {text}")
        new.point({"text": text})


def read(folder, prefix=""):
    """Which folder it is, and what is in its files; AssertionError where they are not of one folder."""
    pointer = read_json(folder / f"{prefix}config.json")
    for name, digest in pointer["sha256"].items():
        path = listed_file(folder, name, pointer["sha256"], prefix)
        assert sha256(path) == digest
        assert path.read_text() == f"{name} of {pointer['text']}"
    return pointer["text"], sorted(pointer["sha256"])


def test_written_and_replaced(tmp_path):
    folder = tmp_path / "m"
    write(folder, "old", OWNS)
    assert names_in(folder) == ["cells", "config.json", "regions", "weights"]
    write(folder, "new")
    assert read(folder) == ("new", ["regions", "weights"])
    assert names_in(folder) == ["config.json", "regions", "weights"]  # cells of the old one are gone


def test_killed_at_every_step(tmp_path, killed_at):
    """Old or new, never a mixture; and the next writer clears up."""
    seen, k = set(), 0
    while True:
        k += 1
        folder = tmp_path / str(k)
        write(folder, "old", OWNS)
        killed = killed_at(k, lambda folder=folder: write(folder, "new"))
        seen.add(read(folder)[0])
        write(folder, "third")
        assert read(folder) == ("third", ["regions", "weights"])
        assert names_in(folder) == ["config.json", "regions", "weights"]
        if not killed:
            break
    assert seen == {"old", "new"} and k > 15


def test_killed_while_the_first_is_written(tmp_path, killed_at):
    """What is left is nothing: the folder can be written without overwrite=True."""
    nothing, k = 0, 0
    while True:
        k += 1
        folder = tmp_path / str(k)
        killed = killed_at(k, lambda folder=folder: write(folder, "new", overwrite=False))
        if (folder / "config.json").exists():
            assert read(folder)[0] == "new"
        else:
            nothing += 1
            write(folder, "again", overwrite=False)
            assert names_in(folder) == ["config.json", "regions", "weights"]
        if not killed:
            break
    assert nothing > 5


def test_an_error_leaves_the_old_one_and_no_new_folder(tmp_path):
    folder = tmp_path / "m"

    def fail(folder):
        with whole_folder(folder, "config.json", OWNS, overwrite=True) as new:
            with new.file("weights") as path:
                path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail(folder)
    assert not folder.exists()
    write(folder, "old", OWNS)
    with pytest.raises(KeyboardInterrupt):
        fail(folder)
    assert read(folder) == ("old", sorted(OWNS)) and names_in(folder) == ["cells", "config.json", "regions", "weights"]


def test_a_full_disk_at_each_file(tmp_path, monkeypatch):
    folder = tmp_path / "m"
    write(folder, "old")
    real = os.fsync
    for k in range(1, 8):
        left = [k]

        def full(handle, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            real(handle)

        monkeypatch.setattr(os, "fsync", full)
        try:
            write(folder, "new")
        except OSError as error:
            assert str(folder) in str(error) or error.errno == 28
        monkeypatch.setattr(os, "fsync", real)
        assert read(folder)[0] in ("old", "new")
        write(folder, "old")


def test_the_error_of_a_full_disk_says_which_file_and_how_much_room(tmp_path):
    with pytest.raises(OSError, match=r"weights could not be written: No space left on device \([\d,]+ bytes are free"):
        with whole_folder(tmp_path / "m", "config.json", OWNS) as new:
            with new.file("weights"):
                raise OSError(28, "No space left on device")


def _write_often(folder, text, start, results):
    start.wait()
    done = []
    for i in range(10):
        try:
            write(folder, f"{text}{i}")
            done.append("whole")
        except RuntimeError as error:
            assert "Another process" in str(error)
            done.append("refused")
    results.put(done)


def test_two_writers_at_once(tmp_path):
    folder = tmp_path / "m"
    write(folder, "first")
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    writers = [context.Process(target=_write_often, args=(folder, text, start, results)) for text in "ab"]
    for writer in writers:
        writer.start()
    start.set()
    done = results.get(timeout=60) + results.get(timeout=60)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert set(done) <= {"whole", "refused"} and "whole" in done
    read(folder)
    assert names_in(folder) == ["config.json", "regions", "weights"]


def test_the_lock_refuses_a_second_and_leaves_nothing(tmp_path):
    refused = []

    def second():
        try:
            with alone(tmp_path):
                pass
        except RuntimeError as error:
            refused.append(str(error))

    with alone(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert refused and str(tmp_path) in refused[0]
    assert names_in(tmp_path) == []
    with alone(tmp_path):
        pass


def test_without_overwrite_nothing_is_replaced(tmp_path):
    write(tmp_path / "m", "old")
    with pytest.raises(ValueError, match="already holds config.json"):
        write(tmp_path / "m", "new", overwrite=False)
    assert read(tmp_path / "m")[0] == "old"


def test_prefixes_share_a_folder(tmp_path):
    write(tmp_path, "a", OWNS, prefix="a_")
    write(tmp_path, "b", prefix="b_")
    write(tmp_path, "c", prefix="a_")
    assert read(tmp_path, "a_") == ("c", ["regions", "weights"])
    assert read(tmp_path, "b_") == ("b", ["regions", "weights"])


def test_what_another_pointer_lists_is_not_broken(tmp_path):
    write(tmp_path, "model")
    with pytest.raises(ValueError, match="also holds what config.json describes, with another regions"):
        with whole_folder(tmp_path, "tokenizer.json", ("regions", "other"), beside=("config.json",)) as new:
            with new.file("regions") as path:
                path.write_text("others")
            new.point({})
    assert read(tmp_path)[0] == "model"
    with whole_folder(tmp_path, "tokenizer.json", ("regions", "weights"), beside=("config.json",)) as new:
        with new.file("regions") as path:
            path.write_text("regions of model")
        new.point({})
    assert read(tmp_path)[0] == "model"  # weights are the model's


def test_a_reader_meanwhile_reads_one_folder(tmp_path):
    write(tmp_path, "old")
    calls = []

    def reading_slowly():
        sums = json.loads((tmp_path / "config.json").read_text())["sha256"]
        calls.append(1)
        if len(calls) == 1:
            write(tmp_path, "new")
        return [listed_file(tmp_path, name, sums).read_text() for name in ("weights", "regions")]

    found = read_whole(tmp_path / "config.json", reading_slowly)
    assert found == ["weights of new", "regions of new"] and len(calls) == 2


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "", "a/../../b", "nul\0"])
def test_names_lead_nowhere_else(tmp_path, name):
    with pytest.raises(ValueError, match="is not in"):
        listed_file(tmp_path, name, {})


def test_a_link_leads_nowhere_else(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "weights").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="is a link that leads out of"):
        listed_file(folder, "weights", {})
