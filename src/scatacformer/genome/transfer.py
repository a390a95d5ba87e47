"""What is known of the regions of one vocabulary, carried to those of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from .overlap import overlap_matrix

if TYPE_CHECKING:
    from .vocabulary import Vocabulary


def carry_matrix(to: Vocabulary, known: Vocabulary) -> sp.csr_matrix:
    """Weights with which a table over ``known`` becomes one over ``to``: ``carry_matrix(to, known) @ table``.

    A region of both keeps its row (one weight of 1); another gets the mean of the rows of the regions of ``known``
    that share at least one bp with it; one without any gets a row of zeros.

    Returns ``(to.n_bins, known.n_bins)`` float32; rows sum to 1 or 0.
    """
    at = known.lookup(to)  # (to.n_bins,), -1: not in known
    shared = np.flatnonzero(at >= 0)
    exact = sp.csr_matrix(
        (np.ones(len(shared), np.float32), (shared, at[shared])), shape=(to.n_bins, known.n_bins), dtype=np.float32
    )
    if len(shared) == to.n_bins:
        return exact
    near = overlap_matrix(to, known)
    n_hits = np.diff(near.indptr)
    weight = np.where(at >= 0, 0.0, 1.0 / np.maximum(n_hits, 1)).astype(np.float32)
    mixed = sp.diags_array(weight).tocsr() @ near
    mixed.eliminate_zeros()
    return sp.csr_matrix(exact + mixed)
