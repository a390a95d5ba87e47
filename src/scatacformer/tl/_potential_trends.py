"""Trends of chromatin potential along a pseudotime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

MIN_WEIGHT = 5.0  # minimum total weight, in cells, at a point of a trend


def potential_trends(
    potential: pd.DataFrame, pseudotime: pd.Series | np.ndarray, n_points: int = 50, span: float = 0.1
) -> pd.DataFrame:
    """Trend of each gene's chromatin potential along a pseudotime, by local linear regression.

    Cells are weighted around each point by a Gaussian kernel whose standard deviation is ``span`` times the range of
    the pseudotime (Fan and Gijbels 1996, eq. 2.4). ``trends.std().sort_values()`` ranks genes by how much their trend
    varies; where a trend is positive and then falls, chromatin opens before the gene is transcribed.

    Parameters
    ----------
    potential
        Cells x genes, as :meth:`scatacformer.ScAtacFormer.chromatin_potential` returns it.
    pseudotime
        (n_cells,): a Series, matched to the cells by name, or an array in their order. Cells with a missing (NaN) or
        infinite value are ignored.
    n_points
        Number of points of the trend, evenly spaced from the lowest to the highest pseudotime.
    span
        Standard deviation of the kernel, as a share of the range.

    Returns
    -------
    (n_points, n_genes), indexed by pseudotime; NaN where the total weight is less than that of five cells.

    Raises
    ------
    ValueError
        Fewer than 10 cells with a pseudotime, or the same value for all; cells missing in a Series; ``n_points`` below
        2 or ``span`` not above 0.
    """
    import pandas as pd

    if n_points < 2 or not span > 0:
        raise ValueError(f"n_points is {n_points} and span is {span}; expected at least 2 points and a span above 0.")
    if isinstance(pseudotime, pd.Series):
        if missing := int((~potential.index.isin(pseudotime.index)).sum()):
            raise ValueError(f"{missing:,} of {len(potential):,} cells are not in the index of pseudotime.")
        pseudotime = pseudotime.loc[potential.index]
    t = np.asarray(pseudotime, dtype=np.float64)
    if t.shape != (len(potential),):
        raise ValueError(f"pseudotime has shape {t.shape}; expected one number for each of {len(potential):,} cells.")
    known = np.isfinite(t)
    if known.sum() < 10 or t[known].max() == t[known].min():
        raise ValueError(f"{int(known.sum())} cells have a pseudotime; expected 10 or more, with different values.")
    t, y = t[known], potential.to_numpy()[known].astype(np.float64)
    points = np.linspace(t.min(), t.max(), n_points)
    width = span * (t.max() - t.min())
    out = np.full((n_points, y.shape[1]), np.nan)
    for k, point in enumerate(points):
        away = (t - point) / width
        weight = np.exp(-(away**2) / 2)
        s0, s1, s2 = weight.sum(), (weight * away).sum(), (weight * away**2).sum()
        if s0 >= MIN_WEIGHT:
            # the value of the fitted line at the point itself
            local = weight * (s2 - s1 * away) / max(s0 * s2 - s1**2, 1e-12)
            out[k] = local @ y
    return pd.DataFrame(out, index=pd.Index(points, name="pseudotime"), columns=potential.columns)
