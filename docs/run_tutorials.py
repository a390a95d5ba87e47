"""Run the code cells of the tutorials from top to bottom, each page in a folder of its own, without a kernel.

python docs/run_tutorials.py [PAGE.md ...]
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_of(page: Path) -> str:
    """The code cells of a page, each at its own line numbers."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * text.count("\n")
    for cell in CELL.finditer(text):
        first = text.count("\n", 0, cell.start(1))
        code = cell[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


def run(page: Path) -> None:
    """Run a page; whatever it raises comes through."""
    code = compile(code_of(page), str(page), "exec")
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec(code, {"__name__": "__tutorial__"})
        finally:
            os.chdir(before)


def main() -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    pages = [Path(name).resolve() for name in sys.argv[1:]]
    for page in pages or sorted((Path(__file__).parent / "tutorials").glob("*.md")):
        started = time.monotonic()
        run(page)
        print(f"{page.name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
