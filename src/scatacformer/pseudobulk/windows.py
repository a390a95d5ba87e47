"""Windows of neighbouring regions of one chromosome in one group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .regions import refuse_overlaps

if TYPE_CHECKING:
    from scatacformer.genome import Vocabulary


@dataclass(frozen=True, eq=False, repr=False)
class Windows:
    """Runs of at most ``n_regions`` neighbouring regions of one chromosome in one group.

    Windows may overlap; each region of a group is *scored* in exactly one of them, the one in which it is most central,
    so that losses, metrics and predictions count it once.
    """

    columns: tuple[np.ndarray, ...]
    """Of each group: the columns that are kept, in the order of the genome, int32. Groups may share one array."""
    n_regions: int
    """Regions of a whole window. One on a chromosome that has fewer is shorter."""
    group: np.ndarray
    """(n_windows,) int64: index into `group_names`."""
    chrom: np.ndarray
    """(n_windows,) int64: index into `chrom_names`."""
    first: np.ndarray
    """(n_windows,) int64: place of its first region in `columns[group]`."""
    length: np.ndarray
    """(n_windows,) int64: number of its regions."""
    scored_first: np.ndarray
    """(n_windows,) int64: place in the window of the first region that is scored."""
    scored_stop: np.ndarray
    """(n_windows,) int64: place after the last one."""
    group_names: tuple[str, ...]
    chrom_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.first)

    def __repr__(self) -> str:
        return f"{len(self):,} windows of {self.n_regions:,} regions in {len(self.group_names):,} groups"

    def regions(self, windows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Columns of the regions of some windows, (n, n_regions), int64; -1 where a window is shorter."""
        group, first, length = self.group[windows], self.first[windows], self.length[windows]
        out = np.full((len(first), self.n_regions), -1, dtype=np.int64)
        for row, (of, start, n) in enumerate(zip(group.tolist(), first.tolist(), length.tolist(), strict=True)):
            out[row, :n] = self.columns[of][start : start + n]
        return out

    def scored(self, windows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Which regions of some windows are scored, (n, n_regions), bool."""
        place = np.arange(self.n_regions)
        return (place >= self.scored_first[windows][:, None]) & (place < self.scored_stop[windows][:, None])

    def select(self, windows: np.ndarray) -> Windows:
        """Some of the windows: indices or a mask."""
        parts = {name: getattr(self, name)[windows] for name in _PER_WINDOW}
        return Windows(
            self.columns, self.n_regions, **parts, group_names=self.group_names, chrom_names=self.chrom_names
        )


_PER_WINDOW = ("group", "chrom", "first", "length", "scored_first", "scored_stop")


@dataclass(frozen=True, eq=False, repr=False)
class Stretches:
    """The kept regions of each chromosome in each group: windows are cut from these, and hold-outs are made of these.

    Split these, not windows, into training and validation: a stretch is on one chromosome and in one group, so no
    window that is cut from a training stretch can touch a held-out one.
    """

    columns: tuple[np.ndarray, ...]
    """Of each group: the columns that are kept, in the order of the genome, int32. Groups may share one array."""
    group: np.ndarray
    """(n_stretches,) int64: index into `group_names`."""
    chrom: np.ndarray
    """(n_stretches,) int64: index into `chrom_names`."""
    first: np.ndarray
    """(n_stretches,) int64: place of its first region in `columns[group]`."""
    stop: np.ndarray
    """(n_stretches,) int64: place after its last region."""
    group_names: tuple[str, ...]
    chrom_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.first)

    def __repr__(self) -> str:
        return (
            f"{int((self.stop - self.first).sum()):,} regions of {len(np.unique(self.group)):,} groups in "
            f"{len(self):,} stretches on {len(np.unique(self.chrom)):,} chromosomes"
        )

    @property
    def chroms(self) -> np.ndarray:
        """Name of the chromosome of each stretch, (n_stretches,): what :func:`scatacformer.training.hold_out` takes."""
        return np.array(self.chrom_names)[self.chrom]

    @property
    def groups(self) -> np.ndarray:
        """Name of the group of each stretch, (n_stretches,): what :func:`scatacformer.training.hold_out` takes."""
        return np.array(self.group_names)[self.group]

    @classmethod
    def of(
        cls,
        regions: Vocabulary,
        group_names: Sequence[str],
        *,
        groups: Sequence[int] | np.ndarray | None = None,
        accessibility: Any = None,
    ) -> Stretches:
        """The regions of each chromosome in each group.

        Closed regions are removed *before* positions are computed, so that positions and columns cannot get out of
        step.

        Parameters
        ----------
        regions
            Locations of the columns; need not be sorted.
        group_names
            Names of all groups, in the order of the rows.
        groups
            Rows to take; all by default.
        accessibility
            (n_groups, n_regions), dense or CSR. If given, the regions in which it is 0 in a group are left out of that
            group. By default all regions are kept.

        Raises
        ------
        ValueError
            Regions overlap one another, or a group has no region that is kept.
        """
        refuse_overlaps(regions)
        order = regions.genome_order.astype(np.int32)
        rows = np.arange(len(group_names)) if groups is None else np.asarray(groups, dtype=np.int64)
        columns: list[np.ndarray] = [order] * len(group_names)
        parts: list[tuple[np.ndarray, ...]] = []
        for row in rows.tolist():
            if accessibility is not None:
                is_open = _dense_row(accessibility, row) > 0
                columns[row] = order[is_open[order]]
            if not len(columns[row]):
                raise ValueError(
                    f"No region is accessible in group {group_names[row]!r}: its row is all zero. Leave the group out, "
                    "or check that its counts were read."
                )
            chrom = regions.chrom[columns[row]].astype(np.int64)
            bounds = np.concatenate([[0], np.flatnonzero(np.diff(chrom)) + 1, [len(chrom)]])
            parts.append((np.full(len(bounds) - 1, row), chrom[bounds[:-1]], bounds[:-1], bounds[1:]))
        group, chrom, first, stop = (np.concatenate(part).astype(np.int64) for part in zip(*parts, strict=True))
        names = tuple(map(str, group_names))
        return cls(tuple(columns), group, chrom, first, stop, names, regions.chrom_names)

    def select(self, stretches: np.ndarray) -> Stretches:
        """Some of the stretches: indices or a mask."""
        group, chrom, first, stop = (array[stretches] for array in (self.group, self.chrom, self.first, self.stop))
        return Stretches(self.columns, group, chrom, first, stop, self.group_names, self.chrom_names)

    def tile(
        self, n_regions: int, *, stride: int | None = None, generator: np.random.Generator | None = None
    ) -> Windows:
        """Windows that cover every region.

        Parameters
        ----------
        n_regions
            Regions of a window.
        stride
            Regions from one window to the next; ``n_regions`` by default. Smaller strides show more neighbours of each
            scored region, and take longer.
        generator
            If given, each stretch begins with a window that is cut at a random place, so that regions have other
            neighbours in each epoch. By default the first window begins with the first region.

        Raises
        ------
        ValueError
            ``n_regions`` is below 1, or ``stride`` is not in 1 ... ``n_regions``.
        """
        step = n_regions if stride is None else stride
        if n_regions < 1 or not 1 <= step <= n_regions:
            raise ValueError(
                f"Windows need at least 1 region and a stride of 1 to n_regions; found n_regions={n_regions} and "
                f"stride={step}."
            )
        starts, stretch, bounds = [], [], []
        for number, n in enumerate((self.stop - self.first).tolist()):
            last = max(n - n_regions, 0)
            offset = 0 if generator is None or not last else int(generator.integers(step))
            at = np.unique(np.clip(np.arange(offset - step, last + step, step), 0, last))
            # what two windows share is divided in the middle
            between = (at[:-1] + min(n_regions, n) + at[1:]) // 2
            starts.append(at)
            bounds.append(np.stack([np.append(0, between), np.append(between, n)]))
            stretch.append(np.full(len(at), number))
        at, of = np.concatenate(starts), np.concatenate(stretch)
        scored = np.concatenate(bounds, axis=1) - at
        length = np.minimum(n_regions, (self.stop - self.first)[of])
        return Windows(
            self.columns,
            n_regions,
            self.group[of],
            self.chrom[of],
            self.first[of] + at,
            length,
            scored[0],
            scored[1],
            self.group_names,
            self.chrom_names,
        )

    def centred(self, groups: np.ndarray, regions: np.ndarray, n_regions: int) -> Windows:
        """A window around each of some regions, which alone is scored; ``scored_first`` is its place in the window.

        At the end of a chromosome the window extends further to the other side.

        Parameters
        ----------
        groups, regions
            (n,), row and column of each.
        n_regions
            Regions of a window.

        Raises
        ------
        ValueError
            A region is not kept in its group.
        """
        groups, regions = np.asarray(groups, dtype=np.int64), np.asarray(regions, dtype=np.int64)
        place = self.places(groups, regions)
        if (place < 0).any():
            bad = int(np.argmax(place < 0))
            raise ValueError(
                f"{int((place < 0).sum()):,} of {len(place):,} regions are not kept in their group (first: column "
                f"{regions[bad]} in {self.group_names[groups[bad]]!r}): they are closed there, or on another "
                "chromosome than those chosen."
            )
        of = np.empty(len(place), dtype=np.int64)
        for group in np.unique(groups).tolist():
            own = np.flatnonzero(self.group == group)
            own = own[np.argsort(self.first[own])]
            here = groups == group
            of[here] = own[np.searchsorted(self.first[own], place[here], "right") - 1]
        length = np.minimum(n_regions, self.stop[of] - self.first[of])
        first = np.clip(place - n_regions // 2, self.first[of], self.stop[of] - length)
        focus = place - first
        return Windows(
            self.columns,
            n_regions,
            groups,
            self.chrom[of],
            first,
            length,
            focus,
            focus + 1,
            self.group_names,
            self.chrom_names,
        )

    def places(self, groups: np.ndarray, regions: np.ndarray) -> np.ndarray:
        """Place of each region in ``columns[group]``, (n,), int64; -1 where it is in none of these stretches."""
        out = np.full(len(regions), -1, dtype=np.int64)
        for group in np.unique(groups).tolist():
            here = np.flatnonzero(groups == group)
            columns = self.columns[group]
            place = np.full(max(int(columns.max()), int(regions[here].max())) + 1, -1, dtype=np.int64)
            own = self.group == group
            for first, stop in zip(self.first[own].tolist(), self.stop[own].tolist(), strict=True):
                place[columns[first:stop]] = np.arange(first, stop)
            out[here] = place[regions[here]]
        return out


def _dense_row(matrix: Any, row: int) -> np.ndarray:
    values = matrix[row]
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values).ravel()
