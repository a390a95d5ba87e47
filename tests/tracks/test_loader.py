"""Windows are read as they are; strand and shift move the DNA, the conservation and the signal alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scatacformer.genome import BigWig
from scatacformer.sequence import Fasta, codes_of, one_hot
from scatacformer.tracks import WindowData, WindowLoader

GEOMETRY = {"seq_len": 1024, "bin_size": 64, "crop": 2}


@pytest.fixture
def data(fasta: Path, bigwig: Path) -> WindowData:
    signal = np.random.default_rng(0).gamma(1, 1, (2, 80)).astype(np.float32)
    chrom, start = np.array(["chr1", "chr1", "chr2"], dtype=object), np.array([0, 2048, 1024])
    return WindowData(
        Fasta(fasta), chrom, start, **GEOMETRY, conservation=BigWig(bigwig), signal=signal, first=np.array([0, 16, 64])
    )


def test_conservation_multiplies_by_its_exponential(
    data: WindowData, sequences: dict[str, str], coverage: dict[str, np.ndarray]
) -> None:
    bases = one_hot(codes_of(sequences["chr1"][2048:3072]))
    expected = bases * np.exp(coverage["chr1"][2048:3072])
    np.testing.assert_allclose(data.sequence(1), expected, rtol=1e-5)
    without = WindowData(data.fasta, data.chrom, data.start, **GEOMETRY)
    np.testing.assert_array_equal(without.sequence(1), bases)
    zero = coverage["chr1"][2048:3072] == 0  # no value there in the file
    assert zero.any()
    np.testing.assert_array_equal(data.sequence(1)[:, zero], bases[:, zero])


@pytest.mark.parametrize("shift", [-128, -64, 64, 128])
def test_a_shift_of_whole_bins_moves_all_three(data: WindowData, shift: int) -> None:
    moved = WindowData(
        data.fasta,
        data.chrom,
        data.start + shift,
        **GEOMETRY,
        conservation=data.conservation,
        signal=data.signal,
        first=data.first + shift // 64,
    )
    np.testing.assert_array_equal(data.sequence(1, shift), moved.sequence(1))
    np.testing.assert_array_equal(data.target(1, shift), moved.target(1))
    np.testing.assert_array_equal(data.sequence(1, shift, True), moved.sequence(1)[::-1, ::-1])
    np.testing.assert_array_equal(data.target(1, shift, True), moved.target(1)[:, ::-1])


def test_a_shift_by_a_part_of_a_bin_mixes_neighbours(data: WindowData) -> None:
    whole = data.signal[:, 16:32]
    np.testing.assert_allclose(data.target(1, 16), 0.75 * whole[:, 2:14] + 0.25 * whole[:, 3:15], rtol=1e-5)
    np.testing.assert_allclose(data.target(1, -16), 0.75 * whole[:, 2:14] + 0.25 * whole[:, 1:13], rtol=1e-5)
    no_crop = WindowData(data.fasta, data.chrom, data.start, 1024, 64, 0, signal=data.signal, first=data.first)
    assert np.isnan(no_crop.target(1, 3)[:, -1]).all() and not np.isnan(no_crop.target(1, 3)[:, :-1]).any()


def test_beyond_an_end_there_are_zeros(data: WindowData) -> None:
    moved = data.sequence(0, -3)
    assert not moved[:, :3].any() and moved[:, 3:].any(0).all()


def test_what_is_sampled_depends_on_seed_and_pass_alone(data: WindowData) -> None:
    def run(num_workers: int, seed: int = 1, batch_size: int = 2) -> list[np.ndarray]:
        loader = WindowLoader(
            data,
            np.arange(3),
            batch_size,
            shuffle=True,
            reverse_complement=True,
            max_shift=5,
            seed=seed,
            num_workers=num_workers,
        )
        batches = [batch for _ in range(4) for batch in loader]
        names = ("window", "shift", "reverse", "sequence", "signal")
        return [np.concatenate([b[name].numpy() for b in batches]) for name in names]

    here, there, other = run(0), run(2, batch_size=1), run(0, seed=2)
    for ours, theirs in zip(here, there, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(here[1], other[1])
    assert 0 < here[2].sum() < len(here[2]) and set(here[1]) <= set(range(-5, 6)) and len(set(here[1])) > 2
    assert len({tuple(here[0][i : i + 3]) for i in range(0, 12, 3)}) > 1  # another order in another pass


def test_processes_share_the_windows_of_a_pass(data: WindowData, monkeypatch: pytest.MonkeyPatch) -> None:
    from scatacformer.tracks import loader as file

    def of(rank: int, shuffle: bool) -> list[int]:
        monkeypatch.setattr(file, "_processes", lambda: (rank, 2))
        loader = WindowLoader(data, np.arange(3), 1, shuffle=shuffle, seed=3)
        windows = [int(batch["window"]) for batch in loader]
        assert len(windows) == len(loader)
        return windows

    assert of(0, False) == [0, 2] and of(1, False) == [1]  # all of them are validated on
    first, second = of(0, True), of(1, True)
    assert len(first) == len(second) == 1 and first != second  # in training one would wait for the other


def test_validation_is_read_as_it_is(data: WindowData) -> None:
    batches = list(WindowLoader(data, np.array([2, 0]), 1))
    assert [int(b["window"]) for b in batches] == [2, 0]
    assert not any(b["shift"].any() or b["reverse"].any() for b in batches)
    np.testing.assert_array_equal(batches[0]["sequence"][0], data.sequence(2))
    with pytest.raises(ValueError, match=r"max_shift is .*; expected 0 ... 128 bp"):
        WindowLoader(data, np.arange(3), 1, max_shift=129)


MEMORY = """
import resource, sys
import numpy as np
from scatacformer.sequence import Fasta
from scatacformer.tracks import WindowData, WindowLoader
n = int(sys.argv[2])
start = np.random.default_rng(0).integers(0, 15_000, n) * 128
data = WindowData(Fasta(sys.argv[1]), np.full(n, "chr1", dtype=object), start, 98_304, 128, 64,
                  signal=np.ones((1, 16_384), dtype=np.float32), first=start // 128)
total = sum(float(batch["sequence"].sum()) for batch in WindowLoader(data, np.arange(n), 4))
assert total == n * 98_304, total
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_windows(tmp_path: Path) -> None:
    bases = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(0).integers(0, 4, 2_100_000)]
    (tmp_path / "g.fa").write_bytes(b">chr1\n" + bases.tobytes() + b"\n")
    arguments = [sys.executable, "-c", MEMORY, str(tmp_path / "g.fa")]
    few, many = (
        int(subprocess.run([*arguments, n], capture_output=True, text=True, check=True).stdout) for n in ("40", "400")
    )
    assert many < few + 30, (few, many)  # MB; 360 more windows would be 566 MB of one-hot


def test_a_damaged_bigwig_is_named(bigwig: Path, tmp_path: Path) -> None:
    content = bigwig.read_bytes()
    n_refused = 0
    for at in range(8, len(content), max(1, len(content) // 40)):
        bigwig.write_bytes(content[:at] + b"\xff" * 8 + content[at + 8 :])
        try:
            file = BigWig(bigwig)
            for chrom, size in file.sizes.items():
                file.values(chrom, 0, min(size, 5000))
        except ValueError as error:
            n_refused += 1
            assert str(bigwig) in str(error)
    assert n_refused
