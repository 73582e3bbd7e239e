"""Faults 22 and 23: which time a charge counts at, and in which window."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.db.pools import Pools
from service.kit.clock import utc_now
from tests.faults.chat_events import chat_event
from tests.faults.conftest import Tenant
from tests.faults.replica import Answer, Caller
from tests.faults.waiting import until

CALL = {"model": "gpt-4.1-mini", "input_tokens": 1_000, "max_output_tokens": 1_000}
COST = Decimal("0.002")
_ANCHOR = "2026-01-01T00:00:00Z"


async def _charge_of(caller: Caller, *, at: datetime) -> Answer:
    """Post an event that began then, and return its charge."""
    answer = await caller.post(chat_event(input_tokens=1_000, output_tokens=1_000, at=at))
    (result,) = answer["results"]
    assert result["outcome"] == "recorded", result
    charge: Answer = await caller.call("GET", f"/v1/charges/{result['charge_id']}")
    return charge


def _time(charge: Answer, name: str) -> datetime:
    return datetime.fromisoformat(charge[name])


async def test_a_charge_counts_at_the_time_its_call_began(callers: list[Caller]):
    at = (utc_now() - timedelta(minutes=59)).replace(microsecond=123_456)

    charge = await _charge_of(callers[0], at=at)

    assert abs(_time(charge, "occurred_at") - at) < timedelta(microseconds=2)
    assert _time(charge, "effective_at") == _time(charge, "occurred_at")
    assert await _spend_between(callers[1], at - timedelta(minutes=15), at + timedelta(minutes=15)) == COST


async def test_a_charge_of_a_clock_ahead_counts_when_it_is_received(callers: list[Caller]):
    """In a window of later no check would know of it yet, and its hold is gone."""
    at = utc_now() + timedelta(minutes=4)
    await callers[0].create_budget("minute", {}, "1", period={"kind": "fixed", "length_seconds": 60, "anchor": _ANCHOR})

    charge = await _charge_of(callers[0], at=at)

    assert abs(_time(charge, "occurred_at") - at) < timedelta(microseconds=2)
    assert _time(charge, "effective_at") == _time(charge, "received_at")
    (window,) = await _windows(callers[1], "minute")
    assert window["start"] <= _time(charge, "received_at") < window["end"]
    assert window["posted"] == COST


async def test_a_charge_that_comes_more_than_an_hour_late_counts_when_it_is_received(callers: list[Caller]):
    at = utc_now() - timedelta(minutes=61)

    charge = await _charge_of(callers[0], at=at)

    assert abs(_time(charge, "occurred_at") - at) < timedelta(microseconds=2)
    assert _time(charge, "effective_at") == _time(charge, "received_at")
    assert abs(_time(charge, "received_at") - utc_now()) < timedelta(seconds=30)
    assert _time(charge, "recorded_at") >= _time(charge, "received_at") - timedelta(milliseconds=50)
    assert await _spend_between(callers[1], at - timedelta(minutes=15), at + timedelta(minutes=15)) == 0
    now = utc_now()
    assert await _spend_between(callers[1], now - timedelta(minutes=15), now + timedelta(minutes=15)) == COST


@pytest.mark.parametrize(
    ("ahead", "code"),
    [(timedelta(minutes=6), "occurred_in_future"), (timedelta(days=-401), "occurred_too_long_ago")],
    ids=["6 minutes ahead", "401 days ago"],
)
async def test_calls_of_another_time_are_refused(callers: list[Caller], ahead: timedelta, code: str):
    answer = await callers[0].post(chat_event(at=utc_now() + ahead), chat_event())

    refused, recorded = answer["results"]
    assert (refused["outcome"], refused["error"]["code"]) == ("rejected", code)
    assert refused["error"]["field"] == "startTime"
    assert recorded["outcome"] == "recorded"


async def _spend_between(caller: Caller, start: datetime, end: datetime) -> Decimal:
    """Return what was spent between the quarters of an hour around two instants."""
    parameters = {"from": _quarter(start).isoformat(), "to": _quarter(end).isoformat()}
    answer = await caller.call("GET", "/v1/spend", params=parameters)
    return Decimal(answer["totals"]["spend_usd"])


def _quarter(instant: datetime) -> datetime:
    return instant.replace(minute=instant.minute - instant.minute % 15, second=0, microsecond=0)


async def test_windows_meet_without_gap_or_overlap_at_the_microsecond(callers: list[Caller]):
    period = {"kind": "fixed", "length_seconds": 2, "anchor": _ANCHOR}
    budget = await callers[0].create_budget("short", {}, "100", period=period)
    first = datetime.fromisoformat(budget["counts_from"])
    boundaries = [first + timedelta(seconds=2 * number) for number in range(1, 4)]
    await until(lambda: utc_now() > boundaries[-1] + timedelta(milliseconds=200), "the last boundary is over")
    moments = [boundary + timedelta(microseconds=shift) for boundary in boundaries for shift in (-1, 0, 1)]

    charges = [await _charge_of(callers[number % 3], at=moment) for number, moment in enumerate(moments)]

    windows = [window for window in await _windows(callers[0], "short") if window["posted"]]
    expected: dict[datetime, Decimal] = {}
    for charge in charges:
        occurred_at = _time(charge, "occurred_at")
        start = max(start for start in (first, *boundaries) if start <= occurred_at)
        expected[start] = expected.get(start, Decimal(0)) + COST
    assert {window["start"]: window["posted"] for window in windows} == expected
    assert all(earlier["end"] == later["start"] for earlier, later in pairwise(windows))
    assert sum(window["posted"] for window in windows) == len(moments) * COST


@pytest.mark.parametrize(
    "zone", ["UTC", "Asia/Kathmandu", "Pacific/Niue", "America/St_Johns", "Pacific/Kiritimati", "Europe/Berlin"]
)
async def test_calendar_windows_begin_at_midnight_of_their_zone(callers: list[Caller], zone: str):
    for unit in ("day", "week", "month", "year"):
        period = {"kind": "calendar", "unit": unit, "timezone": zone}
        await callers[0].create_budget(unit, {}, "100", period=period)

    charge = await _charge_of(callers[1], at=utc_now())

    local = _time(charge, "effective_at").astimezone(ZoneInfo(zone))
    day = datetime(local.year, local.month, local.day, tzinfo=ZoneInfo(zone))
    starts = {
        "day": day,
        "week": day - timedelta(days=day.weekday()),
        "month": day.replace(day=1),
        "year": day.replace(month=1, day=1),
    }
    for unit, start in starts.items():
        (window,) = await _windows(callers[2], unit)
        assert (window["start"], window["posted"]) == (start, COST), unit


async def test_a_call_that_begins_before_a_boundary_and_ends_after_it_stays_in_one_window(
    callers: list[Caller], ledger: Pools, tenant: Tenant
):
    length = timedelta(seconds=4)
    anchor = utc_now().replace(microsecond=0) - length
    period = {"kind": "fixed", "length_seconds": 4, "anchor": anchor.isoformat()}
    await callers[0].create_budget("short", {}, str(COST), period=period)
    asked = {"request_id": "r1", "reserve": True} | CALL
    # As a call would: begun in some window, long before its end.
    await until(lambda: (utc_now() - anchor) % length < length / 4, "a window has just begun", pause=0.01)
    began_at = utc_now()
    answer = await callers[0].check(**asked)
    (standing,) = answer["budgets"]
    boundary = datetime.fromisoformat(standing["window"]["end"])
    assert boundary - length <= began_at < boundary
    await until(lambda: utc_now() > boundary + timedelta(milliseconds=200), "the next window has begun")

    fresh = await callers[1].check(request_id="r2", reserve=True, **CALL)
    event = chat_event(input_tokens=1_000, output_tokens=1_000, at=began_at, tallygate={"reservation_id": "r1"})
    await callers[2].post(event)
    await callers[1].call("DELETE", "/v1/reservations/r2")

    assert answer["allowed"] is True
    assert fresh["allowed"] is True
    assert (fresh["budgets"][0]["posted_usd"], Decimal(fresh["budgets"][0]["held_usd"])) == ("0", COST)
    (window,) = [window for window in await _windows(callers[0], "short") if window["posted"]]
    assert (window["end"], window["posted"], window["held"]) == (boundary, COST, 0)


async def _windows(caller: Caller, slug: str) -> list[dict[str, Any]]:
    """Return the windows of a shared counter, in order of time, those ahead included."""
    parameters = {"to": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    answer = await caller.call("GET", f"/v1/budgets/{slug}/windows", params=parameters)
    return [
        {
            "start": datetime.fromisoformat(window["window"]["start"]),
            "end": datetime.fromisoformat(window["window"]["end"]),
            "posted": Decimal(window["posted_usd"]),
            "held": Decimal(window["held_usd"]),
        }
        for window in answer["windows"]
    ]
