"""Cost of pretraining on other machines: operations, bytes and hours by formula; the loader as measured here.

python benchmarks/pretraining.py               about a minute on one core
python benchmarks/pretraining.py --rate 396    TFLOP/s of one GPU, as benchmarks/gpu.py measures it
python benchmarks/pretraining.py --quick       few cells; prints, writes nothing
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from _common import environment, table, write

if TYPE_CHECKING:
    from scatacformer.cells import SentenceLoader

N_BINS, N_EOS, OPEN_BINS, REMOVED_SHARE = 606_219, 23, 3_000, 0.5
DATA_SHEET, UTILISATION, EPOCHS = 989, 0.4, 10
CELLS, GPUS = (1_000_000, 10_000_000), (1, 8, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="TFLOP/s of a GPU in a training step (default: assumed)")
    parser.add_argument("--quick", action="store_true", help="300 cells; nothing is written")
    arguments = parser.parse_args()
    rate = arguments.rate or DATA_SHEET * UTILISATION
    origin = (
        "as given" if arguments.rate else f"assumed: {UTILISATION:.0%} of the data sheet's {DATA_SHEET}, not measured"
    )
    n_cells = 300 if arguments.quick else 4_000
    parts = [
        "# Pretraining", "", environment("scatacformer", "torch", "scipy", "numpy"), "",
        f"Cells of {OPEN_BINS:,} open bins, {N_BINS:,} bins, {REMOVED_SHARE:.0%} of the open bins removed. One H200 reaches "
        f"{rate:,.0f} TFLOP/s ({origin}).", "",
        "## Arithmetic", "", *(arithmetic(size, rate) for size in ("small", "base")),
        "## Loader, measured", "", loader(n_cells),
    ]  # fmt: skip
    write("pretraining", "\n".join(parts), keep=not arguments.quick)


def read_tokens(size: str) -> int:
    """Tokens of a sentence in a training step."""
    from scatacformer.nn import NetworkConfig

    config = NetworkConfig.of_size(size, n_bins=N_BINS, n_eos=N_EOS)
    return min(round(OPEN_BINS * (1 - REMOVED_SHARE)), config.max_tokens) + 1 + N_EOS


def arithmetic(size: str, rate: float) -> str:
    """Operations of a token and a cell; hours of an epoch and of ten, and the cells that the loader must deliver."""
    from scatacformer.nn import NetworkConfig

    config, length = NetworkConfig.of_size(size, n_bins=N_BINS, n_eos=N_EOS), read_tokens(size)
    a_token = config.operations_per_token(length)
    a_cell = a_token * length
    rows = []
    for n_cells in CELLS:
        for n_gpus in GPUS:
            hours = n_cells * a_cell / (n_gpus * rate * 1e12) / 3600
            need = n_gpus * rate * 1e12 / a_cell
            rows.append([f"{n_cells:,}", n_gpus, f"{hours:.3g}", f"{EPOCHS * hours:.3g}", f"{need:,.0f}"])
    return (
        f"`{size}`: sentences of {length:,} tokens, {a_token / 1e6:,.1f} million operations a token, {a_cell / 1e9:,.1f} "
        "billion a cell (encoder, forward and backward).\n\n"
        + table(
            ["cells", "H200s", "hours an epoch", f"hours of {EPOCHS} epochs", "cells/s that the loader must deliver"],
            rows,
        )
    )


def loader(n_cells: int) -> str:
    """Cells per second of one core's time, best of three epochs: the rows alone, and whole training minibatches, from
    memory and from a corpus in the page cache."""
    import anndata as ad

    import scatacformer as sf
    from scatacformer.cells import RowSource, SentenceLoader, SentencePolicy, TrainSentences

    rng = np.random.default_rng(0)
    vocabulary = sf.Vocabulary.from_chrom_sizes({f"chr{i}": N_BINS // N_EOS * 5000 for i in range(1, N_EOS + 1)}, 5000)
    n_bins = vocabulary.n_bins
    bins = np.concatenate([np.sort(rng.choice(n_bins, OPEN_BINS, replace=False)) for _ in range(n_cells)])
    indptr = np.arange(n_cells + 1) * OPEN_BINS
    X = sp.csr_matrix((np.ones(len(bins), np.float32), bins, indptr), (n_cells, n_bins))
    frequency = np.full(n_bins, 1 / n_bins)
    policies = {"small": SentencePolicy(max_tokens=512), "base": SentencePolicy(max_tokens=6800)}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        ad.AnnData(X, var=vocabulary.to_frame()).write_h5ad(Path(folder) / "cells.h5ad")
        corpus = sf.Corpus.build(Path(folder) / "corpus", [Path(folder) / "cells.h5ad"], vocabulary)
        n_bytes = sum(f.stat().st_size for f in (Path(folder) / "corpus").rglob("*") if f.suffix != ".gz")
        for where, source in (("memory", RowSource.from_matrix(X)), ("corpus", corpus.source)):
            codes = np.zeros(n_cells, np.int64)
            collates = {"rows": None} | {
                f"training minibatches, {size}": TrainSentences(source, codes, frequency, vocabulary.chrom, policy)
                for size, policy in policies.items()
            }
            for what, collate in collates.items():
                stream = SentenceLoader(source, batch_size=64, shuffle=True, collate=collate)
                sum(1 for _ in stream)  # the page cache
                rows.append([where, what, f"{n_cells / min(seconds_of_epoch(stream, e) for e in (1, 2, 3)):,.0f}"])
                print(*rows[-1], sep="\t")
    return (
        table(["cells are in", "what is made", "cells per second of one core's time"], rows)
        + f"\nA cell of {OPEN_BINS:,} open bins takes {n_bytes / n_cells:,.0f} bytes of the corpus.\n"
    )


def seconds_of_epoch(stream: SentenceLoader, epoch: int) -> float:
    """Processor time: other work on the machine affects wall time, not this."""
    stream.set_epoch(epoch)
    start = time.process_time()
    sum(1 for _ in stream)
    return time.process_time() - start


if __name__ == "__main__":
    main()
