"""Regions to token ids and back, as the tokenizers of Hugging Face do."""

from __future__ import annotations

from .files import read_universe
from .tokenized_cells import TokenizedCells
from .tokenizer import Tokenizer

__all__ = ["TokenizedCells", "Tokenizer"]
