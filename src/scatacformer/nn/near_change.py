"""The signal of pairs of sequences that differ in a few bins only, which costs little more than that of one of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from scatacformer.nn.epiformer import EpiformerNetwork, SeparateTracks


def predict_pairs(network: nn.Module, first: Tensor, second: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """The output of a network of Epiformer for each of two sequences that are the same outside ``[start, stop)``.

    What convolutions and counts say of a bin depends on the bases around it: for the second sequence they read only
    the bins that the difference can reach and their surroundings. The transformer reads all bins of both.

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
    if isinstance(network, SeparateTracks):
        parts = [predict_pairs(one, first, second, start, stop) for one in network.networks]
        return torch.cat([one for one, _ in parts], 1), torch.cat([other for _, other in parts], 1)
    assert isinstance(network, EpiformerNetwork)
    size, length, composition = network.config.bin_size, first.shape[-1], network.composition
    low, high = start // size, -(-stop // size)
    first_bins = second_bins = first.new_zeros(0)
    if composition is None or not network.is_silent():
        first_bins = network.conv(first)
        reach = -(-convolution_reach(size) // size)
        second_bins = _changed(lambda x: network.conv(x, length), first_bins, second, low, high, reach, size)
    if composition is None:
        return network.predict(first_bins), network.predict(second_bins)
    counts = composition.count(first)
    reach = -(-(composition.config.motif_width // 2 + 3) // size)  # 3: from the middle of a k-mer to its ends
    changed = _changed(composition.count, counts, second, low, high, reach, size)
    return network.predict(first_bins, counts), network.predict(second_bins, changed)


def convolution_reach(bin_size: int) -> int:
    """How many bp beyond its ends an output bin of the convolutions depends on.

    7 of the stem's 15 taps, and 2 positions of every block of the tower, each of twice as many bp as before it.
    """
    return 7 + 2 * (bin_size - 2)


def _changed(
    read: Callable[[Tensor], Tensor], known: Tensor, sequence: Tensor, low: int, high: int, reach: int, size: int
) -> Tensor:
    """``known`` (B, n, n_bins) with the bins around ``low`` to ``high`` as ``read`` has them of ``sequence``."""
    n_bins = known.shape[-1]
    first, last = max(0, low - reach), min(n_bins, high + reach)  # that can have changed
    begin = max(0, first - reach) // 2 * 2  # an even bin: the fast convolutions then group positions in the same way
    end = min(n_bins, last + reach)
    part = read(sequence[..., begin * size : end * size])
    out = known.clone()
    out[..., first:last] = part[..., first - begin : last - begin]
    return out
