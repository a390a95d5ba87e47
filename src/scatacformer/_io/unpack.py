"""Files that can be compressed, with a limit on their decompressed size."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, cast

# BED, GTF and fragments are packed 3 to 30 times; the most that gzip can do is 1,032 times
_USUAL = 100
_ALWAYS = 1 << 26  # bytes that a file may unpack to however small it is
_MOST = 1 << 31  # bytes of a file that is taken into memory as a whole


@contextmanager
def open_unpacked(path: Path, file: BinaryIO | None = None) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked if they are gzip, to read from front to back; ``file``: it, where it is open
    already.

    Raises ValueError, naming the file, for gzip that is truncated or damaged or unpacks to more than 100 times its
    size; FileNotFoundError.
    """
    with nullcontext(file) if file is not None else path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            yield raw
            return
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield cast("BinaryIO", io.BufferedReader(_Bounded(path, unpacked, raw), 1 << 20))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is a truncated or damaged gzip file ({error}). Copy it again.") from None


def read_unpacked(path: Path) -> bytes:
    """All bytes of a file, unpacked if they are gzip; at most 2 GB. Raises as :func:`open_unpacked`."""
    content = io.BytesIO()
    with open_unpacked(path) as file:
        while block := file.read(1 << 24):
            content.write(block)
            if content.tell() > _MOST:
                raise ValueError(
                    f"{path} holds more than {_MOST:,} bytes, unpacked: expected a table that fits in memory."
                )
    return content.getvalue()


class _Bounded(io.RawIOBase):
    """Unpacked bytes, counted against those of the file that were used for them."""

    def __init__(self, path: Path, unpacked: gzip.GzipFile, raw: BinaryIO) -> None:
        self._path, self._unpacked, self._raw, self._n = path, unpacked, raw, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        n = self._unpacked.readinto(buffer)
        self._n += n
        if self._n > _ALWAYS and self._n > _USUAL * self._raw.tell():
            raise ValueError(
                f"{self._path} unpacks to more than {_USUAL} times its size ({self._n:,} bytes of "
                f"{self._raw.tell():,}): it is not a file of this kind. Unpack it yourself if you trust it."
            )
        return n
