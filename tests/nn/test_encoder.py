"""What is read of the encoder is what it makes of all tokens, whatever else it leaves out."""

from __future__ import annotations

import pytest
import torch

from scatacformer.nn import NetworkConfig
from scatacformer.nn.scatac.encoder import Encoder


@pytest.mark.parametrize("attention", ["grouped", "padded"])
@pytest.mark.parametrize("lengths", [(9, 4, 30, 4, 12), (7, 7, 7), (11,)])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_tokens_that_are_read_are_those_of_the_whole_output_and_of_its_gradient(attention, lengths, n_layers):
    torch.manual_seed(0)
    config = NetworkConfig(100, 3, d_model=16, n_layers=n_layers, n_heads=2, attention=attention)
    encoder = Encoder(config)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    boundaries = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)
    read = boundaries[:-1].long()[:, None] + torch.tensor([0, 1, 3])
    x = torch.randn(int(boundaries[-1]), 16)

    def run(read_alone):
        tokens = x.clone().requires_grad_()
        encoder.zero_grad()
        out = encoder(tokens, boundaries, read) if read_alone else encoder(tokens, boundaries)[read]
        out.square().sum().backward()
        return out.detach(), tokens.grad, *(p.grad.clone() for p in encoder.parameters())

    for found, expected in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
