"""How far the spectrum of noise extends above its centre, relative to how far it extends below."""

from __future__ import annotations

import numpy as np

N_HALVINGS = 60


def skew(variance: np.ndarray, n_cells: int) -> float:
    """Skew of the noise of ``n_cells`` cells that have nothing in common, at least 1.

    ``variance`` (n_bins,) of the bins in the similarity, up to a common factor. The similarity of such cells is
    sum_b v_b z_b z_b' with independent entries of z_b. Its spectrum is the generalised law of Marchenko and Pastur, and
    ends where x(m) = -1/m + sum_b v_b / (1 + n v_b m) is stationary: at a negative m above, at a positive m below
    (Silverstein & Choi 1995).
    """
    v, count = np.unique(variance[variance > 0].astype(np.float32), return_counts=True)
    if not len(v):
        return 1.0
    nv = n_cells * v / float((v * count).sum())  # a mean of 1

    def x(m: float) -> float:
        return -1 / m + float((count * nv / (1 + nv * m)).sum()) / n_cells

    def stationary(low: float, high: float) -> float:
        """Where the sum below, which grows with the size of m, is ``n_cells``; ``low`` and ``high`` have the same sign."""
        for _ in range(N_HALVINGS):
            middle = float(np.sign(low) * np.sqrt(low * high))
            if (count * (nv * middle / (1 + nv * middle)) ** 2).sum() < n_cells:
                low = middle
            else:
                high = middle
        return low

    pole = -1 / float(nv.max())
    above = x(stationary(1e-9 * pole, (1 - 1e-9) * pole)) - 1
    # with fewer bins than cells, the lowest eigenvalue is 0
    below = 1 - x(stationary(1e-9, 1e9)) if count.sum() > n_cells else 1.0
    return max(above / max(below, 1e-9), 1.0)
