"""A tree of cell types, and the regulatory bins that open and close along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TypeTree:
    """A rooted binary tree whose leaves are cell types.

    Nodes are numbered so that a parent comes before its children; node 0 is the root. Branch lengths are such that
    every leaf is at depth 1: two types that split late share most of their path and are similar.
    """

    parent: np.ndarray  # (n_nodes,) int64; -1 for the root
    length: np.ndarray  # (n_nodes,) branch to the parent; 0 for the root
    leaves: np.ndarray  # (n_types,) nodes of the types

    @property
    def depth(self) -> np.ndarray:
        """Distance of each node from the root, (n_nodes,)."""
        depth = np.zeros(len(self.parent))
        for node in range(1, len(self.parent)):
            depth[node] = depth[self.parent[node]] + self.length[node]
        return depth

    def ancestors(self, node: int) -> list[int]:
        """The node itself, its parent, ..., the root."""
        path = [int(node)]
        while self.parent[path[-1]] >= 0:
            path.append(int(self.parent[path[-1]]))
        return path

    def distance(self) -> np.ndarray:
        """Distance between types along the tree, (n_types, n_types); 0 on the diagonal, at most 2."""
        depth = self.depth
        distance = np.zeros((len(self.leaves),) * 2)
        for i, a in enumerate(self.leaves):
            above = set(self.ancestors(a))
            for j, b in enumerate(self.leaves):
                meet = next(node for node in self.ancestors(b) if node in above)
                distance[i, j] = depth[a] + depth[b] - 2 * depth[meet]
        return distance


def random_tree(n_types: int, rng: np.random.Generator) -> TypeTree:
    """A tree with ``n_types`` leaves: lineages split at random times, so some types are similar and some are not."""
    parent, split_at = [-1], [0.0]
    tips = [0]
    # the times of the splits, root first; never in the last tenth, where two types would be nearly identical
    times = np.concatenate([[0.0], np.sort(rng.uniform(0.1, 0.9, max(n_types - 2, 0)))])[: n_types - 1]
    for time in times:
        node = tips.pop(int(rng.integers(len(tips))))
        split_at[node] = float(time)
        for _ in range(2):
            tips.append(len(parent))
            parent.append(node)
            split_at.append(1.0)
    up = np.array(parent)
    at = np.array(split_at)
    if n_types == 1:
        return TypeTree(up, np.zeros(1), np.zeros(1, dtype=np.int64))
    return TypeTree(up, np.where(up >= 0, at - at[up], 0.0), np.sort(np.array(tips)))


def evolve(tree: TypeTree, n_regulatory: int, turnover: float, rng: np.random.Generator) -> np.ndarray:
    """Relative rate of each regulatory bin in each type, (n_types, n_regulatory), float64, positive.

    On a branch of length l, a bin changes with probability 1 - exp(-turnover * l): its rate is sampled anew, closed in
    seven of ten cases and open with a gamma-distributed rate in the others. Bins that changed on no branch between two
    types have the same rate in both.
    """
    rates = np.empty((len(tree.parent), n_regulatory))
    rates[0] = _draw_rates(n_regulatory, rng)
    for node in range(1, len(tree.parent)):
        rates[node] = rates[tree.parent[node]]
        changed = np.flatnonzero(rng.random(n_regulatory) < 1 - np.exp(-turnover * tree.length[node]))
        rates[node, changed] = _draw_rates(len(changed), rng)
    return rates[tree.leaves]


def _draw_rates(n: int, rng: np.random.Generator) -> np.ndarray:
    is_open = rng.random(n) < 0.3
    return np.where(is_open, rng.gamma(2.0, 0.5, n), 0.05)
