"""Wire shapes of repricings."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from service.kit.instants import bounded_instant
from service.ledger.filters import TimeRange
from service.repricing.repository import RepricingRow
from service.repricing.result import RepricingResult
from service.repricing.terms import RepricingTerms, checked_terms

_MAX_VALUES = 100
_MAX_TEXT = 1_000

AwareTime = Annotated[datetime, Meta(tz=True)]
_Value = Annotated[str, Meta(max_length=_MAX_TEXT)]
_Values = Annotated[list[_Value], Meta(min_length=1, max_length=_MAX_VALUES)]


class RepricingRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    """The charges to be priced anew: a range by effective_at, and filters as `GET /v1/charges` takes them.

    A list = any of its values, a leading `!` excludes. Without `apply` it is a preview: nothing is written.
    """

    start: AwareTime
    end: AwareTime
    filter: dict[str, _Value | _Values] = {}
    apply: bool = False

    def to_terms(self) -> RepricingTerms:
        """Return the terms. Raises InvalidInput with the field that cannot be taken."""
        named = {name: [values] if isinstance(values, str) else values for name, values in self.filter.items()}
        time_range = TimeRange(bounded_instant(self.start, "from"), bounded_instant(self.end, "to"))
        return checked_terms(time_range, named)


class ProgressView(msgspec.Struct, kw_only=True):
    """How many charges were looked at; of them changed, impossible to price anew, refused by the ledger.

    `reached_at` is the effective_at up to which it is done.
    """

    examined: int
    changed: int
    not_repriceable: int
    refused: int
    reached_at: datetime | None


class RepricingView(msgspec.Struct, kw_only=True, rename={"start": "from", "end": "to"}):
    """A repricing: `state` is running, done or failed; `result` is there when it is done, `failure` when it failed."""

    id: UUID
    state: str
    apply: bool
    start: datetime
    end: datetime
    filter: dict[str, list[str]]
    created_at: datetime
    created_by: str
    finished_at: datetime | None
    progress: ProgressView
    result: RepricingResult | None
    failure: str | None


class RepricingList(msgspec.Struct):
    """A page of repricings, newest first."""

    repricings: list[RepricingView]
    next_cursor: str | None


def repricing_view(row: RepricingRow) -> RepricingView:
    """Return a repricing for the wire."""
    progress = row.progress
    return RepricingView(
        id=row.repricing_id,
        state=row.state,
        apply=row.applies,
        start=row.terms.time_range.start,
        end=row.terms.time_range.end,
        filter=row.terms.filter,
        created_at=row.created_at,
        created_by=row.created_by,
        finished_at=row.finished_at,
        progress=ProgressView(
            examined=progress.examined,
            changed=progress.changed,
            not_repriceable=progress.not_repriceable,
            refused=progress.refused,
            reached_at=None if progress.reached is None else progress.reached.effective_at,
        ),
        result=row.result,
        failure=row.failure,
    )
