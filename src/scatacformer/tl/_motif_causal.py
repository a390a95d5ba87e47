"""A causal graph of the motifs in a gene-by-motif matrix, by ICA-LiNGAM."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray


def motif_causal(
    gbm: AnnData,
    group: str | None = None,
    *,
    n_permutations: int = 3,
    min_share: float = 0.5,
    min_weight: float = 0.0,
    max_iter: int = 1000,
    seed: int = 0,
    key_added: str = "motif_causal",
) -> pd.DataFrame:
    """Causal weights between motifs, averaged over orders of the columns.

    The rows are treated as samples of a linear system with non-Gaussian noise, in which motifs influence each other
    without cycles. Independent component analysis determines the causal order, and each motif is then regressed on
    those before it (adaptive lasso, selected by BIC). If these assumptions do not hold, the graph only summarises
    partial dependence; causality has to be established by experiments. Source: Shimizu et al., JMLR 2006 (ICA-LiNGAM).

    Parameters
    ----------
    gbm
        (gene, group) × motifs, as ``GET.get_gene_by_motif`` returns it.
    group
        Use the rows with this value of ``gbm.obs["group"]``; None: all rows.
    n_permutations
        Number of random column orders to average over, because the independent components depend on the order.
    min_share
        A weight is kept if it is found for at least this share of the orders.
    min_weight
        Weights below this absolute value, in standard deviations of effect per standard deviation of cause, are zero.
    max_iter
        Maximum number of iterations of the independent component analysis.
    seed
        Seed of the orders and of the initial values.
    key_added
        Key of ``gbm.varp`` under which the weights are stored. Motifs are standardised over the rows used.

    Returns
    -------
    pandas.DataFrame
        Motifs × motifs: the effect of the row's motif (cause) on the column's (effect); the diagonal is zero.

    Raises
    ------
    ValueError
        Fewer rows than twice the number of motifs, NaN, constant motifs, or motifs that are linear combinations of
        others.
    """
    import pandas as pd

    from ._gene_by_motif import motif_values

    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; expected at least 1.")
    if not 0 <= min_share <= 1:
        raise ValueError(f"min_share is {min_share}; expected a share of the orders, from 0 to 1.")
    x = motif_values(gbm, group)
    x = _standardised(x, list(gbm.var_names))
    rng = np.random.default_rng(seed)
    found = np.zeros((n_permutations, x.shape[1], x.shape[1]))
    for k in range(n_permutations):
        order = rng.permutation(x.shape[1]) if k else np.arange(x.shape[1])
        weights = ica_lingam(x[:, order], max_iter=max_iter, seed=int(rng.integers(2**31)))
        found[k][np.ix_(order, order)] = weights
    mean = found.mean(0)
    mean[(found != 0).mean(0) < min_share] = 0
    mean[np.abs(mean) < min_weight] = 0
    gbm.varp[key_added] = mean
    return pd.DataFrame(mean, index=gbm.var_names, columns=gbm.var_names)


def ica_lingam(x: NDArray[np.float64], *, max_iter: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """Weights of a linear system without cycles.  (n, p) standardised -> (p, p), cause in the row, effect in the
    column."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    ica = FastICA(whiten="unit-variance", max_iter=max_iter, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            ica.fit(x)
        except ConvergenceWarning:
            raise ValueError(
                f"the independent component analysis of {x.shape[1]} motifs did not converge in {max_iter} iterations. "
                "Increase max_iter, use more rows, or leave out motifs that are nearly linear combinations of others."
            ) from None
    unmixing = ica.components_
    # order the rows so that no diagonal entry is small: each component belongs to one motif
    rows, columns = linear_sum_assignment(1 / np.maximum(np.abs(unmixing), 1e-12))
    ordered = np.empty_like(unmixing)
    ordered[columns] = unmixing[rows]
    raw = np.eye(len(ordered)) - ordered / np.diag(ordered)[:, None]  # [effect, cause]
    np.fill_diagonal(raw, 0)
    return _pruned(x, _causal_order(np.abs(raw)))


def _standardised(x: NDArray[np.float64], names: list[str]) -> NDArray[np.float64]:
    n, p = x.shape
    if n < 2 * p:
        raise ValueError(f"gbm has {n:,} rows for {p:,} motifs; expected at least {2 * p:,}. Add genes or groups.")
    spread = x.std(0)
    if (spread == 0).any():
        constant = [names[i] for i in np.flatnonzero(spread == 0)]
        raise ValueError(f"{len(constant)} motifs are constant (first: {constant[0]}). Drop them from gbm.")
    x = (x - x.mean(0)) / spread
    values, vectors = np.linalg.eigh(x.T @ x / n)
    if values[0] < 1e-8:
        heavy = [names[i] for i in np.argsort(-np.abs(vectors[:, 0]))[:3]]
        raise ValueError(
            f"some motifs are linear combinations of others (among them {', '.join(heavy)}). Drop one of them from gbm."
        )
    return x


def _causal_order(strength: NDArray[np.float64]) -> list[int]:
    """Order with causes before effects, after removing as few of the weakest weights as necessary.  (p, p) [effect,
    cause] -> p ids."""
    p = len(strength)
    off = ~np.eye(p, dtype=bool)
    ranked = np.sort(strength[off])
    # a graph without cycles has none after weights are removed, so the smallest number to remove is found by bisection
    low, high = 0, len(ranked)
    while low < high:
        middle = (low + high) // 2
        if _topological(off & (strength >= ranked[middle])) is not None:
            high = middle
        else:
            low = middle + 1
    kept = off & (strength >= ranked[low]) if low < len(ranked) else np.zeros_like(off)
    order = _topological(kept)
    assert order is not None  # without any weights there is no cycle
    return order


def _topological(graph: NDArray[np.bool_]) -> list[int] | None:
    """Order of the nodes in which causes come before effects, or None if there is a cycle."""
    waiting = graph.sum(1)
    ready = list(np.flatnonzero(waiting == 0))
    order: list[int] = []
    while ready:
        node = ready.pop()
        order.append(int(node))
        effects = np.flatnonzero(graph[:, node])
        waiting[effects] -= 1
        ready += list(effects[waiting[effects] == 0])
    return order if len(order) == len(graph) else None


def _pruned(x: NDArray[np.float64], order: list[int]) -> NDArray[np.float64]:
    """Regression of each motif on those before it: adaptive lasso along the LARS path, selected by BIC.

    It uses the Gram matrix, so the time does not depend on the number of rows.
    """
    from sklearn.linear_model import lars_path_gram

    n, p = x.shape
    gram = x.T @ x
    weights = np.zeros((p, p))
    for k in range(1, p):
        target, before = order[k], np.array(order[:k])
        g, xy, yy = gram[np.ix_(before, before)], gram[before, target], gram[target, target]
        scale = np.abs(np.linalg.solve(g, xy))
        scaled = scale[:, None] * g * scale
        _, _, path = lars_path_gram(scale * xy, scaled, n_samples=n, method="lasso", alpha_min=0)
        path = path * scale[:, None]  # (k, steps)
        rss = np.maximum(yy - 2 * xy @ path + np.einsum("ks,kl,ls->s", path, g, path), 1e-12 * yy)
        bic = n * np.log(rss / n) + np.log(n) * (path != 0).sum(0)
        weights[before, target] = path[:, int(bic.argmin())]
    return weights
