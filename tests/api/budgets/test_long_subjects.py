"""Counters whose subject is too long for a key of the database: counted, enforced, read and shown like any other."""

from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest

from service.drift.service import DriftCheck
from service.kit.clock import utc_now
from tests.api.checks.world import World

EACH = {"end_user": "*", "session": "*", "tag": "*"}


def wide(seed: int) -> str:
    """Return the longest value there is: 256 characters of four bytes each, which do not compress."""
    chance = Random(seed)
    return "".join(chr(chance.randrange(0x20000, 0x2A6DF)) for _ in range(256))


VALUES = {"end_user": wide(1), "session": wide(2), "tag": wide(3)}
OTHERS = VALUES | {"tag": wide(3)[:-1] + "x"}


def check_of(values: dict[str, str]) -> dict[str, Any]:
    return {"end_user": values["end_user"], "session": values["session"], "tags": [values["tag"]]}


def event_of(values: dict[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"user_api_key_end_user_id": values["end_user"]},
        "tallygate": {"session": values["session"]},
        "request_tags": [values["tag"]],
    }


async def read(world: World, slug: str = "b", headers: Any = None, **parameters: Any) -> list[Any]:
    path = f"/v1/budgets/{slug}/windows"
    windows: list[Any] = (await world.call("GET", path, headers=headers, params=parameters))["windows"]
    return windows


def as_json(values: dict[str, str]) -> str:
    return msgspec.json.encode(values).decode()


async def test_calls_with_the_longest_values_are_counted_and_denied_each_in_a_counter_of_its_own(world: World):
    await world.put_budget(match=EACH, limit_usd="1")
    assert (await world.check(dimensions=check_of(VALUES), reserve=True, ttl_seconds=5))["allowed"]
    await world.post_event(cost="1", **event_of(VALUES))
    assert not (await world.check(dimensions=check_of(VALUES)))["allowed"]
    assert (await world.check(dimensions=check_of(OTHERS)))["allowed"]
    await world.post_event(cost="0.25", **event_of(OTHERS))
    assert sorted(window["posted_usd"] for window in await read(world)) == ["0.25", "1"]


async def test_such_a_counter_is_read_by_the_values_sent_and_by_those_shown(world: World):
    await world.put_budget(match=EACH, limit_usd="10")
    await world.post_event(cost="1", **event_of(VALUES))
    await world.post_event(cost="2", **event_of(OTHERS))
    [window] = await read(world, subject=as_json(VALUES))
    assert window["posted_usd"] == "1"
    assert list(window["subject"]) == list(VALUES)
    assert all(VALUES[name].startswith(shown[:16]) and len(shown) == 50 for name, shown in window["subject"].items())
    assert await read(world, subject=as_json(window["subject"])) == [window]
    pages, cursor = [], None
    for _ in range(2):
        page = await world.call(
            "GET", "/v1/budgets/b/windows", params={"limit": 1} | ({"cursor": cursor} if cursor else {})
        )
        pages += page["windows"]
        cursor = page["next_cursor"]
    assert sorted(window["posted_usd"] for window in pages) == ["1", "2"]


async def test_tokens_and_increases_of_such_a_counter_name_the_values_that_are_sent(world: World):
    await world.put_budget(match=EACH, limit_usd="1")
    for values in (VALUES, OTHERS):
        await world.post_event(cost="1", **event_of(values))
    increase = {"amount_usd": "5", "until": (utc_now() + timedelta(hours=1)).isoformat(), "reason": "x"}
    await world.call("POST", "/v1/budgets/b/increases", json=increase | {"subject": VALUES}, expect=201)
    assert (await world.check(dimensions=check_of(VALUES)))["allowed"]
    assert not (await world.check(dimensions=check_of(OTHERS)))["allowed"]
    headers = await world.make_token(roles=("read",), scope={"tag": [VALUES["tag"]]})
    [window] = await read(world, headers=headers)
    assert window["limit_usd"] == "6"
    assert len((await world.call("GET", "/v1/budgets/b", headers=headers))["increases"]) == 1
    foreign = await world.make_token(roles=("read",), scope={"tag": [window["subject"]["tag"]]})
    assert await read(world, headers=foreign) == []
    assert (await world.call("GET", "/v1/budgets/b", headers=foreign))["increases"] == []


async def test_what_is_shown_of_a_counter_opens_no_way_into_it(world: World):
    await world.put_budget(match=EACH, limit_usd="1")
    await world.post_event(cost="1", **event_of(VALUES))
    [window] = await read(world)
    assert (await world.check(dimensions=check_of(window["subject"])))["allowed"]
    await world.post_event(cost="0.5", **event_of(window["subject"]))
    assert sorted(each["posted_usd"] for each in await read(world)) == ["0.5", "1"]


@pytest.mark.parametrize("values", [VALUES, {"end_user": "e", "session": "s", "tag": "t"}], ids=["long", "short"])
async def test_seeding_and_recomputation_come_to_the_counters_charges_came_to(world: World, values: dict[str, str]):
    await world.put_budget("before", match=EACH, limit_usd="10")
    await world.post_event(cost="1", **event_of(values))
    await world.put_budget("after", match=EACH, limit_usd="10")
    await world.post_event(cost="2", **event_of(values))
    [before], [after] = [await read(world, slug) for slug in ("before", "after")]
    assert (before["subject"], before["posted_usd"]) == (after["subject"], after["posted_usd"])
    assert before["posted_usd"] == "3"
    report = await DriftCheck(world.services.pools.postgres, None).check(world.tenant_id)
    assert [drift for drift in report.drifts if drift.place != "outbox"] == []
    assert report.counters == 2
