"""Which regions regulate which genes: contact by distance, scores, and how well scores find tested enhancers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

GAMMA, SCALE = 1.024238616787792, 5.9594510043736655  # the power law of contacts in K562, from the ABC model


def powerlaw_contact(
    distance: ArrayLike, gamma: float = GAMMA, scale: float | None = None, min_distance: float = 5_000
) -> NDArray[np.float64]:
    """Contact of two loci by their distance: exp(scale - gamma · ln(max(distance, min_distance) + 1)).

    Parameters
    ----------
    distance
        In bp; its sign does not matter.
    gamma
        Exponent of the power law; the default was fitted to Hi-C of K562.
    scale
        Logarithm of the contact at 0 bp; None: 5.959 for the default ``gamma``, and -4.80 + 11.63 ``gamma`` for others.
    min_distance
        Distances below this are set to it, because contact maps of 5 kb do not resolve them.

    Returns
    -------
    Of the shape of ``distance``. Source: Fulco et al., Nat Genet 2019 (ABC model).
    """
    if scale is None:
        scale = SCALE if gamma == GAMMA else -4.80 + 11.63 * gamma
    return np.exp(scale - gamma * np.log(np.maximum(np.abs(np.asarray(distance, np.float64)), min_distance) + 1))


def enhancer_scores(
    jacobian: ArrayLike,
    accessibility: ArrayLike,
    contact: ArrayLike | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Scores of the regions of one gene; each score sums to 1 over the regions.

    Parameters
    ----------
    jacobian
        Euclidean norm of the derivative of the gene's expression with respect to each region's embedding, j,
        (n_regions,).
    accessibility
        Accessibility of each region, a, (n_regions,).
    contact
        Contact of each region with the TSS, h, (n_regions,). None: only the scores without contact.

    Returns
    -------
    dict
        ``"accessibility"`` a, ``"jacobian"`` j, ``"jacobian_accessibility"`` j·a; with contact also ``"contact"`` h,
        ``"accessibility_contact"`` a·h, ``"jacobian_contact"`` j·h and ``"jacobian_accessibility_contact"`` j·a + a·h.
        A score is zero throughout if a term is zero at all regions. Source: Fu et al., Nature 2025 (GET).

    Raises
    ------
    ValueError
        Different lengths, or negative or missing values.
    """
    terms = {"jacobian": jacobian, "accessibility": accessibility}
    if contact is not None:
        terms["contact"] = contact
    arrays = {name: np.asarray(value, np.float64) for name, value in terms.items()}
    for name, value in arrays.items():
        if value.shape != arrays["jacobian"].shape or value.ndim != 1:
            raise ValueError(
                f"{name} has shape {value.shape}, jacobian {arrays['jacobian'].shape}: expected one value per region."
            )
        if not (np.isfinite(value).all() and (value >= 0).all()):
            raise ValueError(f"{name} holds negative, NaN or infinite values: expected numbers of at least 0.")
    j, a = arrays["jacobian"], arrays["accessibility"]
    scores = {"accessibility": a, "jacobian": j, "jacobian_accessibility": j * a}
    if contact is not None:
        h = arrays["contact"]
        scores |= {"contact": h, "accessibility_contact": a * h, "jacobian_contact": j * h}
        scores["jacobian_accessibility_contact"] = j * a + a * h
    return {name: _shares(value) for name, value in scores.items()}


def auprc(
    score: ArrayLike, positive: ArrayLike, *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, float]:
    """Area under the precision-recall curve (average precision), with a confidence interval from resampled pairs.

    Parameters
    ----------
    score
        (n,); higher means more likely positive.
    positive
        (n,) bool, the true outcome.
    n_resamples
        Number of resamples with replacement; 0: no interval.
    level
        Confidence level: share of the resamples inside the interval.
    seed
        Seed of the resampling.

    Returns
    -------
    dict
        ``auprc, low, high, base_rate, n, n_positive``; ``low`` and ``high`` are NaN without resamples.

    Raises
    ------
    ValueError
        Different lengths, NaN, or only positives or only negatives.
    """
    from sklearn.metrics import average_precision_score

    score, positive = np.asarray(score, np.float64), np.asarray(positive).astype(bool)
    if score.shape != positive.shape or score.ndim != 1:
        raise ValueError(
            f"score has shape {score.shape}, positive {positive.shape}: expected one value of each per pair."
        )
    if np.isnan(score).any():
        raise ValueError(
            f"{int(np.isnan(score).sum()):,} of {len(score):,} scores are NaN. Drop these pairs, or set their score to 0."
        )
    if positive.all() or not positive.any():
        raise ValueError(
            f"{int(positive.sum()):,} of {len(positive):,} pairs are positive; expected some positive and some negative pairs."
        )
    rng = np.random.default_rng(seed)
    resampled: list[float] = []
    while len(resampled) < n_resamples:
        rows = rng.integers(len(score), size=len(score))
        if positive[rows].any() and not positive[rows].all():
            resampled.append(average_precision_score(positive[rows], score[rows]))
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2]) if resampled else (np.nan, np.nan)
    return {
        "auprc": float(average_precision_score(positive, score)),
        "low": float(low),
        "high": float(high),
        "base_rate": float(positive.mean()),
        "n": len(score),
        "n_positive": int(positive.sum()),
    }


def crispri_benchmark(
    pairs: pd.DataFrame,
    scores: Mapping[str, ArrayLike],
    *,
    regulated: str = "Regulated",
    distance: str = "distanceToTSS",
    edges: Sequence[float] = (0, 10_000, 50_000, 100_000, np.inf),
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """How well scores predict the regulated enhancer-gene pairs of a CRISPRi screen, compared with 1 / distance.

    Parameters
    ----------
    pairs
        Tested pairs, such as the combined K562 table of the ENCODE comparison.
    scores
        Mapping of a name to a score for each row of ``pairs``; ``"1 / distance"`` is added.
    regulated
        Column of ``pairs`` with the outcome.
    distance
        Column of ``pairs`` with the distance between element and TSS, in bp.
    edges
        Boundaries of the distance ranges, in bp, for which results are also given separately.
    n_resamples, seed
        As in :func:`auprc`.

    Returns
    -------
    pandas.DataFrame
        ``score, distance, auprc, low, high, base_rate, n, n_positive``: for all pairs, and for each range of distances
        that has both regulated and other pairs.

    Raises
    ------
    KeyError
        A column is missing in ``pairs``.
    ValueError
        As in :func:`auprc`.
    """
    import pandas as pd

    for column in (regulated, distance):
        if column not in pairs:
            raise KeyError(f"pairs has no column {column!r}; it has {', '.join(map(str, pairs.columns[:12]))}, ...")
    positive = _as_bool(pairs[regulated])
    bp = np.abs(pairs[distance].to_numpy(np.float64))
    named = {name: np.asarray(value, np.float64) for name, value in scores.items()} | {"1 / distance": 1 / (bp + 1)}
    parts = [("all", np.ones(len(bp), bool))]
    parts += [(f"{low:g}-{high:g}", (bp >= low) & (bp < high)) for low, high in zip(edges, edges[1:], strict=False)]
    found: list[dict[str, Any]] = []
    for name, value in named.items():
        for part, rows in parts:
            if part == "all" or (positive[rows].any() and not positive[rows].all()):
                measured = auprc(value[rows], positive[rows], n_resamples=n_resamples, seed=seed)
                found.append({"score": name, "distance": part, **measured})
    return pd.DataFrame(found)


def _shares(x: NDArray[np.float64]) -> NDArray[np.float64]:
    total = x.sum()
    return x / total if total > 0 else np.zeros_like(x)


def _as_bool(column: pd.Series) -> NDArray[np.bool_]:
    if column.dtype == bool:
        return column.to_numpy()
    known = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
    found = column.astype(str).str.lower().map(known)
    if found.isna().any():
        raise ValueError(f"column {column.name!r} holds {column[found.isna()].iloc[0]!r}: expected true or false.")
    return found.to_numpy(bool)
