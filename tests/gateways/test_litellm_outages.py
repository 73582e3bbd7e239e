"""LiteLLM's proxy with the adapter while Tallygate is slow, refuses, is away; and while the proxy itself is killed."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.kit.ids import new_id
from tests.faults.replica import together
from tests.faults.waiting import until
from tests.gateways.conftest import Household, running_proxy
from tests.gateways.litellm_proxy import LiteLLMProxy
from tests.gateways.provider import Provider
from tests.gateways.test_litellm import charges_of

EVENTS, CHECK = "/v1/events", "/v1/check"


@pytest.fixture(scope="module")
async def strict_proxy(
    shared_household: Household, shared_provider: Provider, directory: Path
) -> AsyncIterator[LiteLLMProxy]:
    """A proxy that denies calls while Tallygate cannot be asked, with two workers."""
    strict = {"TALLYGATE_ON_UNREACHABLE": "deny", "TALLYGATE_DENIAL_SECONDS": "0", "TALLYGATE_DEADLINE_MS": "3000"}
    async with running_proxy(shared_household, shared_provider, directory, workers=2, **strict) as proxy:
        yield proxy


@pytest.fixture
def team() -> str:
    return f"team-{new_id().hex}"


@pytest.fixture
def key(team: str) -> str:
    return f"sk-{team}.u1"


def waiting_in(spool: Path) -> int:
    """Return how many events lie on disk."""
    with sqlite3.connect(f"file:{spool / 'spool.sqlite3'}?mode=ro", uri=True) as database:
        (number,) = database.execute("SELECT count(*) FROM item WHERE kind = 'event'").fetchone()
    database.close()
    return int(number)


async def spooled(proxy: LiteLLMProxy, number: int) -> None:
    await until(lambda: waiting_in(proxy.spool) >= number, f"{number} events on disk")


@pytest.mark.parametrize("fault", ["away", "silent", "unavailable"])
async def test_while_tallygate_cannot_be_asked_calls_go_on_where_that_was_declared(
    proxy: LiteLLMProxy, household: Household, team: str, key: str, fault: str
):
    await break_check(household, fault)
    answer = await proxy.chat(key, "quick")
    assert answer.status_code == 200, answer.text
    await household.relay.back()
    await charges_of(household, team, 1)


@pytest.mark.parametrize("fault", ["away", "silent", "unavailable"])
async def test_while_tallygate_cannot_be_asked_calls_are_denied_where_that_was_declared(
    strict_proxy: LiteLLMProxy, household: Household, provider: Provider, key: str, fault: str
):
    await break_check(household, fault)
    answer = await strict_proxy.chat(key, "quick")
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "service_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert provider.seen == []
    await household.relay.back()
    assert (await strict_proxy.chat(key, "quick")).status_code == 200


async def break_check(household: Household, fault: str) -> None:
    if fault == "away":
        await household.relay.away()
    else:
        household.relay.faults[CHECK] = fault


async def test_a_hold_whose_answer_came_too_late_is_given_back_where_the_call_was_denied(
    strict_proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    slug = f"all-{team}"
    await household.admin.create_budget(slug, {"team": team}, "5")
    household.relay.faults[CHECK] = "cut"
    assert (await strict_proxy.chat(key, "quick")).status_code == 503
    await household.relay.back()

    async def is_free() -> bool:
        windows = await household.admin.windows(slug)
        return not windows or windows[0]["held_usd"] == "0"

    await until(is_free, "nothing is held")


@pytest.mark.parametrize("fault", ["away", "silent", "unavailable", "cut"])
async def test_events_that_cannot_be_sent_arrive_later_each_once(
    proxy: LiteLLMProxy, household: Household, team: str, key: str, fault: str
):
    assert (await proxy.chat(key, "quick")).status_code == 200
    await charges_of(household, team, 1)
    if fault == "away":
        await household.relay.away()
    else:
        household.relay.faults[EVENTS] = fault
    household.relay.seen.clear()
    answers = await together(proxy.chat(key, "quick") for _ in range(5))
    assert [answer.status_code for answer in answers] == [200] * 5
    await spooled(proxy, 5)
    if fault != "away":
        await until(lambda: bool(household.relay.asked(EVENTS)), "sending was tried")
    await household.relay.back()
    await charges_of(household, team, 6)
    await until(lambda: waiting_in(proxy.spool) == 0, "the spool is empty")


async def test_an_event_sent_again_is_the_same_to_the_byte(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    household.relay.seen.clear()
    household.relay.faults[EVENTS] = "cut"
    assert (await proxy.chat(key, "quick")).status_code == 200
    await until(lambda: len(household.relay.asked(EVENTS)) >= 2, "the event was sent twice")
    await household.relay.back()
    await charges_of(household, team, 1)
    first, second, *_ = household.relay.asked(EVENTS)
    assert first.body == second.body


async def test_a_proxy_killed_before_it_sent_sends_when_it_runs_again(
    shared_provider: Provider, household: Household, directory: Path, team: str, key: str
):
    async with running_proxy(household, shared_provider, directory) as proxy:
        household.relay.faults[EVENTS] = "unavailable"
        assert (await proxy.chat(key, "quick")).status_code == 200
        assert (await proxy.chat(key, "broken")).status_code == 500
        await spooled(proxy, 2)
        proxy.kill()
        await household.relay.back()
        assert (await household.admin.call("GET", f"/v1/charges?team={team}"))["charges"] == []
        await proxy.start().ready()
        await charges_of(household, team, 2)


async def test_an_event_an_answer_was_lost_of_is_no_second_one_after_a_kill(
    strict_proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    """Every worker is killed, one after the other, while events wait; whoever is left or comes next sends them."""
    household.relay.faults[EVENTS] = "cut"
    answers = await together(strict_proxy.chat(key, "quick") for _ in range(20))
    assert [answer.status_code for answer in answers] == [200] * 20
    await spooled(strict_proxy, 20)
    for worker in strict_proxy.workers():
        os.kill(worker, signal.SIGKILL)
    await household.relay.back()
    strict_proxy.kill()
    await strict_proxy.start().ready()
    await charges_of(household, team, 20)
    await until(lambda: waiting_in(strict_proxy.spool) == 0, "the spool is empty")


async def test_all_workers_of_a_proxy_report_and_one_sends(
    strict_proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    household.relay.seen.clear()
    number = 0
    for _ in range(5):
        answers = await together(strict_proxy.chat(key, "quick") for _ in range(8))
        assert [answer.status_code for answer in answers] == [200] * 8
        number += 8
    charges = await charges_of(household, team, number)
    assert len({charge["reservation_id"] for charge in charges}) == number
    sent = sum(seen.body.count(b'"litellm_call_id"') for seen in household.relay.asked(EVENTS))
    assert sent == number


async def test_a_proxy_that_ends_in_order_loses_nothing(
    shared_provider: Provider, household: Household, directory: Path, team: str, key: str
):
    async with running_proxy(household, shared_provider, directory) as proxy:
        household.relay.faults[EVENTS] = "unavailable"
        waiting = [asyncio.create_task(proxy.chat(key, "quick")) for _ in range(5)]
        await asyncio.gather(*waiting)
        await spooled(proxy, 5)
        proxy.terminate()
        await household.relay.back()
        await proxy.start().ready()
        await charges_of(household, team, 5)
