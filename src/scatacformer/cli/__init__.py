"""The command line: ``scatacformer embed``, ``qc``, ``demo``, ``corpus``, ``pretrain``, ``tracks`` and ``variants``."""

from __future__ import annotations

from ._main import main

__all__ = ["main"]
