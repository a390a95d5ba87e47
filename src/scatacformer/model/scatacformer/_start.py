"""Initialisation: the bin table from spectral vectors or at random, the decoder from frequencies."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from scatacformer.cells import batch_shifts, fit_spectral, local_shifts, start_from_vectors

if TYPE_CHECKING:
    from scatacformer.cells import RowSource, SpectralStart
    from scatacformer.nn import ScAtacNetwork

logger = logging.getLogger("scatacformer")

FEW_DIMS, FEW_CELLS = 10, 50  # fewer are worth a word
FAR = 1e6  # embeddings are of the order of 1


def put_spectral_start(
    module: ScAtacNetwork,
    source: RowSource,
    codes: np.ndarray,
    cells: np.ndarray,
    seed: int,
    vectors: np.ndarray | None = None,
) -> SpectralStart:
    """Fit the spectral initialisation on ``cells`` (sorted row numbers; ``codes``: batches of all cells) and copy it
    into the module, with that of the decoder. Other cells are not used.

    With ``vectors`` (n_bins, d), these are used instead of the spectrum.
    """
    d_embed, n_batch = module.config.d_embed, module.config.n_batch
    if vectors is None:
        table = module.embedding.table.weight.detach()
        # written in place: the table is the largest array of a model without a decoder
        start = fit_spectral(
            source, cells, d_embed, seed=seed, out=table.numpy() if table.device.type == "cpu" else None
        )
    else:
        start = start_from_vectors(source, cells, vectors, d_embed, seed=seed)
    if not start.n_dims:
        lengths = source.stored_per_cell[cells]
        raise ValueError(
            f"no dimension in which the cells differ is above the noise, so there is nothing to learn: found {len(cells):,} "
            f"cells with {int(np.median(lengths)):,} open regions (median) of {source.n_bins:,}. More cells, deeper cells or "
            "more regions are needed."
        )
    weight = start.weight / start.weight.max()  # the strongest dimension has weight 1
    if n_batch > 1:
        start = _without_batches(module, start, weight, codes[start.cells])
    logger.info(
        "%s start: %d of %d dimensions above the noise, %d cells",
        "spectral" if vectors is None else "given",
        start.n_dims,
        d_embed,
        len(start.cells),
    )
    put_frequencies(module, source, codes, cells)
    with torch.no_grad():
        for target, value in (
            (module.embedding.table.weight, start.table),
            (module.embedding.pool_weight, start.pool_weight),
            (module.embedding.norm_weight, start.norm_weight),
            (module.embedding.eigenvalue, start.eigenvalues),
            (module.latent_weight, weight),
        ):
            target.copy_(torch.as_tensor(value))
    module.embedding.start_tokens(seed)
    return start


def advise(n_dims: int, n_cells: int, learned: bool = True) -> None:
    """Log what the user should know of an embedding of few dimensions, and of a training on few cells (``learned``)."""
    if learned and n_cells < FEW_CELLS:
        logger.warning(
            "%d cells are few to learn from: what the model predicts for other cells will be close to the mean of these",
            n_cells,
        )
    if n_dims < FEW_DIMS:
        logger.warning(
            "the cells differ in %d dimension%s. In so few, Leiden at its default resolution divides each cell type into "
            "many clusters; use sc.tl.leiden(adata, resolution=%.2g)",
            n_dims,
            "s" * (n_dims != 1),
            leiden_resolution(n_dims),
            extra={"about": "leiden"},
        )


def leiden_resolution(n_dims: int) -> float:
    """Resolution at which Leiden finds about as many clusters as there are cell types, (n_dims / 10)^2 and at most 1.

    Modularity divides a neighbour graph in few dimensions along its geometry: at resolution 1, Gaussian clouds of 2,000
    cells of 2 and 3 types have 24 and 26 clusters in 2 dimensions, 18 and 21 in 3, 12 and 9 in 5, 9 and 4 in 8; at this
    resolution 2 and 3.
    """
    return min(max(n_dims, 1) / FEW_DIMS, 1.0) ** 2


def _without_batches(
    module: ScAtacNetwork, start: SpectralStart, weight: np.ndarray, codes: np.ndarray
) -> SpectralStart:
    """Set the batch shifts of the module; returns the initialisation without them. ``codes``: batches of its cells."""
    n_batch = module.config.n_batch
    vectors = start.vectors / start.weight.max()
    shifts = batch_shifts(vectors, codes, n_batch)
    vectors = vectors - shifts[codes]
    local = local_shifts(vectors, codes, n_batch)

    def before_weight(displaced: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.where(weight > 0, displaced / np.maximum(weight, 1e-12), 0.0).astype(np.float32))

    n_centres = len(local.centres)
    with torch.no_grad():
        module.batch_shift.copy_(before_weight(shifts))
        module.local_shift.zero_()
        module.local_shift[:, :n_centres].copy_(before_weight(local.shifts))
        module.shift_centres.fill_(FAR)  # unused centres are far from all cells
        module.shift_centres[:n_centres].copy_(torch.from_numpy(local.centres))
        module.shift_width.fill_(max(local.width, 1e-12))
    return replace(start, vectors=vectors - local.of(vectors, codes).astype(np.float32))


def put_frequencies(module: ScAtacNetwork, source: RowSource, codes: np.ndarray, cells: np.ndarray) -> None:
    """Initialise the decoder from the frequency of each bin in ``cells``, by batch, and their depth."""
    n_open, n_cells = open_by_batch(source, codes, module.config.n_batch, cells)
    with torch.no_grad():
        for target, value in (
            (module.log_frequency, log_frequency(n_open.sum(0))),
            (module.decoder.bias.weight, log_odds(n_open, n_cells).T),
            (module.mean_depth, np.float32(n_open.sum() / len(cells))),
        ):
            target.copy_(torch.as_tensor(value))


def open_by_batch(
    source: RowSource, codes: np.ndarray, n_batch: int, cells: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Number of cells of each batch in which each bin is open (n_batch, n_bins), and in total (n_batch,); streamed.

    ``codes`` (n_cells of the source,) are the cells' batches; ``cells`` the row numbers to use, all by default.
    """
    if cells is not None and 4 * len(cells) < source.n_cells:  # few of many cells: only these are read
        return _open_of_some(source, codes, n_batch, cells)
    counted = np.full(source.n_cells, cells is None)
    counted[slice(0) if cells is None else cells] = True
    n_open = np.zeros((n_batch, source.n_bins))
    for first, rows in source.iter_chunks(256):
        # an extra batch for the cells that are not used
        here = slice(first, first + len(rows.indptr) - 1)
        code = np.where(counted[here], codes[here], n_batch)
        owner = np.repeat(code, np.diff(rows.indptr))
        for k in np.flatnonzero(np.bincount(code, minlength=n_batch)[:n_batch]):
            n_open[k] += np.bincount(rows.bins[owner == k], minlength=source.n_bins)
    return n_open, np.bincount(codes[counted], minlength=n_batch).astype(float)


def _open_of_some(
    source: RowSource, codes: np.ndarray, n_batch: int, cells: np.ndarray, at_once: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    n_open = np.zeros((n_batch, source.n_bins))
    for first in range(0, len(cells), at_once):
        here = cells[first : first + at_once]
        indptr, bins, _ = source.rows(here)
        owner = np.repeat(codes[here], np.diff(indptr))
        for k in np.unique(codes[here]):
            n_open[k] += np.bincount(bins[owner == k], minlength=source.n_bins)
    return n_open, np.bincount(codes[cells], minlength=n_batch).astype(float)


def log_odds(n_open: np.ndarray, n_cells: np.ndarray) -> np.ndarray:
    """Log-odds that a bin is open in a cell of a batch, shrunk towards all cells for small batches.

    ``n_open`` (n_batch, n_bins), ``n_cells`` (n_batch,) -> (n_batch, n_bins) float32. The share over all cells is
    weighted as 2 additional cells of the batch.
    """
    prior = (n_open.sum(0) + 0.5) / (n_cells.sum() + 1.0)  # (n_bins,)
    share = (n_open + 2 * prior) / (n_cells[:, None] + 2)
    share = share.clip(1e-7, 1 - 1e-4)
    return np.log(share / (1 - share)).astype(np.float32)


def log_frequency(n_open: np.ndarray) -> np.ndarray:
    """Log of each bin's share of all open entries.  (n_bins,) -> (n_bins,) float32"""
    share = n_open + 0.5
    return np.log(share / share.sum()).astype(np.float32)
