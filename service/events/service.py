"""From decoded events to recorded charges: who asked, which model, what it costs, one record call per chunk.

A bad element is an answer of its own and never fails its batch. When the ledger cannot be written, Unavailable is
raised and nothing of the body counts as acknowledged: sending it again, whole, is safe.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

import structlog
from prometheus_client import Counter, Histogram

from service.access.tokens import Caller
from service.config.rating import rate_call
from service.config.service import ConfigStore
from service.config.snapshot import TenantConfig
from service.db.clock import DatabaseClock
from service.errors import Unavailable
from service.events.charging import draft_charge, facts_of
from service.events.failed_attempts import FailedAttempts, RequestKey, request_key
from service.events.price_metrics import PriceObserver
from service.events.usage_event import UsageEvent
from service.identity.completion import complete_dimensions, effective_key
from service.identity.known_key import KeyLesson, KnownKey, key_lesson
from service.identity.registry import KeyRegistry
from service.identity.resolution import resolve_models
from service.identity.tag_names import with_kept_tags
from service.ledger.charge import ChargeDraft, Recorded, RecordOutcome, Unstorable
from service.ledger.service import LedgerRecorder
from service.pricing.registry import PriceBooks

_log = structlog.get_logger(__name__)

EVENTS = Counter("tallygate_events", "Elements of event bodies by outcome.", ["outcome"])
EVENT_AGE = Histogram(
    "tallygate_event_age_seconds",
    "Time from the start of the oldest call of a chunk of events to its receipt.",
    buckets=(1, 5, 15, 60, 300, 900, 3600, 86400),
)


# The loop is given back after this many events, so that checks of the same process stay fast.
CHUNK_ELEMENTS = 100
_CHUNKS_IN_FLIGHT = 4


class Reservations(Protocol):
    """What holds remember of the requests they were placed for."""

    async def find_reservations(self, tenant_id: str, ids: Sequence[str]) -> dict[str, str | None] | None:
        """Return the requested model of each id that is a reservation; None when nobody can be asked."""
        ...


class IngestService:
    """Turns events of one tenant into charges."""

    def __init__(
        self,
        *,
        configs: ConfigStore,
        prices: PriceBooks,
        keys: KeyRegistry,
        reservations: Reservations,
        failed_attempts: FailedAttempts,
        recorder: LedgerRecorder,
        clock: DatabaseClock,
        observer: PriceObserver,
    ) -> None:
        self._configs = configs
        self._prices = prices
        self._keys = keys
        self._reservations = reservations
        self._failed_attempts = failed_attempts
        self._recorder = recorder
        self._clock = clock
        self._observer = observer

    def received_now(self) -> datetime:
        """Return the time a body that arrives now is received at, by the database's clock."""
        return self._clock.now()

    async def record_all(
        self, caller: Caller, events: Sequence[UsageEvent], received_at: datetime
    ) -> list[RecordOutcome]:
        """Record the events of a whole body, some chunks at a time, and return what became of each, in order.

        Raises Unavailable as soon as one chunk was not stored; the others are let finish.
        """
        chunks = [events[start : start + CHUNK_ELEMENTS] for start in range(0, len(events), CHUNK_ELEMENTS)]
        if len(chunks) <= 1:
            return await self.record_events(caller, events, received_at)
        places = asyncio.Semaphore(_CHUNKS_IN_FLIGHT)
        is_refused = False

        async def record_chunk(chunk: Sequence[UsageEvent]) -> list[RecordOutcome]:
            nonlocal is_refused
            async with places:
                if is_refused:
                    raise Unavailable("The ledger cannot be written at the moment; send the same again.")
                try:
                    return await self.record_events(caller, chunk, received_at)
                except Exception:
                    is_refused = True
                    raise

        parts = await asyncio.gather(*(record_chunk(chunk) for chunk in chunks), return_exceptions=True)
        outcomes: list[RecordOutcome] = []
        for part in parts:
            if isinstance(part, BaseException):
                raise part
            outcomes += part
        return outcomes

    async def record_events(
        self, caller: Caller, events: Sequence[UsageEvent], received_at: datetime
    ) -> list[RecordOutcome]:
        """Record one chunk of events and return what became of each, in order. Raises Unavailable."""
        if not events:
            return []
        config = await self._configs.get(caller.tenant_id)
        reservations = await self._find_reservations(caller.tenant_id, events)
        failed = await self._failed_attempts.find_requested(caller.tenant_id, events)
        keys = await self._find_keys(caller, events)
        drafts: list[ChargeDraft | Unstorable] = []
        for event in events:
            try:
                drafts.append(self._draft(caller, config, event, received_at, reservations, failed, keys))
            except Unavailable:
                raise
            except Exception:  # noqa: BLE001 - see below
                # Whatever it is, it is this event's: the others of the body must not be sent again for ever.
                _log.exception("event_not_chargeable", event_id=event.event_id)
                drafts.append(Unstorable("it cannot be charged; the log says why"))
        recorded = iter(await self._recorder.record([each for each in drafts if isinstance(each, ChargeDraft)]))
        outcomes = [next(recorded) if isinstance(each, ChargeDraft) else each for each in drafts]
        self._observer.observe(outcomes)
        await self._keys.learn(caller.tenant_id, _lessons(caller, events, outcomes))
        oldest = min(event.occurred_at for event in events)
        EVENT_AGE.observe(max(0.0, (received_at - oldest).total_seconds()))
        return outcomes

    def _draft(
        self,
        caller: Caller,
        config: TenantConfig,
        event: UsageEvent,
        received_at: datetime,
        reservations: dict[str, str | None] | None,
        failed: dict[RequestKey, str],
        keys: dict[str, KnownKey],
    ) -> ChargeDraft:
        reservation_id = _reservation_of(event, reservations)
        request = request_key(caller.tenant_id, event)
        models = resolve_models(
            event.models,
            config.aliases,
            event.occurred_at,
            requested_from_check=(reservations or {}).get(reservation_id) if reservation_id else None,
            requested_from_failure=failed.get(request) if request else None,
        )
        api_key = effective_key(event.dimensions, caller.pinned)
        known = keys.get(api_key) if api_key else None
        dimensions = complete_dimensions(event.dimensions, known, caller.pinned)
        dimensions = with_kept_tags(dimensions, config.tag_names)
        facts = facts_of(event)
        book = self._prices.at(caller.tenant_id, event.occurred_at)
        rating = rate_call(facts, models, dimensions.values, config, book, event.occurred_at)
        return draft_charge(
            caller.tenant_id,
            event,
            dimensions,
            models,
            facts,
            rating,
            received_at=received_at,
            reservation_id=reservation_id,
            config_version=config.version,
        )

    async def _find_keys(self, caller: Caller, events: Sequence[UsageEvent]) -> dict[str, KnownKey]:
        named = (effective_key(event.dimensions, caller.pinned) for event in events)
        return await self._keys.find_many(caller.tenant_id, {api_key for api_key in named if api_key})

    async def _find_reservations(self, tenant_id: str, events: Sequence[UsageEvent]) -> dict[str, str | None] | None:
        named = (event.reservation_id or event.request_id for event in events)
        ids = {reservation_id for reservation_id in named if reservation_id is not None}
        return await self._reservations.find_reservations(tenant_id, sorted(ids)) if ids else {}


def _reservation_of(event: UsageEvent, reservations: dict[str, str | None] | None) -> str | None:
    """Return the reservation the event belongs to: the one it names, else the one with the request's own id.

    When nobody can be asked, the request's id is taken for one: settling what does not exist does no harm, not
    settling what does would hold an amount until it expires.
    """
    if event.reservation_id is not None:
        return event.reservation_id
    if reservations is None or event.request_id in reservations:
        return event.request_id
    return None


def _lessons(caller: Caller, events: Sequence[UsageEvent], outcomes: Iterable[RecordOutcome]) -> list[KeyLesson]:
    return [
        key_lesson(event.dimensions, caller.pinned, event.occurred_at, event.key_alias)
        for event, outcome in zip(events, outcomes, strict=True)
        if isinstance(outcome, Recorded)
    ]
