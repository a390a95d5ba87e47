"""Known motifs in the network, for data too small to learn motifs from: as first filters, or as what a bin is made of."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from scatacformer.nn import EpiformerNetwork

if TYPE_CHECKING:
    from scatacformer.sequence import Motifs


@torch.no_grad()
def start_from_motifs(module: nn.Module, motifs: Motifs) -> None:
    """Set the first filters of each network of ``module``: filters 2 i and 2 i + 1 are motif i and its other strand.

    A filter is the motif's log-odds without the mean of each position, and has the spread that a sampled filter has, so
    that training begins as it does without motifs. Of a motif wider than the filters its most informative part is taken.

    Raises ValueError for more motifs than have room among the filters.
    """
    for network in module.modules():
        if isinstance(network, EpiformerNetwork):
            first = network.conv.stem[0]
            assert isinstance(first, nn.Conv1d)
            weight = first.weight  # (d_stem, 4, 15)
            if 2 * len(motifs) > len(weight):
                raise ValueError(
                    f"motifs has {len(motifs)} motifs, each of which needs two of the {len(weight)} first filters (d_stem), "
                    f"one a strand. Select at most {len(weight) // 2} with motifs.select(names), or take a larger d_stem."
                )
            for number, log_odds in enumerate(motifs.log_odds()):
                one = _filter(np.asarray(log_odds, dtype=np.float32), weight.shape[2])
                weight[2 * number] = torch.from_numpy(one)
                weight[2 * number + 1] = torch.from_numpy(one[::-1, ::-1].copy())


def composition_sizes(composition: Motifs | Literal["kmers"] | None) -> dict[str, Any]:
    """The fields of the configuration that follow from what is counted."""
    if composition is None:
        return {}
    if isinstance(composition, str):
        if composition != "kmers":
            raise ValueError(f"composition is {composition!r}; expected motifs (sf.sequence.Motifs) or 'kmers'.")
        return {"composition": True}
    widest = int(composition.widths.max())
    return {"composition": True, "n_motifs": len(composition), "motif_width": widest + (widest + 1) % 2}


def count_motifs(module: nn.Module, motifs: Motifs) -> None:
    """Let the composition of each network of ``module`` count the hits of these motifs, as ``pp.scan_motifs`` does."""
    from scatacformer.sequence import score_thresholds

    weights = [torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in motifs.log_odds()]
    thresholds = score_thresholds(motifs)
    if short := [name for name, threshold in zip(motifs.names, thresholds, strict=True) if threshold == np.inf]:
        warnings.warn(
            f"{len(short)} of {len(motifs)} motifs are too short or too uncertain for a hit (first: {short[0]}): their "
            "count is always 0",
            UserWarning,
            stacklevel=3,
        )
    # finite, because weights that are not are refused when a model is loaded
    least = torch.from_numpy(np.minimum(thresholds, np.finfo(np.float32).max).astype(np.float32))
    for network in module.modules():
        if isinstance(network, EpiformerNetwork) and network.composition is not None:
            network.composition.set_motifs(weights, least)


def _filter(log_odds: np.ndarray, width: int) -> np.ndarray:
    """``(4, width)``: the motif in the middle, with the mean square of a sampled filter, 2 / (4 width)."""
    values = log_odds - log_odds.mean(axis=0)
    if values.shape[1] > width:
        said = np.convolve(np.square(values).sum(axis=0), np.ones(width), "valid")
        values = values[:, int(said.argmax()) :][:, :width]
    out = np.zeros((4, width), dtype=np.float32)
    begin = (width - values.shape[1]) // 2
    out[:, begin : begin + values.shape[1]] = values
    return out * np.float32(np.sqrt(2 / max(np.square(out).sum(), 1e-12)))
