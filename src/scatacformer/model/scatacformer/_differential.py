"""Differential accessibility between two groups of cells: a score test on open regions, and the model's estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from scatacformer.cells import benjamini_hochberg, score_test

from ._probability import Predicted, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd

    from ._reader import Reader

    Batches = Sequence[int | None]

N_DEPTHS = 16  # strata of cells of similar depth, per batch
MAX_ESTIMATED = 1_000  # maximum number of cells per group for the model's estimate
MAX_SUMS = 64_000_000  # numbers that are summed over cells at a time: 512 MB


@dataclass(frozen=True)
class DifferentialOptions:
    """Options of :meth:`~scatacformer.ScAtacFormer.differential_accessibility`; checked when created."""

    mode: str
    delta: float
    fdr_target: float
    all_stats: bool
    by_batch: bool  # compare within batches
    named: bool  # whether groups have names, as those of a column of obs
    batch_size: int | None

    def __post_init__(self) -> None:
        if self.mode not in ("change", "vanilla"):
            raise ValueError(f"mode is {self.mode!r}; expected 'change' or 'vanilla'.")


class Comparison(NamedTuple):
    """Two groups of cells."""

    name1: str
    name2: str
    rows1: np.ndarray
    rows2: np.ndarray


def compare(
    reader: Reader,
    comparisons: list[Comparison],
    batches: tuple[Batches, Batches],
    options: DifferentialOptions,
    names: pd.Index,
    silent: bool,
) -> list[pd.DataFrame]:
    """A table for each comparison; of named groups, with their names and the most significant regions first.

    ``batches``: those in which the first and the second group are estimated; ``names`` of the regions.
    """
    from scatacformer._io import tqdm

    estimates, frames = _estimates(reader, comparisons, batches, options.batch_size), []
    for one in tqdm(comparisons, disable=True if silent or len(comparisons) == 1 else None):
        counts = _count_by_depth(reader, (one.rows1, one.rows2), options.by_batch)
        frame = _table(one, counts, next(estimates), names)
        differs = (np.abs(frame["effect_size"]) >= options.delta) | (options.mode == "vanilla")
        frame["is_da_fdr"] = (frame["q_value"] <= options.fdr_target) & differs
        if not options.all_stats:
            frame = frame.drop(columns=["emp_effect", "emp_prob1", "emp_prob2", "p_value"])
        if options.named:
            frame = frame.assign(comparison=f"{one.name1} vs {one.name2}", group1=one.name1, group2=one.name2)
            frame = frame.iloc[np.argsort(counts.p_value, kind="stable")]
        frames.append(frame)
    return frames


def of_cells(obs: pd.DataFrame, idx1: Any, idx2: Any, rows_of: Callable[[Any], np.ndarray]) -> Comparison:
    """The cells of ``idx1`` against those of ``idx2``; ``rows_of`` converts the user's row numbers to those of
    ``obs``."""
    if idx1 is None:
        raise ValueError("name either groupby, a column of adata.obs, or idx1, the cells of the first group.")

    def rows(idx: Any, name: str) -> np.ndarray:
        if isinstance(idx, str):
            return obs.index.get_indexer(obs.query(idx).index)
        try:
            return np.unique(rows_of(idx))
        except IndexError as error:
            raise ValueError(f"{name}: {error}") from None

    one = rows(idx1, "idx1")
    two = np.setdiff1d(np.arange(len(obs)), one) if idx2 is None else rows(idx2, "idx2")
    return _checked(Comparison("idx1", "Rest" if idx2 is None else "idx2", one, two))


def of_groups(obs: pd.DataFrame, groupby: str, group1: Any, group2: str | None, idx1: Any) -> Iterator[Comparison]:
    """The requested pairs of groups, each checked."""
    if idx1 is not None:
        raise ValueError("name either groupby, a column of adata.obs, or idx1, the cells of the first group.")
    if groupby not in obs:
        raise ValueError(f"adata.obs has no column {groupby!r}; it has {', '.join(map(str, obs))}.")
    values = obs[groupby].astype(str).to_numpy()
    known = sorted(set(values))
    first = known if group1 is None else [group1] if isinstance(group1, str) else list(map(str, group1))
    for name in [*first, *([group2] if group2 is not None else [])]:
        if name not in known:
            raise ValueError(f"adata.obs[{groupby!r}] has no value {name!r}; it has {', '.join(known)}.")
    for name in first:
        if name == group2:
            continue
        other = values != name if group2 is None else values == group2
        yield _checked(Comparison(name, group2 or "Rest", np.flatnonzero(values == name), np.flatnonzero(other)))


@torch.inference_mode()
def _estimates(
    reader: Reader, comparisons: list[Comparison], batches: tuple[Batches, Batches], batch_size: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Mean accessibility of both groups of each comparison.  ((n_regions,), (n_regions,)) float64 each

    Each cell is read once for many comparisons.
    """
    n_at_once = max(MAX_SUMS // (2 * reader.source.n_bins), 1)
    regions = np.arange(reader.source.n_bins)
    for first in range(0, len(comparisons), n_at_once):
        part = comparisons[first : first + n_at_once]
        sides = [[_some(one.rows1, reader.seed) for one in part], [_some(one.rows2, reader.seed) for one in part]]
        means = [np.zeros((len(part), len(regions))) for _ in sides]
        alike = batches[0] == batches[1]  # both sides at once
        for which in ([0, 1],) if alike else ([0], [1]):
            groups = [rows for k in which for rows in sides[k]]
            cells = np.unique(np.concatenate(groups))
            share = np.zeros((len(groups), len(cells)))
            for k, rows in enumerate(groups):
                share[k, np.searchsorted(cells, rows)] = 1 / len(rows)
            total = np.zeros((len(groups), len(regions)))
            asked = Predicted(cells, regions, batches[which[0]], True, batch_size)
            for cell, region, block in blocks(reader, asked):
                total[:, region] += share[:, cell] @ block
            for at, k in enumerate(which):
                means[k] = total[at * len(part) : (at + 1) * len(part)]
        yield from zip(*means, strict=True)


def _count_by_depth(reader: Reader, groups: tuple[np.ndarray, np.ndarray], by_batch: bool) -> _Counts:
    """Number of cells in which each region is open, by stratum of depth (and batch) and group; one pass over the
    cells."""
    source = reader.source
    depth = source.n_open_per_cell().astype(float)
    both = np.concatenate(groups)
    batch = reader.batch_codes if by_batch else np.zeros(source.n_cells, np.int64)
    strata = np.full(source.n_cells, -1)
    n_strata, of_batch = 0, []
    for code in np.unique(batch[both]):
        cells = both[batch[both] == code]
        edges = np.unique(np.quantile(depth[cells], np.linspace(0, 1, N_DEPTHS + 1)[1:-1]))
        strata[cells] = n_strata + np.searchsorted(edges, depth[cells])
        of_batch += [code] * (len(edges) + 1)
        n_strata += len(edges) + 1
    group = np.full(source.n_cells, -1)
    for k, rows in enumerate(groups):
        group[rows] = k
    n_cells, mass = np.zeros((2, n_strata, 2))
    np.add.at(n_cells, (strata[both], group[both]), 1)
    np.add.at(mass, (strata[both], group[both]), depth[both])
    n_open = np.zeros((n_strata, 2, source.n_bins), np.float32)
    for first, part in source.iter_chunks():
        here = np.arange(first, first + len(part.indptr) - 1)
        for stratum, k in np.unique(np.stack([strata[here], group[here]], 1)[group[here] >= 0], axis=0):
            chosen = np.repeat((strata[here] == stratum) & (group[here] == k), np.diff(part.indptr))
            n_open[stratum, k] += np.bincount(part.bins[chosen], minlength=source.n_bins)
    # within a stratum and group, every cell is assumed to have the mean depth
    mean_depth = mass / np.maximum(n_cells, 1)
    tested = np.flatnonzero(n_open.sum((0, 1)))
    p_value = np.ones(source.n_bins)
    p_value[tested] = score_test(n_open[:, :, tested], n_cells, mean_depth, np.array(of_batch))
    return _Counts(n_open.sum(0), p_value, tested)


def _some(rows: np.ndarray, seed: int) -> np.ndarray:
    """At most 1,000 of the cells, sampled by the seed."""
    if len(rows) <= MAX_ESTIMATED:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MAX_ESTIMATED, replace=False))


class _Counts(NamedTuple):
    n_open: np.ndarray  # (2, n_regions) number of cells of each group in which it is open
    p_value: np.ndarray  # (n_regions,)
    tested: np.ndarray  # regions that are open in a cell


def _table(one: Comparison, counts: _Counts, estimates: tuple[np.ndarray, np.ndarray], names: pd.Index) -> pd.DataFrame:
    """A row for each region; significance is determined by the caller."""
    import pandas as pd

    q_value = np.ones(len(counts.p_value))
    q_value[counts.tested] = benjamini_hochberg(counts.p_value[counts.tested])
    probability = np.clip(1 - q_value, 0, 1)
    emp = [counts.n_open[k] / len(rows) for k, rows in enumerate((one.rows1, one.rows2))]
    return pd.DataFrame(
        {
            "prob_da": probability, "is_da_fdr": False,
            "bayes_factor": np.log(probability + 1e-8) - np.log(1 - probability + 1e-8),
            "effect_size": estimates[1] - estimates[0], "emp_effect": emp[1] - emp[0], "est_prob1": estimates[0],
            "est_prob2": estimates[1], "emp_prob1": emp[0], "emp_prob2": emp[1], "p_value": counts.p_value,
            "q_value": q_value,
        },
        index=names,
    )  # fmt: skip


def _checked(one: Comparison) -> Comparison:
    for name, rows in ((one.name1, one.rows1), (one.name2, one.rows2)):
        if len(rows) < 2:
            raise ValueError(f"group {name!r} has {len(rows)} cells; expected at least 2 in each group.")
    shared = len(np.intersect1d(one.rows1, one.rows2))
    if shared:
        raise ValueError(f"{one.name1!r} and {one.name2!r} share {shared:,} cells.")
    return one
