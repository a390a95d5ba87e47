"""The paired network starts as the linear map that it was given; its pools are the sums that they say they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scatacformer.nn import PAIRINGS, Head, PairedConfig, PairedNetwork
from scatacformer.nn.paired.network import BinPool, GenePool

N_GENES, N_BINS, D_RNA, D_ATAC = 20, 30, 5, 7
CONFIG = PairedConfig(N_GENES, N_BINS, D_RNA, D_ATAC, d_latent=4, d_hidden=16, n_predictors=4, n_batch=2)


def network(noise: float = 0.0) -> PairedNetwork:
    net, generator = PairedNetwork(CONFIG, seed=0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, buffer in net.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
            elif name == "atac_used":
                buffer.copy_(torch.arange(D_ATAC) * 2)
        for p in net.parameters():
            p.add_(noise * torch.randn(p.shape, generator=generator))
    return net.eval()


def expression(n_cells: int = 6, seed: int = 0) -> torch.Tensor:
    """(n_cells, N_GENES), two thirds zero; the last cell has no counts."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n_cells, N_GENES, generator=generator) * (torch.rand(n_cells, N_GENES, generator=generator) < 0.35)
    x[-1] = 0
    return x


def ragged(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    cell, gene = torch.nonzero(x, as_tuple=True)
    return gene, x[cell, gene], cell, len(x)


# ── heads ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_head_starts_as_its_linear_map_and_can_leave_it():
    head = Head(5, 3, 16, 0.3).eval()
    x = torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(x), x @ head.linear.weight.T)
    head(x).square().sum().backward()
    assert head.mlp[-1].weight.grad.abs().sum() > 0  # zero, but not stuck there
    with torch.no_grad():
        head.mlp[-1].weight.fill_(0.5)
    bent = head(2 * x) - 2 * head(x)
    assert bent.abs().max() > 1e-2


def test_the_seed_gives_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = PairedNetwork(CONFIG, seed=0)
    assert torch.equal(torch.rand(3), expected)
    again, other = PairedNetwork(CONFIG, seed=0), PairedNetwork(CONFIG, seed=1)
    for (name, a), b in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(first.heads["rna_teacher"].mlp[0].weight, other.heads["rna_teacher"].mlp[0].weight)


# ── genes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_attention_genes_add_up_to_the_scores_of_components():
    net, x = network(), expression()
    genes = net.genes
    with torch.no_grad():
        genes.query.weight.zero_()
    expected = (x @ genes.vectors - genes.centre) / genes.scale
    torch.testing.assert_close(genes(*ragged(x)), expected)
    torch.testing.assert_close(genes.sums(*ragged(x)), expected)
    assert expected.std() > 0.1


def test_attention_weighs_genes_as_its_formula_says():
    net, x = network(noise=0.8), expression()
    genes = net.genes
    found = genes(*ragged(x))
    for i, cell in enumerate(x):
        at = torch.nonzero(cell).squeeze(1)
        vectors = genes.vectors[at] * cell[at, None]
        a = torch.softmax(torch.tanh(vectors @ genes.hidden.weight.T + genes.hidden.bias) @ genes.query.weight[0], 0)
        torch.testing.assert_close(found[i], (len(at) * (a[:, None] * vectors).sum(0) - genes.centre) / genes.scale)
    assert (found - genes.sums(*ragged(x)))[:-1].abs().max() > 1e-2
    torch.testing.assert_close(found[-1], -genes.centre / genes.scale)  # a cell without counts


def test_the_order_of_genes_and_the_cells_beside_do_not_matter():
    net, x = network(noise=0.8), expression()
    gene, value, cell, n = ragged(x)
    order = torch.randperm(len(gene), generator=torch.Generator().manual_seed(2))
    found = net.genes(gene, value, cell, n)
    torch.testing.assert_close(net.genes(gene[order], value[order], cell[order], n), found)
    torch.testing.assert_close(net.genes(*ragged(x[2:3])), found[2:3])


def test_a_batch_is_shifted_and_one_that_came_later_is_not():
    net, x = network(), expression()
    inputs = [net.rna_inputs(*ragged(x)[:3], torch.full((len(x),), b), False) for b in range(3)]
    for b in range(2):
        torch.testing.assert_close(inputs[2] - inputs[b], net.batch_shift[b].expand(len(x), -1))
    assert (inputs[0] - inputs[1]).abs().max() > 1e-2


# ── bins ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pooled_bins_are_the_mean_over_cells_by_their_similarity():
    rng = np.random.default_rng(0)
    x, g, r = rng.random((12, N_BINS)) < 0.3, rng.random(N_BINS) + 0.1, rng.normal(size=(12, D_RNA))
    w = x * g / np.linalg.norm(x * g, axis=1, keepdims=True)
    pool = BinPool(CONFIG)
    with torch.no_grad():
        pool.vectors.copy_(torch.from_numpy(w.T @ r / np.maximum(w.sum(0), 1e-12)[:, None]))
        pool.weight.copy_(torch.from_numpy(g * w.sum(0)))
        pool.centre.copy_(torch.from_numpy(r.mean(0)))
        pool.scale.fill_(0.7)
    new = rng.random((4, N_BINS)) < 0.3
    bins = torch.from_numpy(np.concatenate([np.flatnonzero(row) for row in new]))
    cu = torch.from_numpy(np.concatenate([[0], new.sum(1).cumsum()])).to(torch.int32)
    v = new * g / np.linalg.norm(new * g, axis=1, keepdims=True)
    similarity = v @ w.T  # (4, 12)
    expected = (similarity @ r / similarity.sum(1, keepdims=True) - r.mean(0)) / 0.7
    np.testing.assert_allclose(pool(bins, cu).numpy(), expected, atol=1e-5)


def test_a_cell_of_no_known_bin_is_at_zero():
    pool = network().bins
    with torch.no_grad():
        pool.weight[3] = 0
    out = pool(torch.tensor([3, 1, 2]), torch.tensor([0, 1, 1, 3], dtype=torch.int32))
    assert not out[:2].any()
    assert out[2].abs().min() > 0


# ── the network ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_teacher_reads_the_dimensions_that_are_used():
    net, z = network(), torch.randn(5, 2 * D_ATAC, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net.atac_inputs(z), (z[:, ::2] - net.atac_centre) / net.atac_scale)


def test_one_modality_has_unit_length_and_the_mean_cosine_of_its_encoders():
    net, generator = network(noise=0.5), torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(6, D_RNA, generator=generator) for _ in range(2))
    atac = torch.randn(6, D_ATAC, generator=generator)
    a, b = net.joined(teacher, student, "rna"), net.joined(atac, student, "atac")
    torch.testing.assert_close(a.norm(dim=1), torch.ones(6))

    def cosine(x, y):
        return torch.nn.functional.cosine_similarity(net.heads[x[0]](x[1]), net.heads[y[0]](y[1]))

    of_teachers = cosine(("rna_teacher", teacher), ("atac_teacher", atac))
    of_students = cosine(("rna_student", student), ("atac_student", student))
    torch.testing.assert_close((a * b).sum(1), (of_teachers + of_students) / 2)


def test_predicted_expression_is_the_mean_of_predictors_and_its_variance_adds_their_disagreement():
    net, generator = network(noise=0.5), torch.Generator().manual_seed(0)
    teacher, student = torch.randn(8, D_ATAC, generator=generator), torch.randn(8, D_RNA, generator=generator)
    said = torch.stack(
        [
            net.predictors[k](student if k % 2 else teacher) @ net.expression_loadings + net.expression_mean
            for k in range(4)
        ]
    )
    mean, std = net.expression(teacher, student)
    torch.testing.assert_close(mean, said.mean(0).clamp_min(0))
    torch.testing.assert_close(std**2, net.expression_variance + said.var(0))
    assert (mean > 0).any()
    some = torch.tensor([7, 2])
    for found, expected in zip(net.expression(teacher, student, some), (mean, std), strict=True):
        torch.testing.assert_close(found, expected[:, some])


def test_each_pairing_brings_other_encoders_together():
    net, generator = network(noise=0.5), torch.Generator().manual_seed(0)
    inputs = {
        name: torch.randn(6, D_ATAC if name == "atac_teacher" else D_RNA, generator=generator) for name in net.heads
    }
    losses = {name: net.contrastive_loss(inputs, name, 0.1).item() for name in PAIRINGS}
    assert len({round(loss, 4) for loss in losses.values()}) == 3
    for name, pairs in PAIRINGS.items():
        assert sorted(sum(pairs, ())) == sorted(net.heads), name


@pytest.mark.parametrize("name", ["n_genes", "n_bins", "d_rna", "d_atac", "d_latent", "n_predictors", "n_batch"])
def test_sizes_are_checked(name):
    sizes = {"n_genes": 5, "n_bins": 5, "d_rna": 2, "d_atac": 2, "d_latent": 2} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0; expected at least 1"):
        PairedConfig(**sizes)


def test_dropout_is_a_share():
    with pytest.raises(ValueError, match="dropout is 1.0; expected 0 ... 1"):
        PairedConfig(5, 5, 2, 2, 2, dropout=1.0)


def test_gene_pool_is_made_of_the_config():
    assert GenePool(CONFIG).vectors.shape == (N_GENES, D_RNA)
    assert PairedConfig(**CONFIG.to_dict()) == CONFIG
