"""Are the variants that score highly those that are known to act?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer.genome import read_bed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd


def variant_enrichment(
    scores: pd.DataFrame,
    acting: str | Path | Sequence[bool] | pd.Series,
    *,
    score: str = "log2_fold_change",
    effect: Mapping[str, float] | pd.Series | Sequence[float] | None = None,
) -> pd.DataFrame:
    """How well the size of predicted effects separates variants that act from those that do not, track by track.

    Parameters
    ----------
    scores
        What ``Epiformer.predict_variants`` returned: rows of variants × tracks.
    acting
        Which variants act: a BED file of regions that hold them, or a value for each variant (in the order of their
        first rows; a Series may be indexed by ``"chrom:pos ref>alt"`` or by the variants' ``id``).
    score
        Column of ``scores``; its absolute value is the score.
    effect
        Measured effect of each variant, in the same forms: for the share of signs that agree and Spearman's
        correlation, among the variants that act.

    Returns
    -------
    A row for each track: ``n``, ``n_acting``, ``auroc``, ``auprc`` (its base rate is ``n_acting / n``) and, with
    ``effect``, ``sign_accuracy`` and ``spearman``.

    Raises
    ------
    ValueError
        All or none of the variants act; values that are not one for each variant.
    KeyError
        ``scores`` lacks the column.
    """
    import pandas as pd
    from scipy.stats import spearmanr
    from sklearn.metrics import average_precision_score, roc_auc_score

    if score not in scores.columns:
        raise KeyError(f"scores has no column {score!r}; it has {', '.join(map(str, scores.columns))}.")
    keys = _keys(scores)
    first = scores[~keys.duplicated().to_numpy()]
    names = keys[~keys.duplicated().to_numpy()].tolist()
    labels = _labels(first, names, acting)
    if labels.all() or not labels.any():
        raise ValueError(
            f"{'all' if labels.all() else 'none'} of the {len(labels):,} variants act: nothing can be compared."
        )
    measured = None if effect is None else _values(first, names, effect, "effect").astype(float)
    rows = []
    for track, table in scores.groupby("track", sort=False, observed=True):
        values = pd.Series(table[score].to_numpy(float), index=_keys(table)).reindex(names).to_numpy()
        known = np.isfinite(values)
        row: dict[str, Any] = {"track": str(track), "n": int(known.sum()), "n_acting": int(labels[known].sum())}
        row["auroc"] = float(roc_auc_score(labels[known], np.abs(values[known])))
        row["auprc"] = float(average_precision_score(labels[known], np.abs(values[known])))
        if measured is not None:
            both = known & labels & np.isfinite(measured)
            row["sign_accuracy"] = float((np.sign(values[both]) == np.sign(measured[both])).mean())
            row["spearman"] = float(spearmanr(values[both], measured[both]).statistic)
        rows.append(row)
    return pd.DataFrame(rows).set_index("track")


def _keys(table: pd.DataFrame) -> pd.Series:
    text = table["chrom"].astype(str) + ":" + table["pos"].astype(str) + " "
    return text + table["ref"].astype(str) + ">" + table["alt"].astype(str)


def _labels(first: pd.DataFrame, names: list[str], acting: Any) -> np.ndarray:
    from pathlib import Path

    if isinstance(acting, str | Path):
        chrom, start, end, _ = read_bed(acting)
        position = first["pos"].to_numpy() - 1
        inside = np.zeros(len(first), dtype=bool)
        for name in set(map(str, chrom)):
            of_chrom = chrom.astype(str) == name
            rows = np.flatnonzero(first["chrom"].astype(str).to_numpy() == name)
            lower, upper = np.sort(start[of_chrom]), np.sort(end[of_chrom])
            # more regions have begun than have ended
            inside[rows] = np.searchsorted(lower, position[rows], "right") > np.searchsorted(
                upper, position[rows], "right"
            )
        return inside
    return _values(first, names, acting, "acting").astype(bool)


def _values(first: pd.DataFrame, names: list[str], given: Any, what: str) -> np.ndarray:
    """One value for each variant, by name, by id or in their order."""
    import pandas as pd

    if isinstance(given, pd.Series) or hasattr(given, "keys"):
        series = pd.Series(given)
        for index in (names, first["id"].astype(str).tolist() if "id" in first else []):
            if len(index) and pd.Index(index).isin(series.index).all():
                return series.loc[index].to_numpy()
        if not isinstance(given, pd.Series) or not isinstance(series.index, pd.RangeIndex):
            raise ValueError(f"{what} is not indexed by the variants; their names are such as {names[0]!r}.")
        given = series
    values = np.asarray(given)
    if values.shape != (len(names),):
        raise ValueError(f"{what} needs a value for each of {len(names):,} variants, found {values.shape}.")
    return values
