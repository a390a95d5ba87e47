"""What holds for the package as a whole: cheap to import, arrows one way, everything public documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import scatacformer

SOURCE = Path(scatacformer.__file__).parent
ROOMS = ("cells", "corpus", "datasets", "genome", "metrics", "model", "nn", "pl", "pp", "sequence", "tl", "tokenizer")
ROOMS += ("pseudobulk", "tracks", "training")
HEAVY = ("anndata", "bioframe", "lightning", "matplotlib", "mudata", "muon", "numba", "pandas", "scanpy", "scipy")
HEAVY += ("scvi", "sklearn", "snapatac2", "torch", "zarr")

# Which rooms of ours each room may import; the package itself is lazy, so that importing it costs nothing.
ARROWS = {
    "_io": set(),
    "genome": {"_io"},
    "sequence": {"_io", "genome"},
    "cells": {"_io", "genome"},
    "pseudobulk": {"_io", "genome", "sequence", "cells"},
    "tracks": {"_io", "genome", "sequence", "cells"},
    "tokenizer": {"_io", "genome", "cells"},
    "corpus": {"_io", "genome", "cells"},
    "metrics": set(),
    "nn": set(),
    "training": {"_io", "nn"},
    "model": {
        "_io",
        "genome",
        "sequence",
        "cells",
        "pseudobulk",
        "tracks",
        "tokenizer",
        "corpus",
        "metrics",
        "nn",
        "training",
    },
    "pp": {"_io", "genome", "sequence", "cells", "pseudobulk", "tracks"},
    "tl": {"_io", "genome", "sequence", "cells", "model"},
    "pl": {"_io", "genome", "cells", "model"},
    "datasets": {"_io", "genome", "sequence", "cells", "pseudobulk", "corpus"},
}
ARROWS["cli"] = {*ARROWS} - {"nn", "training"}


def in_a_fresh_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def public_objects():
    """(qualified name, object) of all that the rooms export, and the public methods of their classes."""
    for room in ("", *ROOMS):
        module = importlib.import_module(f"scatacformer.{room}".rstrip("."))
        for name in module.__all__:
            found = getattr(module, name)
            if not inspect.isclass(found) and not inspect.isfunction(found):
                continue
            yield f"{module.__name__}.{name}", found
            if inspect.isclass(found) and room != "nn":  # torch calls those of nn, nobody types them
                for attribute, member in vars(found).items():
                    is_method = inspect.isfunction(member) or isinstance(member, classmethod | property)
                    if is_method and not attribute.startswith("_"):
                        # what overrides a documented method needs no docstring of its own
                        yield f"{module.__name__}.{name}.{attribute}", getattr(found, attribute)


def imports_of(path):
    """Names of modules that a file imports, at its top or anywhere; relative ones made absolute."""
    package = ["scatacformer", *path.relative_to(SOURCE).with_suffix("").parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            if module == "scatacformer":
                yield from (f"scatacformer.{alias.name}" for alias in node.names)


def test_importing_the_package_loads_nothing_heavy():
    loaded = in_a_fresh_python(
        "import json, sys; before = set(sys.modules); import scatacformer; "
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )
    assert "scatacformer" in loaded
    assert not set(loaded) & {*HEAVY, "numpy"}


def test_help_and_rooms_load_no_torch():
    loaded = in_a_fresh_python(
        "import contextlib, io, json, sys; import scatacformer as sf; sf.pp, sf.pl, sf.tl, sf.datasets, sf.metrics\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    from scatacformer.cli import main; main(['embed', '--help'])\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    assert not set(loaded) & set(HEAVY)


def test_every_public_name_is_there():
    for name in scatacformer.__all__:
        assert getattr(scatacformer, name) is not None
    assert dir(scatacformer) == sorted(scatacformer.__all__)
    assert set(ROOMS) < set(scatacformer.__all__)
    for room in ROOMS:
        module = importlib.import_module(f"scatacformer.{room}")
        for name in module.__all__:
            assert getattr(module, name) is not None


@pytest.mark.parametrize("room", ["", ".pp", ".pl", ".tl", ".datasets", ".metrics"])
def test_a_name_that_is_not_there_is_an_attribute_error(room):
    module = importlib.import_module(f"scatacformer{room}")
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        module.no_such_name  # noqa: B018
    assert not hasattr(module, "no_such_name")


def test_version_stands_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", scatacformer.__version__)
    text = (SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = [ "readme", "version" ]' in text
    assert scatacformer.__version__ not in re.findall(r'^version = "(.*)"', text, re.MULTILINE)


@pytest.mark.parametrize("room", ARROWS)
def test_arrows_between_rooms_go_one_way(room):
    files = sorted((SOURCE / room).rglob("*.py"))
    assert files
    for path in files:
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "scatacformer" and len(parts) > 1 and parts[1] in {*ROOMS, "_io", "cli"}:
                assert parts[1] in ARROWS[room] | {room}, f"{path.name} of {room} imports {name}"
                private = parts[1] != room and any(part.startswith("_") for part in parts[2:])
                assert not private, f"{path.name} of {room} imports {name}, which is private"


def test_nn_is_torch_only():
    allowed = {"torch", "numpy", "scatacformer", "flash_attn", *sys.stdlib_module_names}
    for path in (SOURCE / "nn").rglob("*.py"):
        foreign = {name.split(".")[0] for name in imports_of(path)} - allowed
        assert not foreign, f"{path.name} imports {foreign}"


def test_everything_public_says_what_it_does():
    objects = dict(public_objects())
    assert len(objects) > 30
    silent = [name for name, found in objects.items() if not (inspect.getdoc(found) or "").strip()]
    assert silent == []


def test_docstrings_have_no_unfilled_placeholder_and_name_real_parameters():
    for name, found in public_objects():
        text = inspect.getdoc(found) or ""
        assert not re.search(r"%\([a-z_]+\)s|\{\w+\}|\bTODO\b|\bFIXME\b|lorem", text), name
        if isinstance(found, property):
            continue
        target = found.__init__ if inspect.isclass(found) else found
        documented = entries(text, "Parameters")
        parameters = set(inspect.signature(target).parameters)
        assert documented <= parameters, f"{name} documents {documented - parameters}, which it does not have"


def entries(text, section):
    """What a section of a docstring lists."""
    found = re.search(rf"^{section}\n-+\n(.*?)(?:\n\n?\w+\n-{{3,}}|\Z)", text, re.DOTALL | re.MULTILINE)
    names = re.findall(r"^(\*{0,2}\w[\w, *]*)(?: : .*)?$", found[1], re.MULTILINE) if found else []
    return {one.strip(" *") for entry in names for one in entry.split(",")}


def test_parameters_list_every_parameter():
    n_checked, left_out = 0, {}
    for name, found in public_objects():
        text = inspect.getdoc(found) or ""
        documented = set() if isinstance(found, property) else entries(text, "Parameters")
        if not documented:
            continue
        n_checked += 1
        signature = inspect.signature(found.__init__ if inspect.isclass(found) else found)
        missing = set(signature.parameters) - {"self", "cls"} - documented - entries(text, "Attributes")
        if missing:
            left_out[name] = sorted(missing)
    assert n_checked > 100
    assert left_out == {}


def imports_within(rooms, types_too):
    """Module -> modules of the package that it imports, of the files of some rooms."""
    paths = {}
    for path in SOURCE.rglob("*.py"):
        parts = ["scatacformer", *path.relative_to(SOURCE).with_suffix("").parts]
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for module, path in paths.items():
        if rooms is not None and module.split(".")[1:2] and module.split(".")[1] not in rooms:
            continue
        package = ["scatacformer", *path.relative_to(SOURCE).parts[:-1]]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        graph[module] = set()
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or (id(node) in guarded and not types_too):
                continue
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                graph[module].add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in paths else base)
    return {module: {one for one in found if one in graph and one != module} for module, found in graph.items()}


@pytest.mark.parametrize(("rooms", "types_too"), [(None, False), (("genome", "cells", "pp"), True)])
def test_files_do_not_import_in_circles(rooms, types_too):
    graph = imports_within(rooms, types_too)
    assert len(graph) > 60
    while graph:  # take away what imports nothing that is left
        free = {module for module, found in graph.items() if not found}
        assert free, f"a circle among {sorted(graph)}"
        graph = {module: found - free for module, found in graph.items() if module not in free}


def paths_of_a_machine(text):
    """Absolute paths below a folder that only one machine has, as in a home folder; not the tail of a URL or a path."""
    return re.findall(r"(?<![\w.:/~$})-])/(?:home|Users|root|work|tmp|opt|mnt|scratch)/[\w.-]+", text)


@pytest.mark.parametrize("text", ["open('/{}/data')", "see /{}/a.h5ad", "--data=/{}/x", "/{}/at_the_start"])
def test_a_path_of_a_machine_is_seen(text):
    assert paths_of_a_machine(text.format("home"))
    assert paths_of_a_machine(text.format("work"))


@pytest.mark.parametrize("text", ["https://example.org/{}/a", "../{}/data", "$PWD/{}/a", "src/{}/a.py", "/{}s/a"])
def test_other_paths_are_let_be(text):
    assert not paths_of_a_machine(text.format("home"))


def test_the_tree_holds_no_path_of_a_machine():
    root = SOURCE.parents[1]
    made = {"_build", "generated", "jupyter_execute", "__pycache__"}
    files = [path for path in root.iterdir() if path.is_file() and path.name != ".git"]  # of a linked worktree
    for folder in (".ci", ".github", "benchmarks", "conda", "docs", "src", "tests", "tutorials"):
        files += [path for path in (root / folder).rglob("*") if path.is_file() and not made & set(path.parts)]
    assert len(files) > 80
    found = {}
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture
            continue
        if paths := paths_of_a_machine(text):
            found[str(path.relative_to(root))] = paths
    assert found == {}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_is_one_idea(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") < 450
    assert ast.get_docstring(ast.parse(text)), "the file does not say what it is"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_functions_are_short(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            n_lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:  # what is said to users may be long
                n_lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            assert n_lines < 80, f"{node.name} has {n_lines} lines"
