"""Epiformer's network equals the published one, and a plain copy of it, in less time and memory."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from scatacformer.nn import EpiformerConfig, EpiformerNetwork
from scatacformer.nn import epiformer as file

TINY = EpiformerConfig(n_tracks=3, seq_len=4096, crop=4, d_stem=16, d_model=32, n_layers=2, n_heads=4, d_feedforward=64)


def plain() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "_plain_epiformer.py"
    spec = importlib.util.spec_from_file_location("plain_epiformer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dna(n: int, length: int, seed: int = 0) -> torch.Tensor:
    codes = torch.randint(0, 4, (n, length), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(codes, 4).float().transpose(1, 2).contiguous()


def shaken(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Running statistics and scales that are not those of a fresh batch norm."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            for tensor in (module.running_mean, module.bias):
                tensor.data = 0.5 * torch.randn(tensor.shape, generator=generator)
            for tensor in (module.running_var, module.weight):
                tensor.data = 0.5 + torch.rand(tensor.shape, generator=generator)
    return network.eval()


@pytest.fixture(scope="module")
def golden(data_dir: Path) -> dict[str, np.ndarray]:
    path = data_dir.parent / "reference" / "golden" / "epiformer_tiny.npz"
    if not path.exists():
        pytest.skip(f"no golden values: {path}")
    return dict(np.load(path))


def test_equals_the_published_network(golden: dict[str, np.ndarray]) -> None:
    network = EpiformerNetwork(TINY).eval()
    network.load_state_dict({k[6:]: torch.tensor(v) for k, v in golden.items() if k.startswith("model/")})
    onehot = np.eye(4, dtype=np.float32)[golden["sequence"]].transpose(0, 2, 1)
    x = torch.tensor(onehot * np.exp(golden["conservation"])[:, None], requires_grad=True)
    signal = network(x)
    np.testing.assert_allclose(signal.detach(), golden["signal"], atol=1e-4)
    signal[0, 1, 10].backward()
    np.testing.assert_allclose(x.grad[0], golden["gradient_track1_bin10"], atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(network(x), golden["signal"], atol=1e-4)
        np.testing.assert_allclose(network.conv(x), golden["conv_output"], atol=1e-4)


@pytest.mark.parametrize(("n_tracks", "n_parameters"), [(1, 54_819_693), (20, 54_848_896)])
def test_the_base_size_has_the_published_geometry(n_tracks: int, n_parameters: int) -> None:
    config = EpiformerConfig.of_size("base", n_tracks=n_tracks)
    assert config.channels == [384, 431, 484, 543, 610, 684, 768]
    with torch.device("meta"):
        network = EpiformerNetwork(config)
        assert sum(p.numel() for p in network.parameters()) == n_parameters
        assert network(torch.zeros(2, 4, 98_304)).shape == (2, n_tracks, 640)


@pytest.mark.parametrize(("tile", "block", "n_bins"), [(64, 5, 32), (192, 32, 32), (2048, 128, 32), (64, 7, 29)])
def test_tiles_and_blocks_change_no_number(monkeypatch: pytest.MonkeyPatch, tile: int, block: int, n_bins: int) -> None:
    monkeypatch.setattr(file, "TILE", tile)
    monkeypatch.setattr(file, "BLOCK", block)
    network = shaken(EpiformerNetwork(TINY))
    reference = shaken(plain().PlainEpiformer(TINY))
    reference.load_state_dict(network.state_dict())
    x = dna(2, 128 * n_bins).requires_grad_()
    expected = reference(x)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (wanted,) = torch.autograd.grad((expected * weights).sum(), x)
    (found,) = torch.autograd.grad((network(x) * weights).sum(), x)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected.detach(), atol=1e-5, rtol=1e-4)
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad, name


def test_training_gradients_equal_those_of_the_plain_network() -> None:
    config = replace(TINY, dropout=0.0, head_dropout=0.0)
    network = shaken(EpiformerNetwork(config)).train()
    reference = plain().PlainEpiformer(config).train()
    reference.load_state_dict(network.state_dict())
    for net in (network, reference):
        net(dna(3, 4096)).square().mean().backward()
    for (name, ours), theirs in zip(network.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(
            ours.grad, theirs.grad, atol=1e-6, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_a_shorter_window_reads_the_middle_of_the_distances() -> None:
    network = shaken(EpiformerNetwork(TINY))
    short = EpiformerNetwork(replace(TINY, seq_len=2048))
    state = network.state_dict()
    for name in state:
        if name.endswith("distance_embedding.weight"):
            state[name] = state[name][16:-16]
    short.load_state_dict(state)
    x = dna(1, 2048)
    with torch.no_grad():
        torch.testing.assert_close(network(x), short.eval()(x))
        assert network(x).shape == (1, 3, 8)
        with pytest.raises(ValueError, match="a window of 64 bins is longer than the 32"):
            network(dna(1, 8192))
        with pytest.raises(ValueError, match="has none left after a crop of 4"):
            network(dna(1, 1024))


def test_outputs_depend_on_the_sequence_of_their_sample_alone() -> None:
    network = shaken(EpiformerNetwork(TINY))
    x = dna(3, 4096)
    with torch.no_grad():
        together = network(x)
        alone = torch.cat([network(one[None]) for one in x])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
    assert float((together[0] - together[1]).abs().max()) > 1e-3


def test_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = EpiformerNetwork(TINY, seed=5).state_dict()
    torch.manual_seed(2)
    again, other = EpiformerNetwork(TINY, seed=5).state_dict(), EpiformerNetwork(TINY, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv.stem.0.weight"], other["conv.stem.0.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seq_len": 1000}, "seq_len is 1000; expected a multiple of bin_size .128 bp.* nearest is 1024"),
        ({"crop": 16}, "leaves none of the 32"),
        ({"bin_size": 100}, "power of two"),
        ({"n_heads": 5}, "multiple of n_heads"),
        ({"n_tracks": 0}, "n_tracks is .*; expected a whole number"),
        ({"dropout": 1.0}, "dropout is .*; expected"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)
    with pytest.raises(ValueError, match="size is .*; expected one of"):
        EpiformerConfig.of_size("huge", n_tracks=1)


def test_sizes_go_to_a_file_and_back() -> None:
    assert EpiformerConfig.from_dict({**TINY.to_dict(), "of_a_later_version": 1}) == TINY
