"""From the bytes of a body to an answer per element: decode, record, quarantine what was refused.

Nothing is recorded before the whole body has been read: a body that breaks off is no body.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from service.access.tokens import Caller
from service.events.elements import Undecoded, read_elements
from service.events.litellm import LITELLM, read_event
from service.events.litellm_payload import Payload
from service.events.quarantine import Quarantine, QuarantinedConflict, QuarantinedElement, quarantined_element
from service.events.schemas import ElementProblem, ElementResult, Outcome
from service.events.service import EVENTS, IngestService
from service.events.usage_event import EventProblem, UsageEvent
from service.kit.money import format_amount
from service.ledger.charge import ChargeSummary, Conflict, Duplicate, Recorded, RecordOutcome, Unstorable

UNSTORABLE = "unstorable"

Read = UsageEvent | EventProblem


class EventIngest:
    """Takes bodies of LiteLLM's standard logging payloads."""

    def __init__(self, events: IngestService, quarantine: Quarantine, *, max_body_bytes: int) -> None:
        self._events = events
        self._quarantine = quarantine
        self.max_body_bytes = max_body_bytes

    async def ingest(self, caller: Caller, body: bytes | bytearray) -> list[ElementResult]:
        """Return what became of each element, in order. Raises MalformedBody, BodyTooLarge, Unavailable."""
        received_at = self._events.received_now()
        elements: list[Payload | Undecoded] = []
        read: list[Read] = []
        for chunk in read_elements(body, LITELLM):
            elements += chunk
            read += [_read(element, caller, received_at) for element in chunk]
            await asyncio.sleep(0)
        outcomes = await self._record(caller, read, received_at)
        results = [
            _result(index, each, outcome) for index, (each, outcome) in enumerate(zip(read, outcomes, strict=True))
        ]
        await self._keep_refused(caller, elements, read, outcomes, received_at)
        for outcome, count in Counter(result.outcome for result in results).items():
            EVENTS.labels(outcome).inc(count)
        return results

    async def ingest_elements(
        self, tenant_id: str, caller: Caller, elements: Sequence[bytes], /
    ) -> list[ElementResult]:
        """Take elements in again, one by one; what is refused is not put in quarantine. Raises Unavailable."""
        assert tenant_id == caller.tenant_id
        received_at = self._events.received_now()
        read = [_read(LITELLM.decode(element), caller, received_at) for element in elements]
        outcomes = await self._record(caller, read, received_at)
        return [_result(index, each, outcome) for index, (each, outcome) in enumerate(zip(read, outcomes, strict=True))]

    async def _record(
        self, caller: Caller, read: Sequence[Read], received_at: datetime
    ) -> list[RecordOutcome | EventProblem]:
        """Return the outcome of each event, and the problem of what is none."""
        events = [each for each in read if isinstance(each, UsageEvent)]
        recorded = iter(await self._events.record_all(caller, events, received_at))
        return [next(recorded) if isinstance(each, UsageEvent) else each for each in read]

    async def _keep_refused(
        self,
        caller: Caller,
        elements: Sequence[Payload | Undecoded],
        read: Sequence[Read],
        outcomes: Sequence[RecordOutcome | EventProblem],
        received_at: datetime,
    ) -> None:
        """Put what was refused, and what contradicts the ledger, where an operator finds it."""
        refused: list[QuarantinedElement] = []
        conflicts: list[QuarantinedConflict] = []
        for element, each, outcome in zip(elements, read, outcomes, strict=True):
            match outcome:
                case EventProblem():
                    kept = quarantined_element(element, outcome)
                case Unstorable(detail):
                    kept = quarantined_element(element, _unstorable(detail))
                case Conflict(_, conflict_charge_id):
                    assert isinstance(each, UsageEvent)
                    assert isinstance(element, Payload)
                    conflicts.append(
                        QuarantinedConflict(event=each, payload=element, conflict_charge_id=conflict_charge_id)
                    )
                    continue
                case Recorded() | Duplicate():
                    continue
                case _:
                    assert_never(outcome)
            if kept is not None:
                refused.append(kept)
        await self._quarantine.keep_rejected(caller, refused, received_at)
        await self._quarantine.keep_conflicts(caller, conflicts, received_at)


def _read(element: Payload | Undecoded, caller: Caller, received_at: datetime) -> Read:
    if isinstance(element, Undecoded):
        return element.problem
    return read_event(element, received_at=received_at, pinned_source=caller.source)


def _unstorable(detail: str) -> EventProblem:
    return EventProblem(code=UNSTORABLE, detail=f"The ledger refuses this event: {detail}.")


def _result(index: int, read: Read, outcome: RecordOutcome | EventProblem) -> ElementResult:
    if isinstance(outcome, EventProblem):
        return _rejected(index, None, outcome)
    assert isinstance(read, UsageEvent)
    match outcome:
        case Recorded(summary, _):
            return _charged(index, read, "recorded", summary)
        case Duplicate(summary):
            return _charged(index, read, "duplicate", summary)
        case Conflict(original, _):
            return _charged(index, read, "conflict", original)
        case Unstorable(detail):
            return _rejected(index, read.event_id, _unstorable(detail))
        case _:
            assert_never(outcome)


def _charged(index: int, event: UsageEvent, outcome: Outcome, summary: ChargeSummary) -> ElementResult:
    return ElementResult(
        index=index,
        event_id=event.event_id,
        outcome=outcome,
        charge_id=str(summary.charge_id),
        requested_model=summary.requested_model,
        deployment=summary.deployment,
        served_model=summary.served_model,
        cost_usd=format_amount(summary.cost_usd),
        price_state=summary.price_state,
    )


def _rejected(index: int, event_id: str | None, problem: EventProblem) -> ElementResult:
    return ElementResult(
        index=index,
        event_id=event_id,
        outcome="rejected",
        error=ElementProblem(code=problem.code, detail=problem.detail, field=problem.field),
    )
