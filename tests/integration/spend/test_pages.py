"""Pages of sums and of charges show every row once, in order, whatever lies on the edge of a page."""

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.db.pools import Pools
from service.ledger.filters import Position, TimeRange
from service.ledger.queries import ChargeQueries
from service.spend.queries import SpendQueries
from service.spend.spend_query import cursor_after, parse_spend_query
from tests.integration.spend.charge_rows import NOON, Charge, a_charge, record

_SPAN = {"from": ["2026-11-03T00:00:00Z"], "to": ["2026-11-06T00:00:00Z"]}


def _charges_with_ties(tenant_id: str) -> list[Charge]:
    rng = random.Random(3)
    return [
        a_charge(
            tenant_id,
            effective_at=NOON + timedelta(hours=rng.randrange(48)),
            team=rng.choice(["Zeta", "alpha", "Äther", "beta", None]),
            user=rng.choice(["u1", "u2", None]),
            end_user=rng.choice(["e1", "e2", None]),
            model_cost_usd=Decimal(rng.randrange(3)).scaleb(-25),
        )
        for _ in range(200)
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {"group_by": ["team,user"]},
        {"group_by": ["team,user"], "granularity": ["day"], "timezone": ["Asia/Kathmandu"]},
        {"group_by": ["team,user"], "granularity": ["hour"], "sort": ["-bucket"]},
        {"group_by": ["team"], "granularity": ["hour"], "sort": ["-team"]},
        {"group_by": ["user,team"], "sort": ["requests"]},
        {"group_by": ["end_user"], "granularity": ["day"], "sort": ["-spend_usd"]},
    ],
)
async def test_pages_of_sums_are_the_whole_list_in_order(pools: Pools, tenant_id: str, asked: dict[str, Any]):
    await record(pools.postgres, _charges_with_ties(tenant_id))
    queries = SpendQueries(pools.postgres)
    whole = await queries.answer(tenant_id, parse_spend_query({**_SPAN, **asked, "limit": ["1000"]}, {}, NOON))
    assert whole.next is None
    assert len(whole.rows) > 3

    rows, cursor = [], None
    while True:
        query = parse_spend_query(
            {**_SPAN, **asked, "limit": ["3"], **({"cursor": [cursor]} if cursor else {})}, {}, NOON
        )
        page = await queries.answer(tenant_id, query)
        assert page.totals == whole.totals
        rows += page.rows
        if page.next is None:
            break
        cursor = cursor_after(query, page.next)
    assert rows == whole.rows


async def test_rows_are_ordered_by_spend_and_absent_values_come_first_among_equals(pools: Pools, tenant_id: str):
    costs = {"b": "3", "a": "3", None: "3", "c": "5"}
    await record(
        pools.postgres, [a_charge(tenant_id, team=team, model_cost_usd=Decimal(cost)) for team, cost in costs.items()]
    )
    query = parse_spend_query({**_SPAN, "group_by": ["team"]}, {}, NOON)
    answer = await SpendQueries(pools.postgres).answer(tenant_id, query)
    assert [row.groups["team"] for row in answer.rows] == ["c", None, "a", "b"]


async def test_pages_of_charges_show_each_once_although_times_are_equal(pools: Pools, tenant_id: str):
    charges = [a_charge(tenant_id, effective_at=NOON + timedelta(minutes=number // 10)) for number in range(35)]
    await record(pools.postgres, charges)
    queries = ChargeQueries(pools.postgres)
    seen: list[Position] = []
    after: Position | None = None
    while True:
        page = await queries.list_charges(
            tenant_id, (), TimeRange(NOON, NOON + timedelta(days=1)), limit=4, after=after
        )
        seen += [Position(row["effective_at"], row["charge_id"]) for row in page.rows]
        if (after := page.next) is None:
            break
    assert {str(position.charge_id) for position in seen} == {charge["charge_id"] for charge in charges}
    assert len(seen) == 35
    assert seen == sorted(seen, key=lambda position: (position.effective_at, position.charge_id), reverse=True)
