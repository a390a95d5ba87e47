"""Motifs that act on the same genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def motif_correlation(
    gbm: AnnData,
    group: str | None = None,
    *,
    method: str = "spearman",
    max_rows: int = 50_000,
    seed: int = 0,
    key_added: str = "motif_correlation",
) -> pd.DataFrame:
    """Correlation of motifs across genes.

    Parameters
    ----------
    gbm
        (gene, group) × motifs, as ``GET.get_gene_by_motif`` returns it.
    group
        Use the rows with this value of ``gbm.obs["group"]``; None: all groups together.
    method
        ``"spearman"`` or ``"pearson"``.
    max_rows
        Maximum number of rows; a random sample is used if there are more.
    seed
        Seed of the sample.
    key_added
        Key of ``gbm.varp`` under which the correlations are stored.

    Returns
    -------
    pandas.DataFrame
        Motifs × motifs. NaN for a motif that is constant.

    Raises
    ------
    KeyError
        The group does not exist.
    ValueError
        NaN in the matrix, fewer than three rows, or an unknown method.
    """
    import pandas as pd
    from scipy.stats import rankdata

    from ._gene_by_motif import motif_values

    if method not in ("spearman", "pearson"):
        raise ValueError(f"method is {method!r}; expected 'spearman' or 'pearson'.")
    x = motif_values(gbm, group)
    if len(x) < 3:
        raise ValueError(f"gbm has {len(x)} rows for a correlation; expected at least three.")
    if len(x) > max_rows:
        x = x[np.sort(np.random.default_rng(seed).choice(len(x), max_rows, replace=False))]
    if method == "spearman":
        x = rankdata(x, axis=0)
    x = x - x.mean(0)
    norm = np.sqrt((x**2).sum(0))
    norm[norm == 0] = np.nan
    found = np.clip((x.T @ x) / np.outer(norm, norm), -1, 1)
    gbm.varp[key_added] = found
    return pd.DataFrame(found, index=gbm.var_names, columns=gbm.var_names)
