"""The DNA table of a model: from a file, an array or a tensor to float16, checked against the regions."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scatacformer.genome import carry_matrix
from scatacformer.sequence import read_dna_table

if TYPE_CHECKING:
    from torch import Tensor

    from scatacformer.genome import Vocabulary

ROWS_AT_ONCE, COLUMNS_AT_ONCE = 16_384, 64


def read_dna(dna: str | os.PathLike | np.ndarray | Tensor, vocabulary: Vocabulary) -> tuple[Tensor, dict[str, Any]]:
    """The table as float16 (n_bins, d), memory-mapped for a file of float16, and the description of its inputs.

    Raises TypeError for anything that is not a table, ValueError for other regions or numbers out of float16's range.
    """
    if isinstance(dna, OfOtherRegions):
        return dna.carried_to(vocabulary)
    made_of: dict[str, Any] = {"from": type(dna).__name__}
    if isinstance(dna, str | os.PathLike):
        dna, notes = read_dna_table(os.fspath(dna), vocabulary)
        made_of |= notes
    elif isinstance(dna, np.memmap) and dna.filename is not None and Path(f"{dna.filename}.json").exists():
        whole, notes = read_dna_table(dna.filename, vocabulary)
        made_of |= notes if whole.shape == dna.shape else {}
    if not isinstance(dna, np.ndarray | torch.Tensor):
        raise TypeError(f"dna is {type(dna).__name__}; expected the path of a .npy file, an array or a tensor.")
    if isinstance(dna, np.ndarray):
        if dna.dtype.kind not in "fiu":
            raise TypeError(f"dna has dtype {dna.dtype}; expected a table of numbers.")
        with warnings.catch_warnings():  # it is never written to
            warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
            dna = torch.from_numpy(np.asarray(dna))
    if dna.ndim != 2 or dna.shape[0] != vocabulary.n_bins or not dna.shape[1]:
        raise ValueError(
            f"the DNA table has shape {tuple(dna.shape)}; expected ({vocabulary.n_bins:,}, d), a row for each region in "
            "the order of adata.var. Compute one with sf.pp.dna_embeddings(adata, ...)."
        )
    return _as_float16(dna.detach().cpu()), made_of


@dataclass(frozen=True)
class OfOtherRegions:
    """The table for other regions: each region gets the mean of those that overlap it."""

    table: Tensor
    vocabulary: Vocabulary
    made_of: dict[str, Any]

    def carried_to(self, vocabulary: Vocabulary) -> tuple[Tensor, dict[str, Any]]:
        if vocabulary == self.vocabulary:
            return self.table.cpu(), self.made_of
        carry = carry_matrix(vocabulary, self.vocabulary)
        if not carry.nnz:
            raise ValueError(
                f"none of the {vocabulary.n_bins:,} regions of adata overlaps one of the pretrained model's "
                f"{self.vocabulary.n_bins:,} (adata's first: {vocabulary.names[0]}, the model's: {self.vocabulary.names[0]}). "
                "Check that the assemblies are the same."
            )
        columns = [carry @ part.float().numpy() for part in self.table.cpu().split(COLUMNS_AT_ONCE, dim=1)]
        made_of = {**self.made_of, "carried_from": self.vocabulary.checksum}
        return torch.from_numpy(np.concatenate(columns, 1).astype(np.float16)), made_of


def _as_float16(table: Tensor) -> Tensor:
    if table.dtype == torch.float16:
        return table.contiguous()  # no copy unless it is in column order
    out = torch.empty(table.shape, dtype=torch.float16)
    for rows, part in zip(out.split(ROWS_AT_ONCE), table.split(ROWS_AT_ONCE), strict=True):
        rows.copy_(part)
        if bool((rows.isinf() & part.isfinite()).any()):
            raise ValueError(
                f"the DNA table has values up to {float(part[part.isfinite()].abs().max()):g}; expected at most 65,504, for float16. "
                "Divide it by a constant; its columns are standardised in any case."
            )
    return out
