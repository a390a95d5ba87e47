"""Agreement of predicted and measured expression, computed in chunks of genes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from ._check import check_same_cells

GENES_AT_ONCE = 256

Expression: TypeAlias = ArrayLike | sp.spmatrix | sp.sparray
Method: TypeAlias = Literal["pearson", "spearman"]


def genewise_correlation(
    predicted: Expression, measured: Expression, method: Method = "pearson", *, chunk_size: int = GENES_AT_ONCE
) -> np.ndarray:
    """Correlation across cells of predicted and measured expression, for each gene: 1 perfect, 0 unrelated.

    Parameters
    ----------
    predicted, measured
        (n_cells, n_genes), on the same scale, for example log-normalised: arrays, sparse matrices or DataFrames. For
        two DataFrames, index and columns are compared.
    method
        ``"pearson"`` or ``"spearman"`` (ties get their mean rank).
    chunk_size
        Number of genes made dense at a time: memory is n_cells x chunk_size numbers, plus a column-wise copy of a
        sparse matrix.

    Returns
    -------
    numpy.ndarray
        (n_genes,) float64; NaN for genes that are constant in either, for which the correlation is undefined.
        :func:`mean_genewise_correlation` describes how it treats them.

    Raises
    ------
    ValueError
        Different cells or genes; NaN; fewer than 2 cells; an unknown method.
    """
    return _correlations(predicted, measured, method, chunk_size)[0]


def mean_genewise_correlation(
    predicted: Expression, measured: Expression, method: Method = "pearson", *, chunk_size: int = GENES_AT_ONCE
) -> float:
    """Mean over genes of :func:`genewise_correlation`.

    Genes whose measured expression is constant are left out. Genes that vary but are predicted to be constant count as
    0, so that a model does not gain by making no prediction for difficult genes.

    Parameters
    ----------
    predicted, measured, method, chunk_size
        As in :func:`genewise_correlation`.

    Raises
    ------
    ValueError
        As in :func:`genewise_correlation`; or all measured genes are constant.
    """
    correlation, varies = _correlations(predicted, measured, method, chunk_size)
    if not varies.any():
        raise ValueError(f"all {len(varies):,} measured genes are constant; expected at least one that varies.")
    return float(np.nan_to_num(correlation[varies]).mean())


def rmse(predicted: Expression, measured: Expression, *, chunk_size: int = GENES_AT_ONCE) -> float:
    """Root mean squared error over all cells and genes, in the units of the input: 0 perfect.

    Genes that vary most have the most weight. The baseline to compare with is the constant prediction of each gene's
    mean.

    Parameters
    ----------
    predicted, measured, chunk_size
        As in :func:`genewise_correlation`.

    Raises
    ------
    ValueError
        Different cells or genes; NaN; no cells or no genes.
    """
    total, n = 0.0, 0
    for _, p, m in _genes(predicted, measured, chunk_size):
        total += ((p - m) ** 2).sum()
        n += p.size
    return float(np.sqrt(total / n))


def _correlations(
    predicted: Expression, measured: Expression, method: str, chunk_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of each gene, and whether its measured expression varies.  (n_genes,) both"""
    if method not in ("pearson", "spearman"):
        raise ValueError(f"method is {method!r}; expected 'pearson' or 'spearman'.")
    if (n_cells := np.shape(predicted)[:1]) in ((0,), (1,)):
        raise ValueError(f"predicted and measured have {n_cells[0]} cells; expected at least 2.")
    correlations, varies = [], []
    for _, p, m in _genes(predicted, measured, chunk_size):
        p_varies, m_varies = (np.ptp(one, axis=0) > 0 for one in (p, m))
        if method == "spearman":
            p, m = rankdata(p, axis=0), rankdata(m, axis=0)
        p, m = p - p.mean(0), m - m.mean(0)
        norm = np.sqrt((p**2).sum(0) * (m**2).sum(0))
        r = np.full(p.shape[1], np.nan)
        # numbers so small that their squares are zero are treated as constant
        np.divide((p * m).sum(0), norm, out=r, where=p_varies & m_varies & (norm > 0))
        correlations.append(r.clip(-1, 1))
        varies.append(m_varies)
    return np.concatenate(correlations), np.concatenate(varies)


def _genes(
    predicted: Expression, measured: Expression, chunk_size: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Chunks of both, checked and dense, float64, (n_cells, at most chunk_size)."""
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; expected at least 1.")
    names = ("predicted", "measured")
    shapes = [np.shape(one) for one in (predicted, measured)]
    check_same_cells(predicted, measured, names)
    if len(shapes[0]) != 2 or shapes[0] != shapes[1] or not all(shapes[0]):
        raise ValueError(
            f"predicted has shape {shapes[0]}, measured {shapes[1]}; expected (n_cells, n_genes), the same for both."
        )
    if isinstance(predicted, pd.DataFrame) and isinstance(measured, pd.DataFrame):
        if not predicted.columns.equals(measured.columns):
            shared = len(predicted.columns.intersection(measured.columns))
            raise ValueError(
                f"predicted and measured do not have the same genes in the same order: {shared:,} of {shapes[0][1]:,} are "
                "shared. Order one by the other: predicted[measured.columns]."
            )
    # reading columns of a CSR matrix goes through all of it, once for each chunk
    pair: list[Any] = [sp.csc_array(one) if sp.issparse(one) else np.asarray(one) for one in (predicted, measured)]
    for first in range(0, shapes[0][1], chunk_size):
        part = slice(first, min(first + chunk_size, shapes[0][1]))
        dense = [(one[:, part].toarray() if sp.issparse(one) else one[:, part]).astype(np.float64) for one in pair]
        for name, one in zip(names, dense, strict=True):
            bad = ~np.isfinite(one).all(0)
            if bad.any():
                raise ValueError(
                    f"gene {first + int(bad.argmax())} of {name} has NaN or infinite values. Leave it out."
                )
        yield part, dense[0], dense[1]
