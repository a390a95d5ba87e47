"""Speed of ``base`` on a GPU: bfloat16, sentences of 6,800 bins, by attention backend. it needs only torch.

PYTHONPATH=src python benchmarks/gpu.py              a few minutes; without CUDA it exits without writing
PYTHONPATH=src python benchmarks/gpu.py --quick      short sentences; prints, writes nothing
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from _common import environment, table, write
from throughput import log_normal_lengths, minibatch
from torch import Tensor

from scatacformer.nn import BACKENDS, NetworkConfig, RowAdamW, ScAtacNetwork, varlen_attention

N_BINS, N_CHROMS, MAX_TOKENS, N_CELLS = 606_219, 23, 6_800, 8
ROUNDS, TOLERANCE = 10, 2e-2
# dense bfloat16, multiply-adds as two operations, teraflops: the makers' data sheets
DATA_SHEET = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10": 125, "4090": 165}
FORMULA = """Operations of a token, forward and backward: 6 N + 12 n_layers d_model L, N the parameters of the encoder's
matrices, L the tokens of the sentence that it attends to; forward alone a third of it. Pooling, decoder, loss and
optimiser are part of the time of a training step but not of the operations, so the share is that of the whole step. Padding,
if a backend uses it, is part of the time only."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sentences of 256 bins; nothing is written")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("torch finds no CUDA device; nothing is measured")
        return
    n_bins, longest, rounds = (20_000, 256, 2) if arguments.quick else (N_BINS, MAX_TOKENS, ROUNDS)
    write("gpu", measure(torch.device("cuda"), "base", n_bins, longest, rounds), keep=not arguments.quick)


def measure(device: torch.device, size: str, n_bins: int, longest: int, rounds: int) -> str:
    """The report: agreement of the backends, then speed on sentences of one length and of log-normal lengths."""
    backends = [b for b in BACKENDS if runs(b, device)]
    sheet, found = data_sheet_rate(device), matrix_rate(device)
    lengths = {
        f"{N_CELLS} cells of {longest:,} bins": torch.full((N_CELLS,), longest),
        f"{2 * N_CELLS} cells, log-normal lengths up to {longest:,}": (
            log_normal_lengths(2 * N_CELLS, longest // 2, 0.5).clamp_max(longest)
        ),
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    parts = [
        "# GPU", "", environment("scatacformer", "torch", "flash-attn"), "",
        f"{name}, `{size}`, bfloat16 autocast, {n_bins:,} bins. The chip's matrix rate: "
        + (f"{sheet:,} TFLOP/s by its data sheet, " if sheet else "")
        + f"{found:,.0f} TFLOP/s measured here (bfloat16 product of two random 8192 x 8192 matrices).", "", FORMULA, "",
        "## Agreement", "", agreement(device, backends), "",
    ]  # fmt: skip
    for title, cells in lengths.items():
        rows = [row for b in backends for row in speeds(device, size, n_bins, longest, cells, b, rounds, sheet, found)]
        header = ["backend", "what", "tokens/s", "TFLOP/s", "of the data sheet", "of the measured rate", "peak MB"]
        parts += [f"## {title}", "", table(header, rows)]
    return "\n".join(parts)


def runs(backend: str, device: torch.device) -> bool:
    """Whether the backend runs here at all."""
    q = torch.zeros(8, 2, 64, dtype=torch.bfloat16, device=device)
    try:
        varlen_attention(q, q, q, torch.tensor([0, 3, 8], dtype=torch.int32, device=device), backend)
    except (ValueError, ImportError, RuntimeError) as error:
        print(f"{backend}: not here ({type(error).__name__}: {error})")
        return False
    return True


def agreement(device: torch.device, backends: list[str]) -> str:
    """Largest difference of each backend in bfloat16 from padding in float32, outputs and gradients."""
    generator = torch.Generator(device).manual_seed(0)
    lengths = torch.tensor([1, 517, 64, 1300], device=device)
    boundaries = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
    inputs = torch.randn(4, int(lengths.sum()), 8, 64, device=device, generator=generator).bfloat16()

    def both(backend: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        qkv = inputs[:3].to(dtype).requires_grad_()
        out = varlen_attention(*qkv, boundaries, backend)
        (grad,) = torch.autograd.grad(out, qkv, inputs[3].to(dtype))
        return out.detach().float(), grad.float()

    truth = both("padded", torch.float32)
    rows: list[list[object]] = []
    for backend in backends:
        worst = [float((a - b).abs().max()) for a, b in zip(both(backend, torch.bfloat16), truth, strict=True)]
        rows.append([backend, *(f"{w:.1e}" for w in worst), "yes" if worst[0] <= TOLERANCE else "NO"])
    return table(["backend", "outputs differ by", "gradients differ by", f"outputs within {TOLERANCE:g}"], rows)


def speeds(device, size, n_bins, longest, cells, backend, rounds, sheet, found) -> list[list[object]]:
    """Two rows of the table: reading, and a whole training step."""
    config = NetworkConfig.of_size(size, n_bins=n_bins, n_eos=N_CHROMS, max_tokens=longest, attention=backend)
    net = ScAtacNetwork(config, torch.arange(n_bins) * N_CHROMS // n_bins).to(device)
    batch = {k: v.to(device) for k, v in minibatch(cells, n_bins).items()}
    optimizer = RowAdamW(net.parameters(), lr=1e-4)
    sentences = (cells + 1 + N_CHROMS).double()
    n_matrix = sum(p.numel() for p in net.encoder.parameters() if p.dim() == 2)
    flop = float((sentences * (6 * n_matrix + 12 * config.n_layers * config.d_model * sentences)).sum())

    def read() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            net.encode(batch)

    def train() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            loss = net.loss(batch)["loss"]
        loss.backward()
        optimizer.step()

    rows: list[list[object]] = []
    for what, run, operations in (("embedding", read, flop / 3), ("training step", train, flop)):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        try:
            seconds = timed(run, device, rounds)
        except torch.OutOfMemoryError:
            rows.append([backend, what, "out of memory", "–", "–", "–", "–"])
            continue
        rate = operations / seconds / 1e12
        peak = round(torch.cuda.max_memory_allocated(device) / 1e6) if device.type == "cuda" else 0
        shares = [f"{rate / chip:.1%}" if chip else "–" for chip in (sheet, found)]
        rows.append([backend, what, f"{float(sentences.sum()) / seconds:,.0f}", f"{rate:.1f}", *shares, f"{peak:,}"])
        print(*rows[-1], sep="\t")
    return rows


def timed(run: Callable[[], None], device: torch.device, rounds: int) -> float:
    """Median seconds of a call, after two that are not counted; each waits for the device."""
    seconds = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return median(seconds[2:])


def data_sheet_rate(device: torch.device) -> int | None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((rate for chip, rate in DATA_SHEET.items() if chip in name.replace("RTX ", "").split()), None)


def matrix_rate(device: torch.device, n: int = 8192) -> float:
    """TFLOP/s of a bfloat16 matrix product; random data, since zeros run faster."""
    n = n if device.type == "cuda" else 512
    a, b = torch.randn(2, n, n, device=device).bfloat16()
    return 2 * n**3 / timed(lambda: a @ b, device, 10) / 1e12


if __name__ == "__main__":
    main()
