"""Shifts of batches in the embedding, estimated from mutual nearest neighbours.

The mean of a batch also reflects its composition: two donors with different cell types have different means without any
donor effect. Batches are therefore compared through pairs of cells that are mutual nearest neighbours across batches
(Haghverdi et al. 2018). Cells of a type that the other batches lack find wrong matches, in a different direction for
each type, whereas true pairs of all types agree: the shift is the mode of the displacements, not their mean. One shift
is subtracted from the whole batch, so it cannot split a type. With many batches, the largest stays fixed and the others
are aligned to it one after the other, because there is no common displacement among batches that are all shifted.

Residual shifts differ between types. They are removed around a few centres of the embedding: the mean displacement of
the pairs there, with more weight for short ones and zero for cells without a pair, to the extent that its square
exceeds its sampling variance (as in the positive-part James-Stein estimator). A part of the embedding with cells of
only one batch hardly moves. Both kinds of shift are applied to new cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

MIN_PAIRED = 10  # minimum number of cells of a batch with a counterpart
N_ROUNDS = 10
N_CENTRES, CELLS_PER_CENTRE = 10, 100
N_LOCAL_ROUNDS = 20  # maximum
SHORT = 0.01  # relative to the distance of neighbours: iteration stops after a round of shorter steps
LENGTH_POWER = 0.75  # the embedding returned to users is divided by its length to this power


def batch_shifts(vectors: np.ndarray, codes: np.ndarray, n_batch: int, n_neighbors: int = 10) -> np.ndarray:
    """Shift of each batch, to be subtracted from its cells.  (n_batch, k) float32.

    ``vectors`` (n_cells, k) is the embedding, ``codes`` (n_cells,) the batch of each cell. The shift is zero for the
    largest batch and for batches with too few paired cells. Memory and time: ``n_neighbors`` neighbours of each cell.
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
    """Shift of each batch around each of ``K`` centres."""

    centres: np.ndarray  # (K, k) float32, in the space of :func:`shortened` vectors
    width: float  # squared distance at which the weight of a centre is 1/e
    shifts: np.ndarray  # (n_batch, K, k) float32

    def of(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Shifts to be subtracted from cells at ``vectors`` (n, k) of batches ``codes`` (n,).  (n, k)"""
        return np.einsum("nc,nck->nk", self.nearness(vectors), self.shifts[codes])

    def nearness(self, vectors: np.ndarray) -> np.ndarray:
        """Weight of each centre for a cell.  (n, K), rows sum to 1"""
        distance = ((shortened(vectors)[:, None] - self.centres) ** 2).sum(-1)
        near = np.exp((distance.min(1, keepdims=True) - distance) / max(self.width, 1e-12))
        return near / near.sum(1, keepdims=True)


def local_shifts(vectors: np.ndarray, codes: np.ndarray, n_batch: int, n_neighbors: int = 10) -> LocalShifts:
    """Local shifts between batches, after subtraction of :func:`batch_shifts`.

    ``vectors`` (n_cells, k), ``codes`` (n_cells,) as there; distances are those of :func:`shortened` vectors. The
    shift is zero for the largest batch and for batches with too few paired cells. The result is bit-identical for the
    same cells, and the same except for rounding where they come in another order.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    moved = vectors.astype(np.float64)
    n_centres = max(min(N_CENTRES, len(moved) // CELLS_PER_CENTRE), 1)
    seen = shortened(moved)
    with threadpool_limits(1):  # the order of summation of several threads is not fixed
        # a random start depends on the order of the cells, and so did the embedding, by up to half of its size
        fit = KMeans(n_centres, init=_divided(seen, n_centres), n_init=1).fit(seen)
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
            above = 1 - (weight**2).T @ length / np.maximum(
                (total**2).sum(1), 1e-12
            )  # (K,) minus the sampling variance
            step = total * above.clip(min=0)[:, None] / (here.sum(0) + MIN_PAIRED)[:, None]
            moved[mine] += here @ step
            local.shifts[batch] -= step
            longest = max(longest, float(np.sqrt((step**2).sum(1).max() / max(np.median(apart), 1e-12))))
        if longest < SHORT:
            break
    return local._replace(shifts=local.shifts.astype(np.float32))


def shortened(vectors: np.ndarray) -> np.ndarray:
    """Each vector divided by its length to the power 3/4, like the embedding returned to users."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12) ** LENGTH_POWER


def _divided(points: np.ndarray, n_centres: int) -> np.ndarray:
    """Where k-means starts: means of parts, each the half of a part with the largest spread.  (n_centres, k)

    A part is halved at its mean across its longest direction (PCA-Part; Su & Dy 2007), which does not depend on the
    order of the points. Fewer than ``n_centres`` distinct points give some centres twice.
    """
    parts = [np.arange(len(points))]
    while len(parts) < n_centres:
        spread = [((points[part] - points[part].mean(0)) ** 2).sum() for part in parts]
        part = parts.pop(int(np.argmax(spread)))
        centred = points[part] - points[part].mean(0)
        longest = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        # whichever way the direction points, the same half comes first
        upper = centred @ longest * np.sign(longest[np.argmax(np.abs(longest))]) > 0
        parts += [part[~upper], part[upper]] if 0 < upper.sum() < len(part) else [part, part]
    return np.stack([points[part].mean(0) for part in parts])


def _to_the_others(mine: np.ndarray, others: np.ndarray, n_neighbors: int) -> np.ndarray | None:
    """Mode of the displacements of the paired cells of ``mine`` from their counterparts.  (k,)"""
    found = _counterparts(mine, others, n_neighbors)
    return None if found is None else _mode(found.way, float(np.median(found.apart)))


class _Counterparts(NamedTuple):
    paired: np.ndarray  # (n_mine,) bool
    way: np.ndarray  # (n_paired, k) from a cell to the mean of its counterparts
    apart: np.ndarray  # (n_mine,) mean squared distance to the nearest of its own batch


def _counterparts(
    mine: np.ndarray, others: np.ndarray, n_neighbors: int, seen: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> _Counterparts | None:
    """Mutual nearest neighbours by the coordinates ``seen``; None if there are too few."""
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
    n = np.diff(within.indptr)  # including the cell itself, at distance 0
    apart = (n * length - 2 * (mine * (within @ mine)).sum(1) + within @ length) / (n - 1)
    return _Counterparts(paired, way, apart)


def _mode(points: np.ndarray, width: float, n_starts: int = 200, n_steps: int = 200) -> np.ndarray:
    """Where points are densest under a Gaussian of variance ``width``: mean shift from the densest of some points.

    Those are evenly spread along the first direction, and so do not depend on the order of the points.
    """

    def weights(at: np.ndarray) -> np.ndarray:
        return np.exp(-((points - at) ** 2).sum(1) / (2 * max(width, 1e-12)))

    starts = points[np.lexsort(points.T[::-1])][:: max(len(points) // n_starts, 1)]
    mode = max(starts, key=lambda at: weights(at).sum())
    for _ in range(n_steps):
        before, mode = mode, np.average(points, axis=0, weights=weights(mode))
        if ((mode - before) ** 2).sum() <= 1e-12 * width:  # reached, wherever it started
            break
    return mode


def _near(of: np.ndarray, among: np.ndarray, n_neighbors: int) -> sp.csr_matrix:
    """Ones at the nearest neighbours.  (len(of), len(among))"""
    from sklearn.neighbors import NearestNeighbors

    k = min(n_neighbors, len(among))
    near = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(among).kneighbors(of, return_distance=False)
    at = np.arange(0, near.size + 1, k)
    return sp.csr_matrix((np.ones(near.size), near.ravel(), at), shape=(len(of), len(among)))
