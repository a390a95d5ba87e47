"""Cells per CPU-second of Atacformer at its published sizes: packed by us, and padded by torch's own layers.

    python benchmarks/atacformer.py            a minute and a half; 3 GB for the training step over the whole universe
    python benchmarks/atacformer.py --quick    few short cells; prints, writes nothing

Weights are random: the published ones were not available, and speed does not depend on them. The
peer is the layer that theirs is made of (``nn.TransformerEncoder``, with its fast path) on the same weights and cells,
in minibatches of consecutive cells. The two alternate in the same process. The training step compares the optimizers: one for
the rows that were read, and AdamW over the whole table of regions.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from _common import environment, peak_mb, table, write
from anndata import AnnData
from scipy.sparse import csr_matrix
from torch import Tensor, nn

import scatacformer as sf
from scatacformer.nn import AtacformerNetwork, RowAdamW
from scatacformer.nn.optim import clip_gradients

N_REGIONS, N_CELLS, MEDIAN_LENGTH, SIGMA, BATCH, ROUNDS = 100_000, 16, 512, 0.5, 8, 2
UNIVERSE = 890_704  # regions of the published models


class Padded(nn.Module):
    """The same weights in torch's own layers, on padded minibatches."""

    def __init__(self, network: AtacformerNetwork) -> None:
        super().__init__()
        c = network.config
        layer = nn.TransformerEncoderLayer(
            c.hidden_size, c.num_attention_heads, c.intermediate_size, activation="relu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, c.num_hidden_layers)
        self.encoder.load_state_dict(network.encoder.state_dict())
        self.table, self.pad = network.embeddings.token_embeddings, c.pad_token_id
        self.eval()

    @torch.inference_mode()
    def forward(self, cells: list[Tensor]) -> Tensor:
        parts = []
        for first in range(0, len(cells), BATCH):
            ids = nn.utils.rnn.pad_sequence(cells[first : first + BATCH], batch_first=True, padding_value=self.pad)
            mask = ids != self.pad
            x = self.encoder(self.table(ids), src_key_padding_mask=~mask)
            parts.append((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        return torch.cat(parts)


def sampled(n_cells: int, middle: int, n_regions: int) -> csr_matrix:
    """Cells of log-normal length, of uniformly sampled regions."""
    rng = np.random.default_rng(0)
    lengths = (middle * np.exp(rng.normal(0, SIGMA, n_cells))).astype(int).clip(1, 8192)
    columns = [np.sort(rng.choice(n_regions, n, replace=False)) for n in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix((np.ones(indptr[-1], np.float32), np.concatenate(columns), indptr), shape=(n_cells, n_regions))


def vocabulary(n_regions: int) -> sf.Vocabulary:
    start = np.arange(n_regions) * 1_000
    return sf.Vocabulary(("chr1",), np.zeros(n_regions, int), start, start + 500)


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()  # of all threads: others may use the machine
    call()
    return time.process_time() - start


def embedding(n_cells: int, middle: int, rounds: int) -> tuple[list[list[object]], str]:
    model = sf.Atacformer(vocabulary=vocabulary(N_REGIONS))
    x = sampled(n_cells, middle, N_REGIONS)
    adata = AnnData(x, var=model.vocabulary.to_frame())
    cells = [torch.from_numpy(part.astype(np.int64)) for part in np.split(x.indices, x.indptr[1:-1])]
    peer = Padded(model.module)
    ours, theirs = (lambda: model.get_latent_representation(adata, batch_size=BATCH)), (lambda: peer(cells))
    apart = float(np.abs(ours() - theirs().numpy()).max())
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        times["ours"].append(seconds(ours))
        times["theirs"].append(seconds(theirs))
    lengths = np.diff(x.indptr)
    rate = {name: n_cells / median(values) for name, values in times.items()}
    rows = [
        ["`sf.Atacformer`, from AnnData", f"{rate['ours']:.1f}", f"{rate['ours'] * lengths.mean():,.0f}"],
        ["padded `nn.TransformerEncoder`, from token ids", f"{rate['theirs']:.1f}",
         f"{rate['theirs'] * lengths.mean():,.0f}"],
    ]  # fmt: skip
    note = (
        f"{n_cells} cells of {lengths.min()} to {lengths.max()} regions (median {int(np.median(lengths))}), minibatches "
        f"of {BATCH}, median of {rounds} alternating rounds. {rate['ours'] / rate['theirs']:.2f} times as fast; the "
        f"embeddings agree within {apart:.0e}."
    )
    return rows, note


def step(sparse: bool, n_regions: int, n_cells: int, middle: int) -> dict[str, float]:
    """CPU-seconds of forward and backward, and of the optimizer, of one step of replaced tokens; the second one."""
    config = sf.nn.AtacformerConfig(n_regions + 7)
    network = AtacformerNetwork(config, discriminator=True)
    network.embeddings.token_embeddings.sparse = sparse
    optimizer = (RowAdamW if sparse else torch.optim.AdamW)(network.parameters(), lr=1.5e-4)
    x = sampled(n_cells, middle, n_regions)
    tokens, cu_seqlens = torch.from_numpy(x.indices.astype(np.int64)), torch.from_numpy(x.indptr.astype(np.int32))
    replaced = (torch.arange(len(tokens)) % 2).float()
    taken: dict[str, float] = {}
    for _ in range(2):

        def backward() -> None:
            optimizer.zero_grad()
            logits = network.replaced_logits(tokens, cu_seqlens)
            nn.functional.binary_cross_entropy_with_logits(logits, replaced).backward()

        def update() -> None:
            clip_gradients(network.parameters(), 1.0)
            optimizer.step()

        taken = {"backward": seconds(backward), "update": seconds(update)}
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 cells of about 64 regions; nothing is written")
    quick = parser.parse_args().quick
    n_cells, middle, rounds, n_regions = (8, 64, 1, 20_000) if quick else (N_CELLS, MEDIAN_LENGTH, ROUNDS, UNIVERSE)
    rows, note = embedding(n_cells, middle, rounds)
    steps = []
    for name, sparse in (("rows that were read (`RowAdamW`)", True), ("the whole table (`AdamW`)", False)):
        taken = step(sparse, n_regions, 4, middle)
        steps.append([name, f"{taken['backward']:.2f}", f"{taken['update']:.2f}", f"{peak_mb() / 1e3:.1f}"])
    c = sf.nn.AtacformerConfig(N_REGIONS + 7)
    write(
        "atacformer",
        "# Atacformer\n\n"
        + environment("scatacformer", "torch")
        + f"\n\nSizes of the published models ({c.num_hidden_layers} layers, {c.hidden_size} wide, "
        f"{c.num_attention_heads} heads), random weights, {N_REGIONS:,} regions, float32, "
        f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}. {note}\n\n"
        + table(["embedding", "cells per CPU-second", "tokens per CPU-second"], rows)
        + f"\nOne step of replaced tokens, 4 cells of about {middle} regions, {n_regions:,} regions:\n\n"
        + table(["what the optimizer touches", "forward and backward, CPU-s", "clipping and update, CPU-s", "peak so far, GB"], steps),
        keep=not quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
