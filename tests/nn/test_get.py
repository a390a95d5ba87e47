"""GET's network: equal to published numbers, indifferent to the order of regions and to padding."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from scatacformer.nn import GETConfig, GETNetwork, jacobian, masked_error

TINY = GETConfig(n_features=7, n_regions=9, d_model=16, n_layers=2, n_heads=2)


def network(target="expression", dtype=torch.float32, seed=3):
    net = GETNetwork(TINY, target, seed).to(dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # weights that matter, also those that start at zero
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return net


def windows(n=4, n_regions=9, dtype=torch.float32):
    return torch.rand(n, n_regions, 7, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.fixture(scope="module")
def golden(data_dir):
    path = data_dir.parent / "reference" / "golden" / "get_tiny.npz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return {name: torch.from_numpy(value) for name, value in np.load(path).items()}


def published(golden, part):
    state = {name.removeprefix(f"{part}/"): value for name, value in golden.items() if name.startswith(f"{part}/")}
    return state, GETNetwork.from_published(state, n_heads=4, n_regions=12).eval()


def test_expression_equals_the_published_network(golden):
    _, net = published(golden, "finetune")
    with torch.no_grad():
        found = net(golden["x"])
    assert net.target == "expression"
    torch.testing.assert_close(found, golden["expression"], atol=1e-5, rtol=0)


def test_reconstruction_equals_the_published_network(golden):
    _, net = published(golden, "pretrain")
    with torch.no_grad():
        found = net(golden["x"], masked=golden["mask"])
    torch.testing.assert_close(found, golden["reconstruction"], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        masked_error(found, golden["x"], golden["mask"]), golden["masked_mse"].float(), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("strands", [(0, 1), (1, 0), (1, 1, 0)])
@pytest.mark.parametrize("wrt", ["input", "region_embedding"])
def test_jacobians_equal_the_published_network_in_any_order_of_strands(golden, strands, wrt):
    _, net = published(golden, "finetune")
    expected = golden["jacobian_input" if wrt == "input" else "jacobian_region_embed"]
    for strand in strands:
        found, _ = jacobian(net, golden["x"][:1], golden["focus"][None], torch.tensor([strand]), wrt=wrt)
        torch.testing.assert_close(found[0], expected[strand], atol=1e-5, rtol=0)


@pytest.mark.parametrize("part", ["finetune", "pretrain"])
def test_published_names_go_both_ways(golden, part):
    state, net = published(golden, part)
    back = net.to_published()
    assert set(back) == set(state)
    assert all(torch.equal(back[name], value) for name, value in state.items())


@pytest.mark.parametrize("target", ["expression", "accessibility", "reconstruction"])
def test_every_target_goes_out_and_in_again(target):
    net = network(target)
    again = GETNetwork.from_published(
        {f"model.{name}": value for name, value in net.to_published().items()}, n_heads=2
    ).eval()
    assert again.target == target
    assert torch.equal(again(windows()), net(windows()))


def test_published_weights_that_do_not_fit_are_refused():
    state = network().to_published()
    with pytest.raises(ValueError, match="no state dict of GET"):
        GETNetwork.from_published({"weight": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"encoder.blocks.1.norm2.bias \(missing\)"):
        GETNetwork.from_published({name: v for name, v in state.items() if name != "encoder.blocks.1.norm2.bias"}, 2)
    with pytest.raises(ValueError, match=r"encoder.norm.bias has shape \(3,\), expected \(16,\)"):
        GETNetwork.from_published(state | {"encoder.norm.bias": torch.zeros(3)}, 2)


@pytest.mark.parametrize(("target", "expected"), [("expression", 85_267_202), ("reconstruction", 85_484_059)])
def test_the_base_size_has_the_published_number_of_parameters(target, expected):
    with torch.device("meta"):
        net = GETNetwork(GETConfig.of_size("base", 283), target)
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


@pytest.mark.parametrize("target", ["expression", "accessibility", "reconstruction"])
def test_regions_are_a_set(target):
    net, x = network(target), windows()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(order, torch.arange(9))
    found = net(x)
    assert found.std() > 1e-3
    torch.testing.assert_close(net(x[:, order]), found[:, order], atol=1e-5, rtol=0)


def test_padding_does_not_matter():
    net, x = network(), windows()
    padded = torch.cat((x, torch.full((4, 5, 7), 9.0)), 1)
    padding = (torch.arange(14) >= 9).expand(4, -1)
    torch.testing.assert_close(net(padded, padding)[:, :9], net(x), atol=1e-5, rtol=0)
    assert not torch.allclose(net(padded)[:, :9], net(x), atol=1e-2)  # and would without the mask


def test_what_is_read_is_what_all_would_be():
    net, x = network(), windows()
    read = torch.tensor([[0, 3], [8, 8], [1, 0], [5, 2]])
    expected = net(x).gather(1, read[..., None].expand(-1, -1, 2))
    torch.testing.assert_close(net(x, read=read), expected, atol=1e-6, rtol=1e-5)


def test_accessibility_is_predicted_without_being_read():
    net, x = network("accessibility"), windows()
    other = x.clone()
    other[..., -1] = 5.0
    assert torch.equal(net(x), net(other))
    other[..., 0] = 5.0
    assert not torch.allclose(net(x), net(other), atol=1e-3)


def test_a_masked_region_is_not_read():
    net, x = network("reconstruction"), windows()
    masked = torch.zeros(4, 9, dtype=torch.bool)
    masked[:, 2] = True
    other = x.clone()
    other[:, 2] = 7.0
    assert torch.equal(net(x, masked=masked), net(other, masked=masked))
    with pytest.raises(ValueError, match="has no mask token"):
        network()(x, masked=masked)


@pytest.mark.parametrize("wrt", ["input", "region_embedding"])
def test_jacobian_equals_finite_differences(wrt):
    net, x = network(dtype=torch.float64), windows(3, dtype=torch.float64)
    read, strand = torch.tensor([0, 4, 8]), torch.tensor([1, 0, 1])
    padding = torch.zeros(3, 9, dtype=torch.bool)
    padding[1, 6:] = True
    found, output = jacobian(net, x, read, strand, padding, wrt)
    start = x if wrt == "input" else net.embed(x).detach()
    forward = net if wrt == "input" else net.predict
    with torch.no_grad():
        chosen = lambda at: forward(at, padding)[torch.arange(3), read, strand]
        torch.testing.assert_close(output, chosen(start))
        for region, feature in ((0, 0), (4, 3), (8, 6), (7, 2)):
            step = torch.zeros_like(start)
            step[:, region, feature] = 1e-6
            difference = (chosen(start + step) - chosen(start - step)) / 2e-6
            torch.testing.assert_close(found[:, region, feature], difference, atol=1e-8, rtol=1e-4)
    assert found[1, 6:].abs().max() == 0


def test_jacobian_leaves_the_network_as_it_was():
    net = network()
    before = copy.deepcopy(net.state_dict())
    jacobian(net, windows(), torch.zeros(4, dtype=torch.long), torch.zeros(4, dtype=torch.long))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_training_skips_blocks_by_the_seed_alone():
    def outputs(seed):
        net = GETNetwork(GETConfig(7, 9, 16, 4, 2, drop_path=0.5), seed=seed).train()
        torch.nn.init.normal_(net.head.weight, generator=torch.Generator().manual_seed(0))
        return [net(windows()).detach() for _ in range(2)]

    first, again, other = outputs(0), outputs(0), outputs(1)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_motif_scores_are_left_out_in_training_alone_and_the_accessibility_never():
    net = GETNetwork(GETConfig(7, 9, 16, 1, 2, drop_path=0.0, input_dropout=0.5), seed=0)
    x = windows()
    plain = net.eval().embed(x).detach()
    net.train()
    found = torch.stack([net.embed(x).detach() for _ in range(400)])
    assert not torch.equal(found[0], found[1])
    error = found.std(0) / 20  # of a mean of 400
    assert ((found.mean(0) - plain).abs() < 5 * error + 1e-6).all()  # the mean is preserved
    alone = torch.zeros_like(x)
    alone[..., -1] = x[..., -1]
    assert torch.equal(net.embed(alone), net.eval().embed(alone))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_features": 1}, "at least one motif"),
        ({"d_model": 50, "n_heads": 4}, "d_model is 50; expected a multiple of the 4"),
        ({"n_layers": 0}, "n_layers is .*; expected a whole number"),
        ({"drop_path": 1.0}, "drop_path is 1.0; expected"),
        ({"input_dropout": -0.1}, "input_dropout is -0.1; expected"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        GETConfig(**{"n_features": 5, **sizes})


def test_presets():
    assert GETConfig.of_size("small", 283, n_regions=20).n_regions == 20
    with pytest.raises(ValueError, match="size 'huge' is unknown"):
        GETConfig.of_size("huge", 283)
    with pytest.raises(ValueError, match="GET has no size 'width'"):
        GETConfig.of_size("small", 283, width=3)
    config = GETConfig.of_size("base", 283)
    assert GETConfig(**config.to_dict()) == config
