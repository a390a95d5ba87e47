"""Low-rank changes: they start at zero, learn alone, are those of peft, and leave or enter the weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from scatacformer.nn import (
    LoraOptions,
    adapted,
    add_lora,
    has_lora,
    is_adapter,
    linear_layers,
    load_lora,
    lora_state,
    merged_state,
    remove_lora,
)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18, bias=False), nn.Linear(6, 6)
        self.up, self.down = nn.Linear(6, 24), nn.Linear(24, 6)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return x + self.down(torch.relu(self.up(self.out(q * k + v))))


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(Block(), Block(), nn.Linear(6, 1))


def layers(module):
    return [layer for name, layer in linear_layers(module) if name != "2"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.linspace(-1, 1, 30).reshape(5, 6)


def learn(module, n_steps=8):
    learned = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=0.05)
    for _ in range(n_steps):
        optimizer.zero_grad()
        (module(X) - 1).square().mean().backward()
        optimizer.step()
    return float((module(X) - 1).square().mean().detach())


def plain(module):
    return {name: value.clone() for name, value in module.state_dict().items() if not is_adapter(name)}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_changes_start_at_zero_and_learn_alone():
    module = network()
    before, y = plain(module), module(X)
    n = add_lora(layers(module), 2, seeded())
    assert (
        n == sum(p.numel() for name, p in module.named_parameters() if is_adapter(name)) == 2 * 2 * (24 + 12 + 30 + 30)
    )
    assert torch.equal(module(X), y)
    start = float((y - 1).square().mean().detach())
    module[2].requires_grad_(False)
    for name, p in module.named_parameters():
        if not is_adapter(name):
            p.requires_grad_(False)
    assert learn(module) < 0.8 * start
    assert_same(plain(module), before)
    assert all(bool(value.any()) for name, value in lora_state(module).items() if name.endswith("lora_b"))


def test_without_them_the_weights_are_what_they_were_and_merged_the_output_is_the_same():
    module = network()
    before = plain(module)
    add_lora(layers(module), 2, seeded(), scale=0.5)
    learn(module)
    tuned, merged = module(X), merged_state(module)
    apart = copy.deepcopy(module)
    remove_lora(module, merge=True)
    assert not has_lora(module)
    assert_same(module.state_dict(), merged)
    torch.testing.assert_close(module(X), tuned, atol=1e-6, rtol=1e-6)
    assert (merged["0.qkv.weight"] - before["0.qkv.weight"]).abs().max() > 1e-3
    assert torch.linalg.matrix_rank(merged["0.qkv.weight"] - before["0.qkv.weight"], atol=1e-5) == 2
    remove_lora(apart, merge=False)
    for name in ("0.qkv.weight", "1.down.weight"):
        assert torch.equal(apart.state_dict()[name], before[name])


def test_they_travel_alone():
    module, other = network(), network()
    add_lora(layers(module), 3, seeded(), scale=2.0)
    for p in (p for name, p in module.named_parameters() if not is_adapter(name)):
        p.requires_grad_(False)
    learn(module)
    load_lora(other, lora_state(module), scale=2.0)
    assert torch.equal(other(X), module(X))
    for wrong, message in (
        ({}, "not low-rank changes of this module"),
        ({"5.lora_a": torch.zeros(1, 6), "5.lora_b": torch.zeros(6, 1)}, "not low-rank changes of this module"),
        ({"0.qkv.lora_a": torch.zeros(2, 5), "0.qkv.lora_b": torch.zeros(18, 2)}, "the low-rank change of 0.qkv"),
    ):
        with pytest.raises(ValueError, match=message):
            load_lora(network(), wrong)


@pytest.mark.parametrize("r", [1, 4])
def test_a_training_is_that_of_peft_bit_for_bit(r):
    peft = pytest.importorskip("peft")
    theirs, ours = network(), network()
    names = ["qkv", "out", "up", "down"]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        peft.inject_adapter_in_model(peft.LoraConfig(r=r, lora_alpha=8.0, target_modules=names), theirs)
    add_lora(layers(ours), r, seeded(3), 8.0 / r)
    for module, mark in ((theirs, ".lora_"), (ours, "lora_")):
        for name, p in module.named_parameters():
            p.requires_grad_(mark in name)
    assert learn(ours) == learn(theirs)
    assert torch.equal(ours(X), theirs(X))
    for module in theirs.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.merge()
    remove_lora(ours, merge=True)
    for name, value in ours.state_dict().items():
        layer, _, end = name.rpartition(".")
        path = name if name in theirs.state_dict() else f"{layer}.base_layer.{end}"
        assert torch.equal(theirs.state_dict()[path], value), name


def test_an_encoder_is_plain_again_whatever_ended_the_training():
    module = network()
    with pytest.raises(RuntimeError), adapted(module, LoraOptions(r=2, target_modules=("qkv",)), 0):
        assert sum(is_adapter(name) for name, _ in module.named_parameters()) == 4
        raise RuntimeError
    assert not has_lora(module)
    with adapted(module, None, 0):
        assert not has_lora(module)


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    add_lora(layers(network()), 2, seeded())
    assert torch.rand(1) == expected


def test_wrong_arguments_are_refused():
    module = network()
    for rank in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="expected a whole number of at least 1"):
            add_lora(layers(module), rank, seeded())
    with pytest.raises(ValueError, match="no linear layer"):
        add_lora([], 2, seeded())
    add_lora(layers(module), 2, seeded())
    with pytest.raises(ValueError, match="already"):
        add_lora(layers(module), 2, seeded())
