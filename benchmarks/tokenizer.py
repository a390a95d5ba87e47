"""Fragments, regions and AnnData to token ids, compared with gtars.

    python benchmarks/tokenizer.py           about 6 minutes, 0.5 GB in a temporary folder

5 million fragments and two universes are generated on the fly. Each measurement runs in a separate process and is repeated;
only the call is timed, after the universe is loaded, in seconds of CPU over all threads. The program stops unless both
tools return the same tokens.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from _common import environment, peak_mb, run_worker, spread, table, write

N_FRAGMENTS, N_BARCODES = 5_000_000, 5_000
N_CCRES = 890_704
N_CELLS, N_PEAKS, N_OPEN = 1_000, 100_000, 7_700
N_REGIONS = 1_000_000
UNIVERSES = {"bins": "5-kb bins of hg38", "ccres": f"{N_CCRES:,} regions of 150 to 350 bp"}
TOOLS = ("scatacformer", "gtars")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-write", action="store_true", help="print, and do not write to results/")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        tool, task, universe, folder, out = arguments.worker
        print(json.dumps(measure(tool, task, universe, Path(folder), Path(out))))
        return
    env = environment("scatacformer", "gtars", "numpy", "scipy", "pandas", "pyarrow", "anndata")
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder))
        rows, load = [], []
        for task, label, n, unit in (
            ("fragments.tsv", "fragments file", N_FRAGMENTS, "fragments"),
            ("fragments.tsv.gz", "fragments file, gzip", N_FRAGMENTS, "fragments"),
            ("regions.bed", "BED file", N_REGIONS, "regions"),
            ("regions", "list of Region objects", N_REGIONS, "regions"),
            ("anndata", "AnnData", N_CELLS, "cells"),
        ):
            for universe in UNIVERSES:
                found = side_by_side(task, universe, Path(folder), arguments.repeats)
                rows += [row(label, universe, tool, found, n, unit) for tool in TOOLS]
                print(*rows[-2:], sep="\n", file=sys.stderr)
                if task == "fragments.tsv":
                    load += [[UNIVERSES[universe], t, spread([one["load"] for one in found[t]], 2)] for t in TOOLS]
    write("tokenizer", report(env, rows, load), keep=not arguments.no_write)


def side_by_side(task: str, universe: str, folder: Path, repeats: int) -> dict[str, list[dict]]:
    """Measurements of both tools, in turn; stops if their tokens differ."""
    found: dict[str, list[dict]] = {tool: [] for tool in TOOLS}
    for _ in range(repeats):
        for tool in TOOLS:
            one = run_worker(__file__, "--worker", tool, task, universe, folder, folder / f"{tool}.npy", time_limit=900)
            if "failed" in one:
                raise SystemExit(f"{tool} on {task}, {universe}: {one['failed']}")
            found[tool].append(one)
        if not np.array_equal(*(np.load(folder / f"{tool}.npy") for tool in TOOLS)):
            raise SystemExit(f"the tokens of {task}, {universe} differ")
    return found


def row(label: str, universe: str, tool: str, found: dict[str, list[dict]], n: int, unit: str) -> list[object]:
    cpu, other = [one["cpu"] for one in found[tool]], [one["cpu"] for one in found["gtars"]]
    faster = "" if tool == "gtars" else f"{median(other) / median(cpu):.1f} ×"
    wall, peak = (median(one[what] for one in found[tool]) for what in ("wall", "peak"))
    rate = n / median(cpu)
    formatted = f"{rate / 1e6:.2f} M {unit}/s" if rate > 1e5 else f"{rate:,.0f} {unit}/s"
    return [label, UNIVERSES[universe], tool, spread(cpu, 2), f"{wall:.1f}", formatted, faster, round(peak)]


def report(env: str, rows: list[list[object]], load: list[list[object]]) -> str:
    header = ["what", "universe", "tool", "CPU s, median (range)", "wall s", "a second of CPU", "faster", "peak MB"]
    return "\n".join([
        "# Tokenizer",
        "",
        env,
        "",
        "The same tokens by both tools, checked in the run (of a BED file in another order: gtars sorts its lines). The call alone is timed, the universe being loaded; CPU over all "
        "threads. Wall time was taken while other work ran on the machine.",
        "",
        f"Fragments: {N_FRAGMENTS:,}, of {N_BARCODES:,} barcodes, over the whole genome. scatacformer returns cells × "
        "regions as CSR, gtars a dict of lists with `<unk>` for each fragment without an overlap.",
        "",
        f"AnnData: {N_CELLS:,} cells × {N_PEAKS:,} peaks, {N_OPEN:,} of them open in each. The row of gtars is what geniml "
        "0.8's `tokenize_anndata` does, a loop over cells that calls gtars' tokenizer with the regions of each: geniml "
        "itself cannot be installed together with current scverse packages, and fails with current gtars.",
        "",
        table(header, rows),
        "## Loading a universe from a BED file",
        "",
        table(["universe", "tool", "CPU s, median (range)"], load),
    ])  # fmt: skip


# ---- one measurement


def measure(tool: str, task: str, universe: str, folder: Path, out: Path) -> dict[str, float]:
    path = str(folder / f"{universe}.bed")
    if tool == "gtars":
        import gtars.models
        import gtars.tokenizers

        load = lambda: gtars.tokenizers.Tokenizer(path)
    else:
        import scatacformer as sf

        def load():
            found = sf.Tokenizer.from_bed(path)
            found([])  # sorts the regions, which the first call does
            return found

        load()  # imports are done
    tokenizer, loading = timed(load)
    n_regions = tokenizer.vocab_size - 7
    if task.startswith("fragments"):
        if tool == "gtars":
            cells, used = timed(lambda: gtars.tokenizers.tokenize_fragment_file(str(folder / task), tokenizer))
            found = {barcode: np.array(ids) for barcode, ids in cells.items()}
            result = [np.unique(ids[ids < n_regions]) for _, ids in sorted(found.items())]
        else:
            cells, used = timed(lambda: tokenizer.tokenize_fragments(folder / task))
            result = list(cells)
    elif task == "regions.bed":
        ids, used = timed(lambda: tokenizer(str(folder / task))["input_ids"])
        result = [np.sort(ids)]  # gtars sorts the lines of a file, chr10 before chr2
    elif task == "regions":
        import gtars.models

        lines = (line.split("\t") for line in (folder / "regions.bed").read_text().splitlines())
        regions = [gtars.models.Region(chrom, int(start), int(end), None) for chrom, start, end in lines]
        ids, used = timed(lambda: tokenizer(regions)["input_ids"])
        result = [np.array(ids)]
    else:
        import anndata

        adata = anndata.read_h5ad(folder / "peaks.h5ad")
        if tool == "gtars":
            cells, used = timed(lambda: cell_by_cell(adata, tokenizer, gtars.models.Region))
            cells = [np.array(ids) for ids in cells]
            result = [np.unique(ids[ids < n_regions]) for ids in cells]
        else:
            cells, used = timed(lambda: tokenizer.tokenize_anndata(adata))
            result = list(cells)
    np.save(out, np.concatenate([np.append(ids, -1) for ids in result]))  # -1: the end of a cell
    return {"load": loading["cpu"], **used}


def cell_by_cell(adata, tokenizer, Region) -> list[list[int]]:
    """As geniml's tokenize_anndata: the regions once as objects, then a call for each cell."""
    columns = zip(adata.var["chrom"].astype(str), adata.var["start"], adata.var["end"], strict=True)
    regions = [Region(chrom, int(start), int(end), None) for chrom, start, end in columns]
    X = adata.X
    return [tokenizer([regions[i] for i in X[row].indices])["input_ids"] for row in range(adata.n_obs)]


def timed(call):
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    used = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    return result, used | {"peak": peak_mb()}


# ---- data


def make_data(folder: Path) -> None:
    import anndata
    import pandas as pd
    from scipy import sparse

    from scatacformer.genome import Vocabulary

    rng = np.random.default_rng(0)
    vocabulary = Vocabulary.from_chrom_sizes("hg38")
    bins = vocabulary.to_frame()
    bins.to_csv(folder / "bins.bed", sep="\t", header=False, index=False)
    length = bins.groupby("chrom", observed=True, sort=False)["end"].max()

    def intervals(n: int, narrowest: int, widest: int) -> pd.DataFrame:
        chrom = np.sort(rng.choice(len(length), n, p=(length / length.sum()).to_numpy()))
        width = rng.integers(narrowest, widest, n)
        start = (rng.random(n) * (length.to_numpy()[chrom] - width)).astype(np.int64)
        order = np.lexsort((start, chrom))
        names = pd.Categorical.from_codes(chrom[order], list(length.index))
        return pd.DataFrame({"chrom": names, "start": start[order], "end": (start + width)[order]})

    def save(frame: pd.DataFrame, name: str) -> bytes:
        text = frame.to_csv(sep="\t", header=False, index=False).encode()
        (folder / name).write_bytes(text)
        return text

    save(intervals(N_CCRES + 1_000, 150, 350).drop_duplicates()[:N_CCRES], "ccres.bed")
    save(intervals(N_REGIONS, 100, 1_000), "regions.bed")
    fragments = intervals(N_FRAGMENTS, 40, 500)
    letters = rng.choice(list("ACGT"), (N_BARCODES, 16))
    barcodes = pd.Index(["".join(row) + "-1" for row in letters])
    fragments["barcode"] = pd.Categorical.from_codes(rng.integers(0, N_BARCODES, N_FRAGMENTS), barcodes)
    fragments["count"] = rng.geometric(0.7, N_FRAGMENTS)
    text = save(fragments, "fragments.tsv")
    (folder / "fragments.tsv.gz").write_bytes(gzip.compress(text, 6))
    peaks = intervals(N_PEAKS + 100, 500, 501).drop_duplicates()[:N_PEAKS]
    peaks.index = [f"peak{i}" for i in range(N_PEAKS)]
    columns = np.sort(rng.integers(0, N_PEAKS - N_OPEN, (N_CELLS, N_OPEN), dtype=np.int32)) + np.arange(N_OPEN)
    ones = np.ones(columns.size, np.float32)
    X = sparse.csr_matrix((ones, columns.ravel(), np.arange(N_CELLS + 1) * N_OPEN), shape=(N_CELLS, N_PEAKS))
    cells = pd.DataFrame(index=[f"cell{i}" for i in range(N_CELLS)])
    anndata.AnnData(X, var=peaks, obs=cells).write_h5ad(folder / "peaks.h5ad")


if __name__ == "__main__":
    main()
