"""The verbs for the shell: `scatacformer embed`, `qc` and `demo`."""

from __future__ import annotations

from ._main import main

__all__ = ["main"]
