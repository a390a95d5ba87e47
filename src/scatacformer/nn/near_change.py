"""The signal of sequences that differ from a known one in a few bins only, at a part of the cost.

What convolutions and counts say of a bin depends on the bases around it: of the other sequence they read only the bins that
the difference can reach and their surroundings. The transformer reads all bins of both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from scatacformer.nn.epiformer import EpiformerNetwork, SeparateTracks

Known = tuple[Tensor, Tensor | None]  # bins of the convolutions (none if they are silent), counts of the composition


def predict_pairs(network: nn.Module, first: Tensor, second: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """The output of a network of Epiformer for each of two sequences that are the same outside ``[start, stop)``.

    Parameters
    ----------
    network
        In evaluation mode, without gradients.
    first, second
        ``(B, 4, L)`` each, as the network reads them.
    start, stop
        Positions in bp that all differences of the minibatch lie between.

    Returns
    -------
    ``(B, n_tracks, n_outputs)`` of the first and of the second; as the network returns them, but for rounding.
    """
    pairs = []
    for one in _networks(network):
        known = _read(one, first)
        pairs.append((one.predict(*known), one.predict(*_changed(one, known, second, start, stop))))
    return torch.cat([a for a, _ in pairs], 1), torch.cat([b for _, b in pairs], 1)


class NearReference(nn.Module):
    """A network of Epiformer for sequences that are a reference outside ``[start, stop)``, which is read once.

    Parameters
    ----------
    network
        In evaluation mode, without gradients.
    reference
        ``(4, L)``, as the network reads it.
    start, stop
        Positions in bp between which sequences may differ from it.
    """

    def __init__(self, network: nn.Module, reference: Tensor, start: int, stop: int) -> None:
        super().__init__()
        self.network, self.start, self.stop = network, start, stop
        self.known = [_read(one, reference[None]) for one in _networks(network)]

    def forward(self, sequence: Tensor) -> Tensor:
        """``(B, 4, L)`` to ``(B, n_tracks, n_outputs)``."""
        return torch.cat(
            [
                one.predict(*_changed(one, known, sequence, self.start, self.stop))
                for one, known in zip(_networks(self.network), self.known, strict=True)
            ],
            dim=1,
        )


def convolution_reach(bin_size: int) -> int:
    """How many bp beyond its ends an output bin of the convolutions depends on.

    7 of the stem's 15 taps, and 2 positions of every block of the tower, each of twice as many bp as before it.
    """
    return 7 + 2 * (bin_size - 2)


def _networks(network: nn.Module) -> list[EpiformerNetwork]:
    networks = network.networks if isinstance(network, SeparateTracks) else [network]
    return [one for one in networks if isinstance(one, EpiformerNetwork)]


def _read(network: EpiformerNetwork, sequence: Tensor) -> Known:
    composition = network.composition
    silent = composition is not None and network.is_silent()
    bins = sequence.new_zeros(0) if silent else network.conv(sequence)
    return bins, None if composition is None else composition.count(sequence)


def _changed(network: EpiformerNetwork, known: Known, sequence: Tensor, start: int, stop: int) -> Known:
    """What :func:`_read` returns of a sequence that differs from the known one between ``start`` and ``stop``."""
    bins, counts = known
    size, length, composition = network.config.bin_size, sequence.shape[-1], network.composition
    span = start // size, -(-stop // size)
    if bins.numel():
        reach = -(-convolution_reach(size) // size)
        bins = _replaced(lambda x: network.conv(x, length), bins, sequence, span, reach, size)
    if composition is not None and counts is not None:
        reach = -(-(composition.config.motif_width // 2 + 3) // size)  # 3: from the middle of a k-mer to its ends
        counts = _replaced(composition.count, counts, sequence, span, reach, size)
    return bins, counts


def _replaced(
    read: Callable[[Tensor], Tensor], known: Tensor, sequence: Tensor, span: tuple[int, int], reach: int, size: int
) -> Tensor:
    """``known`` (B or 1, n, n_bins) with the bins around ``span`` as ``read`` has them of ``sequence`` (B, 4, L)."""
    n_bins = known.shape[-1]
    first, last = max(0, span[0] - reach), min(n_bins, span[1] + reach)  # that can have changed
    begin = max(0, first - reach) // 2 * 2  # an even bin: the fast convolutions then group positions in the same way
    part = read(sequence[..., begin * size : min(n_bins, last + reach) * size])
    out = known.repeat(len(sequence) // len(known), 1, 1)
    out[..., first:last] = part[..., first - begin : last - begin]
    return out
