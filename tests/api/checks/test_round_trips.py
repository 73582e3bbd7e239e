"""What a check costs: one command, in a pipeline shared with those of its moment; all else comes from memory."""

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

import pytest

from service.checks.lua_scripts import Command
from service.checks.node_lane import NodeLane
from tests.api.checks.world import World

_KEY = "c" * 64


async def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("this comes from memory")


@pytest.fixture
def pipelines(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many commands each pipeline of the checks had."""
    lane = world.services.check_service._holds._lane._lane
    assert isinstance(lane, NodeLane)
    exchange, lengths = lane._exchange, []

    async def exchange_and_note(commands: Sequence[Command]) -> Any:
        lengths.append(len(commands))
        return await exchange(commands)

    monkeypatch.setattr(lane, "_exchange", exchange_and_note)
    return lengths


async def _know_a_key(world: World) -> None:
    await world.call("PUT", f"/v1/keys/{_KEY}", json={"team": "core"})
    await world.put_budget("core", match={"team": "core"})
    await world.put_budget("each-key", match={"api_key": "*"})


def _allow_nothing_but_the_counters(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = world.services.check_service
    monkeypatch.setattr(checks._keys._lookups, "submit", _refuse)
    monkeypatch.setattr(checks._configs, "reload", _refuse)
    monkeypatch.setattr(checks._seeder, "seed", _refuse)


async def test_key_configuration_prices_and_matching_come_from_memory_and_the_decision_from_one_command(
    world: World, pipelines: list[int], monkeypatch: pytest.MonkeyPatch
):
    await _know_a_key(world)
    await world.check(dimensions={"api_key": _KEY})
    pipelines.clear()
    _allow_nothing_but_the_counters(world, monkeypatch)
    answer = await world.check(dimensions={"api_key": _KEY}, reserve=True)
    assert [standing["name"] for standing in answer["budgets"]] == ["each-key", "core"]
    assert pipelines == [1]
    await world.call("DELETE", f"/v1/reservations/{answer['reservation']['id']}")


async def test_a_repeat_costs_one_command_and_tells_the_present_figures(
    world: World, pipelines: list[int], monkeypatch: pytest.MonkeyPatch
):
    await _know_a_key(world)
    body: dict[str, Any] = {"dimensions": {"api_key": _KEY}, "request_id": "again", "reserve": True}
    first = await world.check(**body)
    other = await world.check(dimensions={"api_key": _KEY}, reserve=True)
    pipelines.clear()
    _allow_nothing_but_the_counters(world, monkeypatch)
    repeat = await world.check(**body)
    assert pipelines == [1]
    assert repeat["reservation"] == first["reservation"]
    # What another call came to hold meanwhile is in the figures: they could not come from memory.
    assert [standing["held_usd"] for standing in repeat["budgets"]] == [
        standing["held_usd"] for standing in other["budgets"]
    ]
    assert repeat["budgets"][0]["held_usd"] != first["budgets"][0]["held_usd"]
    for answer in (first, other):
        await world.call("DELETE", f"/v1/reservations/{answer['reservation']['id']}")


async def test_checks_of_one_moment_travel_together(world: World, pipelines: list[int]):
    await world.put_budget()
    await world.check()
    pipelines.clear()
    answers = await asyncio.gather(*[world.check() for _ in range(40)])
    assert all(answer["allowed"] for answer in answers)
    assert sum(pipelines) == 40
    # How many are there at one moment is up to the machine; one by one they never come.
    assert len(pipelines) < 40
    assert max(pipelines) <= 32
