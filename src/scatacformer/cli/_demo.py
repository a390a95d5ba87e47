"""``scatacformer demo``: the main analysis on simulated cells, or on a file of the user."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from ._errors import as_input_error
from ._labels import put_labels, read_labels
from ._messages import logger
from ._paths import check_folder
from ._read import check_input, read_cells

if TYPE_CHECKING:
    from anndata import AnnData


def run(args: argparse.Namespace) -> None:
    """Simulate or read cells, then run the same steps as ``embed``."""
    started = time.monotonic()
    kind = None if args.data is None else check_input(args, args.data)
    labels = read_labels(args.labels)
    with as_input_error(f"cannot create the folder {args.output}: "):
        args.output.mkdir(parents=True, exist_ok=True)
    check_folder(args.output)

    adata = _simulate(args) if kind is None else read_cells(args, args.data, kind)
    if args.labels is None and "cell_type" in adata.obs:
        args.labels = "cell_type"
    labels_key = put_labels(adata, args.labels, labels)

    from ._pipeline import embed_cells
    from ._report import plot_cells, print_table, write_cells

    embed_cells(adata, args)
    plot_cells(
        adata, args.output / "umap.png", list(dict.fromkeys(filter(None, ["leiden", labels_key, args.batch_key])))
    )
    write_cells(adata, args.output / "cells.h5ad")
    print_table(adata, labels_key, time.monotonic() - started)
    print(f"\nwritten: {args.output / 'cells.h5ad'}, {args.output / 'umap.png'}")


def _simulate(args: argparse.Namespace) -> AnnData:
    from scatacformer.datasets import simulated_cells

    genome = args.genome or args.chrom_sizes or "hg38"
    logger.info("simulating %s cells over all bins of %s", f"{args.cells:,}", genome)
    return simulated_cells(args.cells, genome=genome, bin_size=args.bin_size or 5000, seed=args.seed)
