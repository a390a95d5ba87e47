"""Is this still the file that it was?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from scatacformer._io import tqdm

_BLOCK = 1 << 22


def stamp(path: Path) -> dict[str, int]:
    """Size in bytes and time of the last change (ns) of a file, or of all files of a folder."""
    stats = [file.stat() for file in _files(path)]
    return {
        "size": sum(stat.st_size for stat in stats),
        "mtime_ns": max((stat.st_mtime_ns for stat in stats), default=0),
    }


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, of the names and bytes of all its files in the order of their names."""
    digest = hashlib.sha256()
    size = stamp(path)["size"]
    with tqdm(total=size, unit="B", unit_scale=True, desc=f"checksum of {path.name}", delay=1, disable=None) as bar:
        for file in _files(path):
            if path.is_dir():
                digest.update(f"{file.relative_to(path).as_posix()}\n{file.stat().st_size}\n".encode())
            with file.open("rb") as opened:
                while block := opened.read(_BLOCK):
                    digest.update(block)
                    bar.update(len(block))
    return digest.hexdigest()


def has_changed(path: Path, before: dict[str, Any], deep: bool = False) -> bool:
    """Whether a file is another than the one that ``before`` (size, mtime_ns, sha256) was taken of.

    Its bytes are read only if its time is another, or if ``deep``.
    """
    now = stamp(path)
    if now["size"] != before["size"]:
        return True
    return (deep or now["mtime_ns"] != before["mtime_ns"]) and sha256(path) != before["sha256"]


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
