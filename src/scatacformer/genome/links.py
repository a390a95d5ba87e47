"""The table of links between genes and bins: one row for each pair, the same columns everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from .genes import Genes
    from .vocabulary import Vocabulary
    from .window_pairs import WindowPairs

LINK_COLUMNS = (
    "gene",
    "region",
    "chrom",
    "start",
    "end",
    "tss",
    "strand",
    "distance",
    "score",
    "p",
    "q",
    "n_cells",
)
_TEXT = ("gene", "region", "chrom", "strand")
_WHOLE = ("start", "end", "tss", "distance", "n_cells")


def links_table(
    genes: Genes,
    vocabulary: Vocabulary,
    pairs: WindowPairs,
    score: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    n_cells: np.ndarray,
    keep: np.ndarray | None = None,
) -> pd.DataFrame:
    """A row for each pair of a gene and a bin, in the order of ``pairs``.

    Parameters
    ----------
    genes, vocabulary, pairs
        What the pairs are of: see :func:`window_pairs`.
    score, p, q
        (n_pairs,), the strength of each link, its p value and its q value.
    n_cells
        (n_bins,), cells that have each bin open.
    keep
        (n_pairs,), bool: pairs that become rows. Default: all.

    Returns
    -------
    DataFrame
        The columns ``gene``, ``region`` (``"chr1:0-5000"``), ``chrom``, ``start``, ``end`` (bp, 0-based, end excluded),
        ``tss`` (bp), ``strand``, ``distance`` (bp, from the transcription start to the nearest base of the bin,
        negative upstream), ``score``, ``p``, ``q``, ``n_cells`` (cells that have the bin open). Texts are categorical:
        72 bytes a row.

    Raises
    ------
    ValueError
        An array has another length.
    """
    import pandas as pd

    n_pairs, gene = len(pairs.bins), np.repeat(np.arange(genes.n_genes), np.diff(pairs.indptr))
    for name, array, n in (
        ("score", score, n_pairs),
        ("p", p, n_pairs),
        ("q", q, n_pairs),
        ("n_cells", n_cells, vocabulary.n_bins),
        ("keep", keep, n_pairs),
    ):
        if array is not None and np.shape(array) != (n,):
            raise ValueError(f"{name} has shape {np.shape(array)}, expected ({n},).")
    if keep is None:
        keep = np.ones(n_pairs, dtype=bool)
    gene, bins = gene[keep], pairs.bins[keep]
    used, of_used = _used(bins, vocabulary.n_bins)
    chrom = vocabulary.chrom[bins]
    columns = {
        "gene": pd.Categorical.from_codes(*_categories(gene, genes.names)),
        "region": pd.Categorical.from_codes(of_used, categories=[_name(vocabulary, token) for token in used.tolist()]),
        "chrom": pd.Categorical.from_codes(*_categories(chrom, np.array(vocabulary.chrom_names, dtype=object))),
        "start": vocabulary.start[bins].astype(np.int64),
        "end": vocabulary.end[bins].astype(np.int64),
        "tss": genes.tss[gene],
        "strand": pd.Categorical(genes.strand[gene].astype(object), categories=["+", "-", "."]),
        "distance": pairs.distance[keep],
        "score": np.asarray(score)[keep],
        "p": np.asarray(p)[keep],
        "q": np.asarray(q)[keep],
        "n_cells": np.asarray(n_cells).astype(np.int64)[bins],
    }
    return pd.DataFrame(columns)


def check_links(links: Any) -> pd.DataFrame:
    """The same table with integer and float columns as such and no row's gene or region missing; a shallow copy.

    An empty table is valid. Raises TypeError for anything but a DataFrame and ValueError for missing columns, a gene or
    a region without a name, and positions that are not whole numbers.
    """
    import pandas as pd

    if not isinstance(links, pd.DataFrame):
        raise TypeError(f"links is {type(links).__name__}; expected a DataFrame as get_gene_bin_links returns it.")
    missing = [column for column in LINK_COLUMNS if column not in links]
    if missing:
        raise ValueError(
            f"links lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; it has "
            f"{', '.join(map(str, links.columns)) or 'none'}. Pass the table that get_gene_bin_links returns, or rows of it."
        )
    for column in ("gene", "region", "chrom"):
        if (nameless := links[column].isna()).any():
            raise ValueError(f"{int(nameless.sum()):,} of {len(links):,} links have no {column}. Drop them.")
    links = links.copy(deep=False)
    for column in _WHOLE + ("score", "p", "q"):
        whole = column in _WHOLE
        try:
            links[column] = links[column].astype(np.int64 if whole else np.float64)
        except (ValueError, TypeError) as error:
            kind = "whole numbers" if whole else "numbers"
            raise ValueError(f"The column {column} of links holds {kind}; {error}.") from None
    return links


def as_categories(links: pd.DataFrame) -> pd.DataFrame:
    """The table with its texts as categories that are used, which files hold once each; a shallow copy."""
    import pandas as pd

    links = links.copy(deep=False)
    for column in _TEXT:
        codes, values = pd.factorize(links[column])
        categories = pd.Index(np.array([str(value) for value in values], dtype=object), dtype=object)
        links[column] = pd.Categorical.from_codes(codes, categories=categories)
    return links.reset_index(drop=True)


def _used(codes: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The codes that occur, ascending, and the place of each entry among them; without a sort."""
    occurs = np.zeros(n, dtype=bool)
    occurs[codes] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs, dtype=np.int32) - 1)[codes]


def _categories(codes: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    used, of_used = _used(codes, len(names))
    return of_used, names[used]


def _name(vocabulary: Vocabulary, token: int) -> str:
    return f"{vocabulary.chrom_names[vocabulary.chrom[token]]}:{vocabulary.start[token]}-{vocabulary.end[token]}"
