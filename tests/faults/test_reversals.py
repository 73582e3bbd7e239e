"""Fault 25: every charge reversed twice at once."""

from decimal import Decimal
from random import Random

from service.db.pools import Pools
from tests.faults.chat_events import chat_event
from tests.faults.conftest import Tenant
from tests.faults.replica import Caller, together
from tests.oracle import read_charges

CHARGES = 40


async def test_of_two_reversals_of_every_charge_at_once_one_succeeds_and_nothing_is_left(
    callers: list[Caller], ledger: Pools, tenant: Tenant, random: Random
):
    await callers[0].create_budget("all", {}, "100")
    await callers[0].create_budget("each-user", {"user": "*"}, "100")
    posted = await callers[0].post(*[chat_event(user=f"u{number % 3}") for number in range(CHARGES)])
    charge_ids = [result["charge_id"] for result in posted["results"]] * 2
    random.shuffle(charge_ids)

    responses = await together(
        callers[number % 3].request("POST", f"/v1/charges/{charge_id}/reverse", json={"reason": "test"})
        for number, charge_id in enumerate(charge_ids)
    )

    statuses = [response.status_code for response in responses]
    refused = {response.json()["code"] for response in responses if response.status_code == 409}
    assert (statuses.count(201), statuses.count(409), refused) == (CHARGES, CHARGES, {"already_reversed"})
    charges = await read_charges(ledger.postgres, tenant.id)
    assert len(charges) == 2 * CHARGES
    assert sum(charges.values()) == 0
    assert Decimal(await callers[1].posted_usd("all")) == 0
    assert {Decimal(window["posted_usd"]) for window in await callers[2].windows("each-user")} == {Decimal(0)}
