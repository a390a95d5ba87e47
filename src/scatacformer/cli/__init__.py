"""The verbs for the shell: ``scatacformer embed``, ``qc``, ``demo`` and ``corpus``."""

from __future__ import annotations

from ._main import main

__all__ = ["main"]
