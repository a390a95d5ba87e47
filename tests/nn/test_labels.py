"""Heads of a supervised network: cells without a label take no part, rare labels can count as much as common ones."""

from __future__ import annotations

import pytest
import torch

from scatacformer.nn import LabelHead, LabelTarget, NetworkConfig, ScAtacNetwork, balanced_weights, label_loss
from scatacformer.nn.scatac.labels import n_labelled

from ._networks import CHROM, N_BINS, N_CHROMS, network, packed, sentences


def test_the_loss_is_the_cross_entropy_of_the_labelled_cells():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    codes = torch.tensor([2, -1, 0, -1, 1])
    p = torch.softmax(logits, 1)
    expected = -torch.log(torch.stack([p[0, 2], p[2, 0], p[4, 1]])).mean()
    torch.testing.assert_close(label_loss(logits, codes), expected)
    changed = logits.clone()
    changed[[1, 3]] += 100.0
    assert label_loss(changed, codes) == label_loss(logits, codes)


def test_without_labelled_cells_the_loss_and_its_gradient_are_zero():
    logits = torch.randn(3, 4, requires_grad=True)
    loss = label_loss(logits, torch.full((3,), -1))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_balanced_labels_count_the_same():
    codes = torch.tensor([0] * 8 + [1] * 2 + [-1] * 5)
    weight = balanced_weights(codes, 3)  # the third has no cell
    assert weight[0] * 8 == pytest.approx(float(weight[1] * 2))
    assert weight[2] == 0
    assert float(weight[codes[codes >= 0]].mean()) == pytest.approx(1.0)


def test_a_fresh_head_prefers_no_label_and_a_constant_input_is_harmless():
    head = LabelHead(4, 3).eval()
    inputs = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    inputs[:, 2] = 5.0
    head.standardise(inputs)
    assert not head(inputs).any()
    standard = (inputs - head.centre) / head.scale
    torch.testing.assert_close(standard.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard[:, [0, 1, 3]].std(0, correction=0), torch.ones(3))
    assert not standard[:, 2].any()


def test_heads_leave_the_other_weights_as_they_are():
    sizes = {"d_model": 16, "n_heads": 2, "d_embed": 8}
    plain = ScAtacNetwork(NetworkConfig(N_BINS, N_CHROMS, **sizes), CHROM, seed=3).state_dict()
    heads = ScAtacNetwork(NetworkConfig(N_BINS, N_CHROMS, n_labels=4, n_organs=2, **sizes), CHROM, seed=3)
    assert heads.heads["labels"](torch.zeros(1, 24)).shape == (1, 4)
    assert heads.heads["organ"](torch.zeros(1, 24)).shape == (1, 2)
    for name, value in plain.items():
        assert torch.equal(heads.state_dict()[name], value), name


def test_labels_add_their_weighted_loss_and_reach_the_encoder_alone_with_the_cells_that_have_one():
    module = network(n_labels=3).eval()
    batch = packed(sentences((20, 10, 5)))
    target = batch["bins"][:4]
    batch |= {
        "cells": torch.tensor([7, 2, 4]), "target_bins": target, "target_cell": torch.zeros(4, dtype=torch.long),
        "log_rate": torch.zeros(3), "sampled": torch.tensor([0]), "closed": torch.ones(3, 1, dtype=torch.bool),
        "state_bins": target, "state_cell": torch.zeros(4, dtype=torch.long), "state_kept": torch.ones(4, dtype=torch.bool),
    }  # fmt: skip
    codes = torch.full((9,), -1)
    codes[[2, 4]] = torch.tensor([1, 0])
    plain = module.loss(batch)
    joint = module.loss(batch, labels={"labels": LabelTarget(codes, 0.5, None)})
    torch.testing.assert_close(joint["loss"] - plain["loss"], 0.5 * joint["labels"])
    logits = module.heads["labels"](module.head_inputs(module.encode(batch)))
    torch.testing.assert_close(joint["labels"], torch.nn.functional.cross_entropy(logits[1:], codes[[2, 4]]))
    joint["labels"].backward()
    assert module.encoder.blocks[0].qkv.weight.grad.abs().max() > 0
    assert module.embedding.table.weight.grad.coalesce().indices().tolist()[0] == sorted(
        batch["bins"].unique().tolist()
    )
    assert not module.embedding.table.weight.grad.to_dense()[
        [b for b in batch["bins"][:20].tolist() if b not in batch["bins"][20:].tolist()]
    ].any()  # bins of the cell without a label alone
    assert "labels" not in module.loss(batch, decoder_only=True, labels={"labels": LabelTarget(codes, 0.5, None)})


@pytest.mark.parametrize("name", ["n_labels", "n_organs"])
def test_one_label_is_none(name):
    with pytest.raises(ValueError, match=f"{name} is 1; expected 0 or at least 2"):
        NetworkConfig(5, 1, **{name: 1})


def test_parts_of_a_minibatch_add_up_to_the_whole():
    # whoever divides a minibatch forms its loss from the means of the parts, and what they are over
    codes = torch.tensor([0, 1, -1, 2, 2, 0, -1, 1, 1])
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    for class_weight in (None, torch.tensor([0.2, 3.0, 0.1])):
        parts = [slice(3), slice(3, 9), slice(0, 0)]
        means = torch.stack([label_loss(logits[part], codes[part], class_weight) for part in parts])
        n = torch.stack([n_labelled(codes[part], class_weight) for part in parts])
        torch.testing.assert_close((means * n).sum() / n.sum(), label_loss(logits, codes, class_weight))
