"""What is declared or imported while a rated event waits to be recorded is in force for it, and the answer says so.

The change is made after the event was rated and before the ledger takes it; a repricing then finds nothing to change.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from service.events.price_metrics import UNPRICED_REQUESTS
from service.kit.ids import new_id
from service.ledger.charge import ChargeDraft, RecordOutcome
from service.ledger.service import LedgerRecorder
from service.pricing.cost_map import read_snapshot
from service.pricing.shipped import shipped_snapshot
from tests.builders import a_litellm_event
from tests.integration.repricing.calls import MYSTERY, an_unpriced_event
from tests.integration.repricing.world import LONG_AGO, World

Change = Callable[[], Awaitable[Any]]
ChangeNext = Callable[[Change], None]


@pytest.fixture
def while_waiting(monkeypatch: pytest.MonkeyPatch) -> ChangeNext:
    """Return what makes a change between the rating of the next events and their recording, once."""
    record = LedgerRecorder.record
    waiting: list[Change] = []

    async def change_and_record(self: LedgerRecorder, drafts: Sequence[ChargeDraft]) -> list[RecordOutcome]:
        if waiting:
            await waiting.pop()()
        return await record(self, drafts)

    monkeypatch.setattr(LedgerRecorder, "record", change_and_record)
    return waiting.append


async def _declare_fee(world: World) -> None:
    body = {"name": "platform", "match": {}, "kind": "usd_per_request", "amount": "1", "effective_from": LONG_AGO}
    await world.call("POST", "/v1/fees", json=body, status=201)


async def _import_dearer(world: World, price_key: str) -> dict[str, Any]:
    entries = {key: json.loads(bytes(raw)) for key, raw in read_snapshot(shipped_snapshot()).entries().items()}
    entries[price_key]["input_cost_per_token"] *= 2
    path = f"/v1/price-books?effective_from={LONG_AGO}"
    answer: dict[str, Any] = await world.call("POST", path, content=json.dumps(entries).encode(), status=201)
    assert answer["is_known_everywhere"]
    return answer


async def test_a_book_imported_meanwhile_prices_it(world: World, while_waiting: ChangeNext) -> None:
    event = a_litellm_event()
    [before] = await world.post(a_litellm_event())
    listed = await world.charge(before["charge_id"])
    imported: dict[str, Any] = {}

    async def change() -> None:
        imported.update(await _import_dearer(world, listed["price_key"]))
        await world.reprice()

    while_waiting(change)
    [result] = await world.post(event)
    charge = await world.charge(result["charge_id"])
    assert charge["price_book_version"] == imported["version"] != listed["price_book_version"]
    assert result["cost_usd"] == charge["cost_usd"] != listed["cost_usd"]
    assert (await world.reprice())["progress"]["changed"] == 0


async def test_the_answer_tells_what_was_recorded_and_so_does_every_repeat(
    world: World, while_waiting: ChangeNext
) -> None:
    event = an_unpriced_event()
    while_waiting(lambda: _declare_fee(world))
    [first] = await world.post(event)
    [again] = await world.post(event)
    assert (first.pop("outcome"), again.pop("outcome")) == ("recorded", "duplicate")
    assert first["cost_usd"] == "1"
    assert first == again
    assert (await world.charge(first["charge_id"]))["cost_usd"] == "1"


async def test_metrics_count_the_price_that_was_recorded(world: World, while_waiting: ChangeNext) -> None:
    def counted() -> float:
        samples = [sample for metric in UNPRICED_REQUESTS.collect() for sample in metric.samples]
        return sum(sample.value for sample in samples if sample.name.endswith("_total"))

    before = counted()
    while_waiting(lambda: world.declare_alias(MYSTERY, "openai/gpt-4.1-mini"))
    [result] = await world.post(an_unpriced_event())
    assert result["price_state"] == "priced"
    assert counted() == before


async def test_a_conflict_is_enforced_at_the_present_price(world: World, while_waiting: ChangeNext) -> None:
    event = an_unpriced_event()
    [original] = await world.post(event)
    usage = event["metadata"]["usage_object"] | {"completion_tokens": 77}
    other = event | {"metadata": event["metadata"] | {"usage_object": usage}}
    while_waiting(lambda: _declare_fee(world))
    [contradicting] = await world.post(other)
    assert (contradicting["outcome"], contradicting["cost_usd"]) == ("conflict", original["cost_usd"])
    [(enforced, fees)] = await world.rows(
        "SELECT enforced_usd, fees FROM charge WHERE tenant_id = %s AND kind = 'conflict'", world.tenant_id
    )
    assert [line["amount_usd"] for line in fees] == ["1"]
    assert enforced >= 1


@pytest.mark.parametrize("has_fee", [False, True], ids=["alias", "alias-and-fee"])
async def test_an_alias_declared_meanwhile_names_it_whole(
    world: World, while_waiting: ChangeNext, has_fee: bool
) -> None:
    await world.create_budget("one-model", {"served_model": "openai/gpt-4.1-mini"})

    async def change() -> None:
        await world.declare_alias(MYSTERY, "openai/gpt-4.1-mini")
        if has_fee:
            await _declare_fee(world)

    while_waiting(change)
    [result] = await world.post(an_unpriced_event())
    [known_before] = await world.post(an_unpriced_event())
    charge, expected = await world.charge(result["charge_id"]), await world.charge(known_before["charge_id"])
    assert charge["served_model"] == result["served_model"] == "openai/gpt-4.1-mini"
    named = ("requested_model", "deployment", "served_model", "provider", "price_key", "price_state", "cost_usd")
    assert {name: charge[name] for name in named} == {name: expected[name] for name in named}
    assert charge["provenance"] == expected["provenance"]
    sums = await world.sums()
    assert len(sums["totals"]) <= 2, "one key of totals in at most two buckets"
    [(slug, _, _, enforced)] = sums["windows"]
    assert (slug, enforced) == ("one-model", await world.spent())
    assert (await world.reprice())["progress"]["changed"] == 0


async def test_what_a_check_knew_of_the_requested_model_stays(world: World, while_waiting: ChangeNext) -> None:
    await world.create_budget("everything", {})
    request_id = str(new_id())
    check = {"request_id": request_id, "reserve": True, "model": "asked-for", "dimensions": {}, "input_tokens": 5}
    await world.call("POST", "/v1/check", json=check)
    event = an_unpriced_event(litellm_call_id=request_id)
    while_waiting(lambda: world.declare_alias(MYSTERY, "openai/gpt-4.1-mini"))
    [result] = await world.post(event)
    charge = await world.charge(result["charge_id"])
    assert (charge["requested_model"], charge["served_model"]) == ("asked-for", "openai/gpt-4.1-mini")
    assert charge["provenance"]["requested_model"] == "check"
