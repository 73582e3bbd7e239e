"""Fault 17: Redis as a black hole, 200 ms late, with lines that break, with nothing but errors.

Checks are answered by policy before their deadline, and whatever Redis does, ingest acknowledges.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from service.kit.ids import new_id
from tests.api.checks.unsteady_redis import Mood, UnsteadyRedis, unsteady_line
from tests.faults.chat_events import chat_event
from tests.faults.conftest import Tenant
from tests.faults.replica import Answer, Caller, Replica, together
from tests.faults.server_process import Ground, ServerProcess
from tests.faults.waiting import until

CALL = {"model": "gpt-4.1-mini", "input_tokens": 1_000, "max_output_tokens": 1_000}
DELAY_SECONDS = 0.2
# Shorter than the delay, and long enough for a busy machine to be told from a bad line.
DEADLINE_MS = "150"
TEAMS = {"ledger": True, "deny": False, "allow": True}  # by policy: is a call let through while nobody can count
ROUNDS = 10


@dataclass(frozen=True)
class UnsteadyServer:
    """A server, and its line to Redis."""

    replica: Replica
    line: UnsteadyRedis


@pytest.fixture(scope="module")
async def unsteady(ground: Ground, replicas: list[Replica]) -> AsyncIterator[UnsteadyServer]:
    """Beside the replicas, whose lines are steady: they repair what this server could not publish."""
    async with AsyncExitStack() as stack:
        line, url = await stack.enter_async_context(unsteady_line(ground.redis_url))
        line.delay_seconds = DELAY_SECONDS
        process = ServerProcess(ground, TALLYGATE_REDIS_URL=url, TALLYGATE_CHECK_DEADLINE_MS=DEADLINE_MS).start()
        stack.callback(process.kill)
        replica = Replica(await process.ready())
        stack.push_async_callback(replica.client.aclose)
        yield UnsteadyServer(replica, line)


@pytest.fixture
async def caller(unsteady: UnsteadyServer, tenant: Tenant) -> AsyncIterator[Caller]:
    """The tenant at the server whose line is unsteady; steady at first, and afterwards."""
    caller = unsteady.replica.as_caller(tenant.token)
    for policy in TEAMS:
        await caller.create_budget(f"of-{policy}", {"team": policy}, "100", on_unavailable=policy)
    await _until_steady(caller)
    yield caller
    unsteady.line.change("steady")
    await _until_steady(caller)


async def _until_steady(caller: Caller) -> None:
    async def is_steady() -> bool:
        return not any([(await _check(caller, team))["degraded"] for team in TEAMS])

    await until(is_steady, "the counters answer", pause=0.1)


async def _check(caller: Caller, team: str, **fields: object) -> Answer:
    return await caller.check(dimensions={"team": team}, **CALL, **fields)


@pytest.mark.parametrize("mood", ["silent", "slow", "failing", "refusing"])
async def test_without_counters_policies_answer_and_events_are_acknowledged(
    unsteady: UnsteadyServer, caller: Caller, mood: Mood
):
    unsteady.line.change(mood)

    for _ in range(ROUNDS):
        answers = dict(zip(TEAMS, await together(_check(caller, team) for team in TEAMS), strict=True))
        assert all(answer["degraded"] for answer in answers.values())
        assert {team: answer["allowed"] for team, answer in answers.items()} == TEAMS
        assert answers["deny"]["code"] == "counters_unavailable"
        posted = await caller.post(*[chat_event(team=team) for team in TEAMS])
        assert posted["recorded"] == len(TEAMS)


async def test_lines_that_break_now_and_then_lose_no_event_and_no_answer(unsteady: UnsteadyServer, caller: Caller):
    unsteady.line.change("dropping")

    async def call(team: str) -> None:
        request_id = new_id().hex
        answer = await _check(caller, team, request_id=request_id, reserve=True)
        assert answer["allowed"] or answer["degraded"]
        posted = await caller.post(chat_event(team=team, tallygate={"reservation_id": request_id}))
        assert posted["recorded"] == 1

    for _ in range(6 * ROUNDS):
        await together(call(team) for team in TEAMS)
