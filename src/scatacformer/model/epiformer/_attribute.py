"""Which letters of a region matter: mutagenesis, gradients, integrated gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from scatacformer.sequence import one_hot
from scatacformer.tracks import conservation_factor

from ._predict import Predictor, evaluating

if TYPE_CHECKING:
    from torch import Tensor
    from xarray import DataArray

    from ._setup import Genome

METHODS = ("gradient", "ism", "integrated_gradients")


class RegionInput:
    """A window with a region in its middle, and the bins that the region touches.

    Beyond the ends of the chromosome there is N.
    """

    def __init__(self, predictor: Predictor, genome: Genome, chrom: str, start: int, end: int) -> None:
        config = predictor.config
        first, last = start // config.bin_size, -(-end // config.bin_size)
        before = (config.n_outputs - (last - first)) // 2
        if before < 0:
            raise ValueError(
                f"the region has {end - start:,} bp, which touch {last - first} bins; a window predicts "
                f"{config.n_outputs}. Take a shorter one."
            )
        self.chrom, self.start, self.end = chrom, start, end
        begin = (first - before - config.crop) * config.bin_size  # on the grid of the bins, as in predict_region
        self.codes = genome.fasta.codes(chrom, begin, begin + config.seq_len, pad=True)
        factor = conservation_factor(genome.conservation, chrom, begin, begin + config.seq_len)
        self.factor = np.ones(config.seq_len, dtype=np.float32) if factor is None else factor
        self.inside = slice(start - begin, end - begin)
        self.bins = slice(before, before + last - first)

    @property
    def positions(self) -> np.ndarray:
        """Of the bases of the region in bp."""
        return np.arange(self.start, self.end)

    def one_hot(self, codes: np.ndarray) -> np.ndarray:
        """Windows of codes ``(..., seq_len)`` as the network reads them, ``(..., 4, seq_len)``."""
        return one_hot(codes) * self.factor


def mutagenesis(predictor: Predictor, region: RegionInput, names: list[str], progress: bool = True) -> DataArray:
    """Change of the signal, summed over the region's bins, by each base at each position.

    ``(position, base, track)``; 0 for the base that is there. A change of N is against N.
    """
    from xarray import DataArray

    from scatacformer._io import tqdm

    encoded = region.one_hot(region.codes)
    predictor = predictor.near(encoded, region.inside.start, region.inside.stop)
    reference = predictor(encoded[None])[0, :, region.bins].sum(-1)
    places = np.arange(region.inside.start, region.inside.stop)
    changes = [(place, base) for place in places.tolist() for base in range(4) if region.codes[place] != base]
    out = np.zeros((len(places), 4, len(names)), dtype=np.float32)
    step = predictor.batch_size
    bar = tqdm(total=len(changes), desc="mutagenesis", unit="change", delay=2, disable=None if progress else True)
    with bar:
        for begin in range(0, len(changes), step):
            some = changes[begin : begin + step]
            codes = np.repeat(region.codes[None], len(some), axis=0)
            for row, (place, base) in enumerate(some):
                codes[row, place] = base
            signal = predictor(region.one_hot(codes))[..., region.bins].sum(-1)  # (n, n_tracks)
            for row, (place, base) in enumerate(some):
                out[place - region.inside.start, base] = signal[row] - reference
            bar.update(len(some))
    coords = {"position": region.positions, "base": list("ACGT"), "track": names}
    attrs = {"chrom": region.chrom, "reference": letters_of(region), "signal": reference.tolist()}
    return DataArray(out, dims=("position", "base", "track"), coords=coords, attrs=attrs, name="change")


def attribution(
    predictor: Predictor,
    region: RegionInput,
    names: list[str],
    method: Literal["gradient", "ism", "integrated_gradients"],
    n_steps: int,
    progress: bool,
) -> DataArray:
    """Share of each base that is there in the signal of the region's bins, ``(position, base, track)``.

    Against the region with all bases unknown. The attributes say by how much the shares miss the whole difference.
    """
    from xarray import DataArray

    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}.")
    encoded = region.one_hot(region.codes)
    baseline = encoded.copy()
    baseline[:, region.inside] = 0
    whole = np.subtract(*predictor(np.stack([encoded, baseline]))[..., region.bins].sum(-1))  # (n_tracks,)
    here = encoded[:, region.inside]
    if method == "ism":
        changes = mutagenesis(predictor, region, names, progress).to_numpy()
        # what the base adds over the mean of the four
        values = -changes.mean(axis=1, keepdims=True) * (here > 0).T[:, :, None]
    else:
        points = [1.0] if method == "gradient" else ((np.arange(n_steps) + 0.5) / n_steps).tolist()
        slopes = _mean_gradient(predictor, encoded, baseline, region, points)  # (n_tracks, 4, n_positions)
        values = (slopes * here).transpose(2, 1, 0)
    missing = values.sum((0, 1)) - whole
    coords = {"position": region.positions, "base": list("ACGT"), "track": names}
    attrs = {
        "chrom": region.chrom,
        "reference": letters_of(region),
        "method": method,
        "difference": whole.tolist(),
        "completeness_error": missing.tolist(),
    }
    return DataArray(
        values.astype(np.float32), dims=("position", "base", "track"), coords=coords, attrs=attrs, name="attribution"
    )


def letters_of(region: RegionInput) -> str:
    """The bases of a region."""
    return "".join("ACGTN"[code] for code in region.codes[region.inside])


def _mean_gradient(
    predictor: Predictor, encoded: np.ndarray, baseline: np.ndarray, region: RegionInput, points: list[float]
) -> np.ndarray:
    """Mean derivative of each track's sum over the region's bins along the way from the baseline to the sequence."""
    module, device = predictor.module, predictor.device
    total = np.zeros((len(predictor.rows), 4, region.inside.stop - region.inside.start), dtype=np.float64)
    frozen = [p for p in module.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)  # only the input's gradient is wanted
    try:
        with evaluating(module), torch.enable_grad():
            for point in points:
                mixed = torch.from_numpy(baseline + np.float32(point) * (encoded - baseline)).to(device)
                total += _gradient(module, mixed, predictor, region)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    return total / len(points)


def _gradient(module: torch.nn.Module, sequence: Tensor, predictor: Predictor, region: RegionInput) -> np.ndarray:
    x = sequence[None].requires_grad_(True)
    sums = module(x)[0, predictor.rows][:, region.bins].sum(-1)  # (n_rows,)
    out = []
    for row in range(len(sums)):
        (slope,) = torch.autograd.grad(sums[row], x, retain_graph=row + 1 < len(sums))
        out.append(slope[0, :, region.inside].float().cpu().numpy() * predictor.scale[row])
    return np.stack(out)
