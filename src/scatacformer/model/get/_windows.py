"""Regions through the network, one minibatch of windows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer.pseudobulk import Stretches, WindowLoader

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from scatacformer.pseudobulk import RegionData, Windows

    from ._setup import Prepared


@dataclass(frozen=True)
class Focused:
    """A minibatch of windows, each around one region, on the network's device."""

    rows: slice
    """Which of the windows these are."""
    x: Tensor
    """(B, R, n_features)"""
    padding: Tensor
    """(B, R) bool, True where a window has no region."""
    read: Tensor
    """(B,) place of the region that the window is around."""
    strand: Tensor
    """(B,) 0 for +, 1 for -."""
    regions: np.ndarray
    """(B, R) columns of the AnnData; -1 where a window has no region."""


def stretches_of(prepared: Prepared, groups: np.ndarray | None, open_only: bool) -> Stretches:
    """What windows are cut from: all regions of these groups, or those that are open in them."""
    return Stretches.of(
        prepared.regions,
        prepared.group_names,
        groups=groups,
        accessibility=prepared.data.accessibility if open_only else None,
    )


def site_windows(
    prepared: Prepared, sites: pd.DataFrame, groups: np.ndarray, n_regions: int, open_only: bool
) -> tuple[Windows, np.ndarray, np.ndarray]:
    """A window around each gene's TSS in each group, group by group.

    Returns the windows, and for each its row in ``sites`` and its group. A TSS whose region is closed in a group has no
    window there where ``open_only``.
    """
    stretches = stretches_of(prepared, groups, open_only)
    site = np.tile(np.arange(len(sites)), len(groups))
    group = np.repeat(groups, len(sites))
    column = sites["column"].to_numpy()[site]
    if open_only:
        kept = stretches.places(group, column) >= 0
        site, group, column = site[kept], group[kept], column[kept]
        if not len(site):
            raise ValueError(
                "the region at the TSS is closed in every group that was asked for: nothing can be predicted."
            )
    return stretches.centred(group, column, n_regions), site, group


def focused(
    data: RegionData,
    windows: Windows,
    strand: np.ndarray,
    accessibility: Any,
    batch_size: int,
    device: Any,
    what: str | None = None,
) -> Iterator[Focused]:
    """Minibatches of windows, in order, with a progress bar called ``what``."""
    import torch

    from scatacformer._io import tqdm

    loader = WindowLoader(data, windows, batch_size=batch_size, target=None, accessibility=accessibility)
    first = 0
    for batch in tqdm(loader, desc=what, disable=what is None or len(loader) < 20, leave=False):
        rows = slice(first, first + len(batch["group"]))
        first = rows.stop
        yield Focused(
            rows,
            batch["features"].to(device),
            ~batch["valid"].to(device),
            torch.from_numpy(windows.scored_first[rows]).to(device),
            torch.from_numpy(strand[rows].astype(np.int64)).to(device),
            batch["regions"].numpy(),
        )
