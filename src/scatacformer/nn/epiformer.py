"""Epiformer's network (Li et al., Science 2023): DNA to the signal of each track in bins of 128 bp.

Read from top to bottom: sizes, network, convolutions, transformer, head. Modules have the names of the published
tensors, so that the authors' weights load as they are. Two things differ from the published code, not the prediction:
positions are never expanded to (L, L, d_head), and the output has no dropout (a tenth of the published ones were ln 2).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scatacformer.nn import fast_convolution
from scatacformer.nn.composition import Composition, CompositionConfig, signal_of

SIZES: dict[str, dict[str, Any]] = {
    # small: minutes on a laptop. base: the published geometry, 54,819,693 parameters with one track
    "small": {"d_model": 96, "d_stem": 64, "n_layers": 2, "n_heads": 4, "d_feedforward": 192, "dropout": 0.1},
    "base": {"d_model": 768, "d_stem": 384, "n_layers": 8, "n_heads": 4, "d_feedforward": 2048, "dropout": 0.4},
}
TILE = 1024  # positions of a tile on a CPU: its activations stay in the cache
BLOCK = 128  # queries of a block of the attention


@dataclass(frozen=True)
class EpiformerConfig:
    """Sizes of an :class:`EpiformerNetwork`; the defaults are those of the published network.

    ``seq_len`` is the length of a sequence window in bp, ``bin_size`` that of an output bin (a power of two), ``crop``
    the number of bins on each side that are read and not predicted. ``d_stem`` is the number of channels after the
    first convolution; they grow geometrically to ``d_model``. ``dropout`` is that of the transformer,
    ``head_dropout`` that of the head. With ``composition`` the network has a :class:`Composition` beside the published
    layers, of ``n_motifs`` motifs that are padded to ``motif_width`` positions, and with ``n_perceptrons`` perceptrons
    of ``d_composition`` hidden units (``linear``: and ridge); both predict log2(signal + 1). ValueError: wrong sizes.
    """

    n_tracks: int
    seq_len: int = 98_304
    bin_size: int = 128
    crop: int = 64
    d_stem: int = 384
    d_model: int = 768
    n_layers: int = 8
    n_heads: int = 4
    d_feedforward: int = 2048
    dropout: float = 0.4
    head_dropout: float = 0.1
    composition: bool = False
    n_motifs: int = 0
    motif_width: int = 1
    d_composition: int = 128
    n_perceptrons: int = 4
    linear: bool = False

    def __post_init__(self) -> None:
        for name in ("n_tracks", "d_stem", "d_model", "n_layers", "n_heads", "d_feedforward"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")
        if self.bin_size < 2 or self.bin_size & (self.bin_size - 1):
            raise ValueError(f"bin_size is {self.bin_size}; expected a power of two.")
        if self.seq_len < self.bin_size or self.seq_len % self.bin_size:
            nearest = max(1, round(self.seq_len / self.bin_size)) * self.bin_size
            raise ValueError(
                f"seq_len is {self.seq_len}; expected a multiple of bin_size ({self.bin_size} bp). "
                f"The nearest is {nearest}."
            )
        if self.crop < 0 or 2 * self.crop >= self.n_bins:
            raise ValueError(
                f"crop is {self.crop} bins on each side, which leaves none of the {self.n_bins} bins of a window."
            )
        if self.d_model % self.n_heads or self.d_model % 2:
            raise ValueError(f"d_model ({self.d_model}) must be even and a multiple of n_heads ({self.n_heads}).")
        if self.composition:
            self.composition_config  # noqa: B018 - checks its sizes
        for name in ("dropout", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 ... 1 (1 excluded).")

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> EpiformerConfig:
        """A preset, ``"small"`` or ``"base"``, with changes (None: keep the preset's value)."""
        if size not in SIZES:
            raise ValueError(f"size is {size!r}; expected one of {tuple(SIZES)}.")
        return cls(**SIZES[size] | {name: value for name, value in changes.items() if value is not None})

    @property
    def composition_config(self) -> CompositionConfig:
        """Sizes of the :class:`Composition`."""
        sizes = (self.n_motifs, self.motif_width, self.d_composition, self.n_perceptrons)
        return CompositionConfig(self.n_tracks, self.bin_size, *sizes, linear=self.linear)

    @property
    def n_bins(self) -> int:
        """Bins of a whole window."""
        return self.seq_len // self.bin_size

    @property
    def n_outputs(self) -> int:
        """Bins of a window that are predicted."""
        return self.n_bins - 2 * self.crop

    @property
    def channels(self) -> list[int]:
        """Channels after the stem and after each block of the tower (384, 431, 484, 543, 610, 684, 768)."""
        n_blocks = int(math.log2(self.bin_size)) - 1
        growth = (self.d_model / self.d_stem) ** (1 / n_blocks) if n_blocks else 1.0
        middle = [round(self.d_stem * growth**i) for i in range(n_blocks)]
        return [*middle, self.d_model] if n_blocks else [self.d_model]

    def to_dict(self) -> dict[str, Any]:
        """All sizes by name, as in ``config.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> EpiformerConfig:
        """From a dictionary; unknown keys are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in content.items() if name in known})


class EpiformerNetwork(nn.Module):
    """One-hot DNA, weighted by conservation, to the expected signal of every track.

    Weights are initialised from ``seed`` alone.
    """

    def __init__(self, config: EpiformerConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.conv = _Convolutions(config)
        self.trans = _Transformer(config)
        self.ptw = _Head(config)
        self.composition = Composition(config.composition_config) if config.composition else None
        self.initialise(torch.Generator().manual_seed(seed))

    def forward(self, sequence: Tensor) -> Tensor:
        """``(B, 4, L)`` one-hot × exp(conservation) to ``(B, n_tracks, L / bin_size - 2 crop)``, the expected signal.

        L is any multiple of ``bin_size`` up to ``seq_len`` of the configuration that is longer than the crop.
        """
        if self.composition is not None:
            return signal_of(self.logs(sequence))
        return self.predict(self.conv(sequence))

    def predict(self, bins: Tensor, counts: Tensor | None = None) -> Tensor:
        """The expected signal from what the convolutions (``bins``) and the composition return of a sequence."""
        if counts is None:
            return F.softplus(self._correction(bins))
        assert self.composition is not None
        logs = _full(self.composition.logs(counts, self.config.crop))
        return signal_of(logs if self.is_silent() else logs + self._correction(bins)[:, None])

    def logs(self, sequence: Tensor, counts: Tensor | None = None) -> Tensor:
        """log2(signal + 1) by each perceptron of the composition, ``(B, n_perceptrons, n_tracks, ...)``.

        They learn by themselves, and their mean is the prediction; what the convolutions add is common to them.
        ``counts`` is what :meth:`Composition.count` returns, if it is known already.
        """
        assert self.composition is not None
        counts = self.composition.count(sequence) if counts is None else counts
        logs = _full(self.composition.logs(counts, self.config.crop))
        return logs if self.is_silent() else logs + self._correction(self.conv(sequence))[:, None]

    def _correction(self, bins: Tensor) -> Tensor:
        return _full(self.ptw(self.trans(bins.transpose(1, 2))))  # (B, n_bins, d_model) between them

    def is_silent(self) -> bool:
        """Whether the convolutions add nothing and are not about to learn: the composition alone was trained."""
        last: Any = self.ptw.linear[0]
        learns = self.training and torch.is_grad_enabled() and last.weight.requires_grad
        return not learns and not bool(last.weight.any() or last.bias.any())

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Sample all weights.

        Convolutions preserve the variance of their input (He et al. 2015): with torch's narrower default, the output
        hardly depends on the sequence before training. Relative positions are N(0, 1 / d_head), linear as in torch."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=module.embedding_dim**-0.5, generator=generator)
            elif isinstance(module, nn.Conv1d):
                nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        last: Any = self.ptw.linear[0]
        nn.init.constant_(last.bias, math.log(math.e - 1))  # the output begins around 1, the mean
        if self.composition is not None:
            self.composition.initialise(generator)
            nn.init.zeros_(last.weight)  # what the convolutions add is a correction
            nn.init.zeros_(last.bias)


def _full(values: Tensor) -> Tensor:
    """At least float32."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


class SeparateTracks(nn.Module):
    """A network for each track, none of which sees another: the same input and output as one for all tracks."""

    def __init__(self, config: EpiformerConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        one = replace(config, n_tracks=1)
        self.networks = nn.ModuleList(EpiformerNetwork(one, seed + track) for track in range(config.n_tracks))

    def forward(self, sequence: Tensor) -> Tensor:
        return torch.cat([network(sequence) for network in self.networks], dim=1)

    def logs(self, sequence: Tensor, counts: Tensor | None = None) -> Tensor:
        """As :meth:`EpiformerNetwork.logs`."""
        networks = [network for network in self.networks if isinstance(network, EpiformerNetwork)]
        return torch.cat([network.logs(sequence, counts) for network in networks], dim=2)


# convolutions: (B, 4, L) -> (B, d_model, L / bin_size) ----------------------------------------------------------------


class _Convolutions(nn.Module):
    def __init__(self, config: EpiformerConfig) -> None:
        super().__init__()
        first, *others = config.channels
        self.stem = _Stage(nn.Conv1d(4, first, 15, padding=7), _pointwise(first), _PoolByTwo())
        widths = zip(config.channels[:-1], others, strict=True)
        self.tower = nn.Sequential(
            *(_Stage(_widen(narrow, wide), _pointwise(wide), _PoolByTwo()) for narrow, wide in widths)
        )

    def forward(self, x: Tensor, length: int | None = None) -> Tensor:
        """``length``: of the sequence that ``x`` is a part of, and that is computed in the same way."""
        length = length or x.shape[-1]
        for stage in (self.stem, *self.tower):
            x, length = stage(x, length), length // 2
        return x


def _widen(narrow: int, wide: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm1d(narrow), nn.GELU(), nn.Conv1d(narrow, wide, 5, padding=2))


def _pointwise(width: int) -> _Residual:
    return _Residual(nn.Sequential(nn.BatchNorm1d(width), nn.GELU(), nn.Conv1d(width, width, 1)))


class _Residual(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return x + self.module(x)


class _PoolByTwo(nn.Module):
    """The larger of two neighbours: max pooling, in half the time of ``nn.MaxPool1d`` on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, 2)).max(-1).values


class _Stage(nn.Sequential):
    """Convolution, pointwise residual, pooling by two: (B, C, L) to (B, C', L / 2)."""

    def forward(self, x: Tensor, length: int = 0) -> Tensor:
        plain = self.training or torch.is_grad_enabled() or x.device.type != "cpu"
        if plain or torch.is_autocast_enabled("cpu") or (length or x.shape[-1]) < TILE:
            return super().forward(x)
        rows = x.transpose(1, 2).contiguous()  # (B, L, C), without a copy after the stage before
        if len(rows) == 1:  # no copy
            return self._tiled(rows[0])[None].transpose(1, 2)
        return torch.stack([self._tiled(sample) for sample in rows]).transpose(1, 2)

    def _tiled(self, x: Tensor) -> Tensor:
        """One sample ``(L, C)`` to ``(L / 2, C')``, a tile at a time.

        Without gradients a tile needs its neighbours' input only, so that its numbers stay in the cache from the
        first norm to the pooling, and convolutions of five taps take the fast way of :mod:`.fast_convolution`.
        """
        first, residual, _ = self
        norm, convolution = (first[0], first[2]) if isinstance(first, nn.Sequential) else (None, first)
        assert isinstance(convolution, nn.Conv1d) and isinstance(residual, _Residual)
        inner_norm, _, pointwise = residual.module.children()
        assert isinstance(inner_norm, nn.BatchNorm1d) and isinstance(pointwise, nn.Conv1d)
        bias, inner_bias = convolution.bias, pointwise.bias
        assert bias is not None and inner_bias is not None and (norm is None or isinstance(norm, nn.BatchNorm1d))
        affine = None if norm is None else _affine(norm)
        scale, shift = _affine(inner_norm)
        shift = shift + bias * scale  # of what has not got its bias yet
        bias = bias + inner_bias
        weight = convolution.weight
        fast = weight.shape[2] == fast_convolution.TAPS
        taps = fast_convolution.transform_weight(weight) if fast else weight.permute(2, 1, 0).flatten(0, 1).contiguous()
        mix = pointwise.weight[:, :, 0].t()  # (C', C')
        half, length = weight.shape[2] // 2, len(x)
        out = x.new_empty(-(-length // 4), 2, weight.shape[0])
        for start in range(0, length, TILE):
            stop = min(start + TILE, length)
            n = -(-(stop - start) // 4)
            low, high = max(start - half, 0), min(start + 4 * n + half, length)
            tile = x[low:high] if affine is None else F.gelu(torch.addcmul(affine[1], x[low:high], affine[0]))
            if high - low < 4 * n + 2 * half:  # at an end: zeros, as the convolution pads
                tile = F.pad(tile, (0, 0, low - start + half, start + 4 * n + half - high))
            if fast:
                y = fast_convolution.convolve(tile, taps)  # (4, n, C'), of positions 4 i, 4 i + 1, ...
            else:  # few channels: one product over all taps, whose rows overlap in memory
                width = tile.shape[1]
                rows = tile.as_strided((4, n, len(taps)), (width, 4 * width, 1))
                y = (rows.flatten(0, 1) @ taps).unflatten(0, (4, n))
            inner = F.gelu(torch.addcmul(shift, y, scale)).flatten(0, 1)
            y.flatten(0, 1).addmm_(inner, mix)
            pooled = out[start // 4 : start // 4 + n]
            torch.add(torch.maximum(y[0], y[1]), bias, out=pooled[:, 0])
            torch.add(torch.maximum(y[2], y[3]), bias, out=pooled[:, 1])
        return out.flatten(0, 1)[: length // 2]


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Batch norm in evaluation, ``(C,)`` each: what rows are multiplied by, and what is added."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


# transformer: (B, n_bins, d_model) -> the same ------------------------------------------------------------------------


class _Transformer(nn.Module):
    def __init__(self, config: EpiformerConfig) -> None:
        super().__init__()
        self.max_bins = config.n_bins
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.n_layers))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > self.max_bins:
            raise ValueError(f"a window of {x.shape[1]} bins is longer than the {self.max_bins} of the configuration.")
        x = x + _sinusoid(x.shape[1], x.shape[2], x)
        for layer in self.layers:
            x = layer(x)
        return x


def _sinusoid(n: int, d_model: int, like: Tensor) -> Tensor:
    """Absolute positions (Vaswani et al. 2017), ``(n, d_model)``: sines in even columns, cosines in odd ones."""
    position = torch.arange(n, device=like.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, d_model, 2, device=like.device) * (-math.log(10000.0) / d_model))
    angle = position * rate  # (n, d_model / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(like.dtype)


class _Layer(nn.Module):
    """Post-norm: attention, then a feed-forward network with the activation silu(x) · x."""

    def __init__(self, config: EpiformerConfig) -> None:
        super().__init__()
        width, dropout = config.d_model, config.dropout
        self.mha = _RelativeAttention(width, config.n_heads, config.n_bins, dropout)
        self.linear_net = nn.Sequential(
            nn.Linear(width, config.d_feedforward),
            nn.Dropout(dropout),
            _SiluTimesInput(),
            nn.Linear(config.d_feedforward, width),
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.mha(x)))
        return self.norm2(x + self.dropout(self.linear_net(x)))


class _SiluTimesInput(nn.Module):
    """The published activation, x² · sigmoid(x): both factors are the same projection, so it does not gate."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x) * x


class _RelativeAttention(nn.Module):
    """Attention with relative keys (Shaw et al. 2018): score(l, r) = q_l · (k_r + e_{l-r}) / sqrt(d_head).

    ``distance_embedding`` has ``2 max_bins - 1`` rows, that of distance l - r at ``l - r + max_bins - 1``. There is
    no projection of the output. Queries are taken ``BLOCK`` at a time: the products of m queries with the m + n - 1
    distances that they see are read at an angle, (B, n_heads, m, m + n - 1) numbers, where a table of all pairs would
    have n · n · d_head: 2 MB instead of 453 MB.
    """

    def __init__(self, d_model: int, n_heads: int, max_bins: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.max_bins = n_heads, max_bins
        self.query, self.key, self.value = (nn.Linear(d_model, d_model) for _ in range(3))
        self.distance_embedding = nn.Embedding(2 * max_bins - 1, d_model // n_heads)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        q, k, v = (
            project(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, n_heads, n, d_head)
            for project in (self.query, self.key, self.value)
        )
        q, k = q * q.shape[-1] ** -0.5, k.transpose(-1, -2)
        middle = self.max_bins - 1
        distances = self.distance_embedding.weight[middle - n + 1 : middle + n].flip(0).t()  # n - 1, ..., 1 - n
        blocks = []
        for start in range(0, n, BLOCK):
            some = q[:, :, start : start + BLOCK]  # (B, n_heads, m, d_head)
            stop = start + some.shape[2]
            seen = distances[:, n - stop : 2 * n - 1 - start]  # from stop - 1 to start - n + 1
            scores = some @ k + _diagonals(some @ seen)  # (B, n_heads, m, n)
            blocks.append(self.dropout(scores.softmax(-1)) @ v)  # (B, n_heads, m, d_head)
        return torch.cat(blocks, dim=2).transpose(1, 2).flatten(2)


def _diagonals(products: Tensor) -> Tensor:
    """``(..., m, m + n - 1)`` to ``(..., m, n)``: entry (i, r) is column r - i + m - 1 of row i (Huang et al. 2018)."""
    m, width = products.shape[-2:]
    shifted = F.pad(products, (0, 1)).flatten(-2)[..., :-m]  # every row begins one column later than the one above
    return shifted.unflatten(-1, (m, width))[..., m - 1 :]


# head: (B, n_bins, d_model) -> (B, n_tracks, n_outputs) ---------------------------------------------------------------


class _Head(nn.Module):
    def __init__(self, config: EpiformerConfig) -> None:
        super().__init__()
        width = config.d_model
        self.crop = config.crop
        self.conv = nn.Sequential(
            nn.BatchNorm1d(width), nn.GELU(), nn.Conv1d(width, 2 * width, 1), nn.Dropout(config.head_dropout)
        )
        self.linear = nn.Sequential(nn.Linear(2 * width, config.n_tracks))

    def forward(self, x: Tensor) -> Tensor:
        """Before the softplus."""
        if x.shape[1] <= 2 * self.crop:
            raise ValueError(f"a window of {x.shape[1]} bins has none left after a crop of {self.crop} on each side.")
        kept = x[:, self.crop : x.shape[1] - self.crop].transpose(1, 2)  # (B, d_model, n_outputs)
        return self.linear(self.conv(kept).transpose(1, 2)).transpose(1, 2)  # (B, n_tracks, n_outputs)
