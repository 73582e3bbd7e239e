"""The table of faults names tests that exist, and leaves no fault of the checks out."""

import ast
import re
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_ROWS = [
    line for line in (_ROOT / "tests/faults/README.md").read_text("utf-8").splitlines() if re.match(r"\| \d+ ", line)
]


def test_every_fault_of_checks_and_windows_has_a_row():
    numbers = [int(row.split()[1]) for row in _ROWS]
    assert len(numbers) == len(set(numbers))
    assert {*range(8, 19), *range(22, 26)} <= set(numbers)


def test_every_test_of_the_table_exists():
    for row in _ROWS:
        names = re.findall(r"`([^`]+)`", row)
        assert names, row
        for path, separator, test in (name.partition("::") for name in names):
            assert separator, row
            assert test in _tests_of(_ROOT / path), f"{path} has no {test}"


def _tests_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
