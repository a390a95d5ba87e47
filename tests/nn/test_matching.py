"""The matching logit is the log-likelihood ratio that its docstring writes, and both modalities count in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scatacformer.nn import LinkAttention, LinkConfig

N_GENES, N_SLOTS, N_STATE = 6, 4, 3


def attention(seed: int = 0) -> LinkAttention:
    links, generator = LinkAttention(LinkConfig(N_GENES, N_SLOTS, N_STATE)), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        links.used.copy_(torch.rand(links.used.shape, generator=generator) < 0.8)
        links.score.copy_(torch.randn(links.score.shape, generator=generator) * 3)
        links.partial.copy_(torch.randn(links.partial.shape, generator=generator))
        links.bin_state.copy_(torch.randn(links.bin_state.shape, generator=generator) * 0.2)
        links.gene_state.copy_(torch.randn(links.gene_state.shape, generator=generator))
        for buffer in (links.bin_deviation, links.gene_deviation, links.reliability):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.3)
    return links


def cells(n: int = 5, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Openness (n, genes, slots), state (n, 1 + k), expression (n, genes) in deviations."""
    generator = torch.Generator().manual_seed(seed)
    opened = (torch.rand(n, N_GENES, N_SLOTS, generator=generator) < 0.4).float()
    state = torch.cat([torch.ones(n, 1), torch.randn(n, N_STATE, generator=generator)], 1)
    return opened, state, torch.randn(n, N_GENES, generator=generator)


def test_attention_is_a_probability_that_rises_with_the_evidence_and_is_zero_where_there_is_no_bin():
    links = attention()
    pi = links.attention()
    assert ((pi >= 0) & (pi <= 1)).all()
    assert not pi[~links.used].any()
    score, used = links.score[links.used], pi[links.used]
    assert (used[score.argsort()].diff() >= 0).all()
    torch.testing.assert_close(torch.sigmoid(links.logit(links.score))[links.used], used)


def test_what_bins_say_is_their_surplus_by_attention_and_partial_correlation():
    links, (opened, state, _) = attention(), cells()
    found = links.expected(opened, state).detach().numpy()
    pi = links.attention().detach().numpy()
    for i in range(5):
        for g in range(N_GENES):
            m = 0.0
            for s in range(N_SLOTS):
                by_state = float(state[i] @ links.bin_state[g, s])
                r = (float(opened[i, g, s]) - by_state) / float(links.bin_deviation[g, s])
                m += pi[g, s] * float(links.partial[g, s]) * r
            assert found[i, g] == pytest.approx(m * float(links.reliability[g]), abs=1e-5)


def test_the_logit_is_the_ratio_of_two_gaussians():
    links, (opened, state, expression) = attention(), cells()
    m, by_state = links.expected(opened, state), links.by_state(state)
    generator = torch.Generator().manual_seed(4)
    cosine = torch.rand(5, 5, generator=generator)
    with torch.no_grad():
        links.gain.fill_(0.2)
        found = links.matches(expression, by_state, m, cosine)
        for i in range(5):
            for j in range(5):
                e = (expression[i] - by_state[j]).numpy()  # beyond what the state of that ATAC says
                ratio = (-((e - m[j].numpy()) ** 2) / 2 + e**2 / 2).sum()
                expected = np.exp(0.2) * ratio + 10 * float(cosine[i, j])
                assert float(found[i, j]) == pytest.approx(expected, abs=1e-4)


def test_swapping_only_the_genes_or_only_the_bins_changes_the_logit():
    links, (opened, state, expression) = attention(), cells()
    same = torch.zeros(5, 5)  # nothing but genes and bins speaks
    with torch.no_grad():
        logits = links.matches(expression, links.by_state(state), links.expected(opened, state), same)
        other_bins = links.matches(expression, links.by_state(state), links.expected(opened.roll(1, 0), state), same)
        other_genes = links.matches(expression.roll(1, 0), links.by_state(state), links.expected(opened, state), same)
    for other in (other_bins, other_genes):
        assert ((other - logits).diagonal().abs() > 1e-3).all()


def test_own_cells_are_told_from_others_where_genes_follow_bins():
    links, generator = attention(), torch.Generator().manual_seed(9)
    opened, state, _ = cells(60)
    state = state[:1].expand(60, -1)  # all in one state: nothing else tells them apart
    with torch.no_grad():
        m = links.expected(opened, state)
        expression = links.by_state(state) + m + torch.randn(m.shape, generator=generator) * 0.3
        logits = links.matches(expression, links.by_state(state), m, torch.zeros(60, 60))
        others = logits.roll(7, 1)  # each RNA's own is taken to be the ATAC of another cell
    assert (logits.diagonal()[:, None] > logits).float().mean() > 0.9
    assert 0.4 < (others.diagonal()[:, None] > others).float().mean() < 0.6


def test_the_config_makes_it_anew():
    config = LinkConfig(N_GENES, N_SLOTS, N_STATE)
    assert LinkConfig(**config.to_dict()) == config
    assert LinkAttention(config).bin_state.shape == (N_GENES, N_SLOTS, 1 + N_STATE)
