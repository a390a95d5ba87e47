"""The fragments of some cells, copied into a file as Cell Ranger writes it: all that snapatac2 can be trusted with."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np

from .misplaced import Misplaced
from .read import iter_fragments

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path


def copy_plain(path: Path, cells: Collection[str], counted: Mapping[str, int], folder: Path) -> Path:
    """Write the fragments of ``cells`` within the ``counted`` chromosomes (name -> bp) to a new file in ``folder``.

    Left out are fragments that end at or before their start, start before 0 or end beyond their chromosome; what is
    left keeps its order, in five columns. Returns the path of the file.
    """
    wanted, misplaced = frozenset(cells), Misplaced()
    copy = folder / "fragments.tsv.gz"
    with gzip.open(copy, "wb", compresslevel=1) as out:
        for block in iter_fragments(path, "copying fragments"):
            kept = misplaced.take(block, counted) & (block.start < block.end)
            kept &= np.array([name in counted for name in block.chrom_names], dtype=bool)[block.chrom]
            kept &= np.array([name in wanted for name in block.barcode_names], dtype=bool)[block.barcode]
            rows = zip(
                np.array(block.chrom_names, dtype=object)[block.chrom[kept]],
                block.start[kept].tolist(),
                block.end[kept].tolist(),
                np.array(block.barcode_names, dtype=object)[block.barcode[kept]],
                strict=True,
            )
            lines = [f"{chrom}\t{start}\t{end}\t{barcode}\t1\n" for chrom, start, end, barcode in rows]
            out.write("".join(lines).encode())
    return copy
