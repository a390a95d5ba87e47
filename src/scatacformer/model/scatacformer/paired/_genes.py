"""The genes of a model of pairs: their names, where they start, and their columns in other cells."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scatacformer.genome import Genes, NoPositions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scatacformer.cells import PairedCells


def gene_table(cells: PairedCells) -> pd.DataFrame:
    """``rna.var`` of cells that have RNA."""
    assert cells.genes is not None
    return cells.genes


def genes_of(cells: PairedCells) -> dict[str, list]:
    """What a model keeps of its genes: names, and positions if known."""
    names = [str(name) for name in gene_table(cells).index]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            genes = Genes.from_var(gene_table(cells))
    except NoPositions:  # they can be given later, from a GTF file
        return {"name": names}
    except ValueError as error:
        warnings.warn(f"genes do not attend to bins, because their positions are wrong: {error}", stacklevel=5)
        return {"name": names}
    chrom = [genes.chrom_names[c] if c >= 0 else None for c in genes.chrom]
    return {"name": names, "chrom": chrom, "tss": genes.tss.tolist(), "strand": [str(s) for s in genes.strand]}


def positions(kept: Mapping[str, Any], given: Genes | None = None) -> Genes:
    """Where the genes of a model start: as ``given``, or as it was kept. ValueError if neither is known."""
    names = kept["name"]
    if given is not None:
        if [str(name) for name in given.names] != names:
            raise ValueError(
                "genes must be those of the MuData, in its order: Genes.from_gtf(path, mdata['rna'].var_names)."
            )
        return given
    if "tss" not in kept:
        raise ValueError(
            "rna.var does not say where genes start. Name it: "
            "get_gene_bin_links(genes=sf.genome.Genes.from_gtf('genes.gtf.gz', mdata['rna'].var_names))."
        )
    chroms = sorted({c for c in kept["chrom"] if c is not None})
    code = {name: k for k, name in enumerate(chroms)} | {None: -1}
    return Genes(
        np.array(names, dtype=object), tuple(chroms), np.array([code[c] for c in kept["chrom"]]),
        np.array(kept["tss"]), np.array(kept["strand"]),
    )  # fmt: skip


def gene_numbers(asked: Sequence[str], names: list[str]) -> np.ndarray:
    """Numbers of the requested genes.  (len(asked),) int64; ValueError for unknown ones."""
    asked = list(asked)
    at = pd.Index(names).get_indexer(asked)
    if (at < 0).any():
        missing = [name for name, place in zip(asked, at, strict=True) if place < 0]
        raise ValueError(
            f"{len(missing):,} of {len(asked):,} genes are not in the model (first: {missing[0]}); it has "
            f"{len(names):,}, such as {names[0]}."
        )
    return at


def gene_columns(cells: PairedCells, names: list[str]) -> sp.csr_matrix:
    """Matrix that maps the genes of ``cells`` to those of the model, by name.  (n_genes of the cells, n_genes)"""
    at = pd.Index(names).get_indexer([str(name) for name in gene_table(cells).index])
    found = np.flatnonzero(at >= 0)
    if len(found) < len(names):
        if not len(found):
            raise ValueError(
                f"none of the {len(at):,} genes of the RNA is one of the model's {len(names):,} (first: "
                f"{gene_table(cells).index[0]} and {names[0]}). Use the same names, symbols or ids."
            )
        warnings.warn(
            f"{len(names) - len(found):,} of the model's {len(names):,} genes are missing in the RNA and count as not "
            "expressed",
            UserWarning,
            stacklevel=5,
        )
    ones = np.ones(len(found), np.float32)
    return sp.csr_matrix((ones, (found, at[found])), shape=(len(at), len(names)))
