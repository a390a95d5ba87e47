"""Differential accessibility between two groups of cells: a score test on open regions, and the model's estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from scatacformer.cells import benjamini_hochberg, score_test

from ._accessibility import AccessibilityMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    from anndata import AnnData

N_DEPTHS = 16  # strata of cells of similar depth, per batch
MAX_ESTIMATED = 1_000  # maximum number of cells per group for the model's estimate
MAX_SUMS = 64_000_000  # numbers that are summed over cells at a time: 512 MB


class DifferentialMixin(AccessibilityMixin):
    """``differential_accessibility`` of :class:`~scatacformer.ScAtacFormer`."""

    def differential_accessibility(
        self,
        adata: AnnData | None = None,
        groupby: str | None = None,
        group1: str | Sequence[str] | None = None,
        group2: str | None = None,
        idx1: Sequence[int] | Sequence[bool] | str | None = None,
        idx2: Sequence[int] | Sequence[bool] | str | None = None,
        mode: str = "change",
        delta: float = 0.05,
        batch_size: int | None = None,
        all_stats: bool = True,
        batch_correction: bool = False,
        batchid1: Sequence[str] | None = None,
        batchid2: Sequence[str] | None = None,
        fdr_target: float = 0.05,
        silent: bool = False,
    ) -> pd.DataFrame:
        """Regions that are open more often in one group of cells than in another, accounting for depth.

        The arguments and columns are those of scvi-tools' ``PEAKVI.differential_accessibility``; the evidence is not a
        posterior. The region's rate is r in group 1 and r exp(b) in group 2, it is open in a cell with n open regions
        with probability 1 - exp(-r n), and b = 0 is tested by the efficient score over strata of cells of similar depth
        (Cox and Hinkley 1974, 9.3; complementary log-log link). False discovery rates are those of Benjamini and
        Hochberg (1995) over the regions that are open in at least one of the cells.

        Parameters
        ----------
        groupby, group1, group2
            A column of ``adata.obs``, and its values to compare. ``group1`` None: each in turn; ``group2`` None: with
            all other cells.
        idx1, idx2
            Instead of ``groupby``: row numbers, a mask, or a query of ``adata.obs``. ``idx2`` None: all other cells.
        mode
            ``"change"``: a region must also differ by more than ``delta``; ``"vanilla"``: it need not.
        delta
            Minimum difference between the estimated probabilities.
        batch_size
            Number of cells per minibatch.
        all_stats
            False leaves out ``emp_*`` and ``p_value``.
        batch_correction
            Compare within batches: with a separate rate for each batch, and estimates averaged over all batches.
        batchid1, batchid2
            Batches in which the groups are estimated, with ``batch_correction``. Default: all.
        fdr_target
            Maximum share of false discoveries in ``is_da_fdr``.
        silent
            Hide the progress bar over comparisons.

        Returns
        -------
        DataFrame, a row for each region (and comparison, most significant first): ``prob_da`` (1 - q_value),
        ``is_da_fdr``, ``bayes_factor`` (log odds of ``prob_da``), ``effect_size`` (``est_prob2 - est_prob1``),
        ``emp_effect``, ``est_prob1``, ``est_prob2`` (mean accessibility by the model at the mean depth, over at most
        1,000 cells of a group), ``emp_prob1``, ``emp_prob2`` (share of the cells in which it is open), ``p_value``,
        ``q_value``. Memory: 32 numbers per region and batch, and 2 per comparison (512 MB of them at most).

        Raises
        ------
        ValueError
            Unknown groups or modes; groups of fewer than 2 cells, or that share cells.
        """
        import pandas as pd

        from scatacformer._io import tqdm

        self._check_decoder()
        data, adata = adata, self._validate_anndata(adata)
        if mode not in ("change", "vanilla"):
            raise ValueError(f"mode is {mode!r}; expected 'change' or 'vanilla'.")
        if (batchid1 is not None or batchid2 is not None) and not batch_correction:
            raise ValueError("batchid1 or batchid2 is given without batch_correction=True. Set it, or leave them out.")
        if groupby is None:
            comparisons = [_of_cells(adata, idx1, idx2, lambda idx: self._asked(data, idx).rows)]
        else:
            comparisons = list(_of_groups(adata, groupby, group1, group2, idx1))
        batches: list[list[str] | None] = [None, None]
        if batch_correction:
            batches = [list(b) if b is not None else self._batch_names() for b in (batchid1, batchid2)]
        estimates = self._estimates(adata, comparisons, batches, batch_size)
        frames = []
        for one in tqdm(comparisons, disable=True if silent or len(comparisons) == 1 else None):
            counts = self._count_by_depth(adata, (one.rows1, one.rows2), batch_correction)
            frame = _table(one, counts, next(estimates), adata.var_names)
            frame["is_da_fdr"] = (frame["q_value"] <= fdr_target) & (
                (np.abs(frame["effect_size"]) >= delta) | (mode == "vanilla")
            )
            if not all_stats:
                frame = frame.drop(columns=["emp_effect", "emp_prob1", "emp_prob2", "p_value"])
            if groupby is not None:
                frame = frame.assign(comparison=f"{one.name1} vs {one.name2}", group1=one.name1, group2=one.name2)
                frame = frame.iloc[np.argsort(counts.p_value, kind="stable")]
            frames.append(frame)
        return pd.concat(frames) if len(frames) > 1 else frames[0]

    @torch.inference_mode()
    def _estimates(
        self,
        adata: AnnData,
        comparisons: list[_Comparison],
        batches: list[list[str] | None],
        batch_size: int | None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Mean accessibility of both groups of each comparison.  ((n_regions,), (n_regions,)) float64 each

        Each cell is read once for many comparisons.
        """
        n_at_once = max(MAX_SUMS // (2 * self.config_.n_bins), 1)
        regions = np.arange(self.config_.n_bins)
        for first in range(0, len(comparisons), n_at_once):
            part = comparisons[first : first + n_at_once]
            sides = [[self._some(one.rows1) for one in part], [self._some(one.rows2) for one in part]]
            means = [np.zeros((len(part), len(regions))) for _ in sides]
            alike = batches[0] == batches[1]  # both sides at once
            for which in ([0, 1],) if alike else ([0], [1]):
                groups = [rows for k in which for rows in sides[k]]
                cells = np.unique(np.concatenate(groups))
                share = np.zeros((len(groups), len(cells)))
                for k, rows in enumerate(groups):
                    share[k, np.searchsorted(cells, rows)] = 1 / len(rows)
                total = np.zeros((len(groups), len(regions)))
                for cell, region, block in self._blocks(adata, cells, regions, batches[which[0]], True, batch_size):
                    total[:, region] += share[:, cell] @ block
                for at, k in enumerate(which):
                    means[k] = total[at * len(part) : (at + 1) * len(part)]
            yield from zip(*means, strict=True)

    def _count_by_depth(self, adata: AnnData, groups: tuple[np.ndarray, np.ndarray], by_batch: bool) -> _Counts:
        """Number of cells in which each region is open, by stratum of depth (and batch) and group; one pass over the
        cells."""
        source = self._source(adata)
        depth = source.n_open_per_cell().astype(float)
        both = np.concatenate(groups)
        batch = self._batch_codes(adata) if by_batch else np.zeros(adata.n_obs, np.int64)
        strata = np.full(adata.n_obs, -1)
        n_strata, of_batch = 0, []
        for code in np.unique(batch[both]):
            cells = both[batch[both] == code]
            edges = np.unique(np.quantile(depth[cells], np.linspace(0, 1, N_DEPTHS + 1)[1:-1]))
            strata[cells] = n_strata + np.searchsorted(edges, depth[cells])
            of_batch += [code] * (len(edges) + 1)
            n_strata += len(edges) + 1
        group = np.full(adata.n_obs, -1)
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

    def _some(self, rows: np.ndarray) -> np.ndarray:
        """At most 1,000 of the cells, sampled by the seed."""
        if len(rows) <= MAX_ESTIMATED:
            return rows
        return np.sort(np.random.default_rng(self.seed_).choice(rows, MAX_ESTIMATED, replace=False))


class _Counts(NamedTuple):
    n_open: np.ndarray  # (2, n_regions) number of cells of each group in which it is open
    p_value: np.ndarray  # (n_regions,)
    tested: np.ndarray  # regions that are open in a cell


class _Comparison(NamedTuple):
    name1: str
    name2: str
    rows1: np.ndarray
    rows2: np.ndarray


def _table(
    one: _Comparison, counts: _Counts, estimates: tuple[np.ndarray, np.ndarray], names: pd.Index
) -> pd.DataFrame:
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


def _of_cells(adata: AnnData, idx1: Any, idx2: Any, rows_of: Callable[[Any], np.ndarray]) -> _Comparison:
    """The cells of ``idx1`` against those of ``idx2``; ``rows_of`` converts the user's row numbers to those of
    ``adata``."""
    if idx1 is None:
        raise ValueError("name either groupby, a column of adata.obs, or idx1, the cells of the first group.")

    def rows(idx: Any, name: str) -> np.ndarray:
        if isinstance(idx, str):
            return adata.obs.index.get_indexer(adata.obs.query(idx).index)
        try:
            return np.unique(rows_of(idx))
        except IndexError as error:
            raise ValueError(f"{name}: {error}") from None

    one = rows(idx1, "idx1")
    two = np.setdiff1d(np.arange(adata.n_obs), one) if idx2 is None else rows(idx2, "idx2")
    return _checked(_Comparison("idx1", "Rest" if idx2 is None else "idx2", one, two))


def _of_groups(adata: AnnData, groupby: str, group1: Any, group2: str | None, idx1: Any) -> Iterator[_Comparison]:
    """The requested pairs of groups, each checked."""
    if idx1 is not None:
        raise ValueError("name either groupby, a column of adata.obs, or idx1, the cells of the first group.")
    if groupby not in adata.obs:
        raise ValueError(f"adata.obs has no column {groupby!r}; it has {', '.join(map(str, adata.obs))}.")
    values = adata.obs[groupby].astype(str).to_numpy()
    known = sorted(set(values))
    first = known if group1 is None else [group1] if isinstance(group1, str) else list(map(str, group1))
    for name in [*first, *([group2] if group2 is not None else [])]:
        if name not in known:
            raise ValueError(f"adata.obs[{groupby!r}] has no value {name!r}; it has {', '.join(known)}.")
    for name in first:
        if name == group2:
            continue
        other = values != name if group2 is None else values == group2
        yield _checked(_Comparison(name, group2 or "Rest", np.flatnonzero(values == name), np.flatnonzero(other)))


def _checked(one: _Comparison) -> _Comparison:
    for name, rows in ((one.name1, one.rows1), (one.name2, one.rows2)):
        if len(rows) < 2:
            raise ValueError(f"group {name!r} has {len(rows)} cells; expected at least 2 in each group.")
    shared = len(np.intersect1d(one.rows1, one.rows2))
    if shared:
        raise ValueError(f"{one.name1!r} and {one.name2!r} share {shared:,} cells.")
    return one
