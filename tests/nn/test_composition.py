"""What a bin is made of: counts equal those made letter by letter, and do not depend on the strand."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from scatacformer.nn import Composition, CompositionConfig, EpiformerConfig, EpiformerNetwork, SeparateTracks
from scatacformer.nn import composition as file

BIN = 64
CONFIG = CompositionConfig(n_tracks=3, bin_size=BIN, n_motifs=2, motif_width=7, width=8, n_perceptrons=2)
TINY = EpiformerConfig(
    n_tracks=3, seq_len=2048, bin_size=BIN, crop=4, d_stem=16, d_model=24, n_layers=1, n_heads=2, d_feedforward=32,
    composition=True, n_motifs=2, motif_width=7, d_composition=8, n_perceptrons=2,
)  # fmt: skip


def dna(n: int, length: int, seed: int = 0, n_share: float = 0.02) -> tuple[np.ndarray, torch.Tensor]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (n, length))
    codes[rng.random(codes.shape) < n_share] = 4
    return codes, torch.from_numpy(np.eye(5, 4, dtype=np.float32)[codes].transpose(0, 2, 1).copy())


def motifs(seed: int = 0) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, width, generator=generator) * 2 for width in (6, 7)], torch.tensor([10.0, 11.0])


def made(config: CompositionConfig = CONFIG) -> Composition:
    """As after a training: the last layer is not 0."""
    module = Composition(config)
    module.initialise(torch.Generator().manual_seed(1))
    module.set_motifs(*motifs())
    module.standardise([dna(4, 2048, 5)[1]])
    torch.nn.init.normal_(module.last.weight, generator=torch.Generator().manual_seed(2))
    return module.eval()


def other_strand(x: torch.Tensor) -> torch.Tensor:
    return x.flip(1, 2)


@pytest.mark.parametrize("k", [4, 5])
def test_kmers_are_counted_as_letter_by_letter(k: int) -> None:
    codes, x = dna(2, 512)
    names = ["".join(word) for word in itertools.product("ACGT", repeat=k)]
    reverse = [name[::-1].translate(str.maketrans("ACGT", "TGCA")) for name in names]
    kinds = sorted({min(pair) for pair in zip(names, reverse, strict=True)})
    expected = np.zeros((2, len(kinds), 512 // BIN))
    for row, text in enumerate("".join("ACGTN"[code] for code in one) for one in codes):
        for start in range(512 - k + 1):
            word = text[start : start + k]
            if "N" not in word:
                column = kinds.index(min(word, reverse[names.index(word)]))
                for middle in (start + k // 2, start + (k - 1) // 2):  # the same base of an odd k
                    expected[row, column, middle // BIN] += 0.5
    np.testing.assert_allclose(file.kmer_counts(x, k, BIN), expected)
    along_gradients = file.kmer_counts(x.requires_grad_(), k, BIN)
    np.testing.assert_allclose(along_gradients.detach(), expected, atol=1e-6)
    along_gradients.sum().backward()
    assert float(x.grad.abs().sum()) > 0


@pytest.mark.parametrize("tile", [64, 4096])
def test_hits_are_those_of_a_scan_of_both_strands(monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    monkeypatch.setattr(file, "TILE", tile)
    _, x = dna(2, 512)
    module, (weights, thresholds) = made(), motifs()
    found = file.motif_hits(x, module.weight, module.threshold, BIN)
    n_hits = 0
    for row in range(2):
        for number, (weight, threshold) in enumerate(zip(weights, thresholds.tolist(), strict=True)):
            width, best = weight.shape[1], np.zeros(512 // BIN)
            for start in range(-3, 512 - width + 4):  # over an end: bases that are unknown
                window = torch.zeros(4, width)
                low, high = max(start, 0), min(start + width, 512)
                window[:, low - start : high - start] = x[row, :, low:high]
                for strand, middle in ((weight, start + 3), (weight.flip(0, 1), start + width - 4)):
                    if 0 <= middle < 512:
                        score = float((window * strand).sum()) - threshold
                        best[middle // BIN] = max(best[middle // BIN], score)
            np.testing.assert_allclose(found[row, number], best, atol=1e-4)
            n_hits += int((best > 0).sum())
    assert 4 < n_hits < 30  # some bins, not all


def test_the_other_strand_gives_the_same_in_reverse() -> None:
    module, (_, x) = made(), dna(2, 2048)
    with torch.no_grad():
        forward, reverse = module(x, 2), module(other_strand(x), 2)
    assert forward.shape == (2, 2, 3, 28)
    torch.testing.assert_close(reverse.flip(-1), forward, atol=1e-4, rtol=1e-4)
    assert float(forward.std()) > 0.1
    assert float((forward - forward.mean(-1, keepdim=True)).abs().max()) > 0.1  # it depends on the bin


def test_conservation_changes_no_count() -> None:
    module, (_, x) = made(), dna(1, 2048)
    factor = torch.exp(torch.rand(1, 1, 2048, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(module.count(x * factor), module.count(x), atol=1e-4, rtol=1e-4)


def test_gradients_are_those_of_small_changes() -> None:
    module, x = made().double(), dna(1, 1024, 3)[1].double()

    def output(sequence: torch.Tensor) -> torch.Tensor:
        return module(sequence.requires_grad_(), 4)[:, :, 1].sum()

    place = x.clone()
    (slope,) = torch.autograd.grad(output(place), place)
    shown = alike = 0
    for at in np.random.default_rng(0).choice(1024, 20, replace=False).tolist():
        base, less = int(x[0, :, at].argmax()), x.clone()
        less[0, base, at] -= 1e-5
        change = float((output(x.clone()) - output(less)).detach()) / 1e-5
        alike += abs(change - float(slope[0, base, at])) < 1e-3 * abs(change) + 1e-3
        shown += abs(change) > 0.1
    assert alike >= 16 and shown >= 5  # not where two places of a bin are equally good hits


def test_the_network_begins_with_the_start_of_each_track_and_counts_may_be_known() -> None:
    network = EpiformerNetwork(TINY, seed=3).eval()
    network.composition.set_motifs(*motifs())
    network.composition.start_at(torch.tensor([0.5, 1.0, 2.0]))
    x = dna(2, 2048)[1]
    with torch.no_grad():
        start = network(x)
        expected = torch.tensor([2**0.5 - 1, 1.0, 3.0])[None, :, None].expand(2, 3, 24)
        torch.testing.assert_close(start, expected, atol=2e-3, rtol=0)
        generator = torch.Generator().manual_seed(0)
        for weight in (network.composition.last.weight, network.ptw.linear[0].weight):
            torch.nn.init.normal_(weight, std=0.05, generator=generator)
        network.composition.start_at(torch.tensor([-0.5, 0.0, 2.0]))
        logs = network.logs(x)
        assert logs.shape == (2, 2, 3, 24)
        torch.testing.assert_close(network.logs(x, network.composition.count(x)), logs)
        found, wanted = network(x), (torch.exp2(logs.mean(1)) - 1).clamp_min(0)
        assert float(wanted.min()) == 0 and float(found.min()) > 0  # positive where the mean is not
        torch.testing.assert_close(torch.log2(found + 1), torch.log2(wanted + 1), atol=0.07, rtol=0)
    # the published layers are those of the same seed without composition, but for what begins as nothing
    published = EpiformerNetwork(replace(TINY, composition=False), seed=3).state_dict()
    fresh = EpiformerNetwork(TINY, seed=3).state_dict()
    assert {name for name in fresh if not name.startswith("composition.")} == set(published)
    assert all(torch.equal(fresh[name], published[name]) for name in published if not name.startswith("ptw.linear."))


def test_separate_tracks_have_compositions_of_their_own() -> None:
    network = SeparateTracks(TINY, seed=0).eval()
    x = dna(1, 2048)[1]
    with torch.no_grad():
        assert network(x).shape == (1, 3, 24) and network.logs(x).shape == (1, 2, 3, 24)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_motifs": -1}, "n_motifs is -1; expected a whole number of at least 0"),
        ({"motif_width": 6}, "motif_width is 6; expected an odd number"),
        ({"n_perceptrons": 0}, "n_perceptrons is 0; expected"),
        ({"dropout": 1.0}, "dropout is 1.0; expected 0 ... 1"),
    ],
)
def test_sizes_that_cannot_be(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


@pytest.mark.parametrize("missing", [False, True])
def test_the_line_is_ridge_regression_with_the_penalty_that_validates_best(missing):
    from sklearn.linear_model import Ridge

    from scatacformer.nn.composition import LINEAR_SHARE, PENALTIES

    generator = torch.Generator().manual_seed(0)
    config = CompositionConfig(n_tracks=2, bin_size=32, width=4, n_perceptrons=2, linear=True)
    net = Composition(config)
    net.initialise(generator)
    codes = torch.randint(0, 4, (12, 32 * 40), generator=generator)
    x = torch.nn.functional.one_hot(codes, 4).float().transpose(1, 2).contiguous()
    net.standardise([x[:8]])
    with torch.no_grad():
        columns = ((net._columns(net.count(x), 0) - net.mean) / net.std).transpose(1, 2)
    true = torch.randn(columns.shape[-1], 2, generator=generator)
    y = (columns @ true * 0.1 + torch.randn(12, 40, 2, generator=generator) + 3).transpose(1, 2).contiguous()
    known = torch.ones(8 * 40, dtype=torch.bool)
    if missing:
        y[0, 1, :5] = torch.nan  # a bin that lacks a track is left out
        known[:5] = False
    parts = [(x[i : i + 4], y[i : i + 4]) for i in (0, 4)]
    net.fit_line(parts, [(x[8:], y[8:])])
    a, b = columns[:8].flatten(0, 1)[known].double(), y[:8].transpose(1, 2).flatten(0, 1)[known].double()
    held, wanted = columns[8:].flatten(0, 1).double(), y[8:].transpose(1, 2).flatten(0, 1).double()
    found = [Ridge(share * len(a)).fit(a.numpy(), b.numpy()) for share in PENALTIES]
    errors = [float(((torch.from_numpy(model.predict(held.numpy())) - wanted) ** 2).mean()) for model in found]
    best = found[int(np.argmin(errors))]
    np.testing.assert_allclose(net.line_weight.numpy(), best.coef_.T, atol=1e-5)
    np.testing.assert_allclose(net.line_bias.numpy(), best.intercept_, atol=1e-4)
    torch.nn.init.normal_(net.last.weight, generator=generator)
    net.train()
    net.first[0].p = net.dropout.p = 0.0
    alone = net(x[8:])  # what learns
    net.eval()
    line = (held.float() @ net.line_weight + net.line_bias).view(4, 40, 2).transpose(1, 2)[:, None]
    torch.testing.assert_close(net(x[8:]), (1 - LINEAR_SHARE) * alone + LINEAR_SHARE * line, atol=1e-4, rtol=1e-4)
