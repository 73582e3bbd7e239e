"""Where the answer to a question is read: totals by core key, totals by label, or charges. Pure.

All three give the same numbers, because every total equals the sum of its charges; they differ in what they cost.
Totals lie in 15-minute buckets: the edges of a range that is not cut at a quarter of an hour are read from charges.
"""

from typing import Literal

import msgspec

from service.ledger.filters import Condition, TimeRange, quarter_after, quarter_before
from service.ledger.totals import CORE_KEY
from service.spend.spend_query import SpendQuery

LABELS = ("end_user", "agent", "tag")

Source = Literal["core", "label", "charges"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to read. `whole` is the part of the range that totals answer, `edges` what charges answer."""

    source: Source
    label: str | None = None
    whole: TimeRange | None
    edges: tuple[TimeRange, ...]


def choose_plan(query: SpendQuery) -> Plan:
    """Return the cheapest source that knows every field of the question."""
    conditions = (*query.conditions, *query.scope)
    fields = {*query.group_by, *(condition.field for condition in conditions)}
    if fields.issubset(CORE_KEY):
        return plan_from("core", query)
    if len(fields) == 1 and (label := next(iter(fields))) in LABELS and _label_totals_know(label, query, conditions):
        return plan_from("label", query, label)
    return plan_from("charges", query)


def plan_from(source: Source, query: SpendQuery, label: str | None = None) -> Plan:
    """Return the plan that reads one source, and charges at the edges."""
    time_range = query.time_range
    start, end = quarter_after(time_range.start), quarter_before(time_range.end)
    if source == "charges" or start >= end:
        return Plan(source="charges", whole=None, edges=(time_range,))
    edges = (TimeRange(time_range.start, start), TimeRange(end, time_range.end))
    return Plan(
        source=source,
        label=label,
        whole=TimeRange(start, end),
        edges=tuple(edge for edge in edges if edge.start < edge.end),
    )


def _label_totals_know(label: str, query: SpendQuery, conditions: tuple[Condition, ...]) -> bool:
    """Tell whether the totals of a label can answer; those of tags overlap, so only one tag at a time can be summed."""
    if label != "tag" or not conditions:
        return True
    return conditions == query.conditions and len(conditions) == 1 and _is_one_value(conditions[0])


def _is_one_value(condition: Condition) -> bool:
    return (
        len(condition.included) == 1
        and not condition.includes_absent
        and not condition.excluded
        and not condition.excludes_absent
    )
