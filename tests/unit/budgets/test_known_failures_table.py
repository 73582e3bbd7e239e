"""KNOWN_FAILURES.md names tests that exist, one at least for every row."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROWS = [
    line
    for line in (ROOT / "service" / "budgets" / "KNOWN_FAILURES.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| Row |", "| --- |"))
]
_TEST = re.compile(r"`([a-z_/]+\.py)::(test_[a-z0-9_]+)`")


@cache
def _tests_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("row", ROWS, ids=[row[2:40] for row in ROWS])
def test_a_row_says_why_and_names_a_test_that_exists(row: str):
    symptom, reason, tests = (cell.strip() for cell in row.strip("|").split(" | "))
    assert symptom
    assert reason
    named = _TEST.findall(tests)
    assert named
    for file, test in named:
        assert test in _tests_of(ROOT / "tests" / file), f"{file}::{test}"


def test_every_report_of_the_four_classes_is_answered():
    numbers = set(re.findall(r"\d{4,5}", " ".join(row.split(" | ")[0] for row in ROWS)))
    assert len(ROWS) >= 55
    assert {"26672", "40095", "28247", "40564"} <= numbers
