"""Fault 7: SIGTERM under load."""

import asyncio
from random import Random

from service.db.pools import Pools
from tests.faults.conftest import StartServer, Tenant
from tests.faults.replica import Caller
from tests.faults.stream import Stream
from tests.faults.waiting import until
from tests.oracle import read_charges

WORKERS = 8
EXIT_SECONDS = 30.0


async def test_a_server_told_to_stop_under_load_answers_what_it_took_and_ends_in_time(
    start_server: StartServer, callers: list[Caller], ledger: Pools, tenant: Tenant, random: Random
):
    await callers[0].create_budget("each-user", {"user": "*"}, "1000000")
    server = await start_server()
    stream = Stream(server.as_caller(tenant.token), random)
    posting = asyncio.create_task(stream.run(WORKERS))
    await until(lambda: len(stream.acknowledged) >= 100, "some events are acknowledged")

    server.process.terminate()
    await server.process.ended(EXIT_SECONDS)
    await posting

    assert server.process.exit_code() == 0
    recorded = await read_charges(ledger.postgres, tenant.id)
    assert recorded.keys() >= set(stream.acknowledged.values())
    charges = await stream.send_again(callers[0])
    assert (await read_charges(ledger.postgres, tenant.id)).keys() == set(charges.values())
    assert len(set(charges.values())) == len(charges)
