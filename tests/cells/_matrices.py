"""Small matrices of cells x bins, the places they can lie, and the open bins that a reader must find in them."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp

PLACES = ("csr_matrix", "csr_array", "int64", "h5ad", "h5ad_gzip", "zarr")


def random_csr(n_cells=60, n_bins=400, density=0.05, seed=0, zeros=0.1) -> sp.csr_matrix:
    """Counts 1 ... 3; a share ``zeros`` of the stored entries is 0; cell 3 is empty; bins are stored out of order."""
    rng = np.random.default_rng(seed)
    rows = []
    for cell in range(n_cells):
        n_open = 0 if cell == 3 else rng.integers(1, 2 * density * n_bins)
        rows.append(rng.permutation(n_bins)[:n_open])
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
    counts = rng.integers(1, 4, indptr[-1]) * (rng.random(indptr[-1]) >= zeros)
    matrix = sp.csr_matrix((n_cells, n_bins), dtype=np.float32)
    matrix.data, matrix.indptr = counts.astype(np.float32), indptr.astype(np.int32)
    matrix.indices = np.concatenate(rows).astype(np.int32)
    return matrix


def place(matrix: sp.csr_matrix, where: str, folder):
    """``matrix`` as what ``adata.X`` is when the cells lie there."""
    import anndata as ad

    if where == "csr_matrix":
        return matrix
    if where == "csr_array":
        return sp.csr_array(matrix)
    if where == "int64":
        wide = sp.csr_matrix(matrix.shape, dtype=np.int64)
        wide.data, wide.indices = matrix.data.astype(np.int64), matrix.indices.astype(np.int64)
        wide.indptr = matrix.indptr.astype(np.int64)
        return wide
    adata = ad.AnnData(matrix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the default zarr format, which differs between versions of anndata
        if where == "zarr":
            import zarr

            adata.write_zarr(folder / "cells.zarr")
            return ad.io.sparse_dataset(zarr.open(folder / "cells.zarr", mode="r")["X"])
        adata.write_h5ad(folder / "cells.h5ad", compression="gzip" if where == "h5ad_gzip" else None)
    return ad.read_h5ad(folder / "cells.h5ad", backed="r").X


def open_bins(matrix: sp.csr_matrix, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Bins and counts of one cell in storage order, without explicit zeros."""
    part = slice(matrix.indptr[cell], matrix.indptr[cell + 1])
    is_open = matrix.data[part] != 0
    return matrix.indices[part][is_open], matrix.data[part][is_open]
