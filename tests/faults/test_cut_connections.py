"""Fault 5: the connection is cut after the request and before the answer, or in the middle of the body."""

from random import Random

import pytest

from service.db.pools import Pools
from tests.faults.chat_events import body, chat_event
from tests.faults.conftest import Tenant
from tests.faults.raw_request import cut_afterwards, http_request, send_and_cut
from tests.faults.replica import Caller, Replica, together
from tests.faults.waiting import until
from tests.oracle import read_charges

CONNECTIONS = 24
EVENTS_PER_BODY = 5


@pytest.mark.parametrize("with_reset", [False, True], ids=["closed", "reset"])
async def test_what_is_sent_again_after_a_cut_connection_is_there_exactly_once(
    replicas: list[Replica],
    callers: list[Caller],
    ledger: Pools,
    tenant: Tenant,
    random: Random,
    *,
    with_reset: bool,
):
    await callers[0].create_budget("all", {}, "10")
    bodies = [[chat_event() for _ in range(EVENTS_PER_BODY)] for _ in range(CONNECTIONS)]

    async def cut_and_send_again(number: int) -> list[str]:
        events = bodies[number]
        request = http_request(replicas[number % 3], tenant.token, "/v1/events", body(*events))
        # From before the server has read it all to after it has committed.
        pause_seconds = random.choice((0, 0, 0.002, 0.01, 0.03))
        await send_and_cut(replicas[number % 3], request, with_reset=with_reset, pause_seconds=pause_seconds)
        answer = await callers[(number + 1) % 3].post(*events)
        assert answer["recorded"] + answer["duplicates"] == EVENTS_PER_BODY
        return [result["charge_id"] for result in answer["results"]]

    charge_ids = await together(cut_and_send_again(number) for number in range(CONNECTIONS))

    distinct = {charge_id for ids in charge_ids for charge_id in ids}
    assert len(distinct) == CONNECTIONS * EVENTS_PER_BODY
    assert (await read_charges(ledger.postgres, tenant.id)).keys() == distinct


async def test_what_was_committed_before_the_cut_is_a_duplicate_when_sent_again(
    replicas: list[Replica], callers: list[Caller], ledger: Pools, tenant: Tenant
):
    events = [chat_event() for _ in range(EVENTS_PER_BODY)]
    request = http_request(replicas[0], tenant.token, "/v1/events", body(*events))

    async def is_recorded() -> bool:
        return len(await read_charges(ledger.postgres, tenant.id)) == EVENTS_PER_BODY

    async with cut_afterwards(replicas[0], request):
        await until(is_recorded, "the events are recorded")
    answer = await callers[1].post(*events)

    assert answer["duplicates"] == EVENTS_PER_BODY


async def test_nothing_of_a_body_that_broke_off_is_recorded(
    replicas: list[Replica], callers: list[Caller], ledger: Pools, tenant: Tenant
):
    events = [chat_event() for _ in range(20)]
    request = http_request(replicas[0], tenant.token, "/v1/events", body(*events))

    for share in (0.3, 0.6, 0.999):
        await send_and_cut(replicas[0], request[: int(len(request) * share)])
    answer = await callers[0].post(*events)

    assert answer["recorded"] == 20
    assert len(await read_charges(ledger.postgres, tenant.id)) == 20
