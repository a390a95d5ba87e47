"""Positions of the genes and regions of a table of links in the user's objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scatacformer.genome import intervals_of_var

if TYPE_CHECKING:
    from anndata import AnnData


def places_of_regions(links: pd.DataFrame, adata: AnnData) -> np.ndarray:
    """Column in ``adata`` of each link's region, (n_links,), int64: by name, otherwise by chromosome, start and end.

    Raises ValueError if a region is not in ``adata``.
    """
    codes, regions = pd.factorize(links["region"])
    at = adata.var_names.get_indexer(pd.Index(regions))
    if (at < 0).any():  # the same interval under another name, such as chr1_0_5000
        named = _named_by_place(adata)
        first_of = ~named.duplicated()
        found = named[first_of].get_indexer(pd.Index(regions))
        at = np.where(at < 0, np.append(np.flatnonzero(first_of), -1)[found], at)
    _all_there(at, regions, "regions", adata.var_names)
    return at[codes] if len(codes) else np.empty(0, dtype=np.int64)


def _named_by_place(adata: AnnData) -> pd.Index:
    """``chrom:start-end`` of each region; empty if ``.var`` does not give their positions and names are all there
    is."""
    try:
        chrom, start, end = intervals_of_var(adata.var)
    except ValueError:
        return pd.Index([], dtype=object)
    rows = zip(chrom.tolist(), start.tolist(), end.tolist(), strict=True)
    return pd.Index([f"{one}:{first}-{last}" for one, first, last in rows], dtype=object)


def places_of_genes(links: pd.DataFrame, adata: AnnData) -> np.ndarray:
    """Column in ``adata`` of each link's gene, (n_links,), int64. Raises ValueError if a gene is not in ``adata``."""
    codes, genes = pd.factorize(links["gene"])
    at = adata.var_names.get_indexer(pd.Index(genes))
    _all_there(at, genes, "genes", adata.var_names)
    return at[codes] if len(codes) else np.empty(0, dtype=np.int64)


def refuse_twice(links: pd.DataFrame) -> None:
    """Raise ValueError if a gene and a region are linked in more than one row."""
    twice = links.duplicated(["gene", "region"]).to_numpy()
    if twice.any():
        first = links.iloc[int(twice.argmax())]
        raise ValueError(
            f"{int(twice.sum()):,} of {len(links):,} links occur more than once (first: {first['gene']} and {first['region']}). "
            "Keep one of each: links.drop_duplicates(['gene', 'region'])."
        )


def _all_there(at: np.ndarray, names: pd.Index, what: str, there: pd.Index) -> None:
    if (at < 0).any():
        looks = f"these are like {there[0]}" if len(there) else "these are empty"
        column = what.removesuffix("s")
        raise ValueError(
            f"{int((at < 0).sum()):,} of {len(names):,} {what} of the links are not in var_names (first: "
            f"{names[int((at < 0).argmax())]}; {looks}). Keep only links that are in it: "
            f"links[links[{column!r}].isin(adata.var_names)]."
        )
