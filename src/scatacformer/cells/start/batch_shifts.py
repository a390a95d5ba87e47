"""Where a batch lies in the embedding, told from what its cells are.

The mean of a batch is also its composition: two donors of other cell types differ in their means without any effect of
the donor. So a batch is compared with the others through pairs of cells that are each other's near neighbours across
batches (mutual nearest neighbours; Haghverdi et al. 2018). Cells of a type that the others lack find wrong partners,
each type in another direction, where true pairs of all types agree: the shift is the mode of the ways, not their mean.
One shift is taken out for the whole batch; it cannot pull a type apart. Of many batches the largest stays, and the
others join it one after the other: among batches that are all displaced there is no common way.

What is left differs from type to type. It is taken out place by place, around a few centres of the embedding: the mean
of the ways of the pairs there, short ways counting more, cells without a pair saying that nothing is displaced, as far
as its square is above its own sampling variance (as in the positive-part estimate of James and Stein). So a place that
one batch has to itself hardly moves. Both kinds of shift serve cells to come."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

MIN_PAIRED = 10  # cells of a batch that must have a counterpart: with fewer there is nothing to go by
N_ROUNDS = 10
N_CENTRES, CELLS_PER_CENTRE = 10, 100
N_LOCAL_ROUNDS = 20  # at most
SHORT = 0.01  # of how far neighbours are apart: a round of shorter steps is the last
LENGTH_POWER = 0.75  # the embedding that users get is divided by its length to this power


def batch_shifts(vectors: np.ndarray, codes: np.ndarray, n_batch: int, n_neighbors: int = 10) -> np.ndarray:
    """How far each batch is displaced, to be subtracted from its cells.  (n_batch, k) float32.

    ``vectors`` (n_cells, k) the embedding, ``codes`` (n_cells,) the batch of each cell. The largest batch stays where
    it is, and so does a batch with too few paired cells. Memory and time: ``n_neighbors`` neighbours of each cell.
    """
    shifts = np.zeros((n_batch, vectors.shape[1]))
    sizes = np.bincount(codes, minlength=n_batch)
    order = np.argsort(-sizes, kind="stable")
    moved = vectors.astype(np.float64)
    joined = codes == order[0]
    for batch in order[1:]:
        mine = codes == batch
        for _ in range(N_ROUNDS):
            step = _to_the_others(moved[mine], moved[joined], n_neighbors)
            if step is None:
                break
            moved[mine] += step
            shifts[batch] -= step
        joined |= mine
    return shifts.astype(np.float32)


class LocalShifts(NamedTuple):
    """How far each batch is displaced around each of ``K`` centres."""

    centres: np.ndarray  # (K, k) float32, of :func:`shortened` vectors
    width: float  # squared distance at which a centre counts 1/e of what it does at its place
    shifts: np.ndarray  # (n_batch, K, k) float32

    def of(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """What is to be subtracted from cells at ``vectors`` (n, k) of batches ``codes`` (n,).  (n, k)"""
        return np.einsum("nc,nck->nk", self.nearness(vectors), self.shifts[codes])

    def nearness(self, vectors: np.ndarray) -> np.ndarray:
        """Share of each centre in a cell.  (n, K), rows sum to 1"""
        distance = ((shortened(vectors)[:, None] - self.centres) ** 2).sum(-1)
        near = np.exp((distance.min(1, keepdims=True) - distance) / max(self.width, 1e-12))
        return near / near.sum(1, keepdims=True)


def local_shifts(vectors: np.ndarray, codes: np.ndarray, n_batch: int, n_neighbors: int = 10) -> LocalShifts:
    """What differs between batches from place to place, once :func:`batch_shifts` is taken out.

    ``vectors`` (n_cells, k), ``codes`` (n_cells,) as there; distances are those of :func:`shortened` vectors. The
    largest batch stays where it is, and so does one with too few paired cells. The same cells always give the same
    bits."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    moved = vectors.astype(np.float64)
    n_centres = max(min(N_CENTRES, len(moved) // CELLS_PER_CENTRE), 1)
    with threadpool_limits(1):  # several threads add up in any order
        fit = KMeans(n_centres, n_init=3, random_state=0).fit(shortened(moved))
    centres = fit.cluster_centers_.astype(np.float32)
    local = LocalShifts(centres, float(fit.inertia_ / len(moved)), np.zeros((n_batch, n_centres, moved.shape[1])))
    near = local.nearness(moved)
    for _ in range(N_LOCAL_ROUNDS):
        longest = 0.0
        for batch in np.argsort(-np.bincount(codes, minlength=n_batch), kind="stable")[1:]:
            mine = codes == batch
            found = _counterparts(moved[mine], moved[~mine], n_neighbors, shortened)
            if found is None:
                continue
            paired, way, apart = found
            here, length = near[mine], (way**2).sum(1)
            weight = here[paired] * np.exp(-length / (2 * np.maximum(apart[paired], 1e-12)))[:, None]
            total = weight.T @ way  # (K, k)
            above = 1 - (weight**2).T @ length / np.maximum((total**2).sum(1), 1e-12)  # (K,) less the sampling variance
            step = total * above.clip(min=0)[:, None] / (here.sum(0) + MIN_PAIRED)[:, None]
            moved[mine] += here @ step
            local.shifts[batch] -= step
            longest = max(longest, float(np.sqrt((step**2).sum(1).max() / max(np.median(apart), 1e-12))))
        if longest < SHORT:
            break
    return local._replace(shifts=local.shifts.astype(np.float32))


def shortened(vectors: np.ndarray) -> np.ndarray:
    """Each vector divided by its length to the power 3/4, as the embedding that users get."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12) ** LENGTH_POWER


def _to_the_others(mine: np.ndarray, others: np.ndarray, n_neighbors: int) -> np.ndarray | None:
    """The way that most paired cells of ``mine`` have to their counterparts.  (k,)"""
    found = _counterparts(mine, others, n_neighbors)
    return None if found is None else _mode(found.way, float(np.median(found.apart)))


class _Counterparts(NamedTuple):
    paired: np.ndarray  # (n_mine,) bool
    way: np.ndarray  # (n_paired, k) from a cell to the mean of its counterparts
    apart: np.ndarray  # (n_mine,) mean squared distance to the nearest of its own batch


def _counterparts(
    mine: np.ndarray, others: np.ndarray, n_neighbors: int, seen: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> _Counterparts | None:
    """Cells that are each other's near neighbours, by what is ``seen`` of them; None with too few to go by."""
    if len(mine) < MIN_PAIRED or len(others) < MIN_PAIRED:
        return None
    here, there = seen(mine), seen(others)
    pairs = _near(here, there, n_neighbors).multiply(_near(there, here, n_neighbors).T).tocsr()
    n_pairs = np.diff(pairs.indptr)
    paired = n_pairs > 0
    if paired.sum() < MIN_PAIRED:
        return None
    way = (pairs @ others)[paired] / n_pairs[paired, None] - mine[paired]
    within = _near(here, here, n_neighbors + 1)
    length = (mine**2).sum(1)
    n = np.diff(within.indptr)  # with the cell itself, at no distance
    apart = (n * length - 2 * (mine * (within @ mine)).sum(1) + within @ length) / (n - 1)
    return _Counterparts(paired, way, apart)


def _mode(points: np.ndarray, width: float, n_starts: int = 200, n_steps: int = 20) -> np.ndarray:
    """Where points lie densest, seen with a Gaussian of variance ``width``: mean shift from the densest of some
    points."""

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
