"""Whether related motifs belong to transcription factors that are known to interact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_PAIRS = (("protein1", "protein2"), ("#node1", "node2"), ("node1", "node2"), ("gene1", "gene2"))


def tf_interactions(
    network: pd.DataFrame,
    string: str | Path | pd.DataFrame,
    factors: Mapping[str, Sequence[str]],
    *,
    names: str | Path | Mapping[str, str] | None = None,
    min_score: float = 400,
    n_pairs: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Precision and recall of the strongest pairs of motifs with respect to known protein interactions.

    A pair of motifs interacts if a factor of one interacts with a factor of the other. Only motifs with a factor in the
    table are used. The precision of the network should be compared with ``base_rate``, that of a random order.

    Parameters
    ----------
    network
        Motifs × motifs, as :func:`motif_causal` or :func:`motif_correlation` returns it; a pair is ranked by the larger
        absolute weight of its two directions.
    string
        STRING's ``protein.physical.links`` file (plain or .gz), a table exported from its website, or a DataFrame:
        two columns of proteins (``protein1`` and ``protein2``, or ``node1`` and ``node2``) and ``combined_score``,
        from 0 to 1,000 or from 0 to 1.
    factors
        Mapping of motif to the symbols of its transcription factors; motifs of a cluster share all of their factors.
    names
        Mapping of protein to symbol, or STRING's ``protein.info`` file. None: the table contains symbols.
    min_score
        Minimum ``combined_score`` of an interaction, on the scale to 1,000.
    n_pairs
        Numbers of strongest pairs at which to evaluate. None: 1, 2, 5, 10, 20, ... % of all pairs.

    Returns
    -------
    pandas.DataFrame
        ``n_pairs, precision, recall, f1, macro_f1, base_rate``: F1 of the interacting pairs, and the mean of it and of
        the F1 of the others.

    Raises
    ------
    ValueError
        The table lacks these columns, motifs have no factors, or the factors have no interactions.
    """
    import pandas as pd

    motifs = [str(name) for name in network.index]
    if motifs != [str(name) for name in network.columns]:
        raise ValueError("network has different rows and columns; expected motifs × motifs.")
    known = _interactions(string, names, min_score)
    in_table = {symbol for pair in known for symbol in pair}
    of_motif = {motif: {symbol.upper() for symbol in factors.get(motif, ())} & in_table for motif in motifs}
    kept = [i for i, motif in enumerate(motifs) if of_motif[motif]]
    if len(kept) < 2:
        raise ValueError(
            f"{len(kept)} of {len(motifs)} motifs have a factor with an interaction of at least {min_score:g} in the "
            "table; expected two or more. Check that factors and table both use gene symbols (names=, factors=)."
        )
    strength = np.abs(network.to_numpy(np.float64))
    strength = np.maximum(strength, strength.T)[np.ix_(kept, kept)]
    first, second = np.triu_indices(len(kept), 1)
    truth = np.array(
        [
            any(frozenset((a, b)) in known for a in of_motif[motifs[kept[i]]] for b in of_motif[motifs[kept[j]]])
            for i, j in zip(first, second, strict=True)
        ]
    )
    if not truth.any():
        raise ValueError(
            f"no two of the {len(kept)} motifs in the table interact with a score of {min_score:g} or more."
        )
    values = np.nan_to_num(strength[first, second])
    total = len(values)
    if n_pairs is None:
        n_pairs = sorted({max(1, round(share * total)) for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)})
    if bad := [n for n in n_pairs if not 1 <= n <= total]:
        raise ValueError(f"n_pairs contains {bad[0]}; expected 1 to {total:,}, the number of pairs of motifs.")
    hits = _expected_hits(values, truth)
    return pd.DataFrame([_scores(int(n), hits[int(n) - 1], int(truth.sum()), total) for n in n_pairs])


def _expected_hits(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Interacting pairs among the strongest 1, 2, ...; pairs of one weight share theirs, in whatever order they
    stand."""
    order = np.argsort(-values, kind="stable")
    _, tie = np.unique(-values[order], return_inverse=True)
    share = np.bincount(tie, truth[order]) / np.bincount(tie)
    return np.cumsum(share[tie])


def _scores(n: int, hits: float, positives: int, total: int) -> dict[str, float]:
    negatives_left = (total - n) - (positives - hits)  # true negatives below the cut-off
    f1 = 2 * hits / (n + positives)
    other = 2 * negatives_left / max((total - n) + (total - positives), 1)
    return {
        "n_pairs": n,
        "precision": hits / n,
        "recall": hits / positives,
        "f1": f1,
        "macro_f1": (f1 + other) / 2,
        "base_rate": positives / total,
    }


def _interactions(
    string: str | Path | pd.DataFrame, names: str | Path | Mapping[str, str] | None, min_score: float
) -> set[frozenset[str]]:
    import pandas as pd

    if isinstance(string, (str, Path)):
        table = pd.read_csv(
            string, sep=None, engine="python"
        )  # spaces in STRING's files, tabs in exports from its website
        where = f"{string}"
    else:
        table, where = string, "the table of interactions"
    columns = next((pair for pair in _PAIRS if set(pair) <= set(table.columns)), None)
    if columns is None or "combined_score" not in table.columns:
        raise ValueError(
            f"{where} has columns {', '.join(map(str, table.columns))}; expected protein1, protein2 and combined_score."
        )
    score = table["combined_score"].to_numpy(np.float64)
    if len(score) and score.max() <= 1:
        score = 1000 * score
    table = table[score >= min_score]
    pairs = [table[column].astype(str) for column in columns]
    if names is not None:
        symbols = names if isinstance(names, Mapping) else _names(Path(names))
        pairs = [column.map(symbols) for column in pairs]
        if len(table) and pairs[0].isna().all():
            raise ValueError(f"names has none of the proteins of {where} (first: {table[columns[0]].iloc[0]}).")
    known = {
        frozenset((a.upper(), b.upper()))
        for a, b in zip(*pairs, strict=True)
        if isinstance(a, str) and isinstance(b, str)
    }
    if not known:
        raise ValueError(f"{where} has no interaction with a score of {min_score:g} or more.")
    return known


def _names(path: Path) -> dict[str, str]:
    import pandas as pd

    table = pd.read_csv(path, sep="\t", quoting=3)
    protein = next((name for name in ("#string_protein_id", "string_protein_id") if name in table.columns), None)
    if protein is None or "preferred_name" not in table.columns:
        raise ValueError(
            f"{path} has columns {', '.join(map(str, table.columns))}; expected #string_protein_id and preferred_name."
        )
    return dict(zip(table[protein].astype(str), table["preferred_name"].astype(str), strict=True))
