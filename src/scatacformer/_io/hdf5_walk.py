"""Read the structure of an HDF5 file, all of it: a program that ``hdf5.py`` runs in a process of its own.

Damage can keep HDF5 busy for hours within one call, which nothing in the same process can end, or make it ask for any
amount of memory. Only what is damaged in that way matters here: other errors are left to whoever reads the file for its
content. Imports nothing of the package, so that it starts in a fraction of a second.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import h5py

NO_MEMORY = 3  # exit status
_TEXTS_AT_ONCE = 1 << 16
_MEMORY = 1 << 30  # bytes beside twice the size of the file: an intact one takes some 10 MB


def walk(path: str) -> None:
    """Visit every group and dataset once, with all attributes and texts, which lie outside the datasets; numbers are
    not read. MemoryError where that takes a gigabyte more than the file could hold."""
    limit_memory(_MEMORY + 2 * os.path.getsize(path))
    with unless_memory(), h5py.File(path, "r") as file:
        items: list[Any] = [file]
        seen: set[int] = set()
        while items:
            with unless_memory():
                _visit(items.pop(), items, seen)


def limit_memory(n_bytes: int) -> None:
    """Let this process allocate only so much more than it has now; no limit where the system does not say what it has."""
    with suppress(OSError, ValueError):
        with open("/proc/self/statm", "rb") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + n_bytes, now + n_bytes))


@contextmanager
def unless_memory() -> Iterator[None]:
    """Errors pass in silence, but for those of memory, which are a MemoryError whatever HDF5 makes of them."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 left to whoever reads the file
        text = str(error).lower()
        if isinstance(error, MemoryError) or "alloc" in text or "not enough memory" in text:
            raise MemoryError(str(error)) from None


def _visit(item: Any, items: list[Any], seen: set[int]) -> None:
    address = h5py.h5o.get_info(item.id).addr
    if address in seen:  # a group may hold itself
        return
    seen.add(address)
    for name in item.attrs:
        with unless_memory():
            item.attrs[name]
    if isinstance(item, h5py.Group):
        for name in item:
            with unless_memory():
                if isinstance(item.get(name, getlink=True), h5py.HardLink):  # others lead to other files
                    items.append(item[name])
    elif isinstance(item, h5py.Dataset):
        item.id.get_storage_size()
        if item.dtype.hasobject and item.ndim == 1:
            for first in range(0, item.shape[0], _TEXTS_AT_ONCE):
                item[first : first + _TEXTS_AT_ONCE]


if __name__ == "__main__":
    try:
        with suppress(OSError, ValueError):  # also if the process that waits for this one is killed
            resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2]) + 5))
        walk(sys.argv[1])
    except MemoryError:
        sys.exit(NO_MEMORY)
