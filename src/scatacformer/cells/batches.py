"""Where a batch lies in the embedding, told from what its cells are.

The mean of a batch is also its composition: two donors of other cell types differ in their means without any effect of
the donor. So a batch is compared with the others through pairs of cells that are each other's near neighbours across
batches (mutual nearest neighbours; Haghverdi et al. 2018). Cells of a type that the others lack find wrong partners, each
type in another direction, where true pairs of all types agree: the shift is the mode of the ways, not their mean. One
shift is taken out for the whole batch; it cannot pull a type apart, and it serves cells to come.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

MIN_PAIRED = 10  # cells of a batch that must have a counterpart: with fewer there is nothing to go by
N_ROUNDS = 5


def batch_shifts(vectors: np.ndarray, codes: np.ndarray, n_batch: int, n_neighbors: int = 10) -> np.ndarray:
    """How far each batch is displaced, to be subtracted from its cells.  (n_batch, k) float32.

    ``vectors`` (n_cells, k) the embedding, ``codes`` (n_cells,) the batch of each cell. The largest batch stays where
    it is, and so does a batch with too few paired cells. Memory and time: ``n_neighbors`` neighbours of each cell.
    """
    shifts = np.zeros((n_batch, vectors.shape[1]))
    sizes = np.bincount(codes, minlength=n_batch)
    order = np.argsort(-sizes, kind="stable")
    moved = vectors.astype(np.float64)
    for _ in range(N_ROUNDS):
        for batch in order[1:]:
            mine = codes == batch
            step = _to_the_others(moved[mine], moved[~mine], n_neighbors)
            if step is not None:
                moved[mine] += step
                shifts[batch] -= step
    return shifts.astype(np.float32)


def _to_the_others(mine: np.ndarray, others: np.ndarray, n_neighbors: int) -> np.ndarray | None:
    """The way that most paired cells of ``mine`` have to their counterparts.  (k,)"""
    if len(mine) < MIN_PAIRED or len(others) < MIN_PAIRED:
        return None
    pairs = _near(mine, others, n_neighbors).multiply(_near(others, mine, n_neighbors).T).tocsr()
    n_pairs = np.diff(pairs.indptr)
    paired = n_pairs > 0
    if paired.sum() < MIN_PAIRED:
        return None
    way = (pairs @ others)[paired] / n_pairs[paired, None] - mine[paired]
    within = _near(mine, mine, n_neighbors + 1)
    length = (mine**2).sum(1)
    n = np.diff(within.indptr)  # with the cell itself, at no distance
    apart = (n * length - 2 * (mine * (within @ mine)).sum(1) + within @ length) / (n - 1)
    return _mode(way, float(np.median(apart)))


def _mode(points: np.ndarray, width: float, n_starts: int = 200, n_steps: int = 20) -> np.ndarray:
    """Where points lie densest, seen with a Gaussian of variance ``width``: mean shift from the densest of some points."""

    def weights(at: np.ndarray) -> np.ndarray:
        return np.exp(-((points - at) ** 2).sum(1) / (2 * max(width, 1e-12)))

    starts = points[:: max(len(points) // n_starts, 1)]
    mode = max(starts, key=lambda at: weights(at).sum())
    for _ in range(n_steps):
        mode = np.average(points, axis=0, weights=weights(mode))
    return mode


def _near(of: np.ndarray, among: np.ndarray, n_neighbors: int) -> sp.csr_matrix:
    """Ones at the nearest neighbours.  (len(of), len(among))"""
    from sklearn.neighbors import NearestNeighbors

    k = min(n_neighbors, len(among))
    near = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(among).kneighbors(of, return_distance=False)
    at = np.arange(0, near.size + 1, k)
    return sp.csr_matrix((np.ones(near.size), near.ravel(), at), shape=(len(of), len(among)))
