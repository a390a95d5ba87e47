"""What a bin and its surroundings are made of: hits of known motifs and frequencies of k-mers, read by perceptrons.

For data of a few megabases, from which no convolution learns motifs. Read from top to bottom: perceptrons, what they
read, how motifs and k-mers are counted. Both strands are counted together, so that the output for the other strand is
the output in reverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# widths in bp of the surroundings over which hits and k-mers are averaged; the frequent k-mers tell fewer of them apart
MOTIF_WIDTHS, FIVE_MER_WIDTHS, FOUR_MER_WIDTHS = (128, 384, 1152, 4224), (384,), (2176, 8320)
LINEAR_SHARE = 0.3  # chosen on fold 0 of the benchmark: .3 of .3, .5 and .7
PENALTIES = (0.5, 1.5, 5.0, 15.0)  # of ridge, for each bin that it learns from
TILE = 4096  # positions that are scanned at a time: the scores of all motifs there stay in the cache

Minibatch = tuple[Tensor, Tensor]  # sequences, log2(signal + 1)


@dataclass(frozen=True)
class CompositionConfig:
    """Sizes of a :class:`Composition`.

    ``n_motifs`` may be 0: k-mers alone. ``motif_width`` is the odd number of positions that all motifs are padded to.
    ``n_perceptrons`` of ``width`` hidden units each, whose mean is the prediction; with ``linear``, that mean and, for
    ``LINEAR_SHARE`` of it, ridge regression on the same counts, which :meth:`Composition.fit_line` solves. ``input_dropout`` is that of what is
    counted, ``dropout`` that of hidden units.
    """

    n_tracks: int
    bin_size: int = 128
    n_motifs: int = 0
    motif_width: int = 1
    width: int = 128
    n_perceptrons: int = 4
    input_dropout: float = 0.35
    dropout: float = 0.5
    linear: bool = False

    def __post_init__(self) -> None:
        for name, least in (("n_motifs", 0), ("motif_width", 1), ("width", 1), ("n_perceptrons", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}.")
        if self.motif_width % 2 == 0:
            raise ValueError(f"motif_width is {self.motif_width}; expected an odd number of positions.")
        for name in ("input_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 ... 1 (1 excluded).")


class Composition(nn.Module):
    """DNA to log2(signal + 1) of every bin and track.

    It begins with a constant of each track, whatever the sequence. Motifs are set by :meth:`set_motifs`; :meth:`standardise` must
    have seen sequences before the first training step.
    """

    weight: Tensor
    threshold: Tensor
    mean: Tensor
    std: Tensor
    line_weight: Tensor
    line_bias: Tensor

    def __init__(self, config: CompositionConfig) -> None:
        super().__init__()
        self.config = config
        widths = (MOTIF_WIDTHS, FIVE_MER_WIDTHS, FOUR_MER_WIDTHS)
        self.widths = [_in_bins(some, config.bin_size) for some in widths]
        self.sizes = [config.n_motifs, len(_columns(5)[1]), len(_columns(4)[1])]
        n_columns = sum(size * len(some) for size, some in zip(self.sizes, self.widths, strict=True))
        self.register_buffer("weight", torch.zeros(2 * config.n_motifs, 4, config.motif_width))
        self.register_buffer("threshold", torch.zeros(2 * config.n_motifs))
        self.register_buffer("mean", torch.zeros(n_columns, 1))
        self.register_buffer("std", torch.ones(n_columns, 1))
        if config.linear:
            self.register_buffer("line_weight", torch.zeros(n_columns, config.n_tracks))
            self.register_buffer("line_bias", torch.zeros(config.n_tracks))
        k, width = config.n_perceptrons, config.width
        self.first = nn.Sequential(nn.Dropout(config.input_dropout), nn.Linear(n_columns, k * width))
        self.second = _Side(k, width, width)
        self.last = _Side(k, width, config.n_tracks)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, sequence: Tensor, crop: int = 0) -> Tensor:
        """``(B, 4, L)`` one-hot × factor to ``(B, n_perceptrons, n_tracks, L / bin_size - 2 crop)``."""
        return self.logs(self.count(sequence), crop)

    def count(self, sequence: Tensor) -> Tensor:
        """Hits and k-mers of each bin by itself, ``(B, n_counts, n_bins)``, which training does not change."""
        with torch.autocast(sequence.device.type, enabled=False):
            x = sequence if sequence.dtype == torch.float64 else sequence.float()
            x = x / x.detach().sum(1, keepdim=True).clamp_min(1)  # with conservation too, a base is one base
            hits = motif_hits(x, self.weight, self.threshold, self.config.bin_size)
            return torch.cat([hits, *(kmer_counts(x, k, self.config.bin_size) for k in (5, 4))], 1)

    def logs(self, counts: Tensor, crop: int = 0) -> Tensor:
        """What :meth:`count` returns to the output of :meth:`forward`."""
        columns = ((self._columns(counts, crop) - self.mean) / self.std).transpose(1, 2)
        hidden = self.first(columns)  # (B, n_outputs, n_perceptrons · width)
        hidden = hidden.unflatten(2, (self.config.n_perceptrons, -1)).transpose(1, 2)
        hidden = self.second(self.dropout(F.gelu(hidden)))
        logs: Tensor = self.last(self.dropout(F.gelu(hidden))).transpose(2, 3)
        if self.training or not self.config.linear:  # perceptrons learn by themselves
            return logs
        line = (columns @ self.line_weight + self.line_bias).transpose(1, 2)[:, None]
        return (1 - LINEAR_SHARE) * logs + LINEAR_SHARE * line

    def _columns(self, counts: Tensor, crop: int) -> Tensor:
        """Counts around each bin, ``(B, n_columns, n_outputs)``."""
        parts = [
            _around(values, width)
            for values, widths in zip(counts.split(self.sizes, 1), self.widths, strict=True)
            for width in widths
        ]
        columns = torch.cat(parts, 1)[..., crop : counts.shape[-1] - crop]
        return (columns + 1).sqrt()  # the spread of a count is then the same where there are few and many

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Sample the weights, as torch does for linear layers; the last layer is 0."""
        linear = self.first[1]
        assert isinstance(linear, nn.Linear)
        for layer, n_inputs in ((linear, linear.in_features), (self.second, self.config.width)):
            bound = n_inputs**-0.5
            for tensor in (layer.weight, layer.bias):
                nn.init.uniform_(tensor, -bound, bound, generator=generator)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @torch.no_grad()
    def start_at(self, logs: Tensor) -> None:
        """The constants to begin with, ``(n_tracks,)``: best the means of log2(signal + 1)."""
        self.last.bias.copy_(logs.repeat(self.config.n_perceptrons))

    @torch.no_grad()
    def fit_line(self, train: Iterable[Minibatch], validation: Iterable[Minibatch], crop: int = 0) -> None:
        """Solve ridge regression on the counts, with the penalty whose squared error on ``validation`` is smallest.

        Minibatches of sequences ``(B, 4, L)`` and of log2(signal + 1) ``(B, n_tracks, n_outputs)``; bins with a NaN in any
        track are left out. :meth:`standardise` comes first.
        """

        def pairs(minibatches: Iterable[Minibatch]) -> Iterator[tuple[Tensor, Tensor]]:
            for sequence, logs in minibatches:
                x = (self._columns(self.count(sequence), crop) - self.mean) / self.std
                x, y = x.transpose(1, 2).flatten(0, 1), logs.to(x).transpose(1, 2).flatten(0, 1)
                known = ~y.isnan().any(1)
                yield x[known], y[known]

        gram: Tensor = torch.zeros(())
        cross: Tensor = torch.zeros(())
        sums: Tensor = torch.zeros(())
        total: Tensor = torch.zeros(())
        n = 0
        for x, y in pairs(train):
            gram, cross = gram + (x.T @ x).double().cpu(), cross + (x.T @ y).double().cpu()
            sums, total, n = sums + x.double().sum(0).cpu(), total + y.double().sum(0).cpu(), n + len(x)
        if not n:
            return
        middle, mean = sums / n, total / n
        values, vectors = torch.linalg.eigh(gram - n * torch.outer(middle, middle))
        turned = vectors.T @ (cross - n * torch.outer(middle, mean))
        weights = [vectors @ (turned / (values.clamp_min(0) + share * n)[:, None]) for share in PENALTIES]
        errors = torch.zeros(len(weights), dtype=torch.float64)
        for x, y in pairs(validation):
            for number, weight in enumerate(weights):
                found = x.double().cpu() @ weight + (mean - middle @ weight)
                errors[number] += (found - y.double().cpu()).square().sum()
        best = weights[int(errors.argmin())]
        self.line_weight.copy_(best)
        self.line_bias.copy_(mean - middle @ best)

    @torch.no_grad()
    def set_motifs(self, weights: list[Tensor], thresholds: Tensor) -> None:
        """Motifs as log-odds ``(4, width)`` each, and the score above which each is a hit, ``(n_motifs,)``, in bits."""
        self.weight.zero_()
        for number, weight in enumerate(weights):
            begin = (self.config.motif_width - weight.shape[1]) // 2
            self.weight[2 * number, :, begin : begin + weight.shape[1]] = weight
            self.weight[2 * number + 1] = self.weight[2 * number].flip(0, 1)
        self.threshold.copy_(thresholds.repeat_interleave(2))

    @torch.no_grad()
    def standardise(self, sequences: Iterable[Tensor], crop: int = 0) -> None:
        """From now on columns have mean 0 and variance 1 over the bins of these minibatches."""
        n, total, square = 0, torch.zeros(()), torch.zeros(())
        for sequence in sequences:
            columns = self._columns(self.count(sequence), crop).transpose(0, 1).flatten(1).double()
            n, total, square = n + columns.shape[1], total + columns.sum(1), square + columns.square().sum(1)
        mean = total / n
        std = (square / n - mean.square()).clamp_min(0).sqrt()
        self.mean.copy_(mean[:, None])
        self.std.copy_(torch.where(std > 1e-4, std, 1.0)[:, None])  # 1: of a motif that occurs nowhere


def signal_of(logs: Tensor) -> Tensor:
    """log2(signal + 1) by each perceptron, ``(B, n_perceptrons, n_tracks, n)``, to the predicted signal, above 0.

    The mean of the perceptrons, but that it turns into 0 smoothly, within about .2, so that changes of a quiet bin can
    be compared.
    """
    return torch.expm1(F.softplus(logs.mean(1), beta=10) * math.log(2))


class _Side(nn.Module):
    """A linear layer of each perceptron, side by side: ``(B, n_perceptrons, n, d)`` to ``(B, n_perceptrons, n, d')``."""

    def __init__(self, n_perceptrons: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_perceptrons, d_in, d_out))
        self.bias = nn.Parameter(torch.zeros(n_perceptrons * d_out))  # one dimension: it does not decay

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias.view(len(self.weight), 1, -1)


def motif_hits(x: Tensor, weight: Tensor, threshold: Tensor, bin_size: int) -> Tensor:
    """By how many bits the best place of each motif in each bin, on either strand, exceeds the motif's threshold.

    ``(B, 4, L)`` to ``(B, n_motifs, n_bins)``; 0 without a hit. ``weight`` has both strands of a motif one after the
    other, ``(2 n_motifs, 4, width)``; a place belongs to the bin of its middle.
    """
    if not len(weight):
        return x.new_zeros(len(x), 0, x.shape[-1] // bin_size)
    best = _by_tiles(x, weight, bin_size, lambda scores: scores.amax(-1))
    return (best - threshold[:, None]).relu().unflatten(1, (-1, 2)).amax(2)


def kmer_counts(x: Tensor, k: int, bin_size: int) -> Tensor:
    """How often each k-mer, or its reverse complement, occurs in each bin: ``(B, 4, L)`` to ``(B, n_kmers, n_bins)``.

    A k-mer belongs to the bin of its middle; one whose middle is between two bins counts half in each. None has an N.
    """
    column, kinds = (torch.from_numpy(part).to(x.device) for part in _columns(k))
    halves = sorted({k // 2, (k - 1) // 2})  # from the first base to the middle, or the two next to it
    if x.requires_grad:
        return _differentiable_counts(x, kinds, k, bin_size)
    n, length, n_kinds = len(x), x.shape[-1], len(kinds)
    bases, known = x.argmax(1), x.sum(1) > 0
    code, whole = bases.new_zeros(n, length - k + 1), known.new_ones(n, length - k + 1)
    for i in range(k):
        code = code * 4 + bases[:, i : i + length - k + 1]
        whole &= known[:, i : i + length - k + 1]
    place = torch.arange(length - k + 1, device=x.device)
    counts = x.new_zeros(n, length // bin_size * n_kinds)
    for half in halves:
        where = column[code] + (place + half) // bin_size * n_kinds
        counts.scatter_add_(1, where, whole.to(x.dtype) / len(halves))
    return counts.view(n, length // bin_size, n_kinds).transpose(1, 2)


def _differentiable_counts(x: Tensor, kinds: Tensor, k: int, bin_size: int) -> Tensor:
    """The same by convolutions, whose matches have gradients."""
    letters = (kinds[:, None] // 4 ** torch.arange(k - 1, -1, -1, device=kinds.device)) % 4
    forward = F.one_hot(letters, 4).transpose(1, 2).to(x)
    weight = torch.stack([forward, forward.flip(1, 2)], 1).flatten(0, 1)  # (2 n_kmers, 4, k)

    def matches(scores: Tensor) -> Tensor:
        return (scores - (k - 1)).relu().unflatten(1, (-1, 2)).amax(2).sum(-1)

    halves = sorted({k // 2, (k - 1) // 2})
    placed = [F.pad(weight, (k // 2 - half, half - (k - 1) // 2)) for half in halves]
    return torch.stack([_by_tiles(x, one, bin_size, matches) for one in placed]).mean(0)


def _by_tiles(x: Tensor, weight: Tensor, bin_size: int, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """Convolve a tile at a time; ``reduce`` takes ``(B, n, n_bins, bin_size)`` to a number for each bin."""
    half, length = weight.shape[2] // 2, x.shape[-1]
    x = F.pad(x, (half, half))

    def scan(tile: Tensor) -> Tensor:
        return reduce(F.conv1d(tile, weight).unflatten(-1, (-1, bin_size)))

    step = max(1, TILE // bin_size) * bin_size
    parts = []
    for start in range(0, length, step):
        tile = x[..., start : min(start + step, length) + 2 * half]
        # for the gradient of a sequence a tile is scanned again: the scores of all tiles are gigabytes
        parts.append(checkpoint(scan, tile, use_reentrant=False) if x.requires_grad else scan(tile))
    return torch.cat(parts, -1)


def _around(values: Tensor, width: int) -> Tensor:
    """Sum over ``width`` bins around each; beyond the ends of a window, bins like those that are there."""
    if width == 1 or not values.shape[1]:
        return values
    n, half = values.shape[-1], width // 2
    place = torch.arange(n, device=values.device)
    first, stop = (place - half).clamp_min(0), (place + half + 1).clamp_max(n)
    sums = F.pad(values.cumsum(-1, dtype=torch.float64), (1, 0))  # whatever the width, two numbers of each bin
    return ((sums[..., stop] - sums[..., first]) * (width / (stop - first))).to(values.dtype)


def _in_bins(widths: tuple[int, ...], bin_size: int) -> list[int]:
    """Widths in bp as odd numbers of bins, each once."""
    return sorted({2 * int(width / bin_size / 2) + 1 for width in widths})


@lru_cache
def _columns(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each k-mer, as a number to the base of 4: its column, ``(4^k,)``; and the k-mer of each column."""
    codes = np.arange(4**k)
    reverse, rest = np.zeros_like(codes), codes
    for _ in range(k):
        reverse, rest = reverse * 4 + 3 - rest % 4, rest // 4
    kinds, column = np.unique(np.minimum(codes, reverse), return_inverse=True)
    return column, kinds
