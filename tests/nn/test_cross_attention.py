"""``<eos>`` outside the sentence: they hear their cell's tokens, all of them, and nothing else."""

from __future__ import annotations

import pytest
import torch

from scatacformer.nn import BACKENDS, varlen_attention, varlen_cross_attention

from ._networks import N_CHROMS, embed, network, packed, sentences

LENGTHS = (20, 3, 1, 33, 20, 0, 12)
N_QUERIES = 5


def cross_network(**changes):
    return network("cross_attention", **changes)


def qkv(lengths, d_head: int = 4):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(len(lengths), N_QUERIES, 2, d_head, generator=generator)
    k, v = (torch.randn(sum(lengths), 2, d_head, generator=generator) for _ in range(2))
    return q, k, v, torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)


@pytest.mark.parametrize("backend", ["grouped", "padded", "auto"])
@pytest.mark.parametrize("lengths", [LENGTHS, (4, 4, 4), (7,), (0, 2)], ids=str)
def test_attention_of_queries_is_the_softmax_over_their_cell(backend, lengths):
    q, k, v, cu = qkv(lengths)
    found = varlen_cross_attention(q, k, v, cu, backend)
    assert found.shape == q.shape
    for i, (a, b) in enumerate(zip(cu[:-1].tolist(), cu[1:].tolist(), strict=True)):
        weight = torch.softmax(torch.einsum("qhd,khd->hqk", q[i], k[a:b]) / 2, -1)  # sqrt(d_head) = 2
        expected = torch.einsum("hqk,khd->qhd", weight, v[a:b]) if b > a else torch.zeros_like(q[i])
        torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=1e-5)


def test_no_tokens_at_all_give_zeros():
    q, k, v, cu = qkv((0, 0))
    assert not varlen_cross_attention(q, k, v, cu).any()


def test_backends_agree_in_gradient_and_with_self_attention():
    q, k, v, cu = qkv(LENGTHS)
    grads = []
    for backend in ("grouped", "padded"):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        varlen_cross_attention(*leaves, cu, backend).square().sum().backward()
        grads.append([x.grad for x in leaves])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    # a query at a time is a token that attends to its cell
    _, k, v, cu = qkv((N_QUERIES,) * 3)
    q = torch.randn(3, N_QUERIES, 2, 4, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        varlen_cross_attention(q, k, v, cu).flatten(0, 1), varlen_attention(q.flatten(0, 1), k, v, cu)
    )


@pytest.mark.parametrize("backend", ["flash", "varlen"])
def test_a_cuda_kernel_is_refused_on_a_cpu(backend):
    with pytest.raises(ValueError, match=rf"{backend}.*needs a CUDA device"):
        varlen_cross_attention(*qkv((3, 2)), backend)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_kernels_on_a_gpu(backend):
    if backend == "flash":
        pytest.importorskip("flash_attn")
    q, k, v, cu = qkv((50, 1, 0, 300, 7), d_head=64)
    exact = [x.bfloat16().float().requires_grad_() for x in (q, k, v)]
    expected = varlen_cross_attention(*exact, cu, "padded")
    expected.square().sum().backward()
    half = [x.detach().cuda().bfloat16().requires_grad_() for x in exact]
    found = varlen_cross_attention(*half, cu.cuda(), backend)
    found.float().square().sum().backward()
    torch.testing.assert_close(found.float().cpu(), expected, atol=3e-2, rtol=3e-2)
    for x, y in zip(half, exact, strict=True):
        torch.testing.assert_close(x.grad.float().cpu(), y.grad, atol=6e-2, rtol=6e-2)


def test_no_eos_influences_another_nor_the_cell():
    batch = packed(sentences((20, 6)))
    push = torch.linspace(-3, 3, 16)  # one number for all would be lost in the layer norm

    def read(module, changed: int | None):
        with torch.no_grad():
            if changed is not None:
                module.embedding.eos[changed] += push
            cells = module.encode(batch)
            if changed is not None:
                module.embedding.eos[changed] -= push
        return cells

    module = cross_network()
    before = read(module, None)
    for k in range(N_CHROMS):
        after = read(module, k)
        others = [c for c in range(N_CHROMS) if c != k]
        torch.testing.assert_close(after.eos[:, others], before.eos[:, others], atol=1e-6, rtol=0)
        torch.testing.assert_close(after.z, before.z, atol=1e-6, rtol=0)
        assert (after.eos[:, k] - before.eos[:, k]).abs().max() > 0.05
    # within the sentence they do
    within = network("bilinear")
    assert (read(within, 0).eos[:, 1] - read(within, None).eos[:, 1]).abs().max() > 1e-4


def test_the_gradient_of_an_eos_reaches_itself_and_every_bin_that_was_read():
    module, batch = cross_network(), packed(sentences((9, 6)))
    module.encode(batch).eos[0, 1].sum().backward()
    eos = module.embedding.eos.grad
    assert eos[1].abs().max() > 0
    assert not eos[[0, 2]].any()
    rows = module.embedding.table.weight.grad.coalesce()
    hit = rows.indices()[0][rows.values().abs().sum(1) > 0]
    assert sorted(hit.tolist()) == sorted(batch["bins"][:9].tolist())  # of its own cell


def test_the_sentence_holds_cls_and_bins_alone():
    module, batch = cross_network(), packed(sentences(LENGTHS))
    pooled = module.embedding.pool(batch["bins"], batch["cu_seqlens"])
    x, boundaries = module.embedding.sentences(pooled, batch["tokens"], batch["token_cu_seqlens"])
    assert (boundaries[1:] - boundaries[:-1]).tolist() == [n + 1 for n in LENGTHS]
    assert x.shape == (sum(LENGTHS) + len(LENGTHS), 16)


@pytest.mark.parametrize("attention", ["grouped", "padded"])
def test_order_company_and_padding_do_not_matter(attention):
    module, cells = cross_network(attention=attention), sentences(LENGTHS)
    expected = embed(cross_network(attention="grouped"), packed(cells))
    shuffled = [c[torch.randperm(len(c), generator=torch.Generator().manual_seed(5))] for c in cells]
    alone = [embed(module, packed([c])) for c in cells]
    for found in (
        embed(module, packed(cells)),
        embed(module, packed(shuffled)),
        [torch.cat(x) for x in zip(*alone, strict=True)],
    ):
        for f, e in zip(found, expected, strict=True):
            torch.testing.assert_close(f, e, atol=1e-5, rtol=1e-5)
    assert expected[1].std() > 0.01
