"""The two quantities that a contrastive loss optimises: alignment of partners and uniformity on the sphere."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from ._check import check_same_cells, checked_embedding, unit_rows


def alignment(x: ArrayLike, y: ArrayLike) -> float:
    """Mean squared distance of partners on the unit sphere: 0 identical, 2 unrelated, 4 opposite.

    ``mean_i |x_i - y_i|^2`` = 2 - 2 mean cosine, rows scaled to length 1 first (Wang and Isola, ICML 2020, alpha = 2).
    An embedding in which all cells are identical also has 0, so use it together with :func:`uniformity`.

    Parameters
    ----------
    x, y
        Embeddings of the two modalities, (n_cells, n_dims); rows are the same cells.

    Raises
    ------
    TypeError
        Sparse input.
    ValueError
        Different cells or dimensions; NaN; a cell of zeros; fewer than 2 cells.
    """
    check_same_cells(x, y, ("x", "y"))
    x, y = (unit_rows(checked_embedding(one, name), name) for one, name in ((x, "x"), (y, "y")))
    if x.shape != y.shape:
        raise ValueError(f"x has {x.shape[1]} dimensions, y has {y.shape[1]}; expected two embeddings in one space.")
    return float(((x - y) ** 2).sum(1).mean())


def uniformity(x: ArrayLike, t: float = 2.0, *, chunk_size: int = 1024) -> float:
    """How evenly cells cover the unit sphere: 0 if all are identical, about -2 t if they cover it evenly in many
    dimensions.

    ``log mean_(i != j) exp(-t |x_i - x_j|^2)``, rows scaled to length 1 first (Wang and Isola, ICML 2020). Lower is
    more even. Cells that form types are not evenly distributed and should not be; the metric serves to detect a
    collapse.

    Parameters
    ----------
    x
        Embedding, (n_cells, n_dims), of one modality.
    t
        Inverse width of the Gaussian kernel, above 0.
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
        raise ValueError(f"t is {t} and chunk_size is {chunk_size}; expected both to be positive.")
    x = unit_rows(checked_embedding(x, "x"), "x")
    n, total = len(x), 0.0
    for first in range(0, n, chunk_size):
        near = np.exp(-t * cdist(x[first : first + chunk_size], x[first:], "sqeuclidean"))
        # each pair of cells from two chunks occurs once, each pair within a chunk twice
        total += 2 * near[:, chunk_size:].sum() + near[:, :chunk_size].sum()
    return float(np.log(max((total - n) / (n * (n - 1)), np.finfo(float).tiny)))  # without each cell paired with itself
