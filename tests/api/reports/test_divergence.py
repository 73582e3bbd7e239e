"""`GET /v1/reports/divergence` over HTTP: our cost beside the gateway's figure."""

from decimal import Decimal
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.kit.ids import new_id
from tests.api.checks.world import World
from tests.integration.spend.charge_rows import a_charge, a_reversal, record

SPAN = {"from": "2026-11-03T00:00:00Z", "to": "2026-11-04T00:00:00Z"}


async def report(world: World, **parameters: Any) -> Any:
    return await world.call("GET", "/v1/reports/divergence", params={**SPAN, **parameters})


async def record_rows(world: World, *charges: dict[str, Any]) -> None:
    await record(world.services.pools.postgres, charges)


def compared(world: World, ours: str, gateways: str | None, **given: Any) -> dict[str, Any]:
    given = {"served_model": "gpt-5.4", "price_key": "gpt-5.4", "fees_usd": Decimal(0)} | given
    reported = None if gateways is None else Decimal(gateways)
    return a_charge(world.tenant_id, model_cost_usd=Decimal(ours), reported_cost_usd=reported, **given)


async def test_a_row_says_how_far_apart_the_two_are_and_names_examples(world: World):
    far, near = compared(world, "1", "1.5"), compared(world, "1", "1.02")
    await record_rows(world, compared(world, "1", "1"), far, near, compared(world, "1", "0", served_model="other"))
    answer = await report(world)
    lost, row = answer["rows"]
    assert row == {
        "served_model": "gpt-5.4", "requests": 3, "cost_usd": "3", "reported_cost_usd": "3.52",
        "difference_usd": "0.52", "ratio": "1.17333", "diverging_requests": 2, "diverging_usd": "0.52",
        "reported_zero_requests": 0, "sample_charge_ids": [far["charge_id"], near["charge_id"]],
    }  # fmt: skip
    assert (lost["served_model"], lost["difference_usd"], lost["ratio"], lost["reported_zero_requests"]) == (
        "other", "-1", "0", 1
    )  # fmt: skip
    totals = answer["totals"]
    assert (totals["requests"], totals["difference_usd"], totals["diverging_requests"]) == (4, "-0.48", 3)
    assert answer["basis"]["tolerance"] == {"ratio": "0.01", "usd": "0.000001"}


@pytest.mark.parametrize(
    ("ours", "gateways", "diverging"),
    [
        ("1", "1.01", 0),
        ("1", "1.010000001", 1),
        ("1", "0.99", 0),
        ("1", "0.989999999", 1),
        ("0.00000001", "0.00000101", 0),
        ("0.00000001", "0.000001010000001", 1),
        ("0", "0.000001", 0),
        ("0", "0.0000010001", 1),
    ],
)
async def test_a_request_diverges_beyond_one_percent_and_a_millionth(
    world: World, ours: str, gateways: str, diverging: int
):
    await record_rows(world, compared(world, ours, gateways, price_state="priced" if Decimal(ours) else "free"))
    (row,) = (await report(world))["rows"]
    assert row["diverging_requests"] == diverging
    assert len(row["sample_charge_ids"]) == diverging


async def test_only_our_own_prices_are_compared_and_only_with_figures_that_were_given(world: World):
    await record_rows(
        world,
        compared(world, "1", None),
        compared(world, "1", "5", price_state="reported"),
        compared(world, "0", "5", price_state="unpriced"),
        compared(world, "0", "2", price_state="free", served_model="free"),
    )
    (row,) = (await report(world))["rows"]
    assert (row["served_model"], row["ratio"], row["reported_cost_usd"]) == ("free", None, "2")


async def test_a_cancelled_charge_counts_for_nothing_and_is_no_example(world: World):
    wrong, right = compared(world, "1", "9"), compared(world, "1", "2")
    await record_rows(world, wrong, right, a_reversal(wrong, reported_cost_usd=Decimal(-9)))
    (row,) = (await report(world))["rows"]
    assert (row["requests"], row["cost_usd"], row["reported_cost_usd"]) == (1, "1", "2")
    assert (row["diverging_requests"], row["diverging_usd"]) == (1, "1")
    assert row["sample_charge_ids"] == [right["charge_id"]]


async def test_rows_are_of_any_group_and_ordered_by_the_difference(world: World):
    await record_rows(
        world,
        compared(world, "1", "1.2", price_key="a", provider="p1", team="core"),
        compared(world, "5", "3", price_key="b", provider="p1"),
        compared(world, "1", "1", price_key=None, provider="p2"),
    )
    by_key = await report(world, group_by="price_key,provider")
    assert [(row["price_key"], row["provider"]) for row in by_key["rows"]] == [("b", "p1"), ("a", "p1"), (None, "p2")]
    assert [row["provider"] for row in (await report(world, group_by="provider"))["rows"]] == ["p1", "p2"]
    assert [row["price_key"] for row in (await report(world, group_by="price_key", team="core"))["rows"]] == ["a"]


async def test_a_least_ratio_leaves_out_what_is_close(world: World):
    await record_rows(
        world,
        compared(world, "1", "1.05", served_model="near"),
        compared(world, "1", "2", served_model="double"),
        compared(world, "1", "0.5", served_model="half"),
        compared(world, "0", "1", served_model="free", price_state="free"),
    )
    assert {row["served_model"] for row in (await report(world, min_ratio="2"))["rows"]} == {"double", "half", "free"}
    answer = await report(world, min_ratio="2.01")
    assert [row["served_model"] for row in answer["rows"]] == ["free"]
    assert answer["totals"]["requests"] == 1


async def test_pages_hold_every_group_once(world: World):
    charges = [compared(world, "1", f"1.{number}", served_model=f"m{number}") for number in range(5)]
    await record_rows(world, *charges, compared(world, "1", "1.3", served_model="same"))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while cursor != {"cursor": None}:
        answer = await report(world, limit=2, **cursor)
        seen += [row["served_model"] for row in answer["rows"]]
        assert answer["totals"]["requests"] == 6
        cursor = {"cursor": answer["next_cursor"]}
    assert (seen[0], seen[-2:]) == ("m4", ["m1", "m0"])
    assert sorted(seen) == ["m0", "m1", "m2", "m3", "m4", "same"]


async def test_tenants_and_scopes_are_walls(world: World):
    stranger = f"t-{new_id().hex}"
    await record_rows(
        world,
        compared(world, "1", "2", team="core", served_model="a"),
        compared(world, "1", "2", team="web", served_model="b"),
        compared(world, "1", "2", team="core", served_model="c") | {"tenant_id": stranger},
    )
    of_core = await world.make_token(roles=("read",), scope={"team": ["core"]})
    for narrowed in ({}, {"team": ["web", "core"]}):
        answer = await world.call("GET", "/v1/reports/divergence", params=SPAN | narrowed, headers=of_core)
        assert [row["served_model"] for row in answer["rows"]] == ["a"]
        assert answer["totals"]["requests"] == 1


@pytest.mark.parametrize(
    ("parameters", "code", "field"),
    [
        ({"group_by": "tag"}, "unknown_value", "group_by"),
        ({"group_by": "charge_id; --"}, "unknown_value", "group_by"),
        ({"min_ratio": "0.9"}, "invalid_ratio", "min_ratio"),
        ({"min_ratio": "NaN"}, "invalid_ratio", "min_ratio"),
        ({"min_ratio": "1e99"}, "invalid_ratio", "min_ratio"),
        ({"kind": "usage"}, "unknown_parameter", "kind"),
        ({"cursor": "x"}, "invalid_cursor", "cursor"),
    ],
)
async def test_what_cannot_be_answered_is_a_problem_document(
    world: World, parameters: dict[str, str], code: str, field: str
):
    problem = await world.call("GET", "/v1/reports/divergence", params={**SPAN, **parameters}, expect=422)
    assert (problem["code"], problem["field"]) == (code, field)


async def test_differences_are_counted_by_the_key_of_the_price_book(world: World):
    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"price_key": "gpt-4.1-mini", **labels}) or 0.0

    before = counted("tallygate_diverging_requests_total"), counted("tallygate_divergence_usd_total", more="gateway")
    # gpt-4.1-mini: 1000 x 0.0000004 + 100 x 0.0000016 = 0.00056
    await world.post_event(response_cost=0.00056)
    assert counted("tallygate_diverging_requests_total") == before[0]
    await world.post_event(response_cost=0.10056)
    assert counted("tallygate_diverging_requests_total") == before[0] + 1
    assert counted("tallygate_divergence_usd_total", more="gateway") == pytest.approx(before[1] + 0.1)
