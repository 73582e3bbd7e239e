"""Counters and holds in Redis, through scripts that decide and write in one step.

Concurrent calls of a process travel together; callers put their own deadline around a call and may leave at any time.
A reservation is found under its tenant only.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import cast
from uuid import UUID

import msgspec

from service.checks.hold import (
    LARGEST_MICRO_USD,
    CounterAsk,
    CounterFigures,
    CounterKind,
    Decision,
    HoldAnswer,
    HoldAsk,
    IdReused,
    MissingCounters,
    Reservation,
    ReservationState,
    RouteAsk,
    StaleConfig,
    StaleWindow,
)
from service.checks.keys import ROLLING, counter_key, fence_key, reservation_key, unix_text
from service.checks.lua_scripts import (
    CHECK_AND_HOLD,
    FIND_RESERVATIONS,
    LOWER_FENCE,
    READ_HELD,
    RENEW,
    VOID,
    Command,
    Reply,
    script_command,
)
from service.checks.scripts import CountersUnavailable, ScriptLane
from service.db.pools import RedisClient
from service.kit.clock import from_unix_ms
from service.kit.money import ZERO, from_micro_usd

# Of the deadline of a check, for one pipeline.
_PIPELINE_SHARE = 0.6
_MOST_LOOKED_UP = 200
_MOST_DROPPED = 500

_KIND_LETTERS: dict[CounterKind, str] = {"one_bucket": "1", "with_carry": "c", "rolling": "r"}


class HoldStore:
    """Asks the counters. One instance per process.

    `deadline_ms` is that of a check: when its pipeline is not answered, it still needs time to be answered by policy.
    """

    def __init__(self, client: RedisClient, *, deadline_ms: float) -> None:
        self._lane = ScriptLane(client, timeout_ms=deadline_ms * _PIPELINE_SHARE)

    def start(self) -> None:
        """Connect, so that the first check need not wait for it."""
        self._lane.start()

    @property
    def is_reachable(self) -> bool:
        """Tell whether the counters answered lately; False means calls fail at once, but for probes."""
        return not self._lane.is_down

    async def close(self) -> None:
        """Finish what is under way and give the connection back."""
        await self._lane.close()

    async def check_and_hold(self, ask: HoldAsk) -> HoldAnswer:
        """Decide a request and place its hold. Raises CountersUnavailable."""
        return answer_of(ask, await self._lane.call(check_command(ask)))

    async def lower_fence(self, tenant_id: str, seen_version: int, version: int) -> None:
        """Take back a fence the database knows nothing of. Raises CountersUnavailable."""
        await self._lane.call(script_command(LOWER_FENCE, [fence_key(tenant_id)], [seen_version, version]))

    async def void(self, tenant_id: str, reservation_id: str, *, placed_by: str = "") -> Reservation | None:
        """Cancel a reservation, or only the one a certain check placed; ending one that has ended changes nothing.

        Raises CountersUnavailable.
        """
        command = script_command(VOID, [reservation_key(tenant_id, reservation_id)], [reservation_id, placed_by])
        return _reservation(reservation_id, await self._lane.call(command))

    async def renew(self, tenant_id: str, reservation_id: str, ttl_ms: int) -> Reservation | None:
        """Let a live hold last at least `ttl_ms` from now; it never gets shorter. Raises CountersUnavailable."""
        command = script_command(RENEW, [reservation_key(tenant_id, reservation_id)], [reservation_id, ttl_ms])
        return _reservation(reservation_id, await self._lane.call(command))

    async def find(self, tenant_id: str, reservation_id: str) -> Reservation | None:
        """Return a reservation, also for some minutes after its end. Raises CountersUnavailable."""
        return await self.renew(tenant_id, reservation_id, 0)

    async def find_reservations(self, tenant_id: str, ids: Sequence[str]) -> dict[str, str | None] | None:
        """Return, for each id that is a reservation, the model its request asked for; None when nobody can be asked."""
        distinct = list(dict.fromkeys(ids))
        keys = [reservation_key(tenant_id, each) for each in distinct]
        portions = [keys[start : start + _MOST_LOOKED_UP] for start in range(0, len(keys), _MOST_LOOKED_UP)]
        try:
            replies = await self._lane.run([script_command(FIND_RESERVATIONS, portion, ()) for portion in portions])
        except CountersUnavailable:
            return None
        models = [requested_model for reply in replies for requested_model in reply]
        return {
            each: requested_model.decode() or None
            for each, requested_model in zip(distinct, models, strict=True)
            if requested_model is not None
        }

    async def read_held(
        self, tenant_id: str, counters: Sequence[tuple[UUID, str, datetime | None]]
    ) -> list[Decimal] | None:
        """Return the held USD of counters (budget, subject, start of the window; None: rolling).

        None when nobody can be asked.
        """
        keys = [
            counter_key(tenant_id, budget_id, subject, ROLLING if start is None else unix_text(start))
            for budget_id, subject, start in counters
        ]
        held: dict[str, int] = {}
        asked = list(dict.fromkeys(keys))
        try:
            while asked:
                replies = await self._lane.run([script_command(READ_HELD, [key], [_MOST_DROPPED]) for key in asked])
                held |= {key: micro_usd for key, (micro_usd, _) in zip(asked, replies, strict=True)}
                asked = [key for key, (_, has_more) in zip(asked, replies, strict=True) if has_more]
        except CountersUnavailable:
            return None
        return [from_micro_usd(held[key]) if held[key] else ZERO for key in keys]


def check_command(ask: HoldAsk) -> Command:
    """Return the command that decides a request; see lua/check_and_hold.lua."""
    counters = ask.counters
    flags = ("h" if ask.wants_hold else "") + ("f" if ask.is_free else "") + ("s" if ask.is_ledger_down else "")
    command: list[str | int | bytes] = [
        "EVALSHA",
        CHECK_AND_HOLD.digest,
        len(counters) + 2,
        fence_key(ask.tenant_id),
        reservation_key(ask.tenant_id, ask.reservation_id),
        *[counter.key for counter in counters],
        ask.config_version,
        flags,
        ask.reservation_id,
        ask.fingerprint,
        ask.amount_micro_usd,
        ask.ttl_ms,
        ask.requested_model,
        ask.valid_from_ms,
        ask.valid_until_ms,
        "".join(["e" if counter.enforces else "s" for counter in counters]),
        ask.placed_by,
        _kinds(counters),
        " ".join([_route_text(route) for route in ask.routes]),
    ]
    for counter in counters:
        command.append(_spec(counter))
        command.append(counter.limit_micro_usd)
    return tuple(command)


def _kinds(counters: Sequence[CounterAsk]) -> str:
    kinds = "".join([_KIND_LETTERS[counter.kind] for counter in counters])
    return kinds if kinds.strip("1") else ""


def _spec(counter: CounterAsk) -> str:
    match counter.kind:
        case "one_bucket":
            return f"p:{counter.bucket}"
        case "with_carry":
            return f"p:{counter.bucket} {counter.most_carried_micro_usd}"
        case "rolling":
            return counter.bucket


def _route_text(route: RouteAsk) -> str:
    positions = ",".join([str(position + 1) for position in route.counters])
    return f"{route.amount_micro_usd}:{'f' if route.is_free else '-'}:{route.name}:{positions}"


def answer_of(ask: HoldAsk, reply: Reply) -> HoldAnswer:
    """Return what a reply of check_and_hold means."""
    match reply[0]:
        case b"ALLOW" | b"DENY" | b"REPLAY":
            return Decision(
                is_allowed=reply[0] != b"DENY",
                is_replay=reply[0] == b"REPLAY",
                expires_at_ms=reply[1],
                amount_micro_usd=reply[2],
                lapsed_holds=reply[3],
                figures=_figures(ask.counters, reply),
                routes=tuple([bit == 1 for bit in reply[len(reply) - len(ask.routes) :]]),
            )
        case b"MISSING":
            return MissingCounters(tuple(position - 1 for position in reply[1:]))
        case b"STALE_CONFIG":
            return StaleConfig(reply[1])
        case b"STALE_WINDOW":
            return StaleWindow(reply[1])
        case b"REUSED":
            return IdReused()
        case _:
            raise AssertionError(f"check_and_hold answered {reply!r}")


def _figures(counters: Sequence[CounterAsk], reply: Reply) -> tuple[CounterFigures, ...]:
    figures = [
        CounterFigures(reply[at], reply[at + 1], reply[at + 2] == 1, asked.limit_micro_usd)
        for asked, at in zip(counters, range(4, 4 + 3 * len(counters), 3), strict=True)
    ]
    if not _kinds(counters):
        return tuple(figures)
    more = reply[4 + 3 * len(counters) :]
    return tuple(
        [
            msgspec.structs.replace(
                each,
                limit_micro_usd=min(each.limit_micro_usd + more[2 * i], LARGEST_MICRO_USD),
                carried_micro_usd=more[2 * i],
                resets_at_ms=more[2 * i + 1] or None,
            )
            for i, each in enumerate(figures)
        ]
    )


def _reservation(reservation_id: str, reply: Reply) -> Reservation | None:
    if not reply:
        return None
    state, placed_at, expires_at, amount, consumed, requested_model = reply
    return Reservation(
        reservation_id=reservation_id,
        state=cast("ReservationState", state.decode()),
        placed_at=from_unix_ms(placed_at),
        expires_at=from_unix_ms(expires_at),
        amount_micro_usd=amount,
        consumed_micro_usd=consumed,
        requested_model=requested_model.decode() or None,
    )
