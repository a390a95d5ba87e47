"""Every backend is softmax attention within a cell, and nothing of another cell."""

from __future__ import annotations

import pytest
import torch

from scatacformer.nn import varlen_attention
from scatacformer.nn.attention import check_backend, choose_backend

LENGTHS = [5, 0, 17, 5, 1, 5, 17]


def packed(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    qkv = [torch.randn(sum(LENGTHS), 2, 8, generator=generator, requires_grad=True) for _ in range(3)]
    cu = torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32)
    return qkv, cu


def by_hand(q, k, v, cu):
    out = []
    for a, b in zip(cu[:-1].tolist(), cu[1:].tolist(), strict=True):
        score = torch.einsum("qhd,khd->hqk", q[a:b], k[a:b]) / q.shape[-1] ** 0.5
        out.append(torch.einsum("hqk,khd->qhd", score.softmax(-1), v[a:b]))
    return torch.cat(out)


@pytest.mark.parametrize("backend", ["auto", "grouped", "padded"])
def test_backends_agree_with_attention_by_hand_values_and_gradients(backend):
    qkv, cu = packed()
    expected = by_hand(*qkv, cu)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad((expected * weight).sum(), qkv)
    found = varlen_attention(*qkv, cu, backend)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    for a, b in zip(torch.autograd.grad((found * weight).sum(), qkv), gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_cells_of_one_length_take_the_short_way_with_the_same_result():
    q, k, v = (torch.randn(24, 2, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    cu = torch.tensor([0, 8, 16, 24], dtype=torch.int32)
    torch.testing.assert_close(varlen_attention(q, k, v, cu, "grouped"), by_hand(q, k, v, cu), atol=1e-5, rtol=0)


def test_a_backend_that_cannot_run_here_is_refused_with_a_remedy():
    cpu = torch.device("cpu")
    assert choose_backend(cpu, torch.float32) == "grouped"
    with pytest.raises(ValueError, match="needs a CUDA device.*backend='auto'"):
        check_backend("flash", cpu, torch.float32)
    with pytest.raises(ValueError, match="unknown; choose one of"):
        check_backend("loop", cpu, torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backend", ["auto", "varlen"])
def test_cuda_kernels_agree_in_bf16(backend):
    qkv, cu = packed()
    expected = by_hand(*qkv, cu)
    found = varlen_attention(*(x.cuda().bfloat16() for x in qkv), cu.cuda(), backend)
    torch.testing.assert_close(found.float().cpu(), expected, atol=2e-2, rtol=2e-2)
