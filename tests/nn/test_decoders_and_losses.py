"""Decoders that are split and losses that are chunked give what the plain formulas give, gradients too."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scatacformer.nn.scatac.losses import exhaustive_open_loss, kept_loss, sampled_open_loss

from ._networks import CHROM, N_BINS, network, packed, sentences

LENGTHS = (20, 3, 33, 7)


@pytest.fixture(params=["bilinear", "mlp"])
def decoder(request):
    return request.param


@pytest.fixture
def module_and_batch(decoder):
    return network(decoder), packed(sentences(LENGTHS), batch=[0, 1, 1, 0])


def context_of(module, batch):
    return module.context(module.encode(batch), batch["depth"], batch["batch"])


def gradients(module, loss):
    module.zero_grad()
    loss.backward()
    dense = lambda g: g.to_dense() if g.is_sparse else g
    return {k: dense(p.grad).clone() for k, p in module.named_parameters() if p.grad is not None}


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert sum(g.abs().sum() for g in expected.values()) > 1e-3


def all_pairs(module, context, by_chrom):
    """Logits of every cell at ``by_chrom`` bins through ``pairs``.  (n_cells, n_bins)"""
    n_cells = len(LENGTHS)
    cell, bins = torch.arange(n_cells).repeat_interleave(len(by_chrom)), by_chrom.repeat(n_cells)
    rows = module.embedding.table(bins)
    return module.decoder.pairs(context, rows, bins, cell, CHROM[bins]).view(n_cells, -1)


def test_a_block_is_its_pairs(module_and_batch):
    module, batch = module_and_batch
    bins = torch.argsort(CHROM, stable=True)[5:110]
    weight = torch.randn(len(LENGTHS), len(bins), generator=torch.Generator().manual_seed(0))
    results = []
    for block in (False, True):
        context = context_of(module, batch)
        logits = (
            module.decoder.block(context, module.embedding.table(bins), bins, CHROM[bins])
            if block
            else all_pairs(module, context, bins)
        )
        results.append((logits.detach(), gradients(module, (logits * weight).sum())))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-5, rtol=1e-5)
    assert_same_gradients(results[1][1], results[0][1])


def test_a_kept_block_is_its_pairs(module_and_batch):
    module, batch = module_and_batch
    context, bins = context_of(module, batch), torch.argsort(CHROM, stable=True)
    rows = module.embedding.table(bins)
    block = module.decoder.kept_block(context, rows, CHROM[bins])
    cell = torch.arange(len(LENGTHS)).repeat_interleave(N_BINS)
    pairs = module.decoder.kept_pairs(context, rows.repeat(len(LENGTHS), 1), cell, CHROM[bins].repeat(len(LENGTHS)))
    torch.testing.assert_close(block, pairs.view_as(block), atol=1e-5, rtol=1e-5)
    assert block.std() > 1e-3


def test_the_mlp_is_one_over_the_concatenation():
    module, batch = network("mlp"), packed(sentences(LENGTHS), batch=[0, 1, 1, 0])
    d = module.decoder
    bins = torch.argsort(CHROM, stable=True)
    weight = torch.randn(len(LENGTHS), N_BINS, generator=torch.Generator().manual_seed(0))

    def naive():
        cells = module.encode(batch)
        eos = cells.eos[:, CHROM[bins]]  # (n_cells, n_bins, d_model)
        of_cell = (d.from_cell(cells.z)[:, None] + d.from_eos(eos)).expand(-1, N_BINS, -1)
        both = torch.cat([of_cell, module.embedding.table(bins).expand(len(LENGTHS), -1, -1)], -1)
        first = F.linear(both, torch.cat([d.first_cell.weight, d.first_bin.weight], 1), d.first_cell.bias)
        score = d.last(F.gelu(d.second(F.gelu(first)))).squeeze(-1)
        depth = torch.log(batch["depth"] / module.mean_depth)
        shift = (d.cell_shift(cells.z).squeeze(-1) + depth)[:, None]
        return score + d.bias.weight[bins][:, batch["batch"]].T + shift

    def split():
        context = context_of(module, batch)
        return d.block(context, module.embedding.table(bins), bins, CHROM[bins])

    expected, found = naive(), split()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert_same_gradients(gradients(module, (found * weight).sum()), gradients(module, (expected * weight).sum()))


def test_the_bilinear_decoder_is_its_formula():
    module, batch = network("bilinear"), packed(sentences(LENGTHS), batch=[0, 1, 1, 0])
    d, cells = module.decoder, module.encode(batch)
    bins = torch.argsort(CHROM, stable=True)
    found = d.block(context_of(module, batch), module.embedding.table(bins), bins, CHROM[bins])
    for i in range(len(LENGTHS)):
        for j in (0, 50, 119):
            b = bins[j]
            query = d.from_cell.weight @ cells.z[i] + d.from_eos.weight @ cells.eos[i, CHROM[b]]
            shift = d.cell_shift.weight[0] @ cells.z[i] + torch.log(batch["depth"][i] / 20)
            expected = query @ module.embedding.table.weight[b] + d.bias.weight[b, batch["batch"][i]] + shift
            torch.testing.assert_close(found[i, j], expected, atol=1e-5, rtol=1e-5)


def targets(batch):
    """Every third open bin is removed; all are open."""
    cell = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    return batch["bins"][::3], cell[::3], batch["bins"], cell


@pytest.mark.parametrize("chunk_size", [1, 7, 64, N_BINS, 1000])
def test_the_loss_over_all_closed_bins_does_not_depend_on_the_chunks(module_and_batch, chunk_size):
    module, batch = module_and_batch
    removed, removed_cell, opened, open_cell = targets(batch)
    weight = torch.linspace(1.0, 3.0, len(removed))
    order, place = module._by_group()

    def naive():
        logits = all_pairs(module, context_of(module, batch), torch.arange(N_BINS))
        closed = torch.ones(len(LENGTHS), N_BINS)
        closed[open_cell, opened] = 0
        wanted = torch.zeros(len(LENGTHS), N_BINS)
        wanted[removed_cell, removed] = weight
        one = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits), reduction="none")
        zero = F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits), reduction="none")
        return ((one * wanted).sum() + (zero * closed).sum()) / weight.sum()

    def chunked():
        context, table = context_of(module, batch), module.embedding.table
        pairs = module.decoder.pairs(context, table(removed), removed, removed_cell, CHROM[removed])
        return exhaustive_open_loss(
            module.decoder, context, table, order, CHROM[order], pairs, weight,
            (open_cell, place[opened]), chunk_size=chunk_size,
        )  # fmt: skip

    expected, found = naive(), chunked()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert_same_gradients(gradients(module, found), gradients(module, expected))


def test_the_sampled_loss_is_its_formula():
    pairs, block = torch.tensor([0.3, -1.0]), torch.tensor([[0.5, 2.0], [-0.5, 0.1]])
    rate, block_rate = torch.tensor([0.1, 0.2]), torch.tensor([[0.0, 1.0], [0.3, -0.2]])
    closed = torch.tensor([[True, False], [True, True]])
    sigmoid = lambda x: 1 / (1 + torch.exp(-x))
    expected = -torch.log(sigmoid(pairs + rate)).sum() - torch.log(1 - sigmoid(block + block_rate))[closed].sum()
    torch.testing.assert_close(sampled_open_loss(pairs, rate, block, block_rate, closed), expected / 2)


@pytest.mark.parametrize("multiple", [1, 4])
def test_the_sampled_loss_gives_log_odds_of_the_whole_genome(multiple):
    # a bias alone, fitted on every third open bin and on closed bins in proportion to their frequency, must come out as
    # the log-odds of each bin, however many closed bins are drawn
    generator = torch.Generator().manual_seed(0)
    n_cells, times = 600, torch.arange(1, 31)  # how often each bin is among the sampled ones, for multiple = 1
    opened = torch.rand(n_cells, 30, generator=generator) < 0.02 * times
    removed = opened & (opened.long().cumsum(0) % 3 == 0)
    cell, bins = removed.nonzero(as_tuple=True)
    log_r = torch.log(removed.sum(0) / opened.sum(0))
    sampled = torch.arange(30).repeat_interleave(times * multiple)
    log_g = torch.log(times / times.sum() * len(sampled))
    bias = torch.zeros(30, requires_grad=True)
    optimizer = torch.optim.LBFGS([bias], max_iter=200, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        block = bias[sampled].expand(n_cells, -1)
        rate = (log_r - log_g)[sampled].expand(n_cells, -1)
        loss = sampled_open_loss(bias[bins], (log_r - log_g)[bins], block, rate, ~opened[:, sampled])
        loss.backward()
        return loss

    optimizer.step(closure)
    share = opened.float().mean(0)
    torch.testing.assert_close(bias.detach(), torch.log(share / (1 - share)), atol=1e-2, rtol=0)
    assert bias.std() > 0.5


def test_kept_loss_is_cross_entropy_and_zero_without_bins():
    logits, kept = torch.tensor([1.0, -2.0, 0.3]), torch.tensor([True, True, False])
    torch.testing.assert_close(kept_loss(logits, kept), F.binary_cross_entropy_with_logits(logits, kept.float()))
    assert kept_loss(logits[:0], kept[:0]) == 0


def test_whether_a_bin_was_kept_does_not_pull_the_embedding(module_and_batch):
    module, batch = module_and_batch
    cells = module.encode(batch)
    z = cells.z.detach().requires_grad_()
    context = module.context(cells._replace(z=z), batch["depth"], batch["batch"])
    cell = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    rows = module.embedding.table(batch["bins"])
    logits = module.decoder.kept_pairs(context, rows, cell, CHROM[batch["bins"]])
    (grad,) = torch.autograd.grad(logits.sum(), z, allow_unused=True)
    assert grad is None or grad.abs().max() == 0
