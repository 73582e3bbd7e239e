"""Faults 11 to 14: repeated ids, callers that go away, settling twice or late, actual costs above the hold."""

import asyncio
import re
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from service.db.pools import Pools
from service.kit.clock import utc_now
from service.kit.ids import new_id
from tests.faults.chat_events import Event, chat_event
from tests.faults.conftest import Tenant
from tests.faults.raw_request import cut_afterwards, http_request, send_and_cut
from tests.faults.replica import Caller, Replica, together
from tests.faults.waiting import until
from tests.oracle import read_charges, read_counters

CALL = {"model": "gpt-4.1-mini", "input_tokens": 1_000, "max_output_tokens": 1_000}
COST = Decimal("0.002")
SHORTEST_TTL_SECONDS = 5
COUNTERS = ("all", "each-user")


@pytest.fixture(autouse=True)
async def budgets(callers: list[Caller]) -> None:
    await callers[0].create_budget("all", {}, "10")
    await callers[0].create_budget("each-user", {"user": "*"}, "10")


def _event(reservation_id: str, *, times: int = 1, **fields: Any) -> Event:
    """Return an event of the call asked about that costs so many times what was held for it."""
    tallygate = {"reservation_id": reservation_id} | fields.pop("tallygate", {})
    return chat_event(user="u1", input_tokens=1_000 * times, output_tokens=1_000 * times, tallygate=tallygate, **fields)


async def _reserve(caller: Caller, request_id: str | None = None, **fields: Any) -> str:
    """Place a hold and return its id."""
    asked = {"request_id": request_id or new_id().hex, "reserve": True, "dimensions": {"user": "u1"}} | CALL | fields
    answer = await caller.check(**asked)
    assert answer["allowed"] is True
    assert answer["degraded"] is False
    return str(answer["reservation"]["id"])


async def _figures(caller: Caller) -> tuple[Decimal, Decimal]:
    """Return what is posted and what is held; both counters say the same."""
    shown = set()
    for slug in COUNTERS:
        (window,) = await caller.windows(slug)
        shown.add((Decimal(window["posted_usd"]), Decimal(window["held_usd"])))
    (figures,) = shown
    return figures


async def _state(caller: Caller, reservation_id: str) -> str:
    return str((await caller.call("GET", f"/v1/reservations/{reservation_id}"))["state"])


async def test_one_reservation_id_twenty_times_at_once_is_one_hold_and_another_request_under_it_is_refused(
    callers: list[Caller],
):
    asked = {"request_id": "r1", "reserve": True, "dimensions": {"user": "u1"}} | CALL

    answers = await together(callers[number % 3].check(**asked) for number in range(20))

    assert all(answer["allowed"] for answer in answers)
    assert len({str(answer["reservation"]) for answer in answers}) == 1
    assert {budget["held_usd"] for answer in answers for budget in answer["budgets"]} == {str(COST)}
    for change in ({"input_tokens": 999}, {"model": "gpt-4.1"}, {"dimensions": {"user": "u2"}}):
        problem = await callers[1].check(status=409, **asked | change)
        assert problem["code"] == "request_id_reused"
    assert await _state(callers[2], "r1") == "live"
    await callers[0].call("DELETE", "/v1/reservations/r1")
    # Nothing is live under the id any more: decided afresh.
    assert await _reserve(callers[1], "r1", input_tokens=999) == "r1"
    await callers[2].call("DELETE", "/v1/reservations/r1")


async def test_checks_whose_callers_went_away_hold_nothing_for_longer_than_their_time(
    callers: list[Caller], replicas: list[Replica], ledger: Pools, tenant: Tenant, random: Random
):
    async def check_and_go(number: int) -> None:
        """Go at once, or soon, or (every third) not before the hold is placed."""
        replica = replicas[number % 3]
        asked = {"request_id": f"gone-{number}", "reserve": True, "ttl_seconds": SHORTEST_TTL_SECONDS} | CALL
        request = http_request(replica, tenant.token, "/v1/check", asked | {"dimensions": {"user": "u1"}})
        if number % 3:
            pause_seconds = random.choice((0, 0.001, 0.01))
            await send_and_cut(replica, request, with_reset=number % 2 == 0, pause_seconds=pause_seconds)
        else:
            async with cut_afterwards(replica, request):
                await until(lambda: _exists(number), "the hold is placed")

    async def _exists(number: int) -> bool:
        return (await callers[0].request("GET", f"/v1/reservations/gone-{number}")).status_code == 200

    await together(check_and_go(number) for number in range(30))
    voided = [callers[number % 3].request("DELETE", f"/v1/reservations/gone-{number}") for number in range(0, 30, 2)]
    assert {response.status_code for response in await together(voided)} <= {200, 404}

    async def has_all_ended() -> bool:
        counters = (await read_counters(ledger.redis, tenant.id)).values()
        assert all(int(counter.get("h", 0)) >= 0 for counter in counters)
        found = await together(callers[1].request("GET", f"/v1/reservations/gone-{number}") for number in range(30))
        states = [response.json()["state"] for response in found if response.status_code == 200]
        return {"voided", "expired"} == set(states)

    await until(has_all_ended, "all holds have ended", deadline_seconds=SHORTEST_TTL_SECONDS + 10, pause=0.2)
    # A check drops what is due; nobody else has to come along.
    answer = await callers[0].check(dimensions={"user": "u1"}, **CALL)
    assert [Decimal(budget["held_usd"]) for budget in answer["budgets"]] == [0, 0]


async def test_a_cancelled_stream_leaves_its_hold_for_a_minute_at_most_and_voiding_frees_it(callers: list[Caller]):
    reservation_id = await _reserve(callers[0], ttl_seconds=900)
    await callers[1].call("POST", f"/v1/reservations/{reservation_id}/renew", json={"ttl_seconds": 3_600})
    own = {"reservation_id": reservation_id}
    partial = chat_event(user="u1", input_tokens=100, output_tokens=50, status="failure", tallygate=own)

    await callers[2].post(partial)

    reservation = await callers[0].call("GET", f"/v1/reservations/{reservation_id}")
    assert reservation["state"] == "live"
    assert datetime.fromisoformat(reservation["expires_at"]) <= utc_now() + timedelta(seconds=61)
    posted, held = await _figures(callers[0])
    assert posted == Decimal(reservation["consumed_usd"]) > 0
    assert held == COST - posted > 0, "a part is still held: the void must free it"
    assert (await callers[1].call("DELETE", f"/v1/reservations/{reservation_id}"))["state"] == "voided"
    assert await _figures(callers[0]) == (posted, Decimal(0))


async def test_a_hold_is_settled_once_however_often_and_wherever_its_events_come(callers: list[Caller]):
    reservation_id = await _reserve(callers[0])
    other_id = await _reserve(callers[0])
    events = [_event(reservation_id) for _ in range(4)]

    await together(callers[number % 3].post(events[number % 4]) for number in range(24))

    assert await _state(callers[0], reservation_id) == "settled"
    # Four final events of one call: all are paid for, the hold is given back once, the other one is untouched.
    assert await _figures(callers[1]) == (4 * COST, COST)
    await callers[1].call("DELETE", f"/v1/reservations/{reservation_id}")
    assert await _state(callers[2], reservation_id) == "settled"
    await callers[2].call("DELETE", f"/v1/reservations/{other_id}")
    assert await _figures(callers[0]) == (4 * COST, Decimal(0))


async def test_an_event_after_the_void_of_its_reservation_is_recorded_and_holds_nothing(callers: list[Caller]):
    reservation_id = await _reserve(callers[0])
    await callers[1].call("DELETE", f"/v1/reservations/{reservation_id}")

    answer = await callers[2].post(_event(reservation_id))

    assert answer["recorded"] == 1
    assert await _figures(callers[0]) == (COST, Decimal(0))
    assert await _state(callers[0], reservation_id) == "voided"


async def test_events_and_voids_of_the_same_reservations_at_once_free_each_hold_once(
    callers: list[Caller], random: Random
):
    ids = await together(_reserve(callers[number % 3]) for number in range(30))
    calls = [callers[number % 3].post(_event(reservation_id)) for number, reservation_id in enumerate(ids)]
    calls += [callers[number % 2].call("DELETE", f"/v1/reservations/{each}") for number, each in enumerate(ids)]
    random.shuffle(calls)

    await together(calls)

    assert await _figures(callers[0]) == (30 * COST, Decimal(0))


async def test_an_event_after_the_hold_has_expired_is_recorded_and_nothing_becomes_negative(
    callers: list[Caller], ledger: Pools, tenant: Tenant
):
    reservation_id = await _reserve(callers[0], ttl_seconds=SHORTEST_TTL_SECONDS)

    async def is_expired() -> bool:
        return await _state(callers[0], reservation_id) == "expired"

    await until(is_expired, "the hold has expired", deadline_seconds=SHORTEST_TTL_SECONDS + 10, pause=0.1)
    await callers[1].post(_event(reservation_id))

    assert await _figures(callers[0]) == (COST, Decimal(0))
    counters = await read_counters(ledger.redis, tenant.id)
    assert [int(counter.get("h", 0)) for counter in counters.values()] == [0, 0]
    assert await _state(callers[2], reservation_id) == "expired"


async def test_costs_up_to_ten_times_the_hold_are_recorded_in_full_and_measured(
    callers: list[Caller], replicas: list[Replica], ledger: Pools, tenant: Tenant
):
    overshoot_before = sum(await together(_overshoot(replica) for replica in replicas))
    for times in range(1, 11):
        reservation_id = await _reserve(callers[times % 3])
        await callers[(times + 1) % 3].post(_event(reservation_id, times=times))
        assert await _state(callers[0], reservation_id) == "settled"

    posted, held = await _figures(callers[0])
    assert (posted, held) == (55 * COST, Decimal(0))
    assert sum((await read_charges(ledger.postgres, tenant.id)).values()) == 55 * COST

    async def is_measured() -> bool:
        overshoot = sum(await together(_overshoot(replica) for replica in replicas)) - overshoot_before
        return abs(overshoot - float(45 * COST)) < 1e-9

    await until(is_measured, "the overshoot is exported")
    # Spent beyond the limit, nothing more is let through.
    await callers[0].call("PATCH", "/v1/budgets/all", json={"limit_usd": str(54 * COST)})
    answer = await callers[1].check(dimensions={"user": "u1"}, **CALL)
    assert answer["allowed"] is False
    (denying,) = [budget for budget in answer["budgets"] if budget["denies"]]
    assert Decimal(denying["available_usd"]) < 0


async def _overshoot(replica: Replica) -> float:
    metrics = (await replica.client.get("/metrics")).text
    found = re.search(r'^tallygate_overshoot_usd_total{reason="above_hold"} (\S+)$', metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_what_several_events_of_one_call_post_leaves_its_hold_step_by_step(callers: list[Caller]):
    reservation_id = await _reserve(callers[0], input_tokens=10_000, max_output_tokens=10_000)
    whole = 10 * COST

    for steps in range(1, 4):
        await callers[steps % 3].post(_event(reservation_id, tallygate={"final": False}))
        assert await _figures(callers[0]) == (steps * COST, whole - steps * COST)
    await asyncio.gather(
        callers[0].post(_event(reservation_id, times=2, tallygate={"final": False})),
        callers[1].post(_event(reservation_id, times=2, tallygate={"final": False})),
    )
    assert await _figures(callers[2]) == (7 * COST, 3 * COST)
    await callers[1].post(_event(reservation_id))
    assert await _figures(callers[0]) == (8 * COST, Decimal(0))
