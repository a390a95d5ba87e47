"""What the docs and the README show is code that runs and names that exist."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import scatacformer
from scatacformer.cli._parser import build_parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "tutorials").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_of_the_package_in_code_exist(page):
    blocks = re.findall(r"^```(?:python|\{code-cell\}[^\n]*)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            names = ast.unparse(node).split(".") if isinstance(node, ast.Attribute) else []
            if names[:1] == ["sf"] and all(name.isidentifier() for name in names):
                found = scatacformer
                for name in names[1:]:
                    found = getattr(found, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_command_lines_parse(page):
    parser = build_parser()
    for block in re.findall(r"^```bash\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
        for line in re.findall(r"^scatacformer (.*)$", block, re.M):
            if "--help" not in line:
                parser.parse_args(line.split())


def test_all_that_is_public_is_in_the_api_page():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    listed = re.findall(r"^(?:   |```\{py:data\} )scatacformer\.(\S+)$", page, re.M)
    for name in listed:
        room, member = name.split(".")
        assert getattr(importlib.import_module(f"scatacformer.{room}"), member)
    rooms = (
        "pp",
        "tl",
        "pl",
        "corpus",
        "datasets",
        "genome",
        "sequence",
        "tokenizer",
        "metrics",
        "cells",
        "nn",
        "model",
    )
    for room in (*rooms, "tracks", "training"):
        for member in importlib.import_module(f"scatacformer.{room}").__all__:
            assert f"{room}.{member}" in listed


MODULES = sorted((ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "src" / "scatacformer")))
def test_docstrings_have_double_backticks(path):
    single = re.compile(r"(?<![`:\w\\])`[^`\n]+`(?![`\w_])")
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = single.search(ast.get_docstring(node, clean=False) or "")
            assert found is None, f"{getattr(node, 'name', 'module')}: {found[0]}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "src" / "scatacformer")))
def test_errors_are_sentences(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            if ast.unparse(node.exc.func) not in ("AttributeError", "SystemExit"):  # Python's own form; a status
                end = _last_of(node.exc.args[0])
                assert end is None or end in ".:?", f"line {node.lineno}: {ast.unparse(node.exc.args[0])[-60:]}"


def _last_of(text):
    """Last character of a message, or None where it is a value."""
    if isinstance(text, ast.BinOp):
        return _last_of(text.right)
    if isinstance(text, ast.JoinedStr):
        return _last_of(text.values[-1])
    return text.value.rstrip()[-1:] if isinstance(text, ast.Constant) and isinstance(text.value, str) else None


TUTORIALS = sorted((ROOT / "tutorials").glob("[0-9]*.md"))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_states_its_time_checks_its_claims_and_can_be_found(page):
    text = page.read_text("utf-8")
    assert re.search(r"\*\*Takes about [^*]+ on two cores\.\*\*", text)
    cells = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```", text, re.M | re.S)
    assert any(isinstance(node, ast.Assert) for cell in cells for node in ast.walk(ast.parse(cell)))
    assert f"({page.name})" in (ROOT / "tutorials" / "README.md").read_text("utf-8")
    assert f"\ntutorials/{page.stem}\n" in (ROOT / "docs" / "index.md").read_text("utf-8")
    for role in re.findall(r"\{doc\}`([^`]+)`", text):
        target = role.split("<")[-1].strip("/>")
        assert (ROOT / "docs" / f"{target}.md").exists() or (ROOT / "tutorials" / f"{target}.md").exists(), target


@pytest.mark.slow
def test_tutorials_run():
    subprocess.run([sys.executable, str(ROOT / "docs" / "run_tutorials.py"), "--jobs", "2"], check=True)
