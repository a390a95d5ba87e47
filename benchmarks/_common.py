"""What the programs share: the location of the data, a separate process for each measurement, and the tables of results.

Results state versions, machine and date; no paths, no host names.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT, RESULTS = HERE.parent, HERE / "results"


# ---- data and tools next to the repository


def data_folder() -> Path:
    """Folder of the real data: the environment variable SCATACFORMER_TEST_DATA, or ../shared/data."""
    return Path(os.environ.get("SCATACFORMER_TEST_DATA") or ROOT.parent / "shared" / "data")


def load_tool(name: str) -> ModuleType | None:
    """A program next to the data folder (``../tools/name.py`` from it) as a module; None if it does not exist."""
    path = data_folder().parent / "tools" / f"{name}.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def can_simulate_blood() -> bool:
    return (data_folder() / "blood" / "accessibility.npz").exists() and load_tool("simulate_blood") is not None


def simulated_blood(n_cells: int, fragments: int, seed: int = 0, donor_sd: float = 0.1, donors: int = 2) -> Any:
    """AnnData of cells sampled from measured profiles of human blood types, over the 607,271 bins of hg19.

    A donor (column ``sample``) multiplies the rate of each bin by exp(N(0, donor_sd)).
    """
    return load_tool("simulate_blood").simulate(n_cells, fragments, seed, donors, donor_sd)


# ---- a measurement in a separate process


def run_worker(script: str, *arguments: object, time_limit: float) -> dict[str, Any]:
    """The last line that ``python script arguments`` prints, read as JSON; ``{"failed": why}`` if it fails."""
    command = [sys.executable, script, *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=time_limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"time limit of {time_limit:g} s"}
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        # the message may hold a path, and results must not
        last = done.stderr.strip().rpartition("\n")[2].split(":")[0]
        return {"failed": last if last.isidentifier() else f"exit code {done.returncode}"}
    return json.loads(done.stdout.strip().rpartition("\n")[2])


def run_forked(function: Callable[..., dict[str, Any]], *arguments: object, time_limit: float) -> dict[str, Any]:
    """``function(*arguments)`` in a copy of this process, which has its imports already; ``{"failed": why}``.

    For many short measurements: the libraries take longer to import than some of them to run.
    """
    import multiprocessing

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_send_result, args=(theirs, function, arguments))
    child.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(time_limit) else {"failed": f"time limit of {time_limit:g} s"}
    except EOFError:
        return {"failed": "the process died"}
    finally:
        child.kill()
        child.join()


def _send_result(pipe: Any, function: Callable[..., dict[str, Any]], arguments: tuple[object, ...]) -> None:
    try:
        pipe.send(function(*arguments))
    except Exception as error:  # noqa: BLE001  it ends one measurement, which the table reports
        traceback.print_exc()
        pipe.send({"failed": type(error).__name__})


def peak_mb() -> int:
    """Largest resident memory of this process so far. Linux's getrusage would begin with that of the parent process."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) * 1024 / 1e6)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)  # bytes on macOS


class Cache:
    """Measurements by key, as lines of JSON: an interrupted run resumes from them. Without a path, nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.rows = path, {}
        if path is not None and path.exists():
            self.rows = dict(json.loads(line) for line in path.read_text().splitlines() if line.endswith("]"))

    def get(self, *key: object) -> dict[str, Any] | None:
        return self.rows.get(json.dumps(key))

    def put(self, *key: object, value: dict[str, Any]) -> None:
        self.rows[json.dumps(key)] = value
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps([json.dumps(key), value]) + "\n")


def fingerprint(*files: str | Path) -> str:
    """Short hash of the package's source and ``files``: measurements of other code are repeated."""
    package = Path(importlib.util.find_spec("scatacformer").origin).parent
    digest = hashlib.sha256()
    for path in [*sorted(package.rglob("*.py")), *map(Path, files)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


# ---- results


def environment(*packages: str) -> str:
    """One line: date, cores, memory, Python and versions of ``packages`` (those that are there)."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{date.today()}", f"{cores} cores, {gib:.0f} GiB, {platform.system()} {platform.machine()}"]
    parts.append(f"Python {platform.python_version()}")
    for name in packages:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return " · ".join(parts)


def spread(values: list[float], digits: int = 3) -> str:
    """Median and range: ``.742 (.731-.750)``; one value alone without a range, and a dash for none."""
    if not values:
        return "–"
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def table(header: list[str], rows: list[list[object]]) -> str:
    """A markdown table; numbers are aligned to the right."""
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    lines = [header, ["--:" if n else "---" for n in numeric]]
    lines += [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write(name: str, text: str, keep: bool = True) -> None:
    """Print ``text`` and, with ``keep``, write it to ``results/name.md``: whole, or not at all."""
    print(text)
    if not keep:
        return
    RESULTS.mkdir(exist_ok=True)
    partial = RESULTS / f".{name}.{os.getpid()}.partial"
    try:
        partial.write_text(text)
        os.replace(partial, RESULTS / f"{name}.md")
    finally:
        partial.unlink(missing_ok=True)
