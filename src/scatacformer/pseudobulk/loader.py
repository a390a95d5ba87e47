"""Minibatches of windows of regions: features, targets and masks, made one minibatch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse

from .windows import Stretches, Windows

if TYPE_CHECKING:
    from torch import Tensor

Accessibility = Literal["quantitative", "binary", "ones"]


@dataclass(frozen=True, eq=False)
class RegionData:
    """Motif scores, accessibility and expression of groups × regions. Nothing is copied.

    Parameters
    ----------
    motif
        (n_regions, n_motifs), dense or CSR: the score of each motif in each region, 0 or more.
    accessibility
        (n_groups, n_regions), dense or CSR: aCPM, 0 or more.
    expression
        (positive strand, negative strand), each (n_groups, n_regions), dense or CSR: log10(TPM + 1). None if there is
        none.
    tss
        (n_regions, 2), bool: which regions contain a TSS on + and on -. None if unknown.
    motif_scale
        (n_motifs,), divisors of the motif scores. Saved with a model, so that the features of a region are the same in
        every data set. None: 1.

    Raises
    ------
    ValueError
        Shapes do not fit; a value is NaN, infinite or negative; the accessibility is all zero, in total or in a group.
    """

    motif: Any
    accessibility: Any
    expression: tuple[Any, Any] | None = None
    tss: np.ndarray | None = None
    motif_scale: np.ndarray | None = None

    def __post_init__(self) -> None:
        n_groups, n_regions = self.accessibility.shape
        if self.motif.shape[0] != n_regions:
            raise ValueError(f"motif needs a row for each of {n_regions:,} regions; found {self.motif.shape[0]:,}.")
        if self.tss is not None and self.tss.shape != (n_regions, 2):
            raise ValueError(f"tss has shape {self.tss.shape}; expected {n_regions:,} regions × 2 strands.")
        for layer in self.expression or ():
            if layer.shape != (n_groups, n_regions):
                raise ValueError(
                    f"The expression has shape {layer.shape}; expected {n_groups:,} groups × {n_regions:,} regions."
                )
        if self.motif_scale is not None and self.motif_scale.shape != (self.n_motifs,):
            raise ValueError(f"motif_scale needs one number for each of {self.n_motifs:,} motifs.")
        check_values(self.motif, "motif scores")
        check_values(self.accessibility, "accessibility")
        for layer in self.expression or ():
            check_values(layer, "expression")
        total = np.asarray(self.accessibility.sum(axis=1)).ravel()
        if not total.all():
            raise ValueError(
                f"The accessibility is all zero in {int((total == 0).sum()):,} of {n_groups:,} groups (first: row "
                f"{int(np.argmin(total))}). Leave those groups out, and check that the layer holds aCPM."
            )

    @property
    def n_motifs(self) -> int:
        """Number of motifs, one fewer than features."""
        return int(self.motif.shape[1])

    def features(self, groups: np.ndarray, regions: np.ndarray, accessibility: Accessibility) -> np.ndarray:
        """(n, n_regions, n_motifs + 1) float32: motif scores and, last, the accessibility; 0 where a region is -1.

        Parameters
        ----------
        groups
            (n,), row of each window.
        regions
            (n, n_regions), columns.
        accessibility
            The last feature: ``"quantitative"`` unchanged, ``"binary"`` 1 where it is above 0, ``"ones"`` 1 everywhere,
            for models that predict accessibility from motifs.
        """
        valid = regions >= 0
        at = np.where(valid, regions, 0)
        out = np.empty((*regions.shape, self.n_motifs + 1), dtype=np.float32)
        motif = self.motif[at.ravel()]
        motif = motif.toarray() if sparse.issparse(motif) else np.asarray(motif)
        out[..., :-1] = motif.reshape(*regions.shape, self.n_motifs)
        if self.motif_scale is not None:
            out[..., :-1] /= self.motif_scale
        last = np.ones(regions.shape) if accessibility == "ones" else take(self.accessibility, groups, at)
        out[..., -1] = last > 0 if accessibility == "binary" else last
        out[~valid] = 0
        return out


class WindowLoader:
    """Iterates over windows of regions in minibatches; memory does not grow with the number of windows.

    A minibatch is a dict of tensors: ``features`` (B, R, n_motifs + 1) float32; ``targets`` (B, R, 2) float32, log10
    (TPM + 1) on + and on -, or (B, R, 1), the accessibility; ``valid`` (B, R) bool, False where a window is shorter;
    ``scored`` (B, R) bool, the regions that losses and metrics count, each once a pass; ``tss`` (B, R, 2) bool, where
    ``data`` knows it; ``group`` (B,) int64; ``regions`` (B, R) int64, columns, -1 where a window is shorter.

    The windows and their order in epoch e depend on (seed, e) and the arguments alone.

    Parameters
    ----------
    data
        Groups × regions.
    source
        :class:`Stretches`, from which windows are cut anew in each epoch if ``shuffle``; or fixed :class:`Windows`.
    n_regions
        Regions of a window; needed for stretches.
    batch_size
        Windows of a minibatch, of all processes together.
    shuffle
        Windows in random order, cut at random positions in each epoch. Every epoch has as many windows as without
        shuffling; if a cut yields more, some are left out at random.
    seed
        Seed of the positions and the order.
    target
        ``"expression"``, ``"accessibility"``, or None for no targets.
    accessibility
        The last feature: see :meth:`RegionData.features`.
    stride
        See :meth:`Stretches.tile`.
    rank, world_size
        Rank of this process and number of processes in distributed training: each reads its part of every minibatch. A
        process without a window reads the first one, without scoring it.

    Raises
    ------
    ValueError
        No windows; ``batch_size`` below 1; an unknown target; a target that ``data`` lacks.
    """

    def __init__(
        self,
        data: RegionData,
        source: Stretches | Windows,
        *,
        n_regions: int | None = None,
        batch_size: int = 8,
        shuffle: bool = False,
        seed: int = 0,
        target: Literal["expression", "accessibility"] | None = "expression",
        accessibility: Accessibility = "quantitative",
        stride: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
        if target not in ("expression", "accessibility", None):
            raise ValueError(f"target is {target!r}; expected 'expression', 'accessibility' or None.")
        if accessibility not in ("quantitative", "binary", "ones"):
            raise ValueError(f"accessibility is {accessibility!r}; expected 'quantitative', 'binary' or 'ones'.")
        if target == "expression" and data.expression is None:
            raise ValueError("The target is the expression, which is missing. Map it with sf.pp.map_expression first.")
        if not len(source):
            raise ValueError("There are no regions; expected at least one to make windows of.")
        self.data, self.seed, self.shuffle, self.batch_size = data, seed, shuffle, batch_size
        self.target, self.accessibility = target, accessibility
        self.rank, self.world_size = rank, world_size
        self._stretches, self._stride = source if isinstance(source, Stretches) else None, stride
        if isinstance(source, Stretches):
            if n_regions is None:
                raise ValueError("n_regions is needed to cut windows of stretches.")
            source = source.tile(n_regions, stride=stride)
        self._fixed = source
        self.n_regions = source.n_regions
        self._epoch = self._start = self._done = 0
        self._cut: tuple[int, Windows] | None = None

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next iteration goes through."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is epoch ``epoch``; a place restored by :meth:`load_state_dict` in it is kept."""
        if epoch != self._epoch:
            self._epoch, self._start, self._done = int(epoch), 0, 0

    def state_dict(self) -> dict[str, int]:
        """The position in the current epoch: its number, and the number of minibatches returned."""
        return {"epoch": self._epoch, "batch": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration resumes after the minibatches counted in ``state``."""
        self._epoch, self._start = int(state["epoch"]), int(state["batch"])
        self._done = self._start

    @property
    def sampler(self) -> WindowLoader | None:
        """The object on which Lightning calls ``set_epoch``. None without shuffle."""
        return self if self.shuffle else None

    @property
    def batch_sampler(self) -> None:
        """Lightning looks for one wherever there is a ``sampler``."""
        return None

    @property
    def windows(self) -> Windows:
        """The windows of the current epoch, in the order in which they are read."""
        if not self.shuffle:
            return self._fixed
        if self._cut is None or self._cut[0] != self._epoch:
            generator = np.random.default_rng([self.seed, self._epoch])
            cut = self._fixed
            if self._stretches is not None:
                cut = self._stretches.tile(self.n_regions, stride=self._stride, generator=generator)
            order = generator.permutation(len(cut))[: len(self._fixed)]
            self._cut = self._epoch, cut.select(order)
        return self._cut[1]

    def __len__(self) -> int:
        """Minibatches of an epoch."""
        return -(-len(self._fixed) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        windows = self.windows
        self._done, self._start = self._start, 0
        for first in range(self._done * self.batch_size, len(windows), self.batch_size):
            self._done += 1
            batch = np.arange(first, min(first + self.batch_size, len(windows)))
            part = batch[self.rank :: self.world_size]
            yield self._collate(windows, part if len(part) else batch[:1], ghost=not len(part))

    def _collate(self, windows: Windows, rows: np.ndarray, ghost: bool) -> dict[str, Tensor]:
        import torch

        groups, regions = windows.group[rows], windows.regions(rows)
        valid = regions >= 0
        at = np.where(valid, regions, 0)
        arrays = {
            "features": self.data.features(groups, regions, self.accessibility),
            "valid": valid,
            "scored": np.zeros_like(valid) if ghost else windows.scored(rows),
            "group": groups.copy(),
            "regions": regions,
        }
        if self.target is not None:
            layers = (self.data.accessibility,) if self.target == "accessibility" else self.data.expression or ()
            targets = np.stack([take(layer, groups, at) for layer in layers], axis=-1).astype(np.float32)
            targets[~valid] = 0
            arrays["targets"] = targets
        if self.data.tss is not None:
            arrays["tss"] = self.data.tss[at] & valid[..., None]
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def take(matrix: Any, groups: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """``matrix[groups[i], regions[i, j]]`` of a dense or CSR matrix, (n, n_regions)."""
    rows = np.broadcast_to(groups[:, None], regions.shape)
    if sparse.issparse(matrix):
        return np.asarray(matrix[rows.ravel(), regions.ravel()]).reshape(regions.shape)
    return np.asarray(matrix[rows, regions])


def check_values(matrix: Any, what: str) -> None:
    """Raise ValueError for values that are NaN, infinite or negative; reads some rows at a time."""
    rows_at_once = max(1, (1 << 22) // max(1, matrix.shape[1]))
    blocks = [matrix.data] if sparse.issparse(matrix) else None
    for first in range(0, 1 if blocks else matrix.shape[0], rows_at_once):
        values = blocks[0] if blocks else np.asarray(matrix[first : first + rows_at_once])
        if (bad := ~np.isfinite(values) | (values < 0)).any():
            found = values[bad].ravel()[0]
            raise ValueError(
                f"The {what} must be finite and 0 or more; found {int(bad.sum()):,} other values (first: {found}"
                f"{'' if blocks else f', row {first + int(np.argwhere(bad)[0][0]):,}'}). Drop or fill them first."
            )
