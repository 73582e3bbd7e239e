"""What was carried into a window raises its limit, once it is fixed."""

from decimal import Decimal

import pytest

from service.checks.counter_reading import CounterReading
from service.checks.keys import CounterRef, key_of
from service.checks.publishing import seed_commands
from tests.integration.checks.gate import Gate


async def _seed(gate: Gate, counter: CounterRef, carried: str | None, *, posted: int = 0, epoch: int = 1) -> None:
    reading = CounterReading(
        epoch=epoch,
        counter=counter,
        states=(gate.state(counter, posted, 1),),
        carried_usd=None if carried is None else Decimal(carried),
    )
    await gate.lane.run(seed_commands([reading]))


async def test_what_was_carried_in_raises_the_limit(gate: Gate):
    counter = gate.counter()
    await _seed(gate, counter, "0.0000509", posted=100)
    decision = await gate.decide(counter, limit=100, amount_micro_usd=50, carrying=[counter])
    assert decision.is_allowed
    (figures,) = decision.figures
    assert (figures.limit_micro_usd, figures.carried_micro_usd) == (150, 50)
    assert not (await gate.decide(counter, limit=100, amount_micro_usd=1, carrying=[counter])).is_allowed


@pytest.mark.parametrize(("most", "counted"), [(0, 0), (30, 30), (50, 50), (70, 50)])
async def test_what_was_carried_in_counts_up_to_the_present_cap(gate: Gate, most: int, counted: int):
    counter = gate.counter()
    await _seed(gate, counter, "0.00005", posted=100)
    asked = {"limit": 100, "carrying": [counter], "most_carried": most, "wants_hold": False}
    decision = await gate.decide(counter, amount_micro_usd=counted + 1, **asked)
    assert not decision.is_allowed
    assert (decision.figures[0].limit_micro_usd, decision.figures[0].carried_micro_usd) == (100 + counted, counted)
    if counted:
        assert (await gate.decide(counter, amount_micro_usd=counted, **asked)).is_allowed


@pytest.mark.parametrize("carried", [None, "0.00001"])
async def test_a_limit_of_nothing_denies_whatever_was_carried_in(gate: Gate, carried: str | None):
    counter = gate.counter()
    await _seed(gate, counter, carried)
    for asked in ({"is_free": True}, {"amount_micro_usd": 5}):
        decision = await gate.decide(counter, limit=0, carrying=[counter], **asked)
        assert not decision.is_allowed
        assert (decision.figures[0].limit_micro_usd, decision.figures[0].carried_micro_usd) == (0, 0)


async def test_a_budget_that_carries_nothing_any_more_does_not_look_at_it(gate: Gate):
    counter = gate.counter()
    await _seed(gate, counter, "1")
    decision = await gate.decide(counter, limit=5, amount_micro_usd=6)
    assert not decision.is_allowed
    assert decision.figures[0].carried_micro_usd == 0


async def test_a_reading_from_before_it_was_fixed_does_not_take_it_back(gate: Gate):
    counter = gate.counter()
    await _seed(gate, counter, "0.00005")
    await _seed(gate, counter, None)
    assert await gate.client.hget(key_of(counter), "k") == b"50"


async def test_after_a_restore_of_the_ledger_what_it_says_counts(gate: Gate):
    counter = gate.counter()
    await _seed(gate, counter, "0.00005")
    await _seed(gate, counter, None, epoch=2)
    assert await gate.client.hget(key_of(counter), "k") is None
    await _seed(gate, counter, "0.00003", epoch=2)
    await _seed(gate, counter, "0.00005", epoch=1)
    assert await gate.client.hget(key_of(counter), "k") == b"30"
