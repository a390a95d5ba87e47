"""Both decoders and the pool: order, company, padding, batches and empty cells; attention among empty cells."""

from __future__ import annotations

import pytest
import torch

from scatacformer.nn import BACKENDS, NetworkConfig, ScAtacNetwork, varlen_attention

from ._networks import CHROM, N_BINS, embed, network, packed, sentences

LENGTHS = (20, 3, 1, 33, 20, 0, 12)


@pytest.fixture(params=["bilinear", "mlp"])
def decoder(request):
    return request.param


def assert_same(found, expected):
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, atol=1e-5, rtol=1e-5)


def test_the_order_of_the_bins_changes_neither_embedding_nor_accessibility(decoder):
    module, cells = network(decoder), sentences(LENGTHS)
    shuffled = [c[torch.randperm(len(c), generator=torch.Generator().manual_seed(5))] for c in cells]
    assert not all(torch.equal(a, b) for a, b in zip(cells, shuffled, strict=True))
    assert_same(embed(module, packed(shuffled)), embed(module, packed(cells)))
    z, p = embed(module, packed(sentences((20, 20))))  # which bins are open matters
    assert (z[0] - z[1]).abs().max() > 1e-2
    assert (p[0] - p[1]).abs().max() > 1e-2


@pytest.mark.parametrize("attention", ["grouped", "padded"])
def test_minibatches_may_be_cut_anywhere(decoder, attention):
    module, cells = network(decoder, attention=attention), sentences(LENGTHS)
    whole = embed(module, packed(cells))
    for cut in ([[c] for c in cells], [cells[:2], cells[2:]]):
        parts = [embed(module, packed(part)) for part in cut]
        assert_same([torch.cat(x) for x in zip(*parts, strict=True)], whole)


def test_padding_does_not_matter(decoder):
    cells = packed(sentences(LENGTHS))
    assert_same(embed(network(decoder, attention="padded"), cells), embed(network(decoder, attention="grouped"), cells))


def test_the_encoder_reads_the_tokens_and_the_pool_all_bins():
    module, batch = network(), packed(sentences((20, 10)))
    fewer = batch | {"tokens": batch["bins"][:22], "token_cu_seqlens": torch.tensor([0, 20, 22], dtype=torch.int32)}
    (z, _), (z_fewer, _) = embed(module, batch), embed(module, fewer)
    torch.testing.assert_close(z_fewer[0], z[0], atol=1e-5, rtol=1e-5)
    assert (z_fewer[1] - z[1]).abs().max() > 1e-4
    pool = module.embedding.pool(batch["bins"], batch["cu_seqlens"])
    assert torch.equal(module.encode(fewer, decoder_only=True).z, pool)


def test_before_training_the_embedding_is_the_pool():
    config = NetworkConfig(N_BINS, 3, d_model=16, n_heads=2, d_embed=8)
    module, batch = ScAtacNetwork(config, CHROM), packed(sentences((20, 4, 7)))
    pool = module.embedding.pool(batch["bins"], batch["cu_seqlens"])
    torch.testing.assert_close(module.encode(batch).z, pool)
    assert pool.abs().max() > 1e-3


def test_the_pool_is_the_shrunken_weighted_mean():
    module, cells = network(), sentences((5, 9))
    e = module.embedding
    found = e.pool(packed(cells)["bins"], packed(cells)["cu_seqlens"])
    for row, bins in zip(found, cells, strict=True):
        a, n = e.pool_weight[bins], e.norm_weight[bins]
        mean = (a[:, None] * e.table.weight[bins]).sum(0) / a.sum()
        d_1 = max(float(a.sum() / n.sum()), 1.0)
        torch.testing.assert_close(row, mean * d_1 / ((d_1 - 1) * e.eigenvalue + 1))


def test_a_cell_of_no_bins_lies_at_the_origin_of_the_pool():
    module, batch = network(), packed(sentences((0, 5)))
    assert module.encode(batch, decoder_only=True).z[0].abs().max() == 0
    assert all(x.isfinite().all() for x in embed(module, batch))


def test_regions_are_answered_in_the_order_asked(decoder):
    module, batch = network(decoder), packed(sentences((20, 6)))
    with torch.no_grad():
        context = module.context(module.encode(batch), batch["depth"], batch["batch"])
    whole = module.accessibility(context, torch.arange(N_BINS))
    bins = torch.tensor([70, 3, 3, 119, 0, 41])
    torch.testing.assert_close(module.accessibility(context, bins), whole[:, bins])
    torch.testing.assert_close(module.states(context, bins)[..., 1:].sum(-1), whole[:, bins], atol=1e-6, rtol=1e-5)


def test_the_batch_is_a_covariate_of_the_decoder_alone():
    module, cells = network(), sentences((20, 6))
    z_0, p_0 = embed(module, packed(cells, batch=[0, 0]))
    z_1, p_1 = embed(module, packed(cells, batch=[1, 0]))
    assert torch.equal(z_0, z_1)
    assert (p_0[0] - p_1[0]).abs().max() > 1e-2
    assert torch.equal(p_0[1], p_1[1])


def test_an_unknown_backend_is_refused_when_the_network_is_built():
    with pytest.raises(ValueError, match="attention is 'fast'; expected one of.*grouped"):
        NetworkConfig(10, 2, attention="fast")


def test_groups_must_be_as_many_as_bins():
    with pytest.raises(ValueError, match="group has 5 entries; expected one for each of 10 bins"):
        ScAtacNetwork(NetworkConfig(10, 3), CHROM[:5])


def test_presets_are_changed_by_what_is_named_alone():
    config = NetworkConfig.of_size("base", n_bins=10, n_eos=2, d_model=None, n_layers=3)
    assert (config.d_model, config.n_layers, config.max_tokens) == (512, 3, 6800)
    assert NetworkConfig(**config.to_dict()) == config
    with pytest.raises(ValueError, match="expected a multiple"):
        config.replace(n_heads=7)
    with pytest.raises(ValueError, match="size is 'huge'; expected one of.*small.*base"):
        NetworkConfig.of_size("huge", n_bins=10, n_eos=2)


# ── attention ──────────────────────────────────────────────────────────────────────────────────────────────────────


def tokens(lengths, d_head=4):
    generator = torch.Generator().manual_seed(0)
    qkv = [torch.randn(sum(lengths), 2, d_head, generator=generator) for _ in range(3)]
    return qkv, torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)


@pytest.mark.parametrize("backend", ["grouped", "padded"])
@pytest.mark.parametrize("lengths", [(0, 0), (0, 4, 0, 4, 0), (12,), (3, 3, 3)])
def test_attention_takes_empty_cells_and_single_ones(backend, lengths):
    qkv, cu = tokens(lengths)
    found = varlen_attention(*qkv, cu, backend)
    expected = [varlen_attention(*(x[a:b] for x in qkv), torch.tensor([0, b - a], dtype=torch.int32), backend)
                for a, b in zip(cu[:-1].tolist(), cu[1:].tolist(), strict=True) if b > a]  # fmt: skip
    assert found.shape == (sum(lengths), 2, 4)
    torch.testing.assert_close(found, torch.cat(expected) if expected else found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", ["grouped", "padded"])
def test_a_cell_does_not_see_another(backend):
    qkv, cu = tokens((4, 6, 4))
    before = varlen_attention(*qkv, cu, backend)
    changed = [torch.cat([x[:4], x[4:10] + 3.0, x[10:]]) for x in qkv]
    after = varlen_attention(*changed, cu, backend)
    torch.testing.assert_close(
        after[[*range(4), *range(10, 14)]], before[[*range(4), *range(10, 14)]], atol=1e-6, rtol=0
    )
    assert (after[4:10] - before[4:10]).abs().max() > 0.1


@pytest.mark.parametrize("backend", ["flash", "varlen"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cuda_kernel_is_refused_on_a_cpu(backend, dtype):
    qkv, cu = tokens((3, 2))
    with pytest.raises(ValueError, match=rf"{backend}.*needs a CUDA device.*found cpu.*backend='auto'"):
        varlen_attention(*(x.to(dtype) for x in qkv), cu, backend)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lengths", [(50, 1, 300, 7, 7), (64, 64)])
def test_gradients_of_the_kernels_on_a_gpu(backend, lengths):
    if backend == "flash":
        pytest.importorskip("flash_attn")
    qkv, cu = tokens(lengths, d_head=64)
    weight = torch.randn(qkv[2].shape, generator=torch.Generator().manual_seed(1))
    exact = [x.bfloat16().float().requires_grad_() for x in qkv]
    (varlen_attention(*exact, cu, "padded") * weight).sum().backward()
    half = [x.detach().cuda().bfloat16().requires_grad_() for x in exact]
    (varlen_attention(*half, cu.cuda(), backend).float() * weight.cuda()).sum().backward()
    for x, y in zip(half, exact, strict=True):
        torch.testing.assert_close(x.grad.float().cpu(), y.grad, atol=4e-2, rtol=4e-2)
