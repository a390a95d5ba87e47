"""Signal along the genome: windows of DNA, the coverage of each track in their bins, and minibatches of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._lazy import lazy

if TYPE_CHECKING:
    from .coverage import array_signal, bigwig_signal, check_bigwig_sizes, check_signal, insertion_signal
    from .loader import WindowData, WindowLoader, conservation_factor
    from .windows import SequenceWindows, bins_of_windows, place_windows, windows_at

__all__ = ["SequenceWindows", "WindowData", "WindowLoader"]
_FILE_OF = {
    "SequenceWindows": "windows",
    "WindowData": "loader",
    "WindowLoader": "loader",
    "array_signal": "coverage",
    "bigwig_signal": "coverage",
    "bins_of_windows": "windows",
    "check_bigwig_sizes": "coverage",
    "check_signal": "coverage",
    "conservation_factor": "loader",
    "insertion_signal": "coverage",
    "place_windows": "windows",
    "windows_at": "windows",
}

__getattr__, __dir__ = lazy(__name__, __all__, _FILE_OF)
