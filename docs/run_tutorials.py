"""Run the code cells of the tutorials from top to bottom, each page in a process and a folder of its own, without a kernel.

python docs/run_tutorials.py [PAGE.md ...] [--jobs 2] [--show] [--figures FOLDER]
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PAGES = Path(__file__).resolve().parents[1] / "tutorials"
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def cells_of(page: Path) -> list[tuple[int, str]]:
    """The code cells of a page, with the line before each."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, cell.start(1)), cell[1]) for cell in CELL.finditer(text)]


def run(page: Path, show: bool, figures: Path | None) -> None:
    """Run a page in this process; whatever it raises comes through. ``show`` prints what a notebook would show."""
    names: dict[str, object] = {"__name__": "__tutorial__"}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for line, code in cells_of(page):
                tree = ast.parse("\n" * line + code, str(page))
                last = tree.body.pop() if show and isinstance(tree.body[-1], ast.Expr) else None
                exec(compile(tree, str(page), "exec"), names)
                if last is not None:
                    value = eval(compile(ast.Expression(last.value), str(page), "eval"), names)
                    if value is not None and not code.rstrip().endswith(";"):
                        print(f"-- line {line + 1}\n{value!r}", flush=True)
                if figures is not None:
                    save_figures(figures / f"{page.stem}_{line}")
        finally:
            os.chdir(before)


def save_figures(path: Path) -> None:
    import matplotlib.pyplot as plt

    for number in plt.get_fignums():
        plt.figure(number).savefig(f"{path}_{number}.png", dpi=80, bbox_inches="tight")
    plt.close("all")


def in_a_process(page: Path, options: list[str]) -> tuple[Path, int, float, str]:
    started = time.monotonic()
    argv = [sys.executable, __file__, "--one", str(page), *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return page, done.returncode, time.monotonic() - started, done.stdout + done.stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--jobs", type=int, default=1, help="pages at once")
    parser.add_argument("--show", action="store_true", help="print the values that a notebook shows")
    parser.add_argument("--figures", type=Path, help="folder for the pictures")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("MPLBACKEND", "Agg")
    if args.jobs > 1:  # pages at once share the cores
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // args.jobs)))
    figures = None if args.figures is None else args.figures.resolve()
    if args.one is not None:
        run(args.one, args.show, figures)
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(f"{used.ru_utime + used.ru_stime:.0f} s of processor time, {used.ru_maxrss / 2**20:.1f} GB", flush=True)
        return 0
    options = (["--show"] if args.show else []) + ([] if figures is None else ["--figures", str(figures)])
    pages = [page.resolve() for page in args.pages] or sorted(PAGES.glob("[0-9]*.md"))
    failed = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for page, status, seconds, output in pool.map(lambda page: in_a_process(page, options), pages):
            used = [line for line in output.splitlines() if line.endswith(" GB") and "processor time" in line]
            print(f"{page.name}: {'failed after ' * (status != 0)}{seconds:.0f} s {used}", flush=True)
            failed += status != 0
            if status or args.show:
                print(output, flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
