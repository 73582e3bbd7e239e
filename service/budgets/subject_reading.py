"""Which counter of a budget a caller means by the values it names. Pure."""

from collections.abc import Mapping, Sequence

from service.budgets.budget import Budget
from service.budgets.subject import forms_in_subjects, named_subject_text, subject_values
from service.errors import InvalidInput
from service.identity.conditions import comparable_value


def subject_of_text(budget: Budget, text: str) -> str:
    """Return the canonical subject of a JSON text, or, with a single "*" in the match, of the value alone.

    Values are compared as those of calls are. Raises InvalidInput unless they name a counter.
    """
    each = _each(budget)
    try:
        values = subject_values(text)
    except ValueError:
        values = {each[0]: text} if len(each) == 1 else {}
    return _subject(each, values)


def subject_of_values(budget: Budget, values: Mapping[str, str]) -> str:
    """Return the canonical subject of values as people write them. Raises InvalidInput unless they name a counter."""
    each = _each(budget)
    every = sorted(name for name in each if values.get(name) == "*")
    if every:
        raise InvalidInput(
            f'"*" is no {every[0]}: name one counter, or leave `subject` out for all of them.',
            code="invalid_subject",
            field="subject",
        )
    return _subject(each, values)


def is_visible(subject: str | None, scope: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether a token of this scope may see what is about a counter; what is about all of them (None) it may."""
    values = {} if subject is None else subject_values(subject)
    return all(
        values[name] in {form for value in allowed for form in forms_in_subjects(comparable_value(name, value))}
        for name, allowed in scope.items()
        if name in values
    )


def _subject(each: list[str], values: Mapping[str, str]) -> str:
    named = {name: comparable_value(name, value) for name, value in values.items() if name in each}
    if sorted(values) != sorted(each) or not all(named.values()):
        raise _refusal(each)
    return named_subject_text(named)


def _each(budget: Budget) -> list[str]:
    return [condition.dimension for condition in budget.match if condition.kind == "each"]


def _refusal(each: list[str]) -> InvalidInput:
    names = ", ".join(each) or "no dimension at all"
    return InvalidInput(f"A subject of this budget names {names}, as JSON.", code="invalid_subject", field="subject")
