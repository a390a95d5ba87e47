"""What a frozen DNA table adds: nothing at the start, nothing where there is no DNA, and the same in parts."""

from __future__ import annotations

import pytest
import torch

from scatacformer.nn import NetworkConfig, ScAtacNetwork
from scatacformer.nn.scatac import dna

from ._networks import CHROM, N_BINS, N_CHROMS, embed, network, packed, sentences

LENGTHS = (20, 3, 1, 12)
KINDS = [{}, {"embedding": "full"}, {"decoder_input": "full"}, {"embedding": "full", "decoder_input": "full"}]


@pytest.fixture(params=KINDS, ids=str)
def kind(request):
    return request.param


def dna_table(d=5, seed=0):
    x = torch.randn(N_BINS, d, generator=torch.Generator().manual_seed(seed)) * torch.logspace(-2, 2, d) + 100.0
    x[7] = 0
    return x.half()


def with_dna(table=None, **changes):
    table = dna_table() if table is None else table
    module = network(d_dna=table.shape[1], **changes)
    module.embedding.dna.hold(table)
    return module


def test_it_starts_as_the_network_without_it(kind):
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_embed": 8, **kind}
    without = ScAtacNetwork(NetworkConfig(N_BINS, N_CHROMS, **sizes), CHROM)
    module = ScAtacNetwork(NetworkConfig(N_BINS, N_CHROMS, d_dna=5, **sizes), CHROM)
    module.embedding.dna.hold(dna_table())
    weights, expected = module.state_dict(), without.state_dict()
    assert set(weights) - set(expected) and all("embedding.dna" in name for name in set(weights) - set(expected))
    for name, value in expected.items():
        assert torch.equal(weights[name], value), name
    bins = torch.arange(N_BINS)
    assert torch.equal(module.embedding.token_rows(bins), without.embedding.token_rows(bins))
    assert torch.equal(module.embedding.decoder_rows(bins), without.embedding.decoder_rows(bins))


@pytest.mark.parametrize("decoder", ["bilinear", "mlp", "cross_attention"])
def test_it_reaches_encoder_and_decoder_of_bins_that_have_dna(kind, decoder):
    module, other = with_dna(decoder=decoder, **kind), with_dna(dna_table(seed=1), decoder=decoder, **kind)
    batch = packed(sentences(LENGTHS))
    assert not torch.allclose(module.encode(batch).eos, other.encode(batch).eos)
    bins = torch.arange(N_BINS)
    for rows in ("token_rows", "decoder_rows"):
        differ = (getattr(module.embedding, rows)(bins) - getattr(other.embedding, rows)(bins)).abs().amax(1)
        assert differ[7] == 0  # it has none
        assert (differ > 1e-3).sum() == N_BINS - 1
    pooled = [m.embedding.pool(batch["bins"], batch["cu_seqlens"]) for m in (module, other)]
    assert torch.equal(*pooled)  # the pool is not DNA
    assert embed(module, batch)[1].std() > 0.01


def test_columns_are_standardised_and_the_scale_of_the_table_does_not_matter():
    x = dna_table().float()
    module, scaled = with_dna(), with_dna((x * torch.tensor([1.0, 2.0, 0.5, 4.0, 0.25])).half())
    bins = torch.arange(N_BINS)
    a, b = (m.embedding.dna.tokens(bins) for m in (module, scaled))
    torch.testing.assert_close(a, b, atol=2e-2, rtol=1e-2)
    d = module.embedding.dna
    with torch.no_grad():
        d.to_tokens.zero_()[:5] = torch.eye(5)
    standard = d.tokens(bins)[bins != 7][:, :5] * 4**0.5  # rows are of length 1 on average; one column is constant
    torch.testing.assert_close(standard.mean(0), torch.zeros(5), atol=1e-3, rtol=0)
    torch.testing.assert_close(standard[:, 1:].std(0, unbiased=False), torch.ones(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("says", [True, False])
def test_what_is_learned_of_the_dna_of_some_bins_holds_for_bins_that_were_not_seen(says):
    generator = torch.Generator().manual_seed(0)
    kind = torch.randperm(N_BINS, generator=generator) % 3
    code = kind if says else kind[torch.randperm(N_BINS, generator=generator)]
    module = with_dna((torch.eye(3)[code] + 0.1).half())
    z = 2 * torch.eye(3, module.config.d_embed)
    is_open = (torch.arange(3)[:, None] == kind).float()  # (3, N_BINS)
    learned = [module.decoder.from_cell.weight, module.embedding.dna.to_rows]
    optimizer = torch.optim.AdamW(learned, lr=0.02)
    seen, unseen = torch.arange(80), torch.arange(80, N_BINS)

    def score(bins):
        return module.decoder.from_cell(z) @ module.embedding.decoder_rows(bins).T

    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(score(seen), is_open[:, seen]).backward()
        optimizer.step()
    right = (score(unseen).argmax(0) == kind[unseen]).float().mean()
    assert right > 0.9 if says else right < 0.6


def test_a_constant_column_counts_as_zero():
    x = dna_table().clone()
    x[:, 2] = 3.0
    x[7] = 0
    module = with_dna(x)
    before = module.embedding.dna.tokens(torch.arange(N_BINS))
    with torch.no_grad():
        module.embedding.dna.to_tokens[:, 2] += 5
    assert torch.equal(module.embedding.dna.tokens(torch.arange(N_BINS)), before)


def test_many_bins_in_parts_give_the_same_numbers_and_gradients(monkeypatch):
    module, bins = with_dna(), torch.arange(N_BINS).repeat(2)
    weight = module.embedding.dna.to_tokens

    def run():
        weight.grad = None
        out = module.embedding.dna.tokens(bins)
        (out**2).sum().backward()
        with torch.no_grad():
            return out.detach(), weight.grad.clone(), module.embedding.dna.tokens(bins)

    whole = run()
    monkeypatch.setattr(dna, "ROWS_AT_ONCE", 50)
    for found, expected in zip(run(), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert whole[1].abs().max() > 0


def test_the_table_is_frozen_half_and_no_weight():
    module = with_dna()
    assert not any(name.endswith(("dna.table", "dna.bits")) for name in module.state_dict())
    assert module.embedding.dna.table.dtype == torch.float16
    assert not any(p.shape == (N_BINS, 5) for p in module.parameters())
    batch = packed(sentences(LENGTHS))
    module.encode(batch).eos.sum().backward()
    assert module.embedding.dna.to_tokens.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_of_another_type_keeps_its_table(dtype):
    module, bins = with_dna(), torch.arange(N_BINS)
    table, expected = module.embedding.dna.table.clone(), module.embedding.dna.tokens(bins)
    module.to(dtype)
    assert torch.equal(module.embedding.dna.table, table)
    found = module.embedding.dna.tokens(bins)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_what_is_no_table_of_these_bins_is_refused():
    module = network(d_dna=5)
    with pytest.raises(RuntimeError, match="has no DNA table"):
        module.encode(packed(sentences(LENGTHS)))
    for table, message in (
        (dna_table()[:-1], r"shape \(119, 5\); expected float16 and \(120, 5\)"),
        (dna_table().float(), "expected float16 and"),
        (torch.zeros(N_BINS, 5).half(), "is zero everywhere"),
        (torch.full((N_BINS, 5), torch.nan).half(), "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            module.embedding.dna.hold(table)
    with pytest.raises(ValueError, match="d_dna is .*; expected 0 or more"):
        NetworkConfig(5, 1, d_dna=-1)
