"""Damaged HDF5 files are refused, before they can keep HDF5 busy without end or end the process."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

from .hdf5_walk import NO_MEMORY

_SECONDS, _BYTES_PER_SECOND = 30.0, 10_000_000  # an intact file takes milliseconds, or a second per million texts
_WALK = Path(__file__).with_name("hdf5_walk.py")


def check_hdf5(path: str | os.PathLike, seconds: float = _SECONDS) -> None:
    """ValueError, naming the file, for an HDF5 file whose structure cannot be read to its end.

    In a damaged file, HDF5 may follow addresses in a circle within one call, ask for any amount of memory, or crash: no
    limit within this process would stop it. The structure is therefore read in a process of its own first, whose time
    (30 seconds, and one for each 10 MB) and memory (1 GB, and twice the size of the file) are limited. Other faults, and
    files that do not exist, are left to whoever reads the file.

    Parameters
    ----------
    path
        A file: ``.h5ad``, ``.h5mu``, ``.h5`` or ``.cool``.
    seconds
        Time that a file of no size may take.
    """
    path = Path(path)
    if not path.is_file():
        return
    allowed = seconds + path.stat().st_size / _BYTES_PER_SECOND
    # -P: a file h5py.py in the user's folder is not run
    command = [sys.executable, "-P", str(_WALK), str(path.absolute()), str(math.ceil(allowed))]
    nowhere = subprocess.DEVNULL
    try:
        status = subprocess.run(
            command, timeout=allowed, check=False, stdin=nowhere, stdout=nowhere, stderr=nowhere
        ).returncode
    except subprocess.TimeoutExpired:
        status = -signal.SIGXCPU
    if status == -signal.SIGXCPU:
        found = f"HDF5 does not come to the end of its structure within {allowed:.0f} seconds"
    elif status == NO_MEMORY:
        found = f"reading its structure takes far more memory than its {path.stat().st_size:,} bytes can hold"
    elif status < 0:
        found = "reading its structure ends HDF5 by a crash"
    else:
        return
    raise ValueError(f"{path} is damaged: {found}. Copy it again.")
