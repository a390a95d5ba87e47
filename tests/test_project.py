"""The files around the package agree with it: versions, addresses, dependencies, workflows."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import scatacformer

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
TEXTS = [
    *(ROOT / name for name in ("README.md", "CITATION.cff", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(ROOT / name for name in ("SUPPORT.md", "Dockerfile", "conda/meta.yaml", "pyproject.toml", "docs/conf.py")),
    *(path for path in (ROOT / ".github").rglob("*") if path.is_file()),
]


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == scatacformer.__version__
    latest = re.search(r"^## \[(\d[^]]*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert latest is not None
    assert latest[1] == scatacformer.__version__
    assert citation["date-released"] == latest[2]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_addresses_are_those_of_the_project(path):
    source = PROJECT["project"]["urls"]["Source"]
    for address in re.findall(
        r"https://(?:github\.com|raw\.githubusercontent\.com)/[^\s)\"'>]+", path.read_text("utf-8")
    ):
        owner = "/".join(address.split("/")[3:5])
        assert owner == "/".join(source.split("/")[3:5]), f"{path.name} names {address}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_what_exists(path):
    flow = yaml.safe_load(path.read_text("utf-8"))
    assert flow["permissions"] == {"contents": "read"} or flow["permissions"]["contents"] == "read"
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for name, job in flow["jobs"].items():
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), f"{path.name}: {name}"
            for target in re.findall(r"^make (\S+)", step.get("run", ""), re.M):
                assert re.search(rf"^{target}:", makefile, re.M), f"{path.name} makes {target}"
            if step.get("run", "").startswith("./") or step.get("run", "").startswith(".ci"):
                assert (ROOT / step["run"]).exists()


@pytest.mark.parametrize("path", [*sorted((ROOT / ".github").rglob("*.y*ml"))], ids=lambda path: path.name)
def test_yaml_can_be_read(path):
    assert yaml.safe_load(path.read_text("utf-8"))


def test_the_conda_recipe_has_the_dependencies_of_the_package():
    text = (ROOT / "conda" / "meta.yaml").read_text("utf-8")
    run = text.split("  run:\n")[1].split("\n\n")[0]
    recipe = {line.split("- ")[1].replace(" ", "").replace("pytorch", "torch") for line in run.splitlines()}
    assert recipe - {"python>=3.11"} == set(PROJECT["project"]["dependencies"])
    build = text.split("  host:\n")[1].split("  run:\n")[0]
    for needed in PROJECT["build-system"]["requires"]:
        assert re.match(r"[\w-]+", needed)[0] in build


def test_readme_has_no_relative_link_on_a_package_index():
    hooks = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = (ROOT / "README.md").read_text("utf-8")
    relative = re.findall(r"\]\((?!\w+:|#)([^)]+)\)", text)
    assert relative  # those that are replaced
    for rule in hooks["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert not re.findall(r"\]\((?!\w+:|#)([^)]+)\)", text)
    source = PROJECT["project"]["urls"]["Source"]
    for target in relative:
        raw = source.replace("github.com", "raw.githubusercontent.com")
        assert f"{source}/blob/main/{target}" in text or f"{raw}/main/{target}" in text


# names of modules that differ from those of their packages; the last come with scvi-tools and with the extra hub
MODULES = {"scikit-learn": "sklearn", "scvi-tools": "scvi", "flash-attn": "flash_attn"}
WITH_OTHERS = {"rich", "httpx"}
OPTIONAL = {"hdf5plugin", "IPython"}  # used where they happen to be installed


def test_every_import_of_the_package_is_declared():
    declared = [*PROJECT["project"]["dependencies"], *sum(PROJECT["project"]["optional-dependencies"].values(), [])]
    names = {re.match(r"[\w-]+", one)[0] for one in declared}
    known = {MODULES.get(name, name.replace("-", "_")) for name in names} | WITH_OTHERS | OPTIONAL | {"scatacformer"}
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    assert found - set(sys.stdlib_module_names) - known == set()
