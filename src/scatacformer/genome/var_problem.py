"""Diagnosis of the regions in an ``adata.var``, and the remedy: used only after reading it has
failed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# `var_names_make_unique` puts a number after the second of two equal names
_MADE_UNIQUE = re.compile(r"(.+[:_-])(\d+)([_-])(\d+)[._-](\d+)")


class DuplicateRegions(ValueError):
    """Two regions of a vocabulary have the same interval."""


def var_problem(var: pd.DataFrame, error: ValueError) -> str:
    """The message of an error that the regions of ``var`` have caused, with the remedy for an AnnData.

    Parameters
    ----------
    var
        The ``adata.var``.
    error
        What making a vocabulary of it has raised.
    """
    made_unique = next((str(name) for name in var.index if _is_made_unique(str(name))), None)
    if made_unique is None and not isinstance(error, DuplicateRegions):
        return str(error)
    remedy = (
        "If data sets were concatenated whose regions are spelled differently, such as chr1:0-5000 and chr1-0-5000, spell "
        "them alike first (x.var_names = sf.Vocabulary.from_var(x.var).names for each of them) and concatenate again, "
        "which joins their counts. Otherwise keep one of each: "
    )
    if made_unique is not None:
        return (
            f"adata.var_names were made unique (first: {made_unique!r}), which hides that two columns are the same region. "
            f"{remedy}take the names as they were before, and adata[:, ~adata.var_names.duplicated()].copy()."
        )
    named = [column for column in var.columns if str(column).lower() in ("chrom", "chr", "chromosome", "start", "end")]
    which = f"var[{named}]" if len(named) == 3 else "var_names.str.replace(r'[:-]', '_', regex=True)"
    return f"{str(error).removesuffix('Keep one of each.')}{remedy}adata[:, ~adata.{which}.duplicated()].copy()."


def genes_hint(var: pd.DataFrame) -> str:
    """What to do with a matrix of genes, or of genes and peaks, as ``scanpy.read_10x_h5`` reads it; else empty."""
    if "feature_types" not in var:
        return ""
    types = set(var["feature_types"].astype(str))
    if "Peaks" in types:
        return (
            " It holds peaks and other features: keep the peaks, "
            "adata = adata[:, adata.var['feature_types'] == 'Peaks'].copy()."
        )
    return (
        f" It holds {', '.join(sorted(types)[:3])} and no peaks. scanpy.read_10x_h5 leaves peaks out by default: read the "
        "file with gex_only=False, and keep adata[:, adata.var['feature_types'] == 'Peaks'].copy()."
    )


def _is_made_unique(name: str) -> bool:
    found = _MADE_UNIQUE.fullmatch(name)
    return found is not None and int(found[2]) < int(found[4]) and int(found[5]) < int(found[4])
