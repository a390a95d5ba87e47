"""Whole files, errors that name them, and sizes that are looked at before they are believed."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from scatacformer._io import (
    check_hdf5,
    decode,
    encode,
    holds_nothing,
    open_unpacked,
    read_checkpoint,
    read_json,
    read_tensors,
    read_unpacked,
    reading,
    scratch_folder,
    tensor_shapes,
    whole_file,
    write_tensors,
)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def save(path, text):
    with whole_file(path) as partial:
        partial.write_text(text)


def test_killed_at_every_step(tmp_path, killed_at):
    path, k, seen = tmp_path / "f", 0, set()
    while True:
        k += 1
        save(path, "old")
        killed = killed_at(k, lambda: save(path, "new"))
        seen.add(path.read_text())
        save(path, "old")
        assert names_in(tmp_path) == ["f"]  # nothing is left of the one that was killed
        if not killed:
            break
    assert seen == {"old", "new"}


def test_what_a_killed_process_leaves_counts_as_nothing(tmp_path):
    (tmp_path / ".f.99999999.partial").write_text("half")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / ".x.99999999.partial").mkdir()
    assert holds_nothing(tmp_path) and holds_nothing(tmp_path / "not there")
    (tmp_path / "datasets" / "f").write_text("something")
    assert not holds_nothing(tmp_path)


def test_the_partial_file_of_a_running_process_stays(tmp_path):
    running = tmp_path / f".f.{os.getppid()}.partial"
    running.write_text("half")
    save(tmp_path / "f", "new")
    assert running.read_text() == "half"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path, umask, mode):
    from safetensors.numpy import save_file  # makes files that only their owner can read

    before = os.umask(umask)
    try:
        with whole_file(tmp_path / "f") as partial:
            save_file({"a": np.zeros(3)}, partial)
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == mode


def test_an_error_of_the_caller_passes(tmp_path):
    with pytest.raises(ValueError, match="^mine$"):
        with whole_file(tmp_path / "f"):
            raise ValueError("mine")
    with pytest.raises(FileNotFoundError, match="elsewhere/other"):
        with whole_file(tmp_path / "f"):
            (tmp_path / "elsewhere" / "other").read_text()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none/f could not be written: No such file or directory"):
        save(tmp_path / "none" / "f", "x")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (KeyError("indptr"), "it has no 'indptr'"),
        (RecursionError(), "its values are nested too deeply"),
        (OSError("Unable to synchronously open file (truncated file)"), "Unable to synchronously open file"),
        (OverflowError("int too big"), "OverflowError: int too big"),
        (MemoryError(), "more memory than is available"),
        (zlib.error("Error -3"), "Error -3"),
        (type("PanicException", (BaseException,), {})("index out of bounds"), "index out of bounds"),
    ],
)
def test_raw_errors_get_a_name(tmp_path, error, found):
    with pytest.raises(ValueError, match="x.h5ad is not an AnnData, or is damaged") as caught:
        with reading(tmp_path / "x.h5ad", "an AnnData"):
            raise error
    assert found in str(caught.value)


def test_errors_with_a_name_and_interruptions_pass(tmp_path):
    path = tmp_path / "x"
    for error in (ValueError(f"{path}: line 3"), KeyboardInterrupt(), ImportError("h5py"), SystemExit(3)):
        with pytest.raises(type(error)) as caught:
            with reading(path, "a table"):
                raise error
        assert caught.value is error
    with pytest.raises(FileNotFoundError):
        with reading(path, "a table"):
            path.read_text()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 500 + "1" + "}" * 500, "[1]", "{", "\ufeff", "NaN"])
def test_json_that_is_not_ours(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match="c.json"):
        read_json(tmp_path / "c.json")


def test_a_bomb_is_not_unpacked(tmp_path):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 24)
    bomb = b"".join(packer.compress(zeros) for _ in range(16)) + packer.flush()
    path = tmp_path / "b.gz"
    path.write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="b.gz unpacks to more than 100 times its size"):
            read_unpacked(path)
        assert tracemalloc.get_traced_memory()[1] < 200e6  # of 268 MB
    finally:
        tracemalloc.stop()


def test_plain_and_packed_read_alike(tmp_path):
    text = b"chr1\t0\t5\n" * 1000
    (tmp_path / "a").write_bytes(text)
    (tmp_path / "b").write_bytes(gzip.compress(text))
    (tmp_path / "c").write_bytes(gzip.compress(text)[:-9])
    assert read_unpacked(tmp_path / "a") == read_unpacked(tmp_path / "b") == text
    with open_unpacked(tmp_path / "b") as file:
        assert sum(1 for _ in file) == 1000
    with pytest.raises(ValueError, match="c is a truncated or damaged gzip file"):
        read_unpacked(tmp_path / "c")


def test_shapes_are_read_of_the_header_alone(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "w.safetensors"
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.int64)}, path)
    found = tensor_shapes(path)
    assert found["a"] == ((3, 4), "F32") and found["b"] == ((5,), "I64")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    for read in (tensor_shapes, read_tensors):
        with pytest.raises(ValueError, match="w.safetensors"):
            read(path)
    path.write_bytes(struct.pack("<Q", 1 << 60) + whole[8:])
    with pytest.raises(ValueError, match="w.safetensors"):
        tensor_shapes(path)


def test_arrays_come_back_and_types_ask_for_no_memory():
    for array in (np.arange(3.0), np.array(["a", "bcd"]), np.array([["a", None]], object), np.array([True])):
        back = decode(encode(array))
        assert back.dtype.kind == array.dtype.kind and back.shape == array.shape and (back == array).all()
    with pytest.raises(ValueError, match="is not one that is saved"):
        decode({"__array__": [b"x"], "dtype": "S1000000000"})
    assert decode({"__array__": ["x"] * 9, "dtype": "<U1000000000"}).nbytes < 100


def test_a_scratch_folder_goes_with_its_process(tmp_path):
    with scratch_folder(tmp_path) as folder:
        (folder / "x").write_text("x")
        assert folder.parent == tmp_path
    assert names_in(tmp_path) == []
    pid = os.fork()
    if pid == 0:
        with scratch_folder(tmp_path) as folder:
            (folder / "x").write_text("x")
            os._exit(0)  # nothing is cleared up
    os.waitpid(pid, 0)
    (left,) = names_in(tmp_path)
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert sorted([first.name, second.name]) == names_in(tmp_path) and left not in names_in(tmp_path)


def test_a_scratch_folder_in_use_stays_whatever_its_number(tmp_path):
    """In a container processes have other numbers: the lock says whether it is in use."""
    with scratch_folder(tmp_path) as folder:
        other = folder.rename(folder.with_name(folder.name.replace(f".{os.getpid()}.", ".99999999.")))
        with scratch_folder(tmp_path):
            assert other.exists()
        other.rename(folder)


def test_a_folder_can_be_whole_as_well(tmp_path):
    with whole_file(tmp_path / "x.zarr") as partial:
        partial.mkdir()
        (partial / "0").write_text("0")
    assert names_in(tmp_path) == ["x.zarr"] and names_in(tmp_path / "x.zarr") == ["0"]
    with pytest.raises(RuntimeError), whole_file(tmp_path / "y.zarr") as partial:
        partial.mkdir()
        raise RuntimeError
    assert names_in(tmp_path) == ["x.zarr"]


# ── HDF5 ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def texts_on_disk(path: Path) -> bytes:
    """An HDF5 file with texts, which lie in heaps outside the datasets, as the names of an AnnData do."""
    import h5py

    with h5py.File(path, "w") as file:
        file["obs/names"] = [f"cell {i} with a name of some length" for i in range(200)]
        file["obs"].attrs["encoding-type"] = "dataframe"
        file["obs/itself"] = file["obs"]
        file["elsewhere"] = h5py.ExternalLink("not-there.h5", "/")
    return path.read_bytes()


def test_a_whole_hdf5_file_passes_and_others_are_left_to_their_readers(tmp_path: Path) -> None:
    texts_on_disk(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(b"no HDF5")
    for name in ("a.h5", "b.h5", "missing.h5"):
        check_hdf5(tmp_path / name)


def test_a_damaged_length_cannot_take_all_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    content = texts_on_disk(path)
    # the first text: length, address of its heap, number within it
    entry = struct.pack("<IQ", len("cell 0 with a name of some length"), content.index(b"GCOL"))
    assert entry in content
    path.write_bytes(content.replace(entry, struct.pack("<IQ", 3 << 30, content.index(b"GCOL")), 1))
    with pytest.raises(ValueError, match=r"a.h5 is damaged: reading its structure takes far more memory than its"):
        check_hdf5(path)


@pytest.mark.parametrize(
    ("walk", "found"),
    [
        ("import time\ntime.sleep(60)", "HDF5 does not come to the end of its structure within 1 second"),
        ("import os\nos.abort()", "reading its structure ends HDF5 by a crash"),
    ],
)
def test_a_file_without_end_or_that_ends_hdf5_is_refused(tmp_path, monkeypatch, walk, found) -> None:
    texts_on_disk(tmp_path / "a.h5")
    (tmp_path / "walk.py").write_text(walk)
    monkeypatch.setattr("scatacformer._io.hdf5._WALK", tmp_path / "walk.py")
    with pytest.raises(ValueError, match=f"a.h5 is damaged: {found}"):
        check_hdf5(tmp_path / "a.h5", seconds=1.0)


# ── tensors under a checksum ───────────────────────────────────────────────────────────────────────────────────────


def test_tensors_are_read_as_they_were_written_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"x": torch.arange(6.0).reshape(2, 3).T, "y": torch.tensor(3, dtype=torch.int64), "z": torch.zeros(0)}
    write_tensors(path, tensors, model="a")
    found = read_tensors(path)
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
    content = path.read_bytes()
    for at in (len(content) - 1, content.index(b'"model":"a"') + 9):
        altered = bytearray(content)
        altered[at] ^= 1
        path.write_bytes(altered)
        with pytest.raises(ValueError, match="a.safetensors is damaged or was altered"):
            read_tensors(path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_checkpoint_of_others_is_a_state_dict_or_refused_by_name(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    state = {"x": torch.arange(300.0), "y": torch.ones(2)}
    if ending == "pth":
        torch.save({"epoch": 3, "state_dict": state}, path)
    else:
        write_tensors(path, state)
    assert all(torch.equal(value, state[name]) for name, value in read_checkpoint(path, "a checkpoint").items())
    content = path.read_bytes()
    at = content.index(torch.arange(300.0).numpy().tobytes())
    for altered in (content[:at] + b"\x11" * 40 + content[at + 40 :], content[: at + 9], b"text\n"):
        path.write_bytes(altered)
        with pytest.raises(ValueError, match=f"a.{ending}"):
            read_checkpoint(path, "a checkpoint")
    if ending == "pth":
        for wrong in ([1, 2], {"lr": 0.1}):
            torch.save(wrong, path)
            with pytest.raises(ValueError, match="a.pth is not a checkpoint: it holds a .*, and no state dict"):
                read_checkpoint(path, "a checkpoint")
        torch.save({"x": torch.tensor([1.0, float("nan")])}, path)
        with pytest.raises(ValueError, match="a.pth: x holds numbers that are not finite"):
            read_checkpoint(path, "a checkpoint")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", b"\0" * 20_000_000)
        with pytest.raises(ValueError, match="a.pth unpacks to 20,000,000 bytes"):
            read_checkpoint(path, "a checkpoint")
