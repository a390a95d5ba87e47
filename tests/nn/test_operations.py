"""The arithmetic that the plan of a pretraining is made with counts what torch counts."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scatacformer.nn import NetworkConfig
from scatacformer.nn.scatac.encoder import Encoder


@pytest.mark.parametrize(("size", "length"), [("small", 50), ("small", 300), ("base", 40)])
@pytest.mark.parametrize("decoder", ["bilinear", "cross_attention"])
@pytest.mark.parametrize("training", [False, True])
def test_operations_of_a_token_are_those_that_torch_counts(size, length, decoder, training):
    config = NetworkConfig.of_size(size, n_bins=100, n_eos=5, attention="padded", decoder=decoder)
    x = torch.randn(2 * length, config.d_model, requires_grad=True)
    read = torch.arange(config.n_special) + torch.tensor([[0], [length]])  # first in each sentence
    # the fused kernels of a CPU are not in torch's list; the plain one is counted product by product
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        boundaries = torch.tensor([0, length, 2 * length], dtype=torch.int32)
        y = Encoder(config)(x, boundaries, None if decoder == "cross_attention" else read)
        if training:
            y.sum().backward()
    assert config.operations_per_token(length, training) == pytest.approx(counter.get_total_flops() / len(x))
