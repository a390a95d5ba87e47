"""Killed, damaged, full, shared: how often something is lost, let in, or left without a name.

    python benchmarks/robustness.py            some 10 minutes, 100 MB in a temporary folder
    python benchmarks/robustness.py --full     20 kills of each job, 1,000 damaged files, 50 pairs: an hour
    python benchmarks/robustness.py --full --cache rows.jsonl --only kills    one part, kept in a file; the run with
                                                                              all of them reads it and writes the page

Small made-up cells and a small network; one thread. Each attack runs in a process of its own:

- kills: a job is killed (SIGKILL) at a random moment of its run. Then what was there before, or the new result, must be
  whole, and the same command must come to the result of a run that nobody killed.
- damaged files: bytes of a file, or a value of it, are changed. It is refused with an error that names the file, or read:
  where the content is under a checksum, with the very same result.
- full disk: the k-th sync of a job fails as on a full disk, for all k; and for each of its files none may be as large as
  that one. What was there before is whole, the error names a file, and the same command comes to its result once there
  is room.
- two at once: two processes write one folder. Each is whole or is refused, and the folder is that of one of them.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")  # the one that a forked process can use

import numpy as np
from _common import HERE, Cache, environment, fingerprint, peak_mb, table, write
from _damaged import damaged, kinds
from _jobs import Job, make_jobs
from _kinds import Kind

# seconds of the processor that a damaged file may take, and of the clock; resident memory of the process that reads it
HANG, WAIT, MOST_MB = 60, 900.0, 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="20 kills of each job, 1,000 damaged files, 50 pairs")
    parser.add_argument("--kills", type=int, help="of each job")
    parser.add_argument("--damaged", type=int, help="files in all")
    parser.add_argument("--pairs", type=int, help="of processes in all")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), help="parts to do; nothing is written to results/")
    parser.add_argument("--jobs", nargs="*", help="jobs to attack (default: all); nothing is written to results/")
    parser.add_argument("--files", nargs="*", help="files to damage: the beginnings of their names (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="rows that are done are kept here, for a run that breaks off")
    parser.add_argument("--no-write", action="store_true", help="print, and leave results/ as it is")
    arguments = parser.parse_args()
    usual = {"kills": 20, "damaged": 1000, "pairs": 50} if arguments.full else {"kills": 4, "damaged": 200, "pairs": 10}
    counts = usual | {name: given for name in usual if (given := getattr(arguments, name)) is not None}
    be_quiet()
    # what was counted with other code is counted again
    code = fingerprint(
        *(
            HERE / f"{name}.py"
            for name in ("robustness", "_damaged", "_damaged_more", "_jobs", "_kinds", "_sequence_jobs")
        )
    )
    cache = Rows(arguments.cache, code, arguments.seed, tuple(arguments.files or ("",)))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        jobs = [] if arguments.only == ["damaged"] else make_jobs(place / "jobs", arguments.jobs)
        parts = [
            part(jobs, made(place / name), counts.get(name, 0), cache)
            for name, part in PARTS.items()
            if arguments.only is None or name in arguments.only
        ]
    env = environment("scatacformer", "torch", "scvi-tools", "anndata", "h5py", "safetensors", "numpy")
    whole = arguments.only is None and arguments.jobs is None and arguments.files is None
    text = f"# Robustness\n\n{env}\n\n{ABOUT}\n" + "\n".join(parts)
    write("robustness", text, keep=whole and not arguments.no_write)


class Rows:
    """Rows of the tables, by what was attacked, how often, with which seed and which code."""

    def __init__(self, path: Path | None, code: str, seed: int, files: tuple[str, ...]) -> None:
        self.cache, self.code, self.seed, self.files = Cache(path), code, seed, files

    def get(self, part: str, name: str, n: int, count: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        key = (part, name, n, self.seed, self.code)
        found = self.cache.get(*key)
        if found is None:
            found = count()
            self.cache.put(*key, value=found)
        print(part, name, n, found, file=sys.stderr)
        return found


ABOUT = (
    "120 made-up cells over 2,000 bins, a network 16 wide of one layer, one thread; the machine was shared with other "
    "jobs. Produced by `benchmarks/robustness.py`, which says what is counted."
)


def be_quiet() -> None:
    warnings.filterwarnings("ignore")
    import scvi
    import torch

    torch.set_num_threads(1)  # a forked process must not wait for threads of its parent
    scvi.settings.verbosity = logging.ERROR
    for name in ("lightning.pytorch", "lightning.fabric", "scatacformer"):
        logging.getLogger(name).setLevel(logging.ERROR)


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


# ── a process of its own ───────────────────────────────────────────────────────────────────────────────────────────


def started(function: Callable[[], Any], before: Callable[[], None] | None = None) -> tuple[Any, Any]:
    """(process, pipe) of a fork that runs `function` and sends {"found": ...} or {"error": ..., "kind": ...}."""

    def run(pipe: Any) -> None:
        os.setpgid(0, 0)
        if (numba := sys.modules.get("numba.np.ufunc.parallel")) is not None:
            numba._set_init_process_lock()  # all forks share it: one that a killed fork held would stay held
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        try:
            if before is not None:
                before()
            answer = {"found": function()}
        except BaseException as error:  # noqa: BLE001 of whatever kind: which one is what is counted
            answer = {"error": str(error), "kind": type(error).__name__}
        pipe.send(answer | {"peak": peak_mb()})
        pipe.close()
        os._exit(0)

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(theirs,))
    process.start()
    theirs.close()
    return process, ours


def answer_of(process: Any, pipe: Any, seconds: float = WAIT) -> dict[str, Any]:
    """What it has sent; {"hang": True} or {"died": True} where it has not."""
    try:
        return pipe.recv() if pipe.poll(seconds) else {"hang": True}
    except EOFError:
        return {"died": True}
    finally:
        end(process)


def end(process: Any) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def apart(function: Callable[[], Any], before: Callable[[], None] | None = None) -> dict[str, Any]:
    return answer_of(*started(function, before))


# ── killed ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def kill_table(jobs: list[Job], place: Path, n: int, rows: Rows) -> str:
    done = []
    for job in jobs:
        rng = np.random.default_rng(rows.seed)
        found = rows.get("kills", job.name, n, lambda job=job, rng=rng: kills_of(job, place / job.name, n, rng))  # type: ignore[misc]
        done.append([job.name, *found.values()])
    total = ["**all**", *(sum(row[i] for row in done if isinstance(row[i], int)) for i in range(1, 5)), "–"]
    header = ["job", "attempts", "killed before its end", "neither old nor new", "another result after a second run"]
    return "## Killed at random moments\n\n" + table([*header, "job, s"], [*done, total])


def kills_of(job: Job, place: Path, n: int, rng: np.random.Generator) -> dict[str, Any]:
    whole, reference = made(place / "whole"), place / "reference"
    told(apart(lambda: job.prepare(whole)))
    # of a job without an old result: None, an error for whoever asks for its result
    old = apart(lambda: job.state(whole)).get("found")
    shutil.copytree(whole, reference)
    begun = time.monotonic()
    told(apart(lambda: job.run(reference)))
    seconds = time.monotonic() - begun
    new = told(apart(lambda: job.state(reference)))["found"]
    killed = lost = other = 0
    for number in range(n):
        at = place / str(number)
        shutil.copytree(whole, at)
        process, _ = started(lambda at=at: job.run(at))  # type: ignore[misc]
        process.join(float(rng.uniform(0, seconds)))
        killed += process.is_alive()
        end(process)
        found = apart(lambda at=at: job.state(at))  # type: ignore[misc]
        if found.get("found") not in (old, new):
            lost += 1
            print(job.name, "lost by a kill:", found, file=sys.stderr)
        again = apart(lambda at=at: job.again(at))  # type: ignore[misc]
        after = apart(lambda at=at: job.state(at))  # type: ignore[misc]
        if after.get("found") != new:
            other += 1
            print(job.name, "after a kill and a second run:", again, after, file=sys.stderr)
        shutil.rmtree(at)
    return {"attempts": n, "killed": killed, "lost": lost, "other": other, "s": f"{seconds:.1f}"}


def told(answer: dict[str, Any]) -> dict[str, Any]:
    """SystemExit where something failed that nobody attacked."""
    if "found" not in answer:
        raise SystemExit(f"not attacked, and yet: {answer}")
    return answer


# ── damaged ────────────────────────────────────────────────────────────────────────────────────────────────────────


COLUMNS = ["refused by name", "same result", "another result", "wrong result", "no name", "hang or crash"]


def damage_table(jobs: list[Job], place: Path, n: int, rows: Rows) -> str:
    found = kinds(made(place / "whole"))
    done, peak = [], 0
    for number, kind in enumerate(found):
        here = n // len(found) + (number < n % len(found))
        if not kind.name.startswith(rows.files):
            continue
        rng = np.random.default_rng([rows.seed, number])
        counts = dict(
            rows.get("damaged", kind.name, here, lambda k=kind, m=here, r=rng: damage_of(k, place, m, r))  # type: ignore[misc]
        )
        peak = max(peak, counts.pop("peak"))
        done.append([kind.name, here, *counts.values()])
    total = ["**all**", *(sum(row[i] for row in done) for i in range(1, len(done[0])))]
    text = (
        f"\nA result may be another one where nothing says what the content was: a changed position in a BED file is "
        f"another position. Largest resident memory of a process: {peak:,} MB (limit {MOST_MB:,}).\n"
    )
    return "\n## Damaged files\n\n" + table(["file", "damaged", *COLUMNS], [*done, total]) + text


def damage_of(kind: Kind, place: Path, n: int, rng: np.random.Generator) -> dict[str, int]:
    counts = dict.fromkeys(COLUMNS, 0) | {"peak": 0}
    expected = told(apart(lambda: kind.read(copied(kind, place / "intact"))))["found"]
    for _ in range(n):
        at = copied(kind, place / "damaged")
        path = at / kind.file
        path.write_bytes(damaged(path.read_bytes(), rng))
        answer = apart(lambda at=at: kind.read(at), before=limit_time)  # type: ignore[misc]
        what = outcome(kind, at, answer, expected)
        counts[what] += 1
        counts["peak"] = max(counts["peak"], answer.get("peak", 0))
        if what in COLUMNS[3:]:
            print(kind.name, what, answer, file=sys.stderr)
    return counts


def limit_time() -> None:
    """The system ends a process that computes for longer, however busy the machine is with others."""
    resource.setrlimit(resource.RLIMIT_CPU, (HANG, HANG))


def copied(kind: Kind, at: Path) -> Path:
    shutil.rmtree(at, ignore_errors=True)
    shutil.copytree(kind.folder, at)
    return at


def outcome(kind: Kind, at: Path, answer: dict[str, Any], expected: Any) -> str:
    if "hang" in answer or "died" in answer:
        return "hang or crash"
    if "found" in answer:
        same = answer["found"] == expected
        return "same result" if same else "wrong result" if kind.sealed else "another result"
    # an error for people is one of these, with the path: of two files that contradict each other, that of either
    usual = answer["kind"] in ("ValueError", "OSError", "FileNotFoundError", "InputError", "RuntimeError", "TypeError")
    return "refused by name" if usual and str(at) in answer["error"] else "no name"


# ── full ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def full_table(jobs: list[Job], place: Path, n: int, rows: Rows) -> str:
    done: list[list[object]] = []
    for job in jobs:
        found = rows.get("full", job.name, n, lambda job=job: full_of(job, place / job.name))  # type: ignore[misc]
        done.append([job.name, *found.values()])
    header = ["job", "attempts", "that failed", "neither old nor new", "error without a file"]
    return "\n## A full disk at each file\n\n" + table([*header, "another result after a second run"], done)


def full_of(job: Job, place: Path) -> dict[str, int]:
    whole, reference = made(place / "whole"), place / "reference"
    told(apart(lambda: job.prepare(whole)))
    shutil.copytree(whole, reference)
    told(apart(lambda: job.run(reference)))
    new = told(apart(lambda: job.state(reference)))["found"]
    states = [apart(lambda: job.state(whole)).get("found"), new]
    counts = dict.fromkeys(["attempts", "failed", "lost", "no name", "other"], 0)
    sizes = sorted({path.stat().st_size for path in reference.rglob("*") if path.is_file()})
    for k in range(1, MOST_FILES):
        if "found" in full_once(job, whole, lambda k=k: sync_fails_at(k), states, counts):  # type: ignore[misc]
            break  # it has not so many files
    for size in sizes:
        full_once(job, whole, lambda size=size: files_end_at(size - 1), states, counts)  # type: ignore[misc]
    return counts


def full_once(
    job: Job, whole: Path, before: Callable[[], None], states: list[Any], counts: dict[str, int]
) -> dict[str, Any]:
    at = whole.with_name("full")
    shutil.copytree(whole, at)
    answer = apart(lambda: job.run(at), before=before)
    counts["attempts"] += 1
    if "found" not in answer:
        counts["failed"] += 1
        if str(at) not in answer.get("error", ""):
            counts["no name"] += 1
            print(job.name, "full disk:", answer, file=sys.stderr)
    state = apart(lambda: job.state(at))
    if state.get("found") not in states:
        counts["lost"] += 1
        print(job.name, "after a full disk:", state, file=sys.stderr)
    again = [apart(lambda: job.again(at)), apart(lambda: job.state(at))]
    if again[1].get("found") != states[1]:
        counts["other"] += 1
        print(job.name, "after a full disk and a second run:", *again, file=sys.stderr)
    shutil.rmtree(at)
    return answer


MOST_FILES = 200


def sync_fails_at(k: int) -> None:
    """The k-th sync of a file says that the disk is full."""
    real, left = os.fsync, [k]

    def sync(handle: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    os.fsync = sync


def files_end_at(n_bytes: int) -> None:
    """No file may be larger."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


# ── two at once ────────────────────────────────────────────────────────────────────────────────────────────────────


def pair_table(jobs: list[Job], place: Path, n: int, rows: Rows) -> str:
    both = [job for job in jobs if job.other is not None]
    done = []
    for number, job in enumerate(both):
        pairs = n // len(both) + (number < n % len(both))
        found = rows.get("pairs", job.name, pairs, lambda j=job, m=pairs: pairs_of(j, place / j.name, m))  # type: ignore[misc]
        done.append([job.name, *found.values()])
    total = ["**all**", *(sum(row[i] for row in done) for i in range(1, 5))]
    header = ["job", "pairs", "processes that were done", "that were refused", "pairs with another outcome"]
    return "\n## Two at once\n\n" + table(header, [*done, total])


def pairs_of(job: Job, place: Path, n: int) -> dict[str, int]:
    whole = made(place / "whole")
    told(apart(lambda: job.prepare(whole)))
    runs, allowed = (job.run, job.other), []
    for number, run in enumerate(runs):
        at = place / f"alone {number}"
        shutil.copytree(whole, at)
        told(apart(lambda run=run, at=at: run(at)))  # type: ignore[misc]
        allowed.append(told(apart(lambda at=at: job.state(at)))["found"])  # type: ignore[misc]
    done = refused = wrong = 0
    for pair in range(n):
        at = place / str(pair)
        shutil.copytree(whole, at)
        begun = [started(lambda run=run, at=at: run(at)) for run in runs]  # type: ignore[misc]
        answers = [answer_of(*one) for one in begun]
        finished = ["found" in answer for answer in answers]
        refusals = ["Another process" in answer.get("error", "") for answer in answers]
        done, refused = done + sum(finished), refused + sum(refusals)
        whole_now = apart(lambda at=at: job.state(at)).get("found") in allowed  # type: ignore[misc]
        if not (whole_now and any(finished) and all(a or b for a, b in zip(finished, refusals, strict=True))):
            wrong += 1
            print(job.name, "two at once:", answers, file=sys.stderr)
        shutil.rmtree(at)
    return {"pairs": n, "done": done, "refused": refused, "wrong": wrong}


PARTS: dict[str, Callable[[list[Job], Path, int, Rows], str]] = {
    "kills": kill_table, "damaged": damage_table, "full": full_table, "pairs": pair_table
}  # fmt: skip


if __name__ == "__main__":
    main()
