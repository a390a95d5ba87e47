"""A full-size bin table and a full-size decoder input: what they start from, what they learn, what they read."""

from __future__ import annotations

import pytest
import torch

from scatacformer.nn import NetworkConfig
from scatacformer.nn.scatac import decoders

from ._networks import CHROM, N_BINS, embed, network, packed, sentences

LENGTHS = (20, 3, 1, 12)
SIZES = [{"embedding": "full"}, {"decoder_input": "full"}, {"embedding": "full", "decoder_input": "full"}]


@pytest.fixture(params=SIZES, ids=str)
def sizes(request):
    return request.param


@pytest.fixture(params=["bilinear", "mlp", "cross_attention"])
def decoder(request):
    return request.param


def test_order_company_and_padding_do_not_matter(sizes, decoder):
    cells = sentences(LENGTHS)
    expected = embed(network(decoder, **sizes), packed(cells))
    module = network(decoder, attention="padded", **sizes)
    alone = [embed(module, packed([c.flip(0)])) for c in cells]
    for found, e in zip(zip(*alone, strict=True), expected, strict=True):
        torch.testing.assert_close(torch.cat(found), e, atol=1e-5, rtol=1e-5)
    assert expected[1].std() > 0.01


def test_single_pairs_and_blocks_are_scored_alike(sizes, decoder):
    module, batch = network(decoder, **sizes), packed(sentences(LENGTHS))
    context = module.context(module.encode(batch), batch["depth"], batch["batch"])
    bins = torch.argsort(CHROM, stable=True)[::7]
    rows, chrom = module.embedding.decoder_rows(bins), CHROM[bins]
    assert rows.shape == (len(bins), module.config.d_row)
    cell = torch.arange(4).repeat_interleave(len(bins))
    every = [x.repeat(4, *[1] * (x.ndim - 1)) for x in (rows, bins, chrom)]
    for pairs, block in (
        (module.decoder.pairs(context, every[0], every[1], cell, every[2]), module.decoder.block(context, rows, bins, chrom)),
        (module.decoder.kept_pairs(context, every[0], cell, every[2]), module.decoder.kept_block(context, rows, chrom)),
    ):  # fmt: skip
        torch.testing.assert_close(pairs.view(4, -1), block, atol=1e-5, rtol=1e-5)
        assert block.std() > 0.01


def test_a_full_table_starts_where_a_factorised_one_would_and_leaves_it():
    module = network(embedding="full")
    module.embedding.start_tokens(seed=2)
    table, tokens = module.embedding.table.weight, module.embedding.tokens.weight
    assert tokens.shape == (N_BINS, 16)
    assert torch.linalg.matrix_rank(tokens.detach()) == 8  # d_embed
    # bins that are alike in the small table are alike in the full one
    near, found = torch.pdist(table.detach()), torch.pdist(tokens.detach())
    assert torch.corrcoef(torch.stack([near, found]))[0, 1] > 0.8
    again = network(embedding="full")
    again.embedding.start_tokens(seed=2)
    assert torch.equal(again.embedding.tokens.weight, tokens)
    assert not any("project" in name for name in module.state_dict())


def test_a_step_touches_the_rows_that_it_read():
    module, batch = network(embedding="full"), packed(sentences((9, 6)))
    module.encode(batch).eos.sum().backward()
    grad = module.embedding.tokens.weight.grad
    assert grad.is_sparse
    assert sorted(grad.coalesce().indices()[0].tolist()) == sorted(batch["bins"].unique().tolist())


def test_while_the_decoder_learns_alone_full_rows_are_only_read():
    module, batch = network(embedding="full", decoder_input="full"), packed(sentences((9, 6)))
    target = batch["bins"][:4]
    batch |= {
        "target_bins": target, "target_cell": torch.zeros(4, dtype=torch.long), "log_rate": torch.zeros(2),
        "sampled": torch.tensor([0]), "closed": torch.ones(2, 1, dtype=torch.bool), "state_bins": target,
        "state_cell": torch.zeros(4, dtype=torch.long), "state_kept": torch.ones(4, dtype=torch.bool),
    }  # fmt: skip
    module.loss(batch, decoder_only=True)["loss"].backward()
    assert module.embedding.tokens.weight.grad is None
    assert module.decoder.from_cell.weight.grad.abs().max() > 0
    module.loss(batch)["loss"].backward()
    assert module.embedding.tokens.weight.grad.coalesce().values().abs().max() > 0


def test_many_bins_are_read_out_in_parts(monkeypatch):
    module, batch = network("mlp", decoder_input="full"), packed(sentences(LENGTHS))
    whole = embed(module, batch)[1]
    monkeypatch.setattr(decoders, "MAX_HIDDEN", 1000)
    torch.testing.assert_close(embed(module, batch)[1], whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["embedding", "decoder_input"])
def test_unknown_sizes_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 'large'; expected one of .*'full'"):
        NetworkConfig(5, 1, **{name: "large"})
