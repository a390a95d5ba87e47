"""Fragments outside of their chromosome: a few are left out, many are a sign of another assembly."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scatacformer.genome import MAX_BEYOND, fitting_assemblies, percent, too_many_beyond

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .read import FragmentBlock


@dataclass
class Misplaced:
    """Which fragments of a file start before 0 or end beyond their chromosome, as far as its size is known."""

    n_judged: int = 0  # fragments on chromosomes of known size, and those that start before 0
    n_beyond: int = 0
    n_negative: int = 0
    reach: dict[str, int] = field(default_factory=dict)  # chromosome of known size -> furthest end, bp
    first_negative: str | None = None  # what is wrong with the line

    @property
    def n(self) -> int:
        """Number of fragments to leave out."""
        return self.n_beyond + self.n_negative

    def take(self, block: FragmentBlock, sizes: Mapping[str, int]) -> np.ndarray:
        """Add a block, and return which of its fragments end within their chromosome, (n_fragments,), bool.

        Fragments on chromosomes without a size are not judged.
        """
        size = np.array([sizes.get(name, 0) for name in block.chrom_names], dtype=np.int64)
        furthest = np.zeros(len(size), dtype=np.int64)
        np.maximum.at(furthest, block.chrom, block.end)
        for name, end in zip(block.chrom_names, furthest.tolist(), strict=True):
            if name in sizes and end > 0:
                self.reach[name] = max(end, self.reach.get(name, 0))
        has_size = size[block.chrom] > 0
        inside = ~has_size | (block.end <= size[block.chrom])
        self.n_judged += int(has_size.sum()) + block.n_negative
        self.n_beyond += len(inside) - int(inside.sum())
        self.n_negative += block.n_negative
        self.first_negative = self.first_negative or block.first_negative
        return inside

    def judge(self, path: Path, what: str, sizes: Mapping[str, int], stacklevel: int = 2) -> None:
        """Raise ValueError for too many misplaced fragments; warn of a few.

        Parameters
        ----------
        path
            The fragments file, for messages.
        what
            What the sizes are of, such as "hg38".
        sizes
            Length in bp of the chromosomes, as in :meth:`take`.
        stacklevel
            As in :func:`warnings.warn`, seen from the caller.
        """
        if not self.n:
            return
        beyond = [name for name, end in self.reach.items() if end > sizes[name]]
        fitting = fitting_assemblies(self.reach) if beyond else []
        share = self.n / self.n_judged
        where = (
            f"{beyond[0]} has {sizes[beyond[0]]:,} bp, and a fragment ends at {self.reach[beyond[0]]:,}"
            if beyond
            else str(self.first_negative)
        )
        counts = f"{self.n:,} of {self.n_judged:,} fragments ({percent(share)})"
        if not too_many_beyond(self.n, 0, self.n_judged, len(beyond), bool(fitting)):
            warnings.warn(
                f"{counts} of {path} start before 0 or end beyond their chromosome in {what} and are left out "
                f"(first: {where}).",
                UserWarning,
                stacklevel=stacklevel + 1,
            )
            return
        if self.n_beyond <= self.n_negative:
            raise ValueError(
                f"{self.first_negative} In all, {counts} lie outside of their chromosome; up to {percent(MAX_BEYOND)} "
                "would be left out."
            )
        raise ValueError(
            f"Fragments of {path} end beyond {len(beyond)} of {len(self.reach)} chromosomes of {what} (first: {where}; "
            f"in all {counts}; up to {percent(MAX_BEYOND)} would be left out). So many cannot end beyond the chromosomes "
            f"of {what} if they were aligned to it; "
            + (f"they fit {' or '.join(fitting)}." if fitting else "they fit none of the known assemblies.")
        )
