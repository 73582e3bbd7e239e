"""The import-linter contract of pure modules: those whose docstring says "Pure" with a capital.

They import the standard library, msgspec, `service.errors`, `service.kit` and each other, and so nothing else at all.
"""

import ast
import re
import sys
from pathlib import Path

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

_ALLOWED_PACKAGES = frozenset({"msgspec", *sys.stdlib_module_names})
_DECLARATION = re.compile(r"\bPure\b")
_ALLOWED_OF_OURS = ("service.errors", "service.kit")


class PureModulesContract(Contract):
    """Broken when a declared pure module imports, itself or through others of ours, what is not allowed."""

    package = fields.StringField()

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        del verbose
        declared = sorted(module for module in graph.modules if _declares_itself_pure(module))
        breaches = [breach for module in declared for breach in _breaches(graph, module)]
        return ContractCheck(kept=bool(declared) and not breaches, metadata={"breaches": breaches})

    def render_broken_contract(self, check: ContractCheck) -> None:
        output.print_error("These modules say that they are pure, and are not:")
        for breach in check.metadata["breaches"]:
            output.print_error(f"  {breach}", bold=False)


def _breaches(graph: ImportGraph, declared: str) -> list[str]:
    seen, waiting, breaches = {declared}, [declared], []
    while waiting:
        module = waiting.pop()
        for imported in sorted(graph.find_modules_directly_imported_by(module) - seen):
            seen.add(imported)
            if _is_allowed(imported):
                continue
            if imported.startswith("service."):
                waiting.append(imported)
            else:
                breaches.append(f"{declared} -> {'' if module == declared else f'{module} -> '}{imported}")
    return breaches


def _is_allowed(imported: str) -> bool:
    if imported.partition(".")[0] in _ALLOWED_PACKAGES:
        return True
    return any(imported == allowed or imported.startswith(f"{allowed}.") for allowed in _ALLOWED_OF_OURS)


def _declares_itself_pure(module: str) -> bool:
    path = Path(module.replace(".", "/")).with_suffix(".py")
    if not module.startswith("service.") or not path.exists():
        return False
    return _DECLARATION.search(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") is not None
