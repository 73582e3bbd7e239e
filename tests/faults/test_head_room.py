"""Faults 9 and 10: many checks at once for little head-room, and a denial by one of many budgets."""

import asyncio
from decimal import Decimal
from random import Random

from service.db.pools import Pools
from tests.faults.chat_events import chat_event
from tests.faults.conftest import Tenant
from tests.faults.replica import Answer, Caller, together
from tests.oracle import read_counters

# 1,000 tokens in at 0.40 and 1,000 out at 1.60 per million: an estimate of 0.002, and an event of exactly that.
CALL = {"model": "gpt-4.1-mini", "input_tokens": 1_000, "max_output_tokens": 1_000}
COST = Decimal("0.002")
CHECKS = 200


async def _held(caller: Caller, slug: str) -> Decimal:
    """Return what one shared counter holds."""
    return sum((Decimal(window["held_usd"]) for window in await caller.windows(slug)), Decimal(0))


async def test_of_200_checks_at_two_servers_with_head_room_for_10_exactly_10_are_allowed(callers: list[Caller]):
    await callers[0].create_budget("wide", {}, "100")
    await callers[0].create_budget("narrow", {"requested_model": "gpt-4.1-mini"}, str(10 * COST))

    answers = await together(
        callers[number % 2].check(request_id=f"call-{number}", reserve=True, **CALL) for number in range(CHECKS)
    )

    assert not any(answer["degraded"] for answer in answers)
    allowed = [answer for answer in answers if answer["allowed"]]
    assert len(allowed) == 10
    assert all(answer["reservation"] is None for answer in answers if not answer["allowed"])
    assert {answer["code"] for answer in answers} == {None, "budget_exceeded"}
    held = [Decimal(budget["held_usd"]) for answer in answers for budget in answer["budgets"]]
    assert min(held) >= 0
    assert max(held) <= 10 * COST
    await _void_all(callers[2], allowed)


async def test_many_checks_under_one_id_hold_once_and_are_answered_alike(callers: list[Caller]):
    await callers[0].create_budget("narrow", {}, str(10 * COST))

    answers = await together(
        callers[number % 2].check(request_id="the-same", reserve=True, **CALL) for number in range(CHECKS)
    )

    assert all(answer["allowed"] for answer in answers)
    assert len({str(answer["reservation"]) for answer in answers}) == 1
    assert await _held_by(answers[0], callers[2]) == COST
    await _void_all(callers[2], answers[:1])


async def test_of_many_different_checks_under_one_id_one_is_allowed(callers: list[Caller]):
    await callers[0].create_budget("narrow", {}, str(10 * COST))

    responses = await together(
        callers[number % 2].request(
            "POST",
            "/v1/check",
            json={"request_id": "the-same", "reserve": True, **CALL, "input_tokens": 1_000 - number},
        )
        for number in range(CHECKS)
    )

    assert [response.status_code for response in responses].count(200) == 1
    refused = [response.json() for response in responses if response.status_code != 200]
    assert {problem["code"] for problem in refused} == {"request_id_reused"}
    (answer,) = [response.json() for response in responses if response.status_code == 200]
    assert await _held_by(answer, callers[2]) == Decimal(answer["reservation"]["amount_usd"])
    await _void_all(callers[2], [answer])


async def test_calls_with_their_events_spend_a_limit_to_the_last_cent_and_never_beyond(
    callers: list[Caller], random: Random
):
    await callers[0].create_budget("all", {}, str(40 * COST))

    async def call(number: int) -> bool:
        request_id = f"call-{number}"
        answer = await random.choice(callers).check(request_id=request_id, reserve=True, **CALL)
        if answer["allowed"]:
            event = chat_event(input_tokens=1_000, output_tokens=1_000, tallygate={"reservation_id": request_id})
            await random.choice(callers).post(event)
        return bool(answer["allowed"])

    places = asyncio.Semaphore(24)

    async def call_in_turn(number: int) -> bool:
        async with places:
            return await call(number)

    allowed = await together(call_in_turn(number) for number in range(160))

    assert allowed.count(True) == 40
    assert Decimal(await callers[0].posted_usd("all")) == 40 * COST


async def test_a_denial_by_one_of_six_budgets_leaves_the_others_as_they_were(
    callers: list[Caller], ledger: Pools, tenant: Tenant
):
    matches: list[dict[str, object]] = [
        {},
        {"team": "red"},
        {"user": "*"},
        {"requested_model": "gpt-4.1-mini"},
        {"team": "red", "user": "*"},
        {"tag": "a"},
    ]
    for number, match in enumerate(matches):
        await callers[0].create_budget(f"b{number}", match, "1")
    who = {"dimensions": {"team": "red", "user": "u1", "tags": ["a"]}}
    held = await callers[0].check(request_id="before", reserve=True, **CALL, **who)
    for number in range(len(matches)):
        await callers[0].call("PATCH", f"/v1/budgets/b{number}", json={"limit_usd": str(COST)})
        before = _without_time(await read_counters(ledger.redis, tenant.id))

        answers = await together(
            callers[turn % 3].check(request_id=f"denied-{number}-{turn}", reserve=True, **CALL, **who)
            for turn in range(9)
        )

        assert not any(answer["allowed"] for answer in answers)
        (denying,) = {tuple(answer["denied_by"]) for answer in answers}
        assert [budget["name"] for budget in answers[0]["budgets"] if budget["budget_id"] in denying] == [f"b{number}"]
        assert all(Decimal(budget["held_usd"]) == COST for answer in answers for budget in answer["budgets"])
        assert _without_time(await read_counters(ledger.redis, tenant.id)) == before
        await callers[1].call("GET", f"/v1/reservations/denied-{number}-0", status=404)
        await callers[0].call("PATCH", f"/v1/budgets/b{number}", json={"limit_usd": "1"})
    await _void_all(callers[0], [held])


def _without_time(counters: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return the counters without what keeps them fresh."""
    return {key: {name: value for name, value in counter.items() if name != "f"} for key, counter in counters.items()}


async def _held_by(answer: Answer, caller: Caller) -> Decimal:
    """Return what is held now in the only counter of a check."""
    (now,) = (await caller.check(**CALL))["budgets"]
    assert now["budget_id"] == answer["budgets"][0]["budget_id"]
    return Decimal(now["held_usd"])


async def _void_all(caller: Caller, allowed: list[Answer]) -> None:
    for answer in allowed:
        voided = await caller.call("DELETE", f"/v1/reservations/{answer['reservation']['id']}")
        assert voided["state"] == "voided"
