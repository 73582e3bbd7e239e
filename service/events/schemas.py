"""What `POST /v1/events` answers."""

from typing import Literal

import msgspec

Outcome = Literal["recorded", "duplicate", "conflict", "rejected"]
ResultsWanted = Literal["all", "problems", "none"]

# Up to this many elements all results are listed unless asked otherwise, beyond only those not recorded.
LISTED_ELEMENTS = 100


class ElementProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an element was rejected."""

    code: str
    detail: str
    field: str | None = None


class ElementResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one element. Of a duplicate and a conflict, the charge is the one recorded first."""

    index: int
    event_id: str | None
    outcome: Outcome
    charge_id: str | msgspec.UnsetType = msgspec.UNSET
    requested_model: str | msgspec.UnsetType | None = msgspec.UNSET
    deployment: str | msgspec.UnsetType | None = msgspec.UNSET
    served_model: str | msgspec.UnsetType | None = msgspec.UNSET
    cost_usd: str | msgspec.UnsetType = msgspec.UNSET
    price_state: str | msgspec.UnsetType = msgspec.UNSET
    error: ElementProblem | msgspec.UnsetType = msgspec.UNSET


class EventsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many elements became what, and the results asked for."""

    recorded: int
    duplicates: int
    conflicts: int
    rejected: int
    results: list[ElementResult]


def answer_events(results: list[ElementResult], wanted: ResultsWanted | None) -> EventsAnswer:
    """Return the answer with the results asked for: all, those not recorded, or none."""
    counts = dict.fromkeys(("recorded", "duplicate", "conflict", "rejected"), 0)
    for result in results:
        counts[result.outcome] += 1
    listed = wanted or ("all" if len(results) <= LISTED_ELEMENTS else "problems")
    shown = {
        "all": results,
        "problems": [result for result in results if result.outcome != "recorded"],
        "none": [],
    }[listed]
    return EventsAnswer(
        recorded=counts["recorded"],
        duplicates=counts["duplicate"],
        conflicts=counts["conflict"],
        rejected=counts["rejected"],
        results=shown,
    )
