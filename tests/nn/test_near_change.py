"""A pair of sequences costs little more than one, and its outputs are those of each by itself."""

from __future__ import annotations

import pytest
import torch

from scatacformer.nn import EpiformerConfig, EpiformerNetwork, NearReference, SeparateTracks, predict_pairs
from scatacformer.nn.near_change import convolution_reach

from .test_epiformer import dna, shaken

SIZES = {"n_tracks": 3, "d_stem": 16, "d_model": 32, "n_layers": 1, "n_heads": 2, "d_feedforward": 32}


def changed(first: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    second = first.clone()
    second[..., start:stop] = second[..., start:stop].flip(1)
    return second


def network_of(kind: str, bin_size: int, length: int) -> torch.nn.Module:
    config = EpiformerConfig(seq_len=length, bin_size=bin_size, crop=1, **SIZES)
    if kind == "separate":
        return shaken(SeparateTracks(config))
    if kind == "published":
        return shaken(EpiformerNetwork(config))
    config = EpiformerConfig(
        seq_len=length, bin_size=bin_size, crop=1, composition=True, n_motifs=4, motif_width=9, **SIZES
    )
    network = EpiformerNetwork(config)
    generator = torch.Generator().manual_seed(1)
    assert network.composition is not None
    network.composition.set_motifs([torch.randn(4, 7, generator=generator) for _ in range(4)], torch.full((4,), 2.0))
    torch.nn.init.normal_(network.composition.last.weight, generator=generator)
    if kind == "both":
        torch.nn.init.normal_(network.ptw.linear[0].weight, generator=generator)
    return shaken(network)


@pytest.mark.parametrize("place", [0.0, 0.31, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["published", "separate", "composition", "both"])
@pytest.mark.parametrize(("bin_size", "length"), [(128, 4096), (16, 512)])
def test_a_pair_has_the_outputs_of_each_by_itself(kind, place, bin_size, length):
    network = network_of(kind, bin_size, length)
    first = dna(2, length)
    start = min(int(place * length), length - 2)
    second = changed(first, start, start + 2)
    with torch.inference_mode():
        found = predict_pairs(network, first, second, start, start + 2)
        expected = network(first), network(second)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-4)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # the change is one that can be seen


def test_two_sequences_that_are_equal_have_equal_outputs():
    network = network_of("published", 128, 16_384)
    first = dna(1, 16_384)
    with torch.inference_mode():
        one, other = predict_pairs(network, first, first.clone(), 8_000, 8_001)
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("bin_size", [2, 16, 128])
def test_the_reach_of_the_convolutions_is_that_of_their_gradient(bin_size):
    config = EpiformerConfig(seq_len=32 * bin_size, bin_size=bin_size, crop=1, **SIZES)
    network = shaken(EpiformerNetwork(config)).double()
    reach = convolution_reach(bin_size)
    low, high = 32 * bin_size, 0
    for seed in range(4):
        x = dna(1, 32 * bin_size, seed).double().requires_grad_()
        network.conv(x)[:, :, 16].sum().backward()
        read = x.grad.abs().sum(1)[0].nonzero()[:, 0]
        low, high = min(low, int(read.min())), max(high, int(read.max()))
    assert 16 * bin_size - reach <= low <= 16 * bin_size - reach / 2
    assert 17 * bin_size - 1 + reach / 2 <= high <= 17 * bin_size - 1 + reach


def test_fewer_bases_are_read_of_the_second(monkeypatch):
    network = network_of("published", 128, 16_384)
    read = []
    forward = network.conv.forward
    monkeypatch.setattr(network.conv, "forward", lambda x, length=None: read.append(x.shape[-1]) or forward(x, length))
    first = dna(1, 16_384)
    with torch.inference_mode():
        predict_pairs(network, first, changed(first, 8_000, 8_001), 8_000, 8_001)
    assert read[0] == 16_384 and read[1] <= 16 * 128


@pytest.mark.parametrize("kind", ["published", "separate", "both"])
def test_what_is_near_a_reference_has_the_outputs_of_the_network(kind):
    network = network_of(kind, 16, 512)
    reference = dna(1, 512)[0]
    sequences = torch.cat([changed(reference[None], place, place + 1) for place in (200, 230, 259)])
    with torch.inference_mode():
        near = NearReference(network, reference, 200, 260)
        found, expected = near(sequences), network(sequences)
        torch.testing.assert_close(near(reference[None]), network(reference[None]), atol=2e-5, rtol=2e-4)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-4)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
