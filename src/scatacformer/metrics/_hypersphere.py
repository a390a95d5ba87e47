"""What a contrastive loss drives: partners together, and cells spread over the sphere."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from ._check import check_same_cells, checked_embedding, unit_rows


def alignment(x: ArrayLike, y: ArrayLike) -> float:
    """Mean squared distance of partners on the unit sphere: 0 the same, 2 unrelated, 4 opposite.

    ``mean_i |x_i - y_i|^2`` = 2 - 2 mean cosine, rows scaled to length 1 first (Wang and Isola, ICML 2020, alpha = 2).
    An embedding in which all cells are the same has 0: read it beside :func:`uniformity`.

    Parameters
    ----------
    x, y
        Embeddings of the two modalities, (n_cells, n_dims); rows are the same cells.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        Not the same cells or dimensions; NaN; a cell of zeros; fewer than 2 cells.
    """
    check_same_cells(x, y, ("x", "y"))
    x, y = (unit_rows(checked_embedding(one, name), name) for one, name in ((x, "x"), (y, "y")))
    if x.shape != y.shape:
        raise ValueError(f"x has {x.shape[1]} dimensions, y has {y.shape[1]}; expected two embeddings in one space.")
    return float(((x - y) ** 2).sum(1).mean())


def uniformity(x: ArrayLike, t: float = 2.0, *, chunk_size: int = 1024) -> float:
    """How evenly cells cover the unit sphere: 0 if all are the same, about -2 t for a sphere of many dimensions.

    ``log mean_(i != j) exp(-t |x_i - x_j|^2)``, rows scaled to length 1 first (Wang and Isola, ICML 2020). Lower is more
    even. Cells of types are not even, and should not be: it is there to show a collapse.

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims), of one modality.
    t
        Inverse width of the kernel, above 0.
    chunk_size
        Rows at a time: memory is chunk_size x n_cells numbers.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        NaN; a cell of zeros; fewer than 2 cells; ``t`` or ``chunk_size`` not positive.
    """
    if not t > 0 or chunk_size < 1:
        raise ValueError(f"t = {t}, chunk_size = {chunk_size}; expected both to be positive.")
    x = unit_rows(checked_embedding(x, "x"), "x")
    n, total = len(x), 0.0
    for first in range(0, n, chunk_size):
        near = np.exp(-t * cdist(x[first : first + chunk_size], x[first:], "sqeuclidean"))
        # each pair of two chunks is seen once, each within the chunk twice
        total += 2 * near[:, chunk_size:].sum() + near[:, :chunk_size].sum()
    return float(np.log(max((total - n) / (n * (n - 1)), np.finfo(float).tiny)))  # less each cell with itself
