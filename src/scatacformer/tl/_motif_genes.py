"""The genes that a motif acts on, and the motifs that act on a gene, compared with permuted motifs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

NULL = "null"  # layer of gbm: the same scores with the motifs of regions permuted


def motif_genes(gbm: AnnData, motif: str, group: str | None = None, *, n: int | None = 20) -> pd.DataFrame:
    """The genes that a motif acts on most, in absolute score, with p values against permuted motifs.

    Parameters
    ----------
    gbm
        (gene, group) × motifs, from ``GET.get_gene_by_motif(null=True)``: its layer ``"null"`` has the scores of the
        same model on the same regions, whose motifs were permuted among regions.
    motif
        Name of the motif.
    group
        Group of cells; None: all groups, with a row for each.
    n
        Number of genes to return; None: all.

    Returns
    -------
    pandas.DataFrame
        ``gene, group, score, p, q``, largest absolute score first. p is the share of the motif's null scores, over all
        genes and groups of ``gbm``, that are at least as far from zero; q is adjusted by Benjamini and Hochberg over
        all rows of the group or groups.

    Raises
    ------
    KeyError
        The motif, group or layer does not exist.
    """
    from ._gene_by_motif import motif_rows

    column = _column(gbm, motif)
    rows = motif_rows(gbm, group)
    scores, null = _dense(gbm.X)[rows, column], _null(gbm)[:, column]
    return _table(gbm, rows, np.full(len(rows), column), scores, _p_values(scores, null), n)


def gene_motifs(gbm: AnnData, gene: str, group: str | None = None, *, n: int | None = 20) -> pd.DataFrame:
    """The motifs that act on a gene most, in absolute score, with p values against permuted motifs.

    Parameters
    ----------
    gbm
        As for :func:`motif_genes`.
    gene
        Name of the gene.
    group
        Group of cells; None: all groups.
    n
        Number of rows to return; None: all.

    Returns
    -------
    pandas.DataFrame
        ``motif, gene, group, score, p, q``; each motif is compared with its own null scores, and q is adjusted over all
        rows.

    Raises
    ------
    KeyError
        The gene, group or layer does not exist.
    """
    from ._gene_by_motif import motif_rows

    rows = motif_rows(gbm, group, gene)
    scores, null = _dense(gbm.X)[rows], _null(gbm)
    p = np.stack([_p_values(scores[:, j], null[:, j]) for j in range(gbm.n_vars)], 1)
    rows, columns = np.repeat(rows, gbm.n_vars), np.tile(np.arange(gbm.n_vars), len(rows))
    return _table(gbm, rows, columns, scores.ravel(), p.ravel(), n)


def _p_values(scores: NDArray[np.float64], null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of null scores at least as far from zero as each score; the score itself is counted, so no p is zero."""
    ordered = np.sort(np.abs(null))
    above = len(ordered) - np.searchsorted(ordered, np.abs(scores), side="left")
    return (1 + above) / (1 + len(ordered))


def _table(
    gbm: AnnData,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    scores: NDArray[np.float64],
    p: NDArray[np.float64],
    n: int | None,
) -> pd.DataFrame:
    import pandas as pd

    rank = np.argsort(p, kind="stable")
    q = p[rank] * len(p) / np.arange(1, len(p) + 1)
    q = np.minimum.accumulate(q[::-1])[::-1]
    adjusted = np.empty_like(p)
    adjusted[rank] = np.minimum(q, 1)
    table = pd.DataFrame(
        {
            "motif": np.asarray(gbm.var_names)[columns],
            "gene": gbm.obs["gene"].astype(str).to_numpy()[rows],
            "group": gbm.obs["group"].astype(str).to_numpy()[rows],
            "score": scores,
            "p": p,
            "q": adjusted,
        }
    )
    order = np.argsort(-np.abs(scores), kind="stable")[:n]
    return table.iloc[order].reset_index(drop=True)


def _column(gbm: AnnData, motif: str) -> int:
    if motif not in gbm.var_names:
        raise KeyError(f"gbm has no motif {motif!r}; its motifs are {', '.join(gbm.var_names[:5])}, ...")
    return int(gbm.var_names.get_loc(motif))


def _null(gbm: AnnData) -> NDArray[np.float64]:
    if NULL not in gbm.layers:
        raise KeyError(
            f"gbm has no layer {NULL!r} to compare with. Compute gbm with model.get_gene_by_motif(null=True)."
        )
    return _dense(gbm.layers[NULL])


def _dense(x: object) -> NDArray[np.float64]:
    return np.asarray(x.todense() if hasattr(x, "todense") else x, np.float64)
