"""What is wrong with the structure of a bigWig or bigBed file: pybigtools believes the sizes in it, and a damaged one can
end the process for want of memory."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

_MAGICS = (0x888FFC26, 0x8789F2EB)
_CHROMS, _INDEX = 0x78CA8C91, 0x2468ACE0
_LONGEST_NAME, _LARGEST_BLOCK = 1 << 10, 1 << 28  # bytes: names have less than 100, blocks some 10,000
_LEAF, _INNER = np.dtype("u4,u4,u4,u4,u8,u8"), np.dtype("u4,u4,u4,u4,u8")


def big_problem(path: Path) -> str | None:
    """What is damaged, in words: a header, the table of chromosomes or the index of the data; None for an intact one.

    Reads the index once, of which a file of 10 GB has some 200 MB. Source: Kent et al., Bioinformatics 2010, tables 5 to
    17 of the supplement.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            return _problem(file, size)
    except (struct.error, ValueError, OverflowError):
        return f"it ends within its header, table of chromosomes or index ({size:,} bytes)"


def _problem(file: BinaryIO, size: int) -> str | None:
    head = file.read(64)
    order: Literal["<", ">"] = "<" if struct.unpack("<I", head[:4])[0] in _MAGICS else ">"
    _, version, zooms, chroms, data, index, *_, block, _ = struct.unpack(order + "I2H3Q2H2QIQ", head)
    if version > 4 or zooms > 100 or max(chroms, data, index) >= size or block > _LARGEST_BLOCK:
        return f"its header is not one (version {version}, {zooms} zoom levels, blocks of {block:,} bytes)"
    file.seek(chroms)
    magic, _, key, value, n_chroms, _ = struct.unpack(order + "4I2Q", file.read(32))
    if magic != _CHROMS or not 0 < key <= _LONGEST_NAME or value != 8 or n_chroms * (key + value) > size:
        return f"its table of chromosomes is not one ({n_chroms:,} names of {key:,} bytes)"
    chrom = np.dtype([("name", f"S{key}"), ("at", order + "u8")])
    if problem := _tree(file, size, order, chrom, chrom, "table of chromosomes"):
        return problem
    file.seek(index)
    if struct.unpack(order + "I", file.read(48)[:4])[0] != _INDEX:
        return "the index of its data is not one"
    return _tree(file, size, order, _LEAF.newbyteorder(order), _INNER.newbyteorder(order), "index")


def _tree(
    file: BinaryIO, size: int, order: Literal["<", ">"], leaf: np.dtype, inner: np.dtype, what: str
) -> str | None:
    """Walk the tree that begins at the position of ``file``; each node lies in the file, and is met once."""
    nodes, seen = [file.tell()], set()
    while nodes:
        at = nodes.pop()
        if at in seen or at + 4 > size:
            return f"its {what} leads in a circle or beyond its end"
        seen.add(at)
        file.seek(at)
        is_leaf, _, n = struct.unpack(order + "BBH", file.read(4))
        kind = leaf if is_leaf else inner
        items = np.frombuffer(file.read(n * kind.itemsize), kind, n)
        if not is_leaf:
            nodes += items[items.dtype.names[-1]].tolist()  # type: ignore[index]
        elif leaf is not inner and (items["f4"] + np.minimum(items["f5"], size + 1) > size).any():
            return f"its {what} names data beyond its end"
    return None
