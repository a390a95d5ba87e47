"""Epiformer: DNA to the accessibility of each group, and what a variant does to it."""

from ._model import Epiformer

__all__ = ["Epiformer"]
