"""The report of an import, as it is answered and kept: what the map holds, what it changes, what to look at. Pure.

Lists end after some hundred models, counts do not: a report is read by people and lies in a table for ever.
"""

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from service.kit.money import format_amount
from service.kit.text import bounded_text
from service.pricing.book_candidate import BookCandidate
from service.pricing.book_diff import BookDiff, ModelChange, ValueChange
from service.pricing.cost_map import ImportReport
from service.pricing.import_guard import BookWarning

LISTED_MODELS: Final = 500
_LISTED_VALUES: Final = 50
_LISTED_KEYS: Final = 500


class ListedModels(msgspec.Struct, frozen=True):
    """Models by name, the first 500 of them, and how many there are."""

    count: int
    models: list[str]


class ListedValue(msgspec.Struct, frozen=True, kw_only=True):
    """One value, old and new, as text; null = not stated. `relative_change` "0.25" = a quarter more."""

    name: str
    old: str | None
    new: str | None
    relative_change: str | None


class ListedChange(msgspec.Struct, frozen=True):
    """What changes of one model."""

    model: str
    values: list[ListedValue]


class ListedChanges(msgspec.Struct, frozen=True):
    """Changed models, the first 500 of them, and how many there are."""

    count: int
    models: list[ListedChange]


class ListedWarnings(msgspec.Struct, frozen=True):
    """What somebody should look at, the first 500, and how many there are."""

    count: int
    warnings: list[BookWarning]


class BookReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report; `compared_with` is the version in force when the map was compared."""

    content: ImportReport
    repeated_models: ListedModels
    compared_with: str | None
    added: ListedModels
    removed: ListedModels
    changed: ListedChanges
    unchanged_models: int
    warnings: ListedWarnings


def report_on(
    candidate: BookCandidate, compared_with: str | None, diff: BookDiff, warnings: Sequence[BookWarning]
) -> BookReport:
    """Return the report of a map beside the book it would replace."""
    return BookReport(
        content=_bounded_content(candidate.report),
        repeated_models=_listed(candidate.repeated_models),
        compared_with=compared_with,
        added=_listed(diff.added),
        removed=_listed(diff.removed),
        changed=listed_changes(diff.changed),
        unchanged_models=diff.unchanged,
        warnings=ListedWarnings(len(warnings), [_clean_warning(warning) for warning in warnings[:LISTED_MODELS]]),
    )


def listed_changes(changed: Sequence[ModelChange]) -> ListedChanges:
    """Return changes as they are shown."""
    shown = [ListedChange(change.model, _listed_values(change.values)) for change in changed[:LISTED_MODELS]]
    return ListedChanges(len(changed), shown)


def shown_value(value: Decimal | str | None) -> str | None:
    """Return a value of a map as text."""
    if isinstance(value, Decimal):
        return format_amount(value)
    return None if value is None else clean_text(value)


def clean_text(text: str) -> str:
    """Return what somebody wrote into a map, fit for a table and a terminal: bounded, without control characters."""
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return bounded_text(text)


def _listed(models: Collection[str]) -> ListedModels:
    return ListedModels(len(models), sorted(models)[:LISTED_MODELS])


def _listed_values(values: Sequence[ValueChange]) -> list[ListedValue]:
    return [
        ListedValue(
            name=clean_text(value.name),
            old=shown_value(value.old),
            new=shown_value(value.new),
            relative_change=value.relative_change,
        )
        for value in values[:_LISTED_VALUES]
    ]


def _clean_warning(warning: BookWarning) -> BookWarning:
    if warning.name is None:
        return warning
    return msgspec.structs.replace(warning, name=clean_text(warning.name))


def _bounded_content(content: ImportReport) -> ImportReport:
    """Keys of a map are whatever somebody wrote; a map of ours has some 150 that are about prices."""
    return msgspec.structs.replace(
        content,
        understood_keys=_bounded_counts(content.understood_keys),
        not_understood_keys=_bounded_counts(content.not_understood_keys),
    )


def _bounded_counts(counts: dict[str, int]) -> dict[str, int]:
    return {clean_text(key): count for key, count in sorted(counts.items())[:_LISTED_KEYS]}
