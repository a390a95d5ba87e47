"""Tokens per second of a small network on cells of different lengths: packed sentences against padded ones.

    python benchmarks/throughput.py            about 3 minutes on two cores; it needs only torch
    python benchmarks/throughput.py --quick    few short cells; prints, writes nothing

Three ways to compute with the same weights, alternating in the same run:

packed              one row of tokens, one attention call for all cells of a length (``attention="grouped"``)
padded attention    one row of tokens, padded and masked for attention only (``attention="padded"``)
padded batches      (n_cells, longest) throughout: every layer computes the padding too
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from _common import environment, table, write
from torch import Tensor, nn

from scatacformer.nn import NetworkConfig, RowAdamW, ScAtacNetwork

N_BINS, N_CHROMS, N_CELLS, MEDIAN_LENGTH = 100_000, 24, 64, 512
SIGMAS = (0.35, 0.5, 0.75)  # of the log of the length; 0.5 is that of the simulated blood
ROUNDS, BAR, TOLERANCE = 7, 1.3, 1e-4


class PaddedEncoder(nn.Module):
    """The blocks of ``encoder`` on a padded batch: the same weights, all operations on padding too."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, cu_seqlens: Tensor) -> Tensor:
        lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).long()
        n_cells, longest = len(lengths), int(lengths.max())
        cell = torch.repeat_interleave(torch.arange(n_cells), lengths)
        place = torch.arange(len(x)) - cu_seqlens[:-1].long()[cell]
        x = x.new_zeros(n_cells, longest, x.shape[1]).index_put((cell, place), x)  # (n_cells, longest, d_model)
        mask = (torch.arange(longest) < lengths[:, None])[:, None, None, :]
        for block in self.encoder.blocks:
            qkv = block.qkv(block.norm_1(x)).unflatten(-1, (3, block.n_heads, -1))
            q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (n_cells, n_heads, longest, d_head) each
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x = x + block.out(attended.transpose(1, 2).flatten(2))
            x = x + block.down(F.gelu(block.up(block.norm_2(x))))
        return self.encoder.norm(x)[cell, place]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="16 cells of about 64 tokens; nothing is written")
    arguments = parser.parse_args()
    n_cells, middle, rounds = (16, 64, 2) if arguments.quick else (N_CELLS, MEDIAN_LENGTH, arguments.rounds)
    sections, met = [], True
    for sigma in SIGMAS:
        lengths = log_normal_lengths(n_cells, middle, sigma)
        section, ratios = compare(lengths, sigma, rounds)
        sections += section
        met &= min(ratios) >= BAR
    text = "\n".join([
        "# Throughput", "", environment("scatacformer", "torch"), "",
        f"`small`, float32, {torch.get_num_threads()} threads, {n_cells} cells a batch, {N_BINS:,} bins. Tokens are those "
        "of the sentences, `<cls>` and `<eos>` included, padding not counted. The encoder alone is forward, or forward "
        "and backward; the network's training step has pooling, decoder, loss and optimiser too, its embedding pooling "
        f"and heads. Median of {rounds} alternating rounds. The three agree to {TOLERANCE:g}.", "",
        f"Bar: the packed encoder {BAR} times as fast as with padded batches, training and embedding, for all spreads of "
        f"length: {'met' if met else 'NOT met'}.", "",
        *sections,
    ])  # fmt: skip
    write("throughput", text, keep=not arguments.quick)


def log_normal_lengths(n_cells: int, middle: int, sigma: float) -> Tensor:
    noise = torch.randn(n_cells, generator=torch.Generator().manual_seed(0))
    return (middle * torch.exp(sigma * noise)).round().long().clamp_min(1)


def compare(lengths: Tensor, sigma: float, rounds: int) -> tuple[list[str], list[float]]:
    """The section of the report, and how many times faster packed is than padded batches: the encoder's two figures."""
    networks = {
        "packed": network("grouped"),
        "padded attention": network("padded"),
        "padded batches": network("padded"),
    }
    for other in networks.values():
        other.load_state_dict(networks["packed"].state_dict())
    networks["padded batches"].encoder = PaddedEncoder(networks["padded batches"].encoder)
    batch = minibatch(lengths)
    sentences = lengths + 1 + N_CHROMS
    check_agreement(networks, batch)
    n_tokens = int(sentences.sum())
    x = torch.randn(n_tokens, networks["packed"].config.d_model, generator=torch.Generator().manual_seed(1))
    boundaries = F.pad(sentences.cumsum(0), (1, 0)).int()
    measured = {
        "encoder, embedding": {n: reading(net.encoder, x, boundaries) for n, net in networks.items()},
        "encoder, training": {n: learning(net.encoder, x, boundaries) for n, net in networks.items()},
        "network, embedding": {n: embedding(net, batch) for n, net in networks.items()},
        "network, training step": {n: training(net, batch) for n, net in networks.items()},
    }
    rows, ratios = [], []
    for what, ways in measured.items():
        seconds = by_turns(ways, rounds)
        speed = [round(n_tokens / median(s)) for s in seconds.values()]
        ratio = [median(b / a for a, b in zip(seconds["packed"], s, strict=True)) for s in list(seconds.values())[1:]]
        rows.append([what, *speed, *(f"{r:.2f}" for r in ratio)])
        if what.startswith("encoder"):
            ratios.append(ratio[-1])
    share = 1 - n_tokens / (len(sentences) * int(sentences.max()))
    header = ["tokens per second of", *networks, "packed / padded attention", "packed / padded batches"]
    title = f"## Log-normal lengths, sigma {sigma}: {int(sentences.min())} to {int(sentences.max())} tokens, median "
    title += f"{int(sentences.median())}; padding {share:.0%} of a padded batch"
    return [title, "", table(header, rows)], ratios


def network(attention: str) -> ScAtacNetwork:
    config = NetworkConfig.of_size("small", n_bins=N_BINS, n_eos=N_CHROMS, attention=attention)
    return ScAtacNetwork(config, torch.arange(N_BINS) * N_CHROMS // N_BINS)


def minibatch(lengths: Tensor, n_bins: int = N_BINS) -> dict[str, Tensor]:
    """What ``ScAtacNetwork.loss`` reads: half as many targets as kept bins, 4,096 closed bins for all cells."""
    generator = torch.Generator().manual_seed(2)
    boundaries = F.pad(lengths.cumsum(0), (1, 0)).int()
    bins = torch.randint(n_bins, (int(lengths.sum()),), generator=generator)
    cell = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return {
        "bins": bins, "cu_seqlens": boundaries, "tokens": bins, "token_cu_seqlens": boundaries,
        "target_bins": bins[::2], "target_cell": cell[::2], "depth": lengths.float(), "batch": torch.zeros_like(lengths),
        "log_rate": torch.zeros(len(lengths)), "sampled": torch.randperm(n_bins, generator=generator)[:4096].sort().values,
        "closed": torch.ones(len(lengths), 4096, dtype=torch.bool), "state_bins": bins[::8], "state_cell": cell[::8],
        "state_kept": torch.arange(len(bins[::8])) % 2 == 0,
    }  # fmt: skip


def check_agreement(networks: dict[str, ScAtacNetwork], batch: dict[str, Tensor]) -> None:
    with torch.no_grad():
        eos = [net.encode(batch).eos for net in networks.values()]
    worst = max(float((e - eos[0]).abs().max()) for e in eos)
    if worst > TOLERANCE:
        raise AssertionError(f"the three ways differ by {worst:.1e}, more than {TOLERANCE:g}: the speeds mean nothing")


def reading(encoder: nn.Module, x: Tensor, boundaries: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            encoder(x, boundaries)

    return run


def learning(encoder: nn.Module, x: Tensor, boundaries: Tensor) -> Callable[[], None]:
    def run() -> None:
        encoder.zero_grad()
        encoder(x.clone().requires_grad_(), boundaries).square().mean().backward()

    return run


def embedding(net: ScAtacNetwork, batch: dict[str, Tensor]) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            net.encode(batch)

    return run


def training(net: ScAtacNetwork, batch: dict[str, Tensor]) -> Callable[[], None]:
    optimizer = RowAdamW(net.parameters(), lr=1e-4)

    def run() -> None:
        optimizer.zero_grad()
        net.loss(batch)["loss"].backward()
        optimizer.step()

    return run


def by_turns(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one that is not counted: other work on the machine affects all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
