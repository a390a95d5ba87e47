"""What a group of cells says of its regions: counts, expression targets, windows of regions, minibatches of them."""

from __future__ import annotations

from .loader import RegionData, WindowLoader
from .windows import Stretches, Windows

__all__ = ["RegionData", "Stretches", "WindowLoader", "Windows"]
