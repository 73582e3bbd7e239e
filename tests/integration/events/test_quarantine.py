"""The quarantine against a real database: kept once, bounded, decided once."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest

from service.access.tokens import Caller
from service.db.pools import Pools
from service.errors import NotFound, StateConflict
from service.events import repository
from service.events.elements import Undecoded, read_elements
from service.events.litellm import LITELLM, read_event
from service.events.litellm_payload import Payload
from service.events.quarantine import (
    Quarantine,
    QuarantinedConflict,
    QuarantinedElement,
    QuarantineReview,
    quarantined_element,
)
from service.events.quarantine_schemas import quarantined_view
from service.events.repository import QuarantinedRow
from service.events.schemas import ElementProblem, ElementResult
from service.events.usage_event import EventProblem, UsageEvent
from service.kit.clock import utc_now
from service.kit.ids import new_id
from tests.builders import a_litellm_event

NOW = utc_now()
FUTURE = NOW + timedelta(days=1)


@dataclass
class NextAnswer:
    """Takes elements in as the test says, and remembers them."""

    outcome: Literal["recorded", "rejected"] = "recorded"
    taken: list[tuple[Caller, bytes]] = field(default_factory=list)

    async def ingest_elements(
        self, tenant_id: str, caller: Caller, elements: Sequence[bytes], /
    ) -> list[ElementResult]:
        assert tenant_id == caller.tenant_id
        self.taken += [(caller, element) for element in elements]
        error = (
            ElementProblem(code="invalid_number", detail="still\0wrong", field="x")
            if self.outcome == "rejected"
            else None
        )
        return [
            ElementResult(index=0, event_id="e", outcome=self.outcome, error=msgspec.UNSET if error is None else error)
        ]


@dataclass
class Decisions:
    """Remembers what was decided over conflicts."""

    made: list[tuple[str, str, UUID, str]] = field(default_factory=list)

    async def accept_conflict(self, tenant_id: str, charge_id: UUID, reason: str, /) -> None:
        self.made.append(("accept", tenant_id, charge_id, reason))

    async def drop_conflict(self, tenant_id: str, charge_id: UUID, reason: str, /) -> None:
        self.made.append(("drop", tenant_id, charge_id, reason))


@pytest.fixture
def ingest() -> NextAnswer:
    return NextAnswer()


@pytest.fixture
def decisions() -> Decisions:
    return Decisions()


@pytest.fixture
def quarantine(pools: Pools) -> Quarantine:
    return Quarantine(pools.postgres)


@pytest.fixture
def review(pools: Pools, ingest: NextAnswer, decisions: Decisions) -> QuarantineReview:
    return QuarantineReview(pools.postgres, ingest, decisions)


@pytest.fixture
def caller(tenant_id: str) -> Caller:
    return Caller(tenant_id=tenant_id, token_id=new_id(), name="gateway", roles=frozenset({"ingest"}))


@pytest.fixture
def rows(review: QuarantineReview, tenant_id: str) -> Callable[[], Any]:
    async def list_all() -> list[QuarantinedRow]:
        return await review.list_page(tenant_id, kind=None, before=None, limit=1000)

    return list_all


def refused(event: dict[str, Any] | bytes, received_at: datetime = NOW) -> QuarantinedElement:
    raw = event if isinstance(event, bytes) else msgspec.json.encode(event)
    [[element]] = list(read_elements(b"[" + raw + b"]", LITELLM))
    problem = element.problem if isinstance(element, Undecoded) else read_event(element, received_at=received_at)
    assert isinstance(problem, EventProblem)
    kept = quarantined_element(element, problem)
    assert kept is not None
    return kept


async def test_a_refused_element_is_listed_with_its_reason_and_declared_fields(
    quarantine: Quarantine, caller: Caller, rows: Callable[[], Any]
):
    await quarantine.keep_rejected(caller, [refused(a_litellm_event(began_at=FUTURE))], NOW)
    [row] = await rows()
    view = quarantined_view(row)
    assert (view.kind, view.error.code, view.error.field) == ("rejected", "occurred_in_future", "startTime")
    assert view.received_at == NOW
    assert view.document is not None
    assert view.document["model"] == "openai/gpt-4.1-mini"
    assert "messages" not in view.document
    assert view.charge_id is None


async def test_an_unreadable_element_leaves_its_length(
    quarantine: Quarantine, caller: Caller, rows: Callable[[], Any], review: QuarantineReview
):
    await quarantine.keep_rejected(caller, [refused(b'{"id": tru}')], NOW)
    [row] = await rows()
    assert (row.document, row.length_bytes) == (None, 11)
    with pytest.raises(StateConflict):
        await review.retry(caller, row.quarantine_id)


async def test_the_same_element_sent_again_and_at_once_is_one_row(
    quarantine: Quarantine, caller: Caller, rows: Callable[[], Any]
):
    element = refused(a_litellm_event(began_at=FUTURE))
    await asyncio.gather(*(quarantine.keep_rejected(caller, [element, element], NOW) for _ in range(10)))
    assert len(await rows()) == 1
    await quarantine.keep_rejected(caller, [refused(a_litellm_event(began_at=FUTURE)), element], NOW)
    assert len(await rows()) == 2


async def test_a_full_quarantine_takes_nothing_more_whoever_writes(
    quarantine: Quarantine, caller: Caller, rows: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(repository, "MAX_ROWS_PER_TENANT", 5)
    elements = [[refused(a_litellm_event(began_at=FUTURE)) for _ in range(3)] for _ in range(6)]
    await asyncio.gather(*(quarantine.keep_rejected(caller, each, NOW) for each in elements))
    assert len(await rows()) == 5


async def test_an_element_that_is_taken_in_leaves_the_quarantine(
    quarantine: Quarantine, caller: Caller, rows: Callable[[], Any], review: QuarantineReview, ingest: NextAnswer
):
    event = a_litellm_event(began_at=FUTURE, response_cost=0.1)
    await quarantine.keep_rejected(caller, [refused(event)], NOW)
    [row] = await rows()
    result = await review.retry(caller, row.quarantine_id)
    assert result.outcome == "recorded"
    assert await rows() == []
    [(_, element)] = ingest.taken
    [[payload]] = list(read_elements(element, LITELLM))
    assert isinstance(payload, Payload)
    again = read_event(payload, received_at=FUTURE + timedelta(minutes=1))
    original = read_event(msgspec.json.decode(msgspec.json.encode(event), type=Payload), received_at=FUTURE)
    assert isinstance(again, UsageEvent)
    assert again == original, "what the database kept is exact"
    with pytest.raises(NotFound):
        await review.retry(caller, row.quarantine_id)


async def test_an_element_that_is_refused_again_stays_with_the_new_reason(
    quarantine: Quarantine, caller: Caller, rows: Callable[[], Any], review: QuarantineReview, ingest: NextAnswer
):
    ingest.outcome = "rejected"
    await quarantine.keep_rejected(caller, [refused(a_litellm_event(began_at=FUTURE))], NOW)
    [row] = await rows()
    assert (await review.retry(caller, row.quarantine_id)).outcome == "rejected"
    [row] = await rows()
    assert (row.code, row.detail, row.field) == ("invalid_number", "still\ufffdwrong", "x")


async def test_an_element_is_tried_again_under_the_pins_of_its_own_token(
    quarantine: Quarantine, caller: Caller, rows: Callable[[], Any], review: QuarantineReview, ingest: NextAnswer
):
    sender = msgspec.structs.replace(caller, pinned={"team": "pinned"}, source="edge")
    await quarantine.keep_rejected(sender, [refused(a_litellm_event(began_at=FUTURE))], NOW)
    [row] = await rows()
    assert row.source == "edge"
    admin = msgspec.structs.replace(caller, name="admin", pinned={"team": "admins"}, source="console")
    await review.retry(admin, row.quarantine_id)
    [(tried_by, element)] = ingest.taken
    assert (tried_by.name, tried_by.pinned, tried_by.source) == ("admin", {"team": "pinned"}, "edge")
    assert b"pinned" not in element


async def test_a_conflict_is_listed_once_and_accepted_or_dropped(
    quarantine: Quarantine,
    caller: Caller,
    rows: Callable[[], Any],
    review: QuarantineReview,
    decisions: Decisions,
):
    conflicts = []
    for _ in range(2):
        payload = msgspec.json.decode(msgspec.json.encode(a_litellm_event(began_at=NOW)), type=Payload)
        event = read_event(payload, received_at=NOW)
        assert isinstance(event, UsageEvent)
        conflicts.append(QuarantinedConflict(event=event, payload=payload, conflict_charge_id=new_id()))
    await quarantine.keep_conflicts(caller, conflicts, NOW)
    await quarantine.keep_conflicts(caller, conflicts, NOW)
    second, first = await rows()
    assert [first.conflict_charge_id, second.conflict_charge_id] == [each.conflict_charge_id for each in conflicts]
    assert (first.kind, first.code, first.event_id) == ("conflict", "conflicting_event", conflicts[0].event.event_id)
    with pytest.raises(StateConflict):
        await review.retry(caller, first.quarantine_id)
    await review.accept(caller.tenant_id, first.quarantine_id, "late correction")
    await review.delete(caller.tenant_id, second.quarantine_id, "noise")
    assert decisions.made == [
        ("accept", caller.tenant_id, conflicts[0].conflict_charge_id, "late correction"),
        ("drop", caller.tenant_id, conflicts[1].conflict_charge_id, "noise"),
    ]
    assert await rows() == []


async def test_a_rejected_element_can_be_deleted_but_not_accepted(
    quarantine: Quarantine, caller: Caller, rows: Callable[[], Any], review: QuarantineReview, decisions: Decisions
):
    await quarantine.keep_rejected(caller, [refused(a_litellm_event(began_at=FUTURE))], NOW)
    [row] = await rows()
    with pytest.raises(StateConflict):
        await review.accept(caller.tenant_id, row.quarantine_id, "x")
    await review.delete(caller.tenant_id, row.quarantine_id, "x")
    assert await rows() == []
    assert decisions.made == []
    with pytest.raises(NotFound):
        await review.delete(caller.tenant_id, row.quarantine_id, "x")


async def test_another_tenant_sees_and_decides_nothing(
    quarantine: Quarantine, caller: Caller, rows: Callable[[], Any], review: QuarantineReview
):
    await quarantine.keep_rejected(caller, [refused(a_litellm_event(began_at=FUTURE))], NOW)
    [row] = await rows()
    stranger = msgspec.structs.replace(caller, tenant_id=f"t-{new_id().hex}")
    assert await review.list_page(stranger.tenant_id, kind=None, before=None, limit=10) == []
    with pytest.raises(NotFound):
        await review.retry(stranger, row.quarantine_id)
    with pytest.raises(NotFound):
        await review.delete(stranger.tenant_id, row.quarantine_id, "x")
    assert len(await rows()) == 1


async def test_pages_follow_each_other_newest_first_by_kind(
    quarantine: Quarantine, caller: Caller, review: QuarantineReview
):
    for _ in range(5):
        await quarantine.keep_rejected(caller, [refused(a_litellm_event(began_at=FUTURE))], NOW)
    seen: list[UUID] = []
    before: UUID | None = None
    while page := await review.list_page(caller.tenant_id, kind="rejected", before=before, limit=2):
        seen += [row.quarantine_id for row in page]
        before = page[-1].quarantine_id
    assert len(seen) == 5
    assert seen == sorted(seen, reverse=True)
    assert await review.list_page(caller.tenant_id, kind="conflict", before=None, limit=2) == []
