"""What somebody wants priced anew: the charges of a range that meet conditions. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from service.errors import InvalidInput
from service.ledger.filters import FIELDS, Condition, Position, TimeRange, parse_conditions

# A reversal, a conflict or an opening balance has no price of its own: the kind is no choice.
FILTER_FIELDS = (*(name for name in FIELDS if name != "kind"), "price_key", "price_book_version")

Filter = Mapping[str, Sequence[str]]


class RepricingTerms(msgspec.Struct, frozen=True, kw_only=True):
    """A range by effective_at, and filters as `GET /v1/charges` takes them."""

    time_range: TimeRange
    filter: dict[str, list[str]] = {}

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The filters as conditions. Raises InvalidInput."""
        return parse_conditions(self.filter, FILTER_FIELDS)


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a repricing is. `reached` = everything up to and including this charge is done."""

    examined: int = 0
    changed: int = 0
    not_repriceable: int = 0
    refused: int = 0
    reached: Position | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A repricing that is run. It is about the charges that were recorded before it began."""

    tenant_id: str
    repricing_id: UUID
    terms: RepricingTerms
    applies: bool
    begun_at: datetime
    created_by: str
    runner_id: UUID
    progress: Progress

    @property
    def reason(self) -> str:
        """What its corrections say why they are."""
        return f"repricing {self.repricing_id}"


def checked_terms(time_range: TimeRange, named: Filter) -> RepricingTerms:
    """Return the terms. Raises InvalidInput with the field that cannot be taken."""
    if time_range.start >= time_range.end:
        raise InvalidInput("from must lie before to.", code="invalid_range", field="from")
    for name, values in named.items():
        if name not in FILTER_FIELDS:
            raise InvalidInput(
                f"Charges are not repriced by {name[:100]!r}; known are {', '.join(sorted(FILTER_FIELDS))}.",
                code="unknown_parameter",
                field=f"filter.{name[:100]}",
            )
        # The terms are kept as they were given, and no database keeps a NUL.
        if any("\x00" in value for value in values):
            raise InvalidInput("A value takes no NUL.", field=f"filter.{name}")
    terms = RepricingTerms(time_range=time_range, filter={name: list(values) for name, values in named.items()})
    _ = terms.conditions
    return terms
