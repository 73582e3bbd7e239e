"""Shows on a terminal what an import found and would do, and what became of it; and the same as JSON."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.budgets.apply_plan import count_steps
from service.imports.examination import BudgetLine, Examination, ImportOutcome
from service.imports.plan import Remark, Topic, is_rounding
from service.kit.money import format_amount

_TITLES: Final[dict[Topic, str]] = {
    "source": "Not read",
    "not_taken": "Not taken over",
    "decision": "Taken otherwise than it reads",
    "spend": "Starting at another figure than LiteLLM's",
}
_DONE: Final = {"create": "created", "change": "changed", "replace": "replaced", "prune": "archived"}
_PLACES: Final = Decimal("0.000001")
_LONGEST_NAME: Final = 300
_LONGEST_DETAIL: Final = 1_000


def print_examination(examination: Examination, *, rows: int) -> None:
    """Print the plan: counts, budgets with both figures, remarks; at most so many rows of each list."""
    console = Console()
    _print_counts(console, examination)
    if examination.lines:
        console.print(_budgets(examination.lines[:rows]))
        _more(console, len(examination.lines), rows)
    for topic, title in _TITLES.items():
        _print_remarks(console, title, [one for one in examination.remarks if one.topic == topic], rows)


def print_outcome(outcome: ImportOutcome) -> None:
    """Print what was written."""
    budgets = ", ".join(f"{count:,} {_DONE[verb]}" for verb, count in outcome.budgets.items() if count)
    console = Console()
    console.print(
        f"keys declared: {outcome.keys:,}; budgets: {budgets or 'none changed'};"
        f" increases granted: {outcome.increases:,};"
        f" opening charges recorded: {outcome.openings_recorded:,} ({_amount(outcome.recorded_usd)} USD)",
        highlight=False,
        soft_wrap=True,
    )
    if outcome.openings_known:
        console.print(f"{outcome.openings_known:,} opening charges were recorded before", highlight=False)
    if outcome.openings_refused:
        console.print(f"{outcome.openings_refused:,} opening charges were refused; the log says why", highlight=False)


def shown(text: str, most: int = _LONGEST_NAME) -> str:
    """Return a text for a terminal, as markup: at most so many characters; what would steer it is written out."""
    cut = text if len(text) <= most else f"{text[:most]}…"
    return escape("".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in cut))


def report_document(examination: Examination, outcome: ImportOutcome | None) -> dict[str, Any]:
    """Return the report as JSON types: amounts in plain notation, times with offset."""
    logs = examination.logs
    return {
        "examined_at": examination.now.isoformat(),
        "keys": {"found": len(examination.plan.keys), "to_declare": len(examination.due_keys)},
        "budgets": dict(count_steps(examination.steps)),
        "increases": {"to_grant": len(examination.due_increases), "to_end": len(examination.over_increases)},
        "spend_logs": None if logs is None else _plain(msgspec.structs.asdict(logs)),
        "sums_without_logs": [
            {
                "amount_usd": format_amount(opening.amount_usd),
                "at": opening.spent_at.isoformat(),
                "reason": opening.reason,
            }
            for opening in examination.residuals
        ],
        "lines": [_plain(msgspec.structs.asdict(line)) for line in examination.lines],
        "remarks": [msgspec.structs.asdict(remark) for remark in examination.remarks],
        "written": None if outcome is None else _plain(msgspec.structs.asdict(outcome)),
    }


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    return {
        name: format_amount(value) if isinstance(value, Decimal) else msgspec.to_builtins(value)
        for name, value in document.items()
    }


def _print_counts(console: Console, examination: Examination) -> None:
    steps = count_steps(examination.steps)
    kinds = Counter(planned.kind for planned in examination.plan.budgets)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("keys", f"{len(examination.plan.keys):,} found, {len(examination.due_keys):,} to declare")
    found = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items())) or "none"
    table.add_row("budgets", found)
    table.add_row("", ", ".join(f"{count:,} {verb}" for verb, count in steps.items() if count) or "nothing to do")
    increases = f"{len(examination.due_increases):,} to grant, {len(examination.over_increases):,} to end"
    table.add_row("increases", increases)
    logs = examination.logs
    if logs is not None:
        table.add_row("spend from", f"{logs.start:%Y-%m-%d %H:%M:%S} to {logs.end:%Y-%m-%d %H:%M:%S} UTC")
        if logs.rows is not None:
            sums = f"{_amount(logs.total_usd)} USD, {_amount(logs.new_usd)} USD of it new"
            table.add_row("spend logs", f"{logs.rows:,} rows in {logs.groups:,} groups: {sums}")
        beyond = sum((opening.amount_usd for opening in examination.residuals), Decimal(0))
        table.add_row("beyond the logs", f"{len(examination.residuals):,} charges, {_amount(beyond)} USD")
    console.print(table)


def _budgets(lines: Sequence[BudgetLine]) -> Table:
    table = Table("budget of", "period")
    for name in ("limit USD", "LiteLLM says", "starts at"):
        table.add_column(name, justify="right")
    for line in lines:
        theirs = "-" if line.litellm_usd is None else _amount(line.litellm_usd)
        mark = "" if line.litellm_usd is None or is_rounding(line.litellm_usd, line.starts_at_usd) else " *"
        table.add_row(
            shown(line.subject),
            shown(_period(line.period)),
            _amount(line.limit_usd),
            theirs,
            _amount(line.starts_at_usd) + mark,
        )
    return table


def _period(document: dict[str, Any]) -> str:
    """Return a few words for a period; the long form is in the JSON report."""
    match document["kind"]:
        case "calendar":
            return f"{document['unit']}, {document['timezone']}"
        case "lifetime":
            return "lifetime"
        case kind:
            length = timedelta(seconds=document["length_seconds"])
            return f"{kind} {str(length).removesuffix(', 0:00:00')}"


def _amount(amount: Decimal) -> str:
    return format_amount(amount.quantize(_PLACES)) if amount % _PLACES else format_amount(amount)


def _print_remarks(console: Console, title: str, remarks: Sequence[Remark], rows: int) -> None:
    """Print remarks, those that say the same of many as one."""
    if not remarks:
        return
    console.print(f"\n{title}", style="bold")
    grouped: dict[str, list[str]] = {}
    for remark in remarks:
        grouped.setdefault(remark.detail, []).append(remark.subject)
    for detail, subjects in list(grouped.items())[:rows]:
        whose = shown(subjects[0]) if len(subjects) == 1 else f"{shown(subjects[0])} and {len(subjects) - 1:,} more"
        console.print(f"  {whose}: {shown(detail, _LONGEST_DETAIL)}", highlight=False, soft_wrap=True)
    _more(console, len(grouped), rows)


def _more(console: Console, count: int, rows: int) -> None:
    if count > rows:
        console.print(f"  … and {count - rows:,} more (--rows shows more, --json all)", highlight=False)
