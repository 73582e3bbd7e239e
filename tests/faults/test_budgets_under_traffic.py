"""Fault 24: budgets created, cut below what is spent, replaced, deleted and created again while events flow."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from random import Random
from time import monotonic
from typing import Any

from psycopg.rows import dict_row

from service.db.pools import Pools
from tests.faults.conftest import Tenant
from tests.faults.replica import Answer, Caller, together
from tests.faults.stream import Stream
from tests.faults.waiting import until

WORKERS = 3  # per server
LEAST_EVENTS = 3_000
ROUNDS = 6
EACH_USER = {"user": "*"}
RED_TAGS = {"team": "red", "tag": "*"}


async def test_whatever_becomes_of_budgets_meanwhile_no_event_is_missed_or_counted_twice(
    callers: list[Caller], ledger: Pools, tenant: Tenant, random: Random
):
    await callers[0].create_budget("old", {}, "1000000")
    streams = [Stream(caller, Random(random.random())) for caller in callers]
    traffic = [asyncio.create_task(stream.run(WORKERS)) for stream in streams]
    with _stopping(streams):
        started = monotonic()
        await _until_recorded(streams, 300)
        for number in range(ROUNDS):
            await _change_budgets(callers, random, number)
        await _until_recorded(streams, LEAST_EVENTS)
        elapsed = monotonic() - started
        await callers[0].create_budget("late", EACH_USER, "1000000")
        await _until_recorded(streams, _recorded(streams) + 300)
    await asyncio.gather(*traffic)
    print(f"{_recorded(streams) / elapsed:.0f} events/s")  # noqa: T201

    assert not any(stream.unanswered for stream in streams)
    acknowledged = [charge_id for stream in streams for charge_id in stream.acknowledged.values()]
    charges = await _charges(ledger, tenant.id)
    assert sorted(str(charge["charge_id"]) for charge in charges) == sorted(acknowledged)
    for slug, expected in (
        ("old", {(): _total(charges)}),
        ("late", _per(charges, "user")),
        ("users", _per(charges, "user")),
        ("tags", _per_tag(charges, "red")),
    ):
        await _is_current(callers[0], slug)
        assert await _posted(callers[random.randrange(3)], slug) == expected, slug


async def _change_budgets(callers: list[Caller], random: Random, number: int) -> None:
    """Create, cut, restore, replace, delete, each at another server, and look at what the servers make of it."""
    first, second, third = random.sample(callers, 3)
    slugs = {each["slug"] for each in (await first.call("GET", "/v1/budgets"))["budgets"]}
    if "users" not in slugs:
        created = await first.create_budget("users", EACH_USER, "1000000")
        assert created["state"] in {"seeding", "current"}
    await _is_current(second, "users")
    await second.call("PATCH", "/v1/budgets/users", json={"limit_usd": "0.000001"})
    assert await _denied_by(callers, "u1") == [["users"]] * 3
    await third.call("PATCH", "/v1/budgets/users", json={"limit_usd": "1000000"})
    assert await _denied_by(callers, "u1") == [[]] * 3
    # Another match in the place of the former one, and back in the next round: the budget is another one each time.
    body = {
        "limit_usd": "1000000",
        "period": {"kind": "lifetime"},
        "match": RED_TAGS if number % 2 else {"team": "red"},
    }
    await first.call("PUT", "/v1/budgets/tags", json=body, status=201)
    if number < ROUNDS - 1:
        await second.call("DELETE", "/v1/budgets/users", status=204)
        await third.create_budget("users", EACH_USER, "1000000")


async def _denied_by(callers: list[Caller], user: str) -> list[list[str]]:
    answers: list[Answer] = await together(
        caller.check(model="gpt-4.1-mini", input_tokens=10, max_output_tokens=10, dimensions={"user": user})
        for caller in callers
    )
    return [sorted(each["name"] for each in answer["budgets"] if each["denies"]) for answer in answers]


async def _is_current(caller: Caller, slug: str) -> None:
    async def is_current() -> bool:
        return bool((await caller.call("GET", f"/v1/budgets/{slug}"))["state"] == "current")

    await until(is_current, f"{slug} has counted what was there before it", deadline_seconds=60)


async def _until_recorded(streams: list[Stream], count: int) -> None:
    await until(lambda: _recorded(streams) >= count, f"{count} events are recorded", deadline_seconds=120)


def _recorded(streams: list[Stream]) -> int:
    return sum(len(stream.acknowledged) for stream in streams)


@contextmanager
def _stopping(streams: list[Stream]) -> Iterator[None]:
    try:
        yield
    finally:
        for stream in streams:
            stream.stop()


async def _charges(ledger: Pools, tenant_id: str) -> list[dict[str, Any]]:
    statement = 'SELECT charge_id, team, "user", tags, enforced_usd FROM charge WHERE tenant_id = %s'
    async with ledger.postgres.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, (tenant_id,))
        return await cursor.fetchall()


async def _posted(caller: Caller, slug: str) -> dict[tuple[str, ...], Decimal]:
    windows = await caller.windows(slug)
    return {tuple(each["subject"].values()): Decimal(each["posted_usd"]) for each in windows}


def _total(charges: list[dict[str, Any]]) -> Decimal:
    return sum((charge["enforced_usd"] for charge in charges), Decimal(0))


def _per(charges: list[dict[str, Any]], name: str) -> dict[tuple[str, ...], Decimal]:
    sums: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for charge in charges:
        sums[(charge[name],)] += charge["enforced_usd"]
    return dict(sums)


def _per_tag(charges: list[dict[str, Any]], team: str) -> dict[tuple[str, ...], Decimal]:
    sums: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for charge in charges:
        for tag in charge["tags"] if charge["team"] == team else ():
            sums[(tag,)] += charge["enforced_usd"]
    return dict(sums)
