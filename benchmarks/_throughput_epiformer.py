"""How fast tracks are read, predicted and written, and variants scored, with memory; on a random genome."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _common import Cache, peak_mb, run_forked, table

N_TRACKS, N_CHROMS, LENGTH = 10, 10, 10_000_000
PARTS = ("tracks 10 Mb", "tracks 100 Mb", "bigWig 10 Mb", "variants 500", "variants 1500")


def measure(cache: Cache) -> None:
    """Each part in a process of its own, so that its memory is its own."""
    with tempfile.TemporaryDirectory() as folder:
        _make(Path(folder))
        for part in PARTS:
            if cache.get("throughput", part) is None:
                value = run_forked(_run, part, folder, time_limit=900)
                if "failed" in value:
                    raise RuntimeError(f"{part}: {value['failed']}")
                cache.put("throughput", part, value=value)
                print(part, value, flush=True)


def _make(folder: Path) -> None:
    """Ten chromosomes of 10 Mb, and bigWig files with a value for 50 bp in every 100."""
    from scatacformer.genome import write_bigwig

    rng = np.random.default_rng(0)
    sizes = {f"chr{number + 1}": LENGTH for number in range(N_CHROMS)}
    with (folder / "genome.fa").open("wb") as file:
        for name in sizes:
            bases = np.frombuffer(b"ACGT", dtype=np.uint8)[rng.integers(0, 4, LENGTH)]
            file.write(b">" + name.encode() + b"\n" + bases.tobytes() + b"\n")
    for number in range(N_TRACKS):
        heights = rng.gamma(1, 1, (N_CHROMS, LENGTH // 100))

        def values(heights: np.ndarray = heights) -> Iterator[tuple[str, int, int, float]]:
            for name, row in zip(sizes, heights, strict=True):
                for place, height in enumerate(row.tolist()):
                    yield name, place * 100, place * 100 + 50, height

        write_bigwig(folder / f"t{number}.bw", sizes, values())


def _run(part: str, text: str) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    kind, size = part.split()[0], part.split()[1]
    folder = Path(text)
    work = {"tracks": _read_tracks, "bigWig": _write_bigwig, "variants": _score_variants}[kind]
    run, amount = work(folder, int(size))
    started, clock = time.process_time(), time.monotonic()
    run()
    return {
        "processor s": time.process_time() - started,
        "s": time.monotonic() - clock,
        "amount": amount,
        "peak MB": peak_mb(),
    }


def _read_tracks(folder: Path, megabases: int) -> tuple[Callable[[], Any], int]:
    import scatacformer as sf

    files = [folder / f"t{number}.bw" for number in range(N_TRACKS)]
    chromosomes = [f"chr{number + 1}" for number in range(megabases * 1_000_000 // LENGTH)]
    return lambda: sf.pp.sequence_windows(files, folder / "genome.fa", chromosomes=chromosomes), megabases


def _model(folder: Path, n_tracks: int, geometry: dict[str, int]) -> Any:
    """A ``small`` model that has not learned anything: what it costs does not depend on its weights."""
    import scatacformer as sf

    bins = geometry["seq_len"] // geometry["bin_size"]
    tracks = sf.pp.sequence_windows(
        np.ones((n_tracks, 2, bins), dtype=np.float32), folder / "genome.fa", names=[f"t{i}" for i in range(n_tracks)],
        regions=[f"{name}:0-{geometry['seq_len']}" for name in ("chr1", "chr2")], **geometry,
    )  # fmt: skip
    sf.Epiformer.setup_anndata(tracks)
    model = sf.Epiformer(tracks)
    model.is_trained_ = True
    return model


def _write_bigwig(folder: Path, megabases: int) -> tuple[Callable[[], Any], int]:
    model = _model(folder, N_TRACKS, {"seq_len": 98_304, "bin_size": 128, "crop": 64})
    chromosomes = [f"chr{number + 1}" for number in range(megabases * 1_000_000 // LENGTH)]
    return lambda: model.to_bigwig(folder / "predicted", chromosomes=chromosomes), megabases


def _score_variants(folder: Path, n: int) -> tuple[Callable[[], Any], int]:
    import pandas as pd

    from scatacformer.sequence import Fasta

    model = _model(folder, N_TRACKS, {"seq_len": 4096, "bin_size": 128, "crop": 8})
    positions = np.linspace(10_000, LENGTH - 10_000, n).astype(int)
    fasta = Fasta(folder / "genome.fa")
    reference = [fasta.sequence("chr1", p, p + 1) for p in positions.tolist()]
    frame = pd.DataFrame({"chrom": "chr1", "pos": positions + 1, "ref": reference})
    frame["alt"] = frame["ref"].map({"A": "C", "C": "G", "G": "T", "T": "A"})
    return lambda: model.predict_variants(frame, out=folder / f"scores{n}.tsv", progress=False), n


def report(rows: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each part."""
    body = []
    said = {
        "tracks": "`pp.sequence_windows`, 10 bigWig files",
        "bigWig": "`to_bigwig`, `small`, 10 tracks, windows of 98,304 bp",
        "variants": "`predict_variants`, `small`, 10 tracks, windows of 4,096 bp, 6 views of 2 alleles",
    }
    for part, v in rows.items():
        kind, unit = part.split()[0], "variants" if part.startswith("variants") else "Mb"
        rate = v["amount"] / v["processor s"]
        body.append(
            [said[kind], f"{v['amount']:,} {unit}", f"{v['processor s']:.1f}", f"{v['s']:.1f}", f"{rate:.1f} {unit}/s", f"{v['peak MB']:,}"]
        )  # fmt: skip
    return [
        "## Throughput\n",
        "One thread, a random genome, each line in a process of its own. Rates are of the processor's seconds.\n",
        table(["", "amount", "processor s", "wall s", "rate", "peak MB"], body),
    ]
