"""Data of a training: options of sentences, split of the cells, and loaders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as pl
import numpy as np

from scatacformer.cells import SentenceLoader, SentencePolicy
from scatacformer.training import CellSplit, split_cells

if TYPE_CHECKING:
    from scatacformer.cells import RowSource, TrainSentences
    from scatacformer.nn import NetworkConfig


@dataclass(frozen=True, kw_only=True)
class SentenceOptions:
    """Options of the sentences for training; see ``sentence_kwargs`` of :meth:`scatacformer.ScAtacFormer.train`."""

    max_tokens: int = 128
    max_targets: int = 512
    n_closed: int | Literal["all"] = 4096
    neighbor_share: float = 0.5
    n_neighbors: int = 10

    def __post_init__(self) -> None:
        if self.n_neighbors < 1:
            raise ValueError(f"n_neighbors is {self.n_neighbors}; expected at least 1.")
        closed_bins(self.n_closed)

    def policy(self, network: NetworkConfig, seed: int) -> SentencePolicy:
        """The policy of sentences for a network."""
        return SentencePolicy(
            max_tokens=min(self.max_tokens, network.max_tokens), removed_share=network.removed_share,
            max_targets=self.max_targets, n_closed=closed_bins(self.n_closed), neighbor_share=self.neighbor_share,
            seed=seed,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return asdict(self)


def closed_bins(n_closed: Any) -> int | None:
    """``n_closed`` for :class:`~scatacformer.cells.SentencePolicy`: None for ``"all"``. ValueError for other
    strings."""
    if isinstance(n_closed, str) and n_closed == "all":
        return None
    if isinstance(n_closed, bool) or not isinstance(n_closed, int | np.integer) or n_closed < 1:
        raise ValueError(f"n_closed is {n_closed!r}; expected at least 1, or 'all'.")
    return int(n_closed)


class SentenceData(pl.LightningDataModule):
    """The loaders of a training: seeded sentences of the training cells, and always the same of the held-out cells.

    ``start()`` is called before the first step, once all arguments have been checked; it returns the
    collate functions of training and held-out cells. ``make_start()``, before it, runs in one process only."""

    def __init__(
        self,
        source: RowSource,
        split: tuple[np.ndarray, ...],
        batch_size: int,
        num_workers: int,
        seed: int,
        start: Callable[[], tuple[TrainSentences, TrainSentences]],
        make_start: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
        self.prepare_data_per_node = False  # all nodes see the same folder
        self.source, self.cells = source, split[:2]
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.start, self.make_start = start, make_start
        self.sentences: tuple[TrainSentences, TrainSentences] | None = None

    def prepare_data(self) -> None:
        if self.make_start is not None:
            self.make_start()

    def setup(self, stage: str) -> None:
        self.sentences = self.start()

    def train_dataloader(self) -> SentenceLoader:
        return self._loader(0, shuffle=True)

    def val_dataloader(self) -> SentenceLoader | list:
        # without held-out cells there is no validation loader
        return self._loader(1, shuffle=False) if len(self.cells[1]) else []

    def _loader(self, which: int, shuffle: bool) -> SentenceLoader:
        assert self.sentences is not None
        assert self.trainer is not None
        world = self.trainer.world_size
        return SentenceLoader(
            self.source, self.cells[which], self.batch_size * world, shuffle=shuffle, seed=self.seed,
            collate=self.sentences[which], num_workers=self.num_workers, rank=self.trainer.global_rank, world_size=world,
        )  # fmt: skip


def split_of(
    n_cells: int,
    train_size: float | None,
    validation_size: float | None,
    shuffle: bool,
    early_stopping: bool,
    seed: int,
    kwargs: Mapping[str, Any] | None,
    rows_of: Callable[[np.ndarray], np.ndarray],
) -> CellSplit:
    """Training, held-out and test cells; ``kwargs`` may name them (``external_indexing``), as in scvi-tools.

    ``rows_of`` maps the user's row numbers to those of the source: of a MuData, the order of its cells differs.

    Raises ValueError for row numbers that are out of range or given twice, and if ``early_stopping`` has no held-out
    cells.
    """
    kwargs = dict(kwargs or {})
    external = kwargs.pop("external_indexing", None)
    if kwargs:
        raise TypeError(f"datasplitter_kwargs has {sorted(kwargs)}; expected only external_indexing.")
    if external is None:
        return split_cells(n_cells, train_size, validation_size, seed, shuffle, need_validation=early_stopping)
    parts = [np.asarray(p, dtype=np.int64) for p in external] + [np.empty(0, np.int64)] * (3 - len(external))
    together = np.concatenate(parts)
    inside = (together >= 0) & (together < n_cells)
    if len(np.unique(together)) != len(together) or not inside.all():
        raise ValueError(f"external_indexing takes row numbers from 0 to {n_cells - 1:,}, each at most once.")
    return CellSplit(*map(rows_of, parts))
