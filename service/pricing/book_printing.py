"""Prints price books, their rates and what a new one would change, for people at a terminal."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.kit.money import format_amount
from service.pricing.book_diff import BookDiff
from service.pricing.book_report import clean_text, shown_value
from service.pricing.cost_map import ImportReport
from service.pricing.import_guard import BookWarning, Objection
from service.pricing.map_entry import MapEntry
from service.pricing.price_listing import ListedRate, list_rates, list_windows
from service.pricing.repository import SHARED, ImportRow

_MILLION_DIGITS = 6


def print_diff(diff: BookDiff, *, rows: int) -> None:
    """Print what a book would change, at most so many rows of each kind."""
    console = Console()
    added, removed, changed = len(diff.added), len(diff.removed), len(diff.changed)
    console.print(
        f"{added:,} models added, {removed:,} removed, {changed:,} changed, {diff.unchanged:,} as before",
        highlight=False,
    )
    for title, models in (("added", diff.added), ("removed", diff.removed)):
        if models:
            more = f" … and {len(models) - rows:,} more" if len(models) > rows else ""
            console.print(f"{title}: {escape(', '.join(models[:rows]))}{more}", highlight=False, soft_wrap=True)
    if diff.changed:
        _print_changes(console, diff, rows)


def print_judgement(objections: Sequence[Objection], warnings: Sequence[BookWarning], *, rows: int) -> None:
    """Print what is worth a look, and what speaks against a book."""
    console = Console()
    if warnings:
        table = _table(f"{len(warnings):,} to look at", "model", "value", "what")
        for warning in warnings[:rows]:
            table.add_row(escape(warning.model), _text(warning.name or ""), f"{warning.code}: {escape(warning.detail)}")
        _print_table(console, table, len(warnings), rows)
    for objection in objections:
        console.print(f"[bold red]not accepted unasked:[/] {objection.detail}", highlight=False)


def print_report(report: ImportReport) -> None:
    """Print what of a map is understood."""
    console = Console(highlight=False, soft_wrap=True)
    by_tokens, by_units = report.models_priced_by_tokens, report.models_priced_by_other_units
    console.print(
        f"version {report.version}: {report.models:,} models, {by_tokens:,} priced by tokens, "
        f"{by_units:,} by other units, {report.models_without_price:,} without a price"
    )
    console.print(f"understood: {len(report.understood_keys)} keys, {sum(report.understood_keys.values()):,} values")
    if report.not_charged_keys:
        console.print("understood, but no part of a call's price:")
        for key, known in report.not_charged_keys.items():
            console.print(f"  {key}: {known.count}. {known.reason}")
    if report.not_understood_keys:
        console.print("not understood, and no part of any price:")
        for key, count in report.not_understood_keys.items():
            console.print(f"  {_text(key)}: {count}")


def print_imports(rows: Sequence[ImportRow], in_force: ImportRow | None) -> None:
    """Print versions, latest import first."""
    table = _table("", "", "version", "from", "imported", "by", "whose", "models", "origin")
    # A version is copied into other commands: it stays in one piece however narrow the terminal is.
    table.columns[1].no_wrap = True
    for row in rows:
        models = row.report.get("content", {}).get("models")
        table.add_row(
            "*" if row == in_force else "",
            row.version,
            _instant(row.effective_from),
            _instant(row.imported_at),
            escape(row.imported_by),
            "installation" if row.tenant_id == SHARED else row.tenant_id,
            "" if models is None else f"{models:,}",
            escape(row.origin),
        )
    console = Console()
    console.print(table)
    if in_force is not None:
        console.print("* in force now", highlight=False)


def print_price(entry: MapEntry, version: str, origin: str) -> None:
    """Print every rate of an entry."""
    table = _table(entry.key, "what", "input tokens", "tier", "USD", "for")
    table.columns[3].justify = "right"
    for rate in list_rates(entry):
        table.add_row(*_rate_cells(rate))
    console = Console(highlight=False)
    console.print(table)
    for name, factor in entry.multipliers.items():
        console.print(f"x {factor} for {name}")
    for window in list_windows(entry):
        days = ", ".join(map(str, window.weekdays))
        console.print(f"off-peak: {', '.join(window.hours_utc)} UTC on weekdays {days} ({window.weekday_timezone})")
    if entry.free_input_images:
        console.print(f"{entry.free_input_images} input images of each prompt are free")
    if entry.free_searches:
        console.print(f"free searches of the provider's account, charged here: {entry.free_searches}")
    console.print(f"{version}\n{origin}", soft_wrap=True)


def _rate_cells(rate: ListedRate) -> tuple[str, str, str, str, str]:
    tier = "off-peak" if rate.is_off_peak else rate.service_tier or "standard"
    if rate.unit != "token":
        return rate.kind, _tokens(rate), tier, rate.usd, f"1 {rate.unit}"
    return rate.kind, _tokens(rate), tier, _by_the_million(rate.usd), "1,000,000 tokens"


def _by_the_million(usd: str) -> str:
    return format_amount(Decimal(usd).scaleb(_MILLION_DIGITS))


def _tokens(rate: ListedRate) -> str:
    start, end = rate.from_input_tokens, rate.to_input_tokens
    if start is None and end is None:
        return ""
    if end is None:
        return f"from {start:,}"
    return f"to {end:,}" if start is None else f"{start:,} to {end:,}"


def _print_changes(console: Console, diff: BookDiff, rows: int) -> None:
    table = _table("changed", "model", "value", "old", "new", "change")
    for column in table.columns[2:]:
        column.justify = "right"
    values = [(change.model, value) for change in diff.changed for value in change.values]
    for model, value in values[:rows]:
        relative = value.relative_change
        table.add_row(
            escape(model),
            _text(value.name),
            escape(shown_value(value.old) or "-"),
            escape(shown_value(value.new) or "-"),
            "" if relative is None else f"{Decimal(relative) * 100:+.4g} %",
        )
    _print_table(console, table, len(values), rows)


def _table(title: str, *headings: str) -> Table:
    table = Table(*headings, title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    return table


def _print_table(console: Console, table: Table, of: int, rows: int) -> None:
    console.print(table)
    if of > rows:
        console.print(f"… and {of - rows:,} more (--rows)", highlight=False)


def _text(text: str) -> str:
    return escape(clean_text(text))


def _instant(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")
