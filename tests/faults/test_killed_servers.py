"""Fault 6: SIGKILL at named points of the way from a body to Redis, and at any moment of a stream of posts.

TALLYGATE_TEST_CRASH_ROUNDS repeats each of them more often than an ordinary run does, every time with another seed.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from service.db.pools import Pools
from tests.faults.conftest import Tenant
from tests.faults.crashing_server import POINTS
from tests.faults.replica import Caller, Replica
from tests.faults.server_process import Ground, ServerProcess
from tests.faults.stream import Stream
from tests.faults.waiting import until
from tests.oracle import assert_sound, read_charges, read_response_ids

ROUNDS = int(os.environ.get("TALLYGATE_TEST_CRASH_ROUNDS", "2"))
WORKERS = 6
REPAIR_SECONDS = 5.0


@dataclass(frozen=True)
class CrashingServer:
    """A server that crashes where a test plans it."""

    replica: Replica
    plan_file: Path

    def plan(self, point: str, random: Random) -> None:
        plan = {"point": point, "turn": random.randrange(1, 8), "seed": random.randrange(2**32)}
        print(f"crash plan: {plan}")  # noqa: T201
        drafted = self.plan_file.with_suffix(".draft")
        drafted.write_text(json.dumps(plan))
        drafted.rename(self.plan_file)

    @property
    def has_crashed(self) -> bool:
        return not self.plan_file.exists()

    def start_again(self) -> None:
        """Start it again after a crash; the next test waits until it is ready."""
        self.replica.process.kill()
        self.replica.process.start()


@pytest.fixture(scope="module")
async def crashing(ground: Ground, replicas: list[Replica]) -> AsyncIterator[CrashingServer]:
    """Started after the replicas, which stay alive and repair what it leaves behind."""
    plan_file = ground.directory / "crash-plan"
    async with AsyncExitStack() as stack:
        process = ServerProcess(ground, module="tests.faults.crashing_server", CRASH_PLAN=str(plan_file)).start()
        stack.callback(process.kill)
        replica = Replica(await process.ready())
        stack.push_async_callback(replica.client.aclose)
        yield CrashingServer(replica, plan_file)


async def _create_budgets(caller: Caller) -> None:
    await caller.create_budget("all", {}, "1000000")
    await caller.create_budget("each-user", {"user": "*"}, "1000000")
    await caller.create_budget("each-tag-of-a-team", {"tag": "*", "team": "red"}, "1000000")


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize("point", POINTS)
async def test_after_a_crash_every_acknowledged_event_is_there_once_and_redis_follows(
    crashing: CrashingServer,
    callers: list[Caller],
    ledger: Pools,
    tenant: Tenant,
    random: Random,
    point: str,
    round_: int,
):
    await _create_budgets(callers[0])
    await crashing.replica.process.ready()
    crashing.plan(point, random)
    stream = Stream(crashing.replica.as_caller(tenant.token), random, gate=callers[0])

    await asyncio.wait_for(stream.run(WORKERS), 30)

    assert crashing.has_crashed
    assert stream.unanswered
    crashing.start_again()
    await assert_sound(ledger, tenant.id, quiet_seconds=REPAIR_SECONDS, may_hold=True)
    recorded = await read_charges(ledger.postgres, tenant.id)
    assert recorded.keys() >= set(stream.acknowledged.values())
    await _assert_holds_end_with_their_events(callers[0], ledger, tenant, stream)

    charges = await stream.send_again(callers[random.randrange(len(callers))])

    assert (await read_charges(ledger.postgres, tenant.id)).keys() == set(charges.values())
    assert len(set(charges.values())) == len(charges) == len(stream.acknowledged) + len(stream.unanswered)


async def _assert_holds_end_with_their_events(caller: Caller, ledger: Pools, tenant: Tenant, stream: Stream) -> None:
    """The hold of an event nobody was told about is settled if the event is recorded, and live if it is not."""
    recorded = await read_response_ids(ledger.postgres, tenant.id)
    for event in stream.unanswered:
        if event["litellm_call_id"] in stream.reserved:
            reservation = await caller.call("GET", f"/v1/reservations/{event['litellm_call_id']}")
            assert reservation["state"] == ("settled" if event["id"] in recorded else "live")


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_a_server_killed_in_the_middle_of_a_stream_loses_nothing_it_acknowledged(
    crashing: CrashingServer,
    callers: list[Caller],
    ledger: Pools,
    ground: Ground,
    tenant: Tenant,
    random: Random,
    round_: int,
):
    await _create_budgets(callers[0])
    await crashing.replica.process.ready()
    stream = Stream(crashing.replica.as_caller(tenant.token), random, gate=callers[1])
    posting = asyncio.create_task(stream.run(WORKERS))
    kill_after = random.randrange(1, 120)

    await until(lambda: len(stream.acknowledged) >= kill_after, "some events are acknowledged", pause=0.001)
    crashing.start_again()
    await posting

    recorded = await read_charges(ledger.postgres, tenant.id)
    assert recorded.keys() >= set(stream.acknowledged.values())
    await crashing.replica.process.ready()
    charges = await stream.send_again(crashing.replica.as_caller(tenant.token))
    assert (await read_charges(ledger.postgres, tenant.id)).keys() == set(charges.values())
    assert len(set(charges.values())) == len(charges)
    await assert_sound(ledger, tenant.id, quiet_seconds=REPAIR_SECONDS)
    assert _check_drift(ground, tenant) == f"{tenant.id}: {len(charges)} charges"


def _check_drift(ground: Ground, tenant: Tenant) -> str:
    """Return the head of what `tallygate check-drift` says; it ends with 0 only without any drift."""
    urls = {"TALLYGATE_DATABASE_URL": ground.database_url, "TALLYGATE_REDIS_URL": ground.redis_url}
    command = [sys.executable, "-m", "service.cli", "check-drift", "--tenant", tenant.id]
    ended = subprocess.run(command, env=os.environ | urls, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "drift: 0" in ended.stdout
    return ended.stdout.partition(",")[0]
