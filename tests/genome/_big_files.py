"""Smallest bigBed and bigWig files: uncompressed, one block a chromosome, no zoom levels."""

from __future__ import annotations

import struct


def bigbed(sizes, intervals):
    """`intervals`: chromosome -> sorted (start, end)."""
    blocks = {
        number: (rows[0][0], max(end for _, end in rows), b"".join(struct.pack("<3Ix", number, *row) for row in rows))
        for number, name in enumerate(sizes)
        if (rows := intervals.get(name))
    }
    return _file(0x8789F2EB, sizes, blocks, sum(map(len, intervals.values())))


def bigwig(sizes, values):
    """`values`: chromosome -> sorted (start, end, value)."""
    blocks = {}
    for number, name in enumerate(sizes):
        if rows := values.get(name):
            head = struct.pack("<5IBBH", number, rows[0][0], rows[-1][1], 0, 0, 1, 0, len(rows))
            blocks[number] = (rows[0][0], rows[-1][1], head + b"".join(struct.pack("<2If", *row) for row in rows))
    return _file(0x888FFC26, sizes, blocks, len(blocks))


def _file(magic, sizes, blocks, n_items):
    width = max(map(len, sizes))
    chroms = struct.pack("<4I2Q", 0x78CA8C91, len(sizes), width, 8, len(sizes), 0) + struct.pack(
        "<BBH", 1, 0, len(sizes)
    )
    for number, (name, size) in enumerate(sizes.items()):
        chroms += name.encode().ljust(width, b"\0") + struct.pack("<2I", number, size)
    data_at = 64 + len(chroms)
    data, leaves = struct.pack("<Q", n_items), b""
    for number, (start, end, block) in blocks.items():
        leaves += struct.pack("<4I2Q", number, start, number, end, data_at + len(data), len(block))
        data += block
    index_at = data_at + len(data)
    whole = (min(blocks), 0, max(blocks), max(sizes.values()))
    index = struct.pack("<2IQ4IQ2I", 0x2468ACE0, max(len(blocks), 2), len(blocks), *whole, index_at, 512, 0)
    index += struct.pack("<BBH", 1, 0, len(blocks)) + leaves
    n_columns = 3 if magic == 0x8789F2EB else 0
    head = struct.pack("<I2H3Q2H2QIQ", magic, 4, 0, 64, data_at, index_at, n_columns, n_columns, 0, 0, 0, 0)
    return head + chroms + data + index + struct.pack("<I", magic)
