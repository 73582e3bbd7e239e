"""What the linters cannot say: names, sizes and docstrings of modules."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "service").rglob("*.py"))
BANNED_NAMES = {"utils", "helpers", "common", "manager", "info", "process", "data"}

every_module = pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])


@every_module
def test_module_has_a_telling_name_and_a_bounded_size(path: Path):
    assert path.stem not in BANNED_NAMES
    assert len(path.read_text().splitlines()) <= 500


@every_module
def test_module_docstring_says_in_at_most_eight_lines_what_it_owns(path: Path):
    tree = ast.parse(path.read_text())
    if not tree.body:
        return
    docstring = ast.get_docstring(tree)
    assert docstring, "no module docstring"
    drawing = any(mark in docstring for mark in ("├", "└", "|"))
    assert drawing or len(docstring.splitlines()) <= 8


@every_module
def test_no_function_is_longer_than_70_lines(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 70, f"{node.name} has {length} lines"


def test_no_package_registry_is_named_and_no_path_of_a_machine():
    forbidden = re.compile(r"pypi\.org|pythonhosted|--index-url|--find-links|file://")
    for name in ("requirements.lock", "pyproject.toml", "Makefile", ".ci/run"):
        assert not forbidden.search((ROOT / name).read_text()), name
