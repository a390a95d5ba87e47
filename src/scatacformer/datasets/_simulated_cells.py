"""Cells of a tree of cell types over all bins of a genome, made offline from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from scatacformer.genome import Vocabulary

from ._type_tree import TypeTree, evolve, random_tree

if TYPE_CHECKING:
    from anndata import AnnData

# Shares of the bins. Regulatory ones differ between types; ubiquitous ones (promoters of housekeeping genes) are open
# in all types; nothing maps to gaps (centromeres, repeats).
_REGULATORY, _UBIQUITOUS, _GAPS = 0.12, 0.02, 0.06
# Mean share of a cell's fragments in open chromatin, and its concentration across cells (a beta distribution).
_SIGNAL, _SIGNAL_CONCENTRATION = 0.4, 60.0
# Share of the open-chromatin fragments that lie in ubiquitous bins.
_UBIQUITOUS_SIGNAL = 0.3
# Free DNA: share of a cell's open-chromatin fragments that come from the mean of all types.
_AMBIENT = 0.05


def simulated_cells(
    n_cells: int = 2000,
    n_types: int = 8,
    *,
    genome: str | Path | Mapping[str, int] = "hg38",
    bin_size: int = 5000,
    fragments: int = 3000,
    batches: int = 1,
    turnover: float = 0.13,
    seed: int = 0,
) -> AnnData:
    """Simulate cells as counts in all bins of a genome. Needs no download.

    The cell types are the leaves of a random tree. Regulatory bins (12 % of all) open and close along its branches, so
    types that split late share most of their open bins. Most of a cell's fragments are background, whose rate differs
    between bins and is zero in gaps; the others are in bins that are open in all types, in bins that are open in the
    cell's type and, to a small extent, in bins of other types (free DNA). A quarter of the cells are in transition from
    the most similar type and have up to 35 % of its signal. Depth is log-normal, the share of signal varies between
    cells, and types differ in abundance.

    Parameters
    ----------
    n_cells
        Number of cells.
    n_types
        Number of cell types, at least 1.
    genome
        Assembly, file or mapping of chromosome sizes; see :func:`scatacformer.genome.chrom_sizes`.
    bin_size
        Width of a bin in bp.
    fragments
        Median number of fragments per cell.
    batches
        Number of batches. With more than one, each batch multiplies the rate of every bin by exp(N(0, 0.2)) and has its
        own depth and composition of types.
    turnover
        Mean number of changes of a regulatory bin between the root of the tree and a type. Larger values make types
        easier to distinguish. A small genome has fewer bins to distinguish types by: use about 0.5 for 20,000 bins.
    seed
        The same seed gives the same cells.

    Returns
    -------
    AnnData
        ``.X`` CSR (n_cells, n_bins), float32 counts; ``.var`` the bins (``chrom``, ``start``, ``end``) and
        ``regulatory``; ``.obs["cell_type"]``, ``.obs["batch"]``, ``.obs["n_fragments"]``; ``.uns["assembly"]`` if it
        has a name; ``.uns["scatacformer"]["simulated_cells"]``: the arguments and ``type_distance`` (n_types, n_types),
        the distance between types along the tree.

    Raises
    ------
    ValueError
        Unknown genome, a number below 1, or a turnover below 0.

    Notes
    -----
    Time and memory are proportional to the number of fragments: 2,000 cells with 3,000 fragments over hg38 take seconds
    and a few hundred MB.
    """
    numbers = {"n_cells": n_cells, "n_types": n_types, "fragments": fragments, "batches": batches}
    for name, value in numbers.items():
        if value != int(value) or value < 1:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")
    if not 0 <= turnover < np.inf:
        raise ValueError(f"turnover is {turnover!r}; expected 0 or more.")
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary.from_chrom_sizes(genome, bin_size)
    landscape = _Landscape(vocabulary, n_types, turnover, rng)

    batch = rng.permutation(np.arange(n_cells) % batches)
    cell_type = _draw_types(batch, n_types, batches, rng)
    batch_depth = np.exp(rng.normal(0, 0.15, batches)) if batches > 1 else np.ones(1)
    n_fragments = rng.poisson(fragments * batch_depth[batch] * rng.lognormal(0, 0.4, n_cells)).clip(min=1)
    X = _draw_counts(landscape, cell_type, batch, n_fragments, rng)

    from anndata import AnnData

    type_names = [f"type {number + 1}" for number in range(n_types)]
    batch_names = [f"batch {number + 1}" for number in range(batches)]
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(cell_type, type_names),
            "batch": pd.Categorical.from_codes(batch, batch_names),
            "n_fragments": n_fragments,
        },
        index=pd.Index([f"cell_{number:0{len(str(n_cells))}d}" for number in range(1, n_cells + 1)]),
    )
    var = vocabulary.to_frame()
    var["regulatory"] = landscape.is_regulatory
    adata = AnnData(X, obs=obs, var=var)
    if vocabulary.assembly is not None:
        adata.uns["assembly"] = vocabulary.assembly
    settings = {name: int(value) for name, value in numbers.items()} | {"bin_size": int(bin_size), "seed": int(seed)}
    adata.uns["scatacformer"] = {
        "simulated_cells": settings | {"turnover": float(turnover), "type_distance": landscape.tree.distance()}
    }
    return adata


class _Landscape:
    """The rates of all bins: background, open in all types, and open in each type. Each sums to 1."""

    def __init__(self, vocabulary: Vocabulary, n_types: int, turnover: float, rng: np.random.Generator) -> None:
        n_bins = vocabulary.n_bins
        mappable = rng.gamma(4.0, 0.25, n_bins) * _outside_gaps(n_bins, rng)
        mappable *= (vocabulary.end - vocabulary.start) / (vocabulary.end - vocabulary.start).max()
        if not mappable.any():
            mappable[:] = 1.0
        kind = rng.random(n_bins)
        self.is_regulatory = (kind < _REGULATORY) & (mappable > 0)
        is_ubiquitous = (kind >= _REGULATORY) & (kind < _REGULATORY + _UBIQUITOUS) & (mappable > 0)
        if not self.is_regulatory.any():  # a genome of a few bins
            self.is_regulatory[np.argmax(mappable)] = True
        self.tree: TypeTree = random_tree(n_types, rng)
        self.background = mappable / mappable.sum()  # (n_bins,)
        self.ubiquitous = _normalised(np.where(is_ubiquitous, rng.gamma(2.0, 1.0, n_bins), 0.0))  # (n_bins,)
        self.regulatory_bins = np.flatnonzero(self.is_regulatory)
        rates = evolve(self.tree, len(self.regulatory_bins), turnover, rng)
        self.of_type = rates / rates.sum(1, keepdims=True)  # (n_types, n_regulatory)
        distance = self.tree.distance()
        np.fill_diagonal(distance, np.inf)
        self.nearest = distance.argmin(1) if n_types > 1 else np.zeros(1, dtype=np.int64)  # (n_types,)


def _outside_gaps(n_bins: int, rng: np.random.Generator) -> np.ndarray:
    """0 in runs of bins without mappable sequence, 1 elsewhere, (n_bins,)."""
    outside = np.ones(n_bins)
    mean_run = 40
    for first in rng.integers(0, n_bins, int(_GAPS * n_bins / mean_run)):
        outside[first : first + rng.geometric(1 / mean_run)] = 0
    return outside


def _normalised(rates: np.ndarray) -> np.ndarray:
    total = rates.sum()
    return rates / total if total > 0 else rates


def _draw_types(batch: np.ndarray, n_types: int, batches: int, rng: np.random.Generator) -> np.ndarray:
    """Type of each cell, (n_cells,). Common types have several times as many cells as rare ones; every type has
    some."""
    share = rng.dirichlet(np.full(n_types, 8.0))
    cell_type = np.empty(len(batch), dtype=np.int64)
    for number in range(batches):
        here = batch == number
        share_here = rng.dirichlet(share * 10 * n_types + 1e-3) if batches > 1 else share
        cell_type[here] = rng.choice(n_types, here.sum(), p=share_here)
    absent = np.setdiff1d(np.arange(n_types), cell_type)
    if len(absent) <= len(batch) // 2:
        cell_type[rng.choice(len(batch), len(absent), replace=False)] = absent
    return cell_type


def _draw_counts(
    landscape: _Landscape, cell_type: np.ndarray, batch: np.ndarray, n_fragments: np.ndarray, rng: np.random.Generator
) -> sparse.csr_matrix:
    """Counts, (n_cells, n_bins), CSR, float32, canonical."""
    n_cells, n_bins = len(cell_type), len(landscape.background)
    # how the fragments of each cell are distributed over their five sources
    signal = rng.beta(_SIGNAL * _SIGNAL_CONCENTRATION, (1 - _SIGNAL) * _SIGNAL_CONCENTRATION, n_cells)
    on_the_way = np.where(rng.random(n_cells) < 1 / 4, rng.uniform(0, 0.35, n_cells), 0.0)
    ubiquitous = _UBIQUITOUS_SIGNAL * (landscape.ubiquitous.sum() > 0)
    own = signal * (1 - _AMBIENT) * (1 - ubiquitous)
    shares = np.stack(
        [1 - signal, signal * (1 - _AMBIENT) * ubiquitous, own * (1 - on_the_way), own * on_the_way, signal * _AMBIENT],
        axis=1,
    )  # (n_cells, 5)
    n_from = rng.multinomial(n_fragments, shares)  # (n_cells, 5)

    cells, bins = [], []
    for number in np.unique(batch):
        effect = np.exp(rng.normal(0, 0.2, n_bins)) if batch.max() else np.ones(n_bins)
        here = np.flatnonzero(batch == number)
        regulatory = landscape.regulatory_bins
        of_type = landscape.of_type * effect[regulatory]
        everywhere = np.arange(n_bins)
        sources = [
            (here, n_from[here, 0], landscape.background * effect, everywhere),
            (here, n_from[here, 1], landscape.ubiquitous * effect, everywhere),
            (here, n_from[here, 4], of_type.mean(0), regulatory),
        ]
        for this_type in np.unique(cell_type[here]):
            of_this = here[cell_type[here] == this_type]
            sources.append((of_this, n_from[of_this, 2], of_type[this_type], regulatory))
            sources.append((of_this, n_from[of_this, 3], of_type[landscape.nearest[this_type]], regulatory))
        for of_cells, n_each, rates, candidates in sources:
            cells.append(np.repeat(of_cells, n_each))
            bins.append(candidates[_draw(rates, int(n_each.sum()), rng)])
    # sorted int64 keys: sums the fragments in a bin faster than scipy's coo -> csr, and rows are in order
    key = np.sort(np.concatenate(cells) * n_bins + np.concatenate(bins))
    first = np.flatnonzero(np.diff(key, prepend=-1))
    counts = np.diff(first, append=len(key)).astype(np.float32)
    row, column = np.divmod(key[first], n_bins)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_cells))])
    index = np.int32 if len(key) < 2**31 else np.int64
    return sparse.csr_matrix((counts, column.astype(index), indptr.astype(index)), shape=(n_cells, n_bins))


def _draw(rates: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` indices sampled in proportion to ``rates``, with replacement."""
    if n == 0:
        return np.empty(0, dtype=np.int64)
    below = np.cumsum(rates)
    # sorted numbers read the table once in order instead of missing the cache at every step; shuffled afterwards
    at = np.searchsorted(below, np.sort(rng.random(n)) * below[-1], side="right")
    return rng.permutation(np.minimum(at, len(rates) - 1))
