"""Cells × regions in chunks of rows, from memory, disk or dask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData


def counts_of(adata: AnnData, layer: str | None) -> Any:
    """``.X`` or a layer; CSR in memory if that needs no conversion.

    Raises ValueError for a missing layer, no matrix at all, and column-compressed data on disk, whose rows can only be
    had by reading all of it.
    """
    if layer is not None and layer not in adata.layers:
        raise ValueError(f"adata has no layer {layer!r}. Layers: {', '.join(filter(None, adata.layers)) or 'none'}.")
    X = adata.X if layer is None else adata.layers[layer]
    if X is None:
        raise ValueError("adata.X is empty (None). Pass the layer that holds the counts.")
    if getattr(X, "format", None) == "csc":
        if not sparse.issparse(X):
            raise ValueError(
                "The matrix on disk is column-compressed (CSC); rows cannot be read from it. Rewrite it once: "
                "adata = adata.to_memory(); adata.X = adata.X.tocsr(); adata.write_h5ad(...)."
            )
        X = X.tocsr()
    return X


def iter_rows(X: Any, rows_at_once: int = 128) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """(first row, CSR of the next ``rows_at_once`` rows), without explicit zeros. Nothing of the source is changed.

    Few rows at once, so that what is computed from them stays in the cache; from disk more are read at a time.
    """
    rows_read = rows_at_once if isinstance(X, np.ndarray | sparse.spmatrix | sparse.sparray) else 8 * rows_at_once
    for first_read in range(0, X.shape[0], rows_read):
        read = X[first_read : first_read + rows_read]
        if hasattr(read, "compute"):  # dask
            read = read.compute()
        # numpy arrays and csr_array too: one kind from here on
        read = sparse.csr_matrix(read if sparse.issparse(read) else np.asarray(read))
        if not read.data.all():
            read = read.copy()
            read.eliminate_zeros()
        if not (read.data > 0).all():  # NaN neither
            wrong = int(np.argmin(read.data > 0))
            cell = first_read + int(np.searchsorted(read.indptr, wrong, side="right")) - 1
            raise ValueError(
                f"counts are 0 or more; found {read.data[wrong]} in cell {cell:,}, region {read.indices[wrong]:,}. "
                "Pass the layer that holds the counts as they were measured."
            )
        for first in range(0, read.shape[0], rows_at_once):
            whole = read.shape[0] <= rows_at_once
            yield first_read + first, read if whole else read[first : first + rows_at_once]
