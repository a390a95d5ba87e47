"""Signal of windows, of any region and of a whole genome, from the network in evaluation mode."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scatacformer._io import scratch_folder
from scatacformer.genome import write_bigwig
from scatacformer.nn import NearReference, predict_pairs
from scatacformer.sequence import N_CODE
from scatacformer.tracks import WindowData

if TYPE_CHECKING:
    from torch import Tensor, nn

    from scatacformer.nn import EpiformerConfig

    from ._setup import Genome

View = tuple[int, bool]  # shift in bp, reverse strand
Sequences = Callable[[int, bool], np.ndarray]  # one-hot DNA (n, 4, seq_len) of a view
_BASES_AT_ONCE = 1 << 20  # of a minibatch, by default


class Predictor:
    """The network as a function of one-hot DNA, in units of the signal.

    Parameters
    ----------
    module
        (B, 4, L) to (B, n_tracks, n_outputs).
    config
        Its sizes.
    scale
        ``(n_tracks,)``, what a unit of the network's output is of each track.
    rows
        Numbers of the tracks that are wanted.
    batch_size
        Windows in a minibatch. None: a megabase.
    """

    def __init__(
        self,
        module: nn.Module,
        config: EpiformerConfig,
        scale: np.ndarray,
        rows: np.ndarray,
        batch_size: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
        self.module, self.config, self.rows = module, config, rows
        self.scale = np.asarray(scale, dtype=np.float32)[rows][:, None]
        self.batch_size = batch_size or max(1, _BASES_AT_ONCE // config.seq_len)
        self.device = next(module.parameters()).device

    def __call__(self, sequence: np.ndarray) -> np.ndarray:
        """``(n, 4, seq_len)`` to ``(n, n_rows, n_outputs)`` float32."""
        parts = []
        with evaluating(self.module), torch.inference_mode():
            for start in range(0, len(sequence), self.batch_size):
                batch = torch.from_numpy(np.ascontiguousarray(sequence[start : start + self.batch_size]))
                parts.append(self.module(batch.to(self.device))[:, self.rows].float().cpu().numpy())
        return np.concatenate(parts) * self.scale

    def pairs(self, first: np.ndarray, second: np.ndarray, start: int, stop: int) -> np.ndarray:
        """``(n, 4, seq_len)`` twice, equal outside ``[start, stop)``, to ``(2, n, n_rows, n_outputs)`` float32."""
        parts = []
        step = max(1, self.batch_size // 2)
        with evaluating(self.module), torch.inference_mode():
            for begin in range(0, len(first), step):
                one, other = (
                    torch.from_numpy(np.ascontiguousarray(some[begin : begin + step])).to(self.device)
                    for some in (first, second)
                )
                found = predict_pairs(self.module, one, other, start, stop)
                parts.append(torch.stack(found)[:, :, self.rows].float().cpu().numpy())
        return np.concatenate(parts, axis=1) * self.scale

    def near(self, reference: np.ndarray, start: int, stop: int) -> Predictor:
        """The same for sequences that are ``reference`` (4, seq_len) outside ``[start, stop)``, in a part of the time."""
        module, length = self.module, reference.shape[-1]
        x = torch.from_numpy(np.ascontiguousarray(reference)).to(self.device)
        with evaluating(module), torch.inference_mode():
            if isinstance(module, BothStrands):
                turned = NearReference(module.network, x.flip(0, 1), length - stop, length - start)
                module = BothStrands(NearReference(module.network, x, start, stop), turned)
            else:
                module = NearReference(module, x, start, stop)
        found = copy(self)
        found.module = module.train(self.module.training)  # the network keeps its mode
        return found

    def views(self, sequences: Sequences, views: Sequence[View]) -> Iterator[np.ndarray]:
        """The prediction of each view, brought back to the forward strand; each ``(n, n_rows, n_outputs)``."""
        for shift, reverse in views:
            predicted = self(sequences(shift, reverse))
            yield predicted[..., ::-1] if reverse else predicted

    def mean(self, sequences: Sequences, views: Sequence[View]) -> np.ndarray:
        """The mean over views, ``(n, n_rows, n_outputs)`` float32."""
        total: Any = 0.0
        for predicted in self.views(sequences, views):
            total = total + predicted
        return (total / len(views)).astype(np.float32)


class BothStrands(torch.nn.Module):
    """The mean of a network's output for a sequence and for its other strand, with gradients of both.

    ``turned`` is a module for the other strand, if it is another one.
    """

    def __init__(self, network: nn.Module, turned: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.turned = network, network if turned is None else turned
        self.training = network.training

    def forward(self, sequence: Tensor) -> Tensor:
        return (self.network(sequence) + self.turned(sequence.flip(1, 2)).flip(-1)) / 2


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module without dropout and with the statistics of training; in its former mode afterwards."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def views_of(reverse_complement: bool, shifts: Sequence[int]) -> list[View]:
    """All combinations of strands and shifts; ValueError if there are none."""
    if not len(shifts):
        raise ValueError("shifts must hold at least one number of bp, such as 0.")
    return [
        (int(shift), reverse) for reverse in ((False, True) if reverse_complement else (False,)) for shift in shifts
    ]


def predict_windows(
    predictor: Predictor, data: WindowData, views: Sequence[View], progress: bool = True
) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the window, prediction ``(n_rows, n_outputs)``) of all windows, one minibatch in memory."""
    from scatacformer._io import tqdm

    step = predictor.batch_size
    starts = range(0, len(data), step)
    for begin in tqdm(starts, desc="predicting", unit="batch", delay=2, disable=None if progress else True):
        numbers = range(begin, min(begin + step, len(data)))

        def sequences(shift: int, reverse: bool, numbers: range = numbers) -> np.ndarray:
            return np.stack([data.sequence(number, shift, reverse) for number in numbers])

        yield from zip(numbers, predictor.mean(sequences, views), strict=True)


def predict_bins(
    predictor: Predictor, data: WindowData, n_bins: int, views: Sequence[View], progress: bool = True
) -> np.ndarray:
    """Mean over the windows that predict a bin, ``(n_rows, n_bins)`` float32; NaN where none does.

    ``data.first`` is where each window begins among the bins.
    """
    assert data.first is not None
    total = np.zeros((len(predictor.rows), n_bins), dtype=np.float32)
    known = np.zeros(n_bins, dtype=np.float32)
    for number, predicted in predict_windows(predictor, data, views, progress):
        begin = int(data.first[number]) + data.crop
        total[:, begin : begin + predicted.shape[1]] += predicted
        known[begin : begin + predicted.shape[1]] += 1
    with np.errstate(invalid="ignore"):
        return np.where(known > 0, total / np.maximum(known, 1), np.nan).astype(np.float32)


def windows_over(genome: Genome, chrom: str, start_bin: int, n_bins: int, config: EpiformerConfig) -> WindowData:
    """Windows whose predicted parts cover ``n_bins`` bins from ``start_bin`` of a chromosome, side by side.

    They reach beyond the ends of the chromosome where they must: there is N. ``first`` counts from ``start_bin``.
    """
    begin = np.arange(start_bin, start_bin + n_bins, config.n_outputs)
    begin = np.minimum(begin, max(start_bin, start_bin + n_bins - config.n_outputs))  # the last one ends with the bins
    first = np.unique(begin) - config.crop
    names = np.full(len(first), chrom, dtype=object)
    return WindowData(
        genome.fasta, names, first * config.bin_size, config.seq_len, config.bin_size, config.crop,
        conservation=genome.conservation, first=first - start_bin,
    )  # fmt: skip


def predict_interval(
    predictor: Predictor, genome: Genome, chrom: str, start: int, end: int, views: Sequence[View], progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Signal of the bins that an interval touches: ``(n_rows, n_bins)``, and the start of each bin in bp."""
    config = predictor.config
    first, last = start // config.bin_size, -(-end // config.bin_size)
    data = windows_over(genome, chrom, first, last - first, config)
    # a window that is longer than the interval reaches past its last bin
    margin = config.crop
    assert data.first is not None
    n_bins = max(last - first, int(data.first.max()) + margin + config.n_outputs)
    values = predict_bins(predictor, data, n_bins, views, progress)
    return values[:, : last - first], np.arange(first, last) * config.bin_size


def parse_region(region: str, genome: Genome) -> tuple[str, int, int]:
    """``"chr2:127,068,747-127,150,006"`` as (chromosome, start, end) in bp, 0-based and half open.

    Raises ValueError for another form, an unknown chromosome, an empty region, and one beyond an end.
    """
    found = re.fullmatch(r"(.+):([\d,]+)-([\d,]+)", region.strip())
    if found is None:
        raise ValueError(f"a region is written chr2:127068747-127150006, found {region!r}.")
    chrom, start, end = found[1], int(found[2].replace(",", "")), int(found[3].replace(",", ""))
    size = genome.fasta.sizes.get(chrom)
    if size is None:
        raise ValueError(
            f"region {region} is on {chrom!r}, which the FASTA file does not have. It has: "
            f"{', '.join(list(genome.fasta.sizes)[:5])}."
        )
    if not 0 <= start < end <= size:
        raise ValueError(f"region {region} is not within {chrom}, which has {size:,} bp.")
    return chrom, start, end


def write_tracks(
    predictor: Predictor,
    genome: Genome,
    names: Sequence[str],
    folder: Path,
    chromosomes: Sequence[str],
    views: Sequence[View],
) -> list[Path]:
    """Write a bigWig file of each track over whole chromosomes; windows that are all N have no value.

    Predictions go through a temporary file of 4 bytes a bin and track; a chromosome's are in memory.
    """
    config = predictor.config
    sizes = {name: genome.fasta.sizes[name] for name in chromosomes}
    n_bins = {name: -(-size // config.bin_size) for name, size in sizes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder, "predicted") as temporary:
        shape = (len(names), sum(n_bins.values()))
        values = np.memmap(temporary / "values", dtype=np.float32, mode="w+", shape=shape)
        offset = 0
        for chrom in chromosomes:
            data = _with_bases(windows_over(genome, chrom, 0, n_bins[chrom], config), n_bins[chrom])
            n_reached = max(n_bins[chrom], config.n_outputs)  # of a chromosome that is shorter than a window
            values[:, offset : offset + n_bins[chrom]] = predict_bins(predictor, data, n_reached, views)[
                :, : n_bins[chrom]
            ]
            offset += n_bins[chrom]
        paths = []
        for row, name in enumerate(names):
            path = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}.bw"
            write_bigwig(path, sizes, _records(values[row], n_bins, sizes, config.bin_size))
            paths.append(path)
        del values
    return paths


def _with_bases(data: WindowData, n_bins: int) -> WindowData:
    """Without the windows whose predicted part has no base."""
    from dataclasses import replace

    assert data.first is not None
    keep = np.ones(len(data), dtype=bool)
    margin = data.crop * data.bin_size
    for number in range(len(data)):
        begin = int(data.start[number]) + margin
        end = min(begin + data.seq_len - 2 * margin, n_bins * data.bin_size)
        keep[number] = bool((data.fasta.codes(str(data.chrom[number]), begin, end, pad=True) != N_CODE).any())
    return replace(data, chrom=data.chrom[keep], start=data.start[keep], first=data.first[keep])


def _records(
    values: np.ndarray, n_bins: dict[str, int], sizes: dict[str, int], bin_size: int
) -> Iterator[tuple[str, int, int, float]]:
    offset = 0
    for chrom, n in n_bins.items():
        for number, value in enumerate(values[offset : offset + n].tolist()):
            if value == value:  # not NaN
                yield chrom, number * bin_size, min((number + 1) * bin_size, sizes[chrom]), value
        offset += n
