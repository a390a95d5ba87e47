"""Lengths of the cells' sentences."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scatacformer.cells import counts_of, iter_rows
from scatacformer.genome import Vocabulary, check_same_assembly, vocabulary_of

if TYPE_CHECKING:
    from anndata import AnnData

_QUANTILES = {"min": 0.0, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "max": 1.0}


def qc_sentences(
    adata: AnnData,
    *,
    min_tokens: int = 100,
    max_tokens: int = 6800,
    vocabulary: Vocabulary | Any | None = None,
    layer: str | None = None,
    inplace: bool = True,
) -> pd.Series:
    """Report on the number of tokens (open bins) per cell; nothing is dropped.

    Parameters
    ----------
    adata
        Cells × bins, in memory or backed (read in pieces).
    min_tokens
        Cells with fewer open bins count as too short.
    max_tokens
        Maximum number of bins that the encoder reads; from longer sentences, a random sample of this size is read.
    vocabulary
        A :class:`scatacformer.genome.Vocabulary`; a model, which has one; the folder that a model was saved to; or a
        BED file: bins outside it are not tokens. Default: every bin of ``adata`` is one.
    layer
        Layer with the counts; ``.X`` by default.
    inplace
        Write ``.obs["n_tokens"]`` and ``.obs["n_tokens_cut"]`` (bins beyond ``max_tokens``), and the report to
        ``.uns["scatacformer"]["qc_sentences"]``.

    Returns
    -------
    pandas.Series
        ``n_cells``, ``n_bins``, ``n_cells_empty``, ``n_cells_short``, ``n_cells_long``, ``n_tokens_cut`` and
        ``share_tokens_cut`` (sum over cells, and over all tokens), ``share_bins_outside`` and ``share_open_outside``
        (of the vocabulary), and quantiles of the tokens per cell, ``tokens_min`` … ``tokens_max``.

    Raises
    ------
    ValueError
        ``adata`` is a view and ``inplace`` is set; no cell; limits that contradict each other; a vocabulary of another
        assembly.

    Warns
    -----
    UserWarning
        Cells without any open bin; more than 5 % of bins or of open entries outside the vocabulary.
    """
    if not 0 <= min_tokens <= max_tokens:
        raise ValueError(
            f"min_tokens is {min_tokens} and max_tokens is {max_tokens}; expected 0 <= min_tokens <= max_tokens."
        )
    if inplace and adata.is_view:
        raise ValueError("adata is a view of another AnnData. Pass adata.copy(), or inplace=False.")
    if adata.n_obs == 0:
        raise ValueError("adata has no cells.")
    in_vocabulary = _in_vocabulary(adata, vocabulary)

    n_tokens = np.zeros(adata.n_obs, dtype=np.int64)
    n_open = 0
    for first, rows in iter_rows(counts_of(adata, layer)):
        n_open += rows.nnz
        if in_vocabulary is None:
            n_here = np.diff(rows.indptr)
        else:
            n_before = np.concatenate([[0], np.cumsum(in_vocabulary[rows.indices], dtype=np.int64)])
            n_here = np.diff(n_before[rows.indptr])
        n_tokens[first : first + rows.shape[0]] = n_here
    n_cut = np.maximum(n_tokens - max_tokens, 0)

    report: dict[str, int | float] = {
        "n_cells": adata.n_obs,
        "n_bins": adata.n_vars,
        "n_cells_empty": int((n_tokens == 0).sum()),
        "n_cells_short": int((n_tokens < min_tokens).sum()),
        "n_cells_long": int((n_cut > 0).sum()),
        "n_tokens_cut": int(n_cut.sum()),
        "share_tokens_cut": float(n_cut.sum() / max(n_tokens.sum(), 1)),
        "share_bins_outside": 0.0 if in_vocabulary is None else float(1 - in_vocabulary.mean()),
        "share_open_outside": float(1 - n_tokens.sum() / max(n_open, 1)),
    }
    report |= {f"tokens_{name}": float(np.quantile(n_tokens, share)) for name, share in _QUANTILES.items()}
    if inplace:
        adata.obs["n_tokens"] = n_tokens
        adata.obs["n_tokens_cut"] = n_cut
        adata.uns["scatacformer"] = {**adata.uns.get("scatacformer", {}), "qc_sentences": dict(report)}
    _warn(report)
    return pd.Series(report, name="qc_sentences", dtype=object)


def _in_vocabulary(adata: AnnData, vocabulary: Vocabulary | Any | None) -> np.ndarray | None:
    """Whether each bin of ``adata`` is one of the vocabulary, (n_vars,), bool."""
    if vocabulary is None:
        return None
    target = vocabulary_of(vocabulary)
    regions = Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly"))
    check_same_assembly(regions, target)
    return target.lookup(regions) >= 0


def _warn(report: dict[str, int | float]) -> None:
    if report["n_cells_empty"]:
        warnings.warn(
            f"{report['n_cells_empty']:,} of {report['n_cells']:,} cells have no open bin. A model cannot read them. "
            "Drop them with adata[adata.obs['n_tokens'] > 0].copy().",
            UserWarning,
            stacklevel=3,
        )
    if max(report["share_bins_outside"], report["share_open_outside"]) > 0.05:
        warnings.warn(
            f"{report['share_bins_outside']:.1%} of the bins, with {report['share_open_outside']:.1%} of the open "
            "entries, are not bins of the vocabulary. Map them onto it with sf.pp.match_vocabulary.",
            UserWarning,
            stacklevel=3,
        )
