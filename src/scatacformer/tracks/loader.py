"""Minibatches of windows: DNA × conservation and the signal of all tracks, read on demand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from scatacformer.sequence import Fasta, one_hot, reverse_complement

if TYPE_CHECKING:
    from torch import Tensor

    from scatacformer.genome import BigWig


@dataclass(frozen=True, eq=False)
class WindowData:
    """Where the DNA, the conservation and the signal of windows are read. Nothing is copied, and it can be pickled.

    Parameters
    ----------
    fasta
        The genome.
    chrom
        ``(n_windows,)``, name of the chromosome of each window.
    start
        ``(n_windows,)``, bp.
    seq_len, bin_size, crop
        See :class:`SequenceWindows`.
    conservation
        bigWig file of phastCons or the like; None: all bases have the same weight.
    signal
        ``(n_tracks, n_bins)``, in memory or an h5py data set; None where windows are only predicted.
    first
        ``(n_windows,)``, column of the first bin of each window.
    """

    fasta: Fasta
    chrom: np.ndarray
    start: np.ndarray
    seq_len: int
    bin_size: int
    crop: int
    conservation: BigWig | None = None
    signal: Any = None
    first: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.start)

    @property
    def n_bins(self) -> int:
        """Bins of a window, those of the crop included."""
        return self.seq_len // self.bin_size

    def sequence(self, window: int, shift: int = 0, reverse: bool = False) -> np.ndarray:
        """One-hot × exp(conservation) of a window, ``(4, seq_len)`` float32.

        It is read ``shift`` bp further right, from the other strand if ``reverse``. Beyond the ends of the chromosome
        there are zeros, as for N.
        """
        chrom, start = str(self.chrom[window]), int(self.start[window]) + shift
        codes = self.fasta.codes(chrom, start, start + self.seq_len, pad=True)
        factor = conservation_factor(self.conservation, chrom, start, start + self.seq_len)
        if reverse:
            codes = reverse_complement(codes)
            factor = None if factor is None else factor[::-1]
        encoded = one_hot(codes)
        if factor is not None:
            encoded *= factor
        return encoded

    def target(self, window: int, shift: int = 0, reverse: bool = False) -> np.ndarray:
        """Signal of the bins that the crop leaves, ``(n_tracks, n_bins - 2 crop)`` float32; NaN where it is missing.

        It moves with the sequence: by a part of a bin, a bin and its neighbour are mixed by the share of each.
        """
        if self.signal is None or self.first is None:
            raise ValueError("these windows have no signal.")
        begin = int(self.first[window])
        values = np.asarray(self.signal[:, begin : begin + self.n_bins], dtype=np.float32)
        whole, part = divmod(shift, self.bin_size)
        share = np.float32(part / self.bin_size)
        n_outputs = self.n_bins - 2 * self.crop
        moved = _taken(values, self.crop + whole, n_outputs)
        if part:
            moved = (1 - share) * moved + share * _taken(values, self.crop + whole + 1, n_outputs)
        return np.ascontiguousarray(moved[:, ::-1]) if reverse else moved


class WindowLoader:
    """Iterates over windows in minibatches; the memory does not depend on their number.

    A minibatch is a dict of tensors: ``sequence`` (B, 4, seq_len) float32; ``signal`` (B, n_tracks, n_outputs) float32,
    NaN where it is missing, absent where windows are only predicted; ``window`` (B,) int64, their numbers; ``shift``
    (B,) int64 and ``reverse`` (B,) bool, how each was moved.

    What is sampled (the order, the strand and the shift of each window) depends on ``seed`` and the number of the pass
    alone, not on ``num_workers``. Of several processes that train together, each reads its share of every pass.

    Parameters
    ----------
    data
        Where windows are read.
    windows
        Numbers of the windows to go through.
    batch_size
        Windows in a minibatch.
    shuffle
        Another order in each pass.
    reverse_complement
        Read half of the windows, sampled anew in each pass, from the other strand.
    max_shift
        Move each window by a number of bp sampled from -max_shift to max_shift. At most ``crop`` bins, so that what
        moves in has been measured; with a crop of 0 it is missing.
    seed
        Of all that is sampled.
    num_workers
        Processes that read. 0: this one.
    """

    def __init__(
        self,
        data: WindowData,
        windows: np.ndarray,
        batch_size: int,
        *,
        shuffle: bool = False,
        reverse_complement: bool = False,
        max_shift: int = 0,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
        if max_shift < 0 or (data.crop and max_shift > data.crop * data.bin_size):
            raise ValueError(f"max_shift is {max_shift}; expected 0 ... {data.crop * data.bin_size} bp (the crop).")
        self.data, self.windows, self.batch_size = data, np.asarray(windows, dtype=np.int64), batch_size
        self.shuffle, self.reverse_complement, self.max_shift = shuffle, reverse_complement, max_shift
        self.seed, self.num_workers = seed, num_workers
        self.epoch = self._passing = self._start = self._done = 0

    def __len__(self) -> int:
        """Minibatches of a pass, of this process."""
        return -(-len(range(self._n_windows())[self._share()]) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Number of the next pass; each pass over the loader is followed by the next number. A place restored by
        :meth:`load_state_dict` in it is kept."""
        if epoch != self.epoch:
            self.epoch, self._start = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """The position in the current pass: its number, and the number of minibatches returned."""
        return {"epoch": self._passing, "batch": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next pass resumes after the minibatches counted in ``state``, without reading them."""
        self.epoch, self._start = int(state["epoch"]), int(state["batch"])

    def plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Window, shift in bp and strand (True: reverse) of each position of a pass, each ``(n_windows,)``."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(self.windows) if self.shuffle else self.windows
        shift = rng.integers(-self.max_shift, self.max_shift + 1, size=len(order))
        reverse = rng.random(len(order)) < 0.5 if self.reverse_complement else np.zeros(len(order), dtype=bool)
        return order, shift, reverse

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        import torch
        from torch.utils.data import DataLoader, Dataset

        self._passing, self._done, self._start = self.epoch, self._start, 0
        first = self._done * self.batch_size
        order, shift, reverse = (column[: self._n_windows()][self._share()][first:] for column in self.plan(self.epoch))
        windows = cast("Dataset[Any]", _Windows(self.data, (order, shift, reverse)))
        self.epoch += 1
        loader = DataLoader(
            windows,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=_collate,
            generator=torch.Generator().manual_seed(self.seed),  # else it takes a number from the global one
        )
        for batch in loader:
            self._done += 1
            yield batch

    def _share(self) -> slice:
        """The windows of a pass that this process reads."""
        rank, n_processes = _processes()
        return slice(rank, None, n_processes)

    def _n_windows(self) -> int:
        """Windows of a pass, of all processes: as many for each while the order is sampled, or one would wait."""
        n = len(self.windows)
        return n // _processes()[1] * _processes()[1] if self.shuffle else n


def _processes() -> tuple[int, int]:
    """Number of this process, and how many train together."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class _Windows:
    """Positions of a pass, as torch's loader reads them."""

    def __init__(self, data: WindowData, plan: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        self.data, self.plan = data, plan

    def __len__(self) -> int:
        return len(self.plan[0])

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray | None, int, int, bool]:
        window, shift, reverse = (column[position].item() for column in self.plan)
        target = None if self.data.signal is None else self.data.target(window, shift, reverse)
        return self.data.sequence(window, shift, reverse), target, window, shift, reverse


def conservation_factor(track: BigWig | None, chrom: str, start: int, end: int) -> np.ndarray | None:
    """exp(conservation) of each base, ``(end - start,)`` float32: 1 where the track has no value; None without
    track."""
    return None if track is None else np.exp(track.values(chrom, start, end))


def _taken(values: np.ndarray, begin: int, n: int) -> np.ndarray:
    """Columns ``begin`` to ``begin + n``; those that are not there are NaN."""
    low, high = max(begin, 0), min(begin + n, values.shape[1])
    if (low, high) == (begin, begin + n):
        return values[:, low:high]
    out = np.full((len(values), n), np.nan, dtype=np.float32)
    out[:, low - begin : high - begin] = values[:, low:high]
    return out


def _collate(rows: list[tuple[np.ndarray, np.ndarray | None, int, int, bool]]) -> dict[str, Tensor]:
    import torch

    sequence, target, window, shift, reverse = zip(*rows, strict=True)
    batch = {
        "sequence": torch.from_numpy(np.stack(sequence)),
        "window": torch.tensor(window),
        "shift": torch.tensor(shift),
        "reverse": torch.tensor(reverse),
    }
    if target[0] is not None:
        batch["signal"] = torch.from_numpy(np.stack(target))
    return batch
