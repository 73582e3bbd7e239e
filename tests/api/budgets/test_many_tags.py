"""A call with more tags than are kept: who sends them cannot push out the one a budget is about."""

from typing import Any

import pytest

from tests.api.checks.world import World

JUNK = [f"a{number}" for number in range(60)]


async def _posted(world: World, slug: str) -> str:
    windows: list[Any] = (await world.call("GET", f"/v1/budgets/{slug}/windows"))["windows"]
    return str(windows[0]["posted_usd"])


@pytest.mark.parametrize("tag", ["cost-center", ["cost-center", "other"], {"prefix": "cost-"}])
@pytest.mark.parametrize("place", [0, 60])
async def test_a_tag_a_budget_names_is_charged_and_asked_whatever_stands_before_it(
    world: World, tag: object, place: int
):
    tags = [*JUNK[:place], "cost-center", *JUNK[place:]]
    await world.put_budget(match={"tag": tag}, limit_usd="0.01")
    assert (await world.check(dimensions={"tags": tags}, estimated_cost_usd="0.001"))["allowed"] is True
    await world.post_event(cost="0.01", request_tags=tags)
    assert await _posted(world, "b") == "0.01"
    # A check that has them in another order asks the same counters.
    answer = await world.check(dimensions={"tags": tags[::-1]}, estimated_cost_usd="0.001")
    assert answer["allowed"] is False
    estimate = await world.call(
        "POST", "/v1/estimates", json={"model": "gpt-4.1-mini", "input_tokens": 1, "dimensions": {"tags": tags}}
    )
    assert "cost-center" in estimate["dimensions"]["tag"]["value"]


async def test_tags_that_are_not_kept_are_numbered(world: World):
    recorded = await world.post_event(cost="0.01", request_tags=JUNK)
    charge = await world.call("GET", f"/v1/charges/{recorded['charge_id']}")
    assert len(charge["tags"]) == 32
    assert charge["quantities"]["dropped_tags"] == 28
