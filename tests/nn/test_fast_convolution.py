"""The fast convolution has the numbers of the plain one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scatacformer.nn.fast_convolution import convolve, transform_weight


@pytest.mark.parametrize(("n", "narrow", "wide"), [(1, 3, 2), (64, 20, 33)])
def test_convolution_equals_the_plain_one(n: int, narrow: int, wide: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4 * n + 4, narrow, generator=generator)
    weight = torch.randn(wide, narrow, 5, generator=generator)
    expected = F.conv1d(rows.double().t()[None], weight.double())[0].t()  # (4 n, wide)
    found = convolve(rows, transform_weight(weight))
    assert found.shape == (4, n, wide)
    found = found.transpose(0, 1).flatten(0, 1)
    assert float((found - expected).abs().max() / expected.std()) < 5e-5
    exact = convolve(rows.double(), transform_weight(weight.double())).transpose(0, 1).flatten(0, 1)
    torch.testing.assert_close(exact, expected, rtol=1e-10, atol=1e-10)
