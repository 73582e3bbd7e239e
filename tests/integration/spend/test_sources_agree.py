"""Every source of spend gives the numbers that adding up the charges one by one gives."""

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.db.pools import Pools
from service.ledger.filters import Condition, TimeRange
from service.spend.buckets import bucket_starts
from service.spend.queries import SpendQueries
from service.spend.sources import choose_plan, plan_from
from service.spend.spend_answer import SpendAnswer
from service.spend.spend_query import AMOUNTS, MEASURES, OrderKey, SpendQuery, parse_spend_query
from tests.integration.spend.charge_rows import Charge, a_charge, a_reversal, record

_EXACT = Context(prec=200)
_FIRST = datetime(2026, 10, 23, 22, 7, 31, tzinfo=UTC)  # the clocks of Berlin go back on the 25th
_MINUTES = 5 * 24 * 60
_VALUES: dict[str, list[str | None]] = {
    "team": ["core", "web", "ü ber", None],
    "user": ["u1", "u2", None],
    "served_model": ["azure_ai/gpt-5.4-mini", "gpt-5.4", None],
    "call_type": ["acompletion", "aembedding"],
    "price_state": ["priced", "free", "unpriced"],
    "service_tier": ["flex", None],
    "end_user": ["e1", "e2", "e3", None, None],
    "agent": ["planner", None],
    "session": ["s1", "s2", None],
}
_TAGS = ["blue", "green", "red"]
_ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Pacific/Niue"]


def _random_ledger(tenant_id: str, rng: random.Random, size: int) -> list[Charge]:
    charges = []
    for _ in range(size):
        moment = _FIRST + timedelta(minutes=rng.randrange(_MINUTES), seconds=rng.choice([0, 0, 29, 59]))
        charge = a_charge(
            tenant_id,
            effective_at=moment.replace(second=0) if rng.random() < 0.2 else moment,
            model_cost_usd=Decimal(rng.randrange(10**6)).scaleb(-rng.randrange(4, 20)),
            fees_usd=Decimal(rng.randrange(100)).scaleb(-9),
            input_tokens=rng.randrange(10_000),
            tags=sorted(rng.sample(_TAGS, rng.choice([0, 0, 1, 1, 2, 3]))),
            **{name: rng.choice(values) for name, values in _VALUES.items()},
        )
        charges.append(charge)
        if rng.random() < 0.1:
            charges.append(a_reversal(charge))
    return charges


def _random_query(rng: random.Random) -> SpendQuery:
    labels = ["tag", "end_user", "agent"]
    label = [rng.choice(labels)]
    fields = rng.choice([[*_VALUES, "tag"], ["team", "user", "served_model", "status"], label, label])
    group_by = tuple(rng.sample(fields, rng.randrange(min(3, len(fields)) + 1)))
    start = _FIRST + timedelta(minutes=rng.randrange(_MINUTES))
    end = start + timedelta(minutes=rng.choice([1, 7, 15, 100, 1440, 3 * 1440]), seconds=rng.choice([0, 1]))
    if rng.random() < 0.4:
        start, end = (moment.replace(minute=moment.minute // 15 * 15, second=0) for moment in (start, end))
    if start >= end:
        end = start + timedelta(minutes=15)
    granularity = rng.choice(["total", "hour", "day", "week", "month"])
    zone = rng.choice(_ZONES)
    time_range = TimeRange(start, end)
    return SpendQuery(
        group_by=group_by,
        time_range=time_range,
        granularity=granularity,
        timezone=zone,
        starts=tuple(bucket_starts(granularity, ZoneInfo(zone), time_range)),
        conditions=tuple(_random_condition(rng, name) for name in fields if rng.random() < 0.25),
        scope=tuple(
            Condition(field=name, included=tuple(_some(rng, name)), is_restricted=True)
            for name in fields
            if rng.random() < 0.08
        ),
        order=tuple(OrderKey(name) for name in group_by),
    )


def _some(rng: random.Random, name: str) -> list[str]:
    known = [value for value in (_TAGS if name == "tag" else _VALUES.get(name, ["success"])) if value is not None]
    return rng.sample(sorted(set(known)), rng.choice([1, 1, min(2, len(set(known)))]))


def _random_condition(rng: random.Random, name: str) -> Condition:
    is_restricted = rng.random() < 0.6
    return Condition(
        field=name,
        included=tuple(_some(rng, name)) if is_restricted else (),
        excluded=tuple(_some(rng, name)) if not is_restricted or rng.random() < 0.2 else (),
        includes_absent=is_restricted and rng.random() < 0.2,
        excludes_absent=rng.random() < 0.1,
        is_restricted=is_restricted,
    )


# ---- adding up one by one


def _values_of(charge: Charge, field: str) -> list[str]:
    if field == "tag":
        return list(charge["tags"])
    return [] if charge.get(field) is None else [charge[field]]


def _passes(charge: Charge, condition: Condition) -> bool:
    values = _values_of(charge, condition.field)
    if condition.is_restricted:
        wanted = any(value in condition.included for value in values)
        if not wanted and not (condition.includes_absent and not values):
            return False
    if any(value in condition.excluded for value in values):
        return False
    return bool(values) or not condition.excludes_absent


def _local_start(instant: datetime, query: SpendQuery) -> datetime | None:
    local = instant.astimezone(ZoneInfo(query.timezone))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match query.granularity:
        case "hour":
            return instant - timedelta(minutes=local.minute, seconds=local.second)
        case "day":
            return midnight.astimezone(UTC)
        case "week":
            return (midnight - timedelta(days=local.weekday())).astimezone(UTC)
        case "month":
            return midnight.replace(day=1).astimezone(UTC)
    return None


def _shown_groups(charge: Charge, query: SpendQuery) -> Iterator[tuple[str | None, ...]]:
    tag_condition = next((c for c in query.conditions if c.field == "tag"), None)
    tags: list[str | None] = [
        tag
        for tag in charge["tags"]
        if not (tag_condition and tag_condition.is_restricted) or tag in tag_condition.included
    ]
    if not charge["tags"] and tag_condition is not None and tag_condition.includes_absent:
        tags = [None]
    for tag in tags if "tag" in query.group_by else [None]:
        yield tuple(tag if name == "tag" else charge.get(name) for name in query.group_by)


def _add(total: dict[str, Any], charge: Charge) -> None:
    for name, column in MEASURES.items():
        total[name] = _EXACT.add(total[name], charge[column]) if name in AMOUNTS else total[name] + charge[column]


def _by_hand(charges: list[Charge], query: SpendQuery) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    rows: dict[Any, dict[str, Any]] = defaultdict(lambda: dict.fromkeys(MEASURES, 0))
    totals: dict[str, Any] = dict.fromkeys(MEASURES, 0)
    for charge in charges:
        if not query.time_range.start <= charge["effective_at"] < query.time_range.end:
            continue
        if not all(_passes(charge, condition) for condition in (*query.conditions, *query.scope)):
            continue
        _add(totals, charge)
        for group in _shown_groups(charge, query):
            _add(rows[_local_start(charge["effective_at"], query), group], charge)
    return {key: row for key, row in rows.items() if any(row.values())}, totals


def _as_mapping(answer: SpendAnswer, query: SpendQuery) -> dict[Any, dict[str, Any]]:
    rows = {
        (
            None if row.bucket is None else query.starts[row.bucket],
            tuple(row.groups[name] for name in query.group_by),
        ): (row.measures)
        for row in answer.rows
    }
    assert len(rows) == len(answer.rows), "a group is shown twice"
    return rows


@pytest.mark.parametrize("seed", range(6))
async def test_totals_labels_and_charges_give_the_sums_of_the_charges(pools: Pools, tenant_id: str, seed: int):
    rng = random.Random(seed)
    charges = _random_ledger(tenant_id, rng, 400)
    await record(pools.postgres, charges)
    queries = SpendQueries(pools.postgres)
    sources: dict[str, int] = defaultdict(int)
    for number in range(60):
        query = _random_query(rng)
        rows, totals = _by_hand(charges, query)
        for plan in (choose_plan(query), plan_from("charges", query)):
            answer = await queries.answer(tenant_id, query, plan)
            assert _as_mapping(answer, query) == rows, (seed, number, plan, query)
            assert answer.totals == totals, (seed, number, plan, query)
            sources[plan.source] += 1
    assert min(sources[source] for source in ("core", "label", "charges")) > 5, dict(sources)


async def test_the_parts_of_a_range_add_up_to_the_range_wherever_it_is_cut(pools: Pools, tenant_id: str):
    rng = random.Random(7)
    await record(pools.postgres, _random_ledger(tenant_id, rng, 300))
    queries = SpendQueries(pools.postgres)

    async def spend(start: datetime, end: datetime) -> dict[str, Any]:
        query = parse_spend_query({"from": [start.isoformat()], "to": [end.isoformat()]}, {}, _FIRST)
        return (await queries.answer(tenant_id, query)).totals

    end = _FIRST + timedelta(minutes=_MINUTES, days=1)
    whole = await spend(_FIRST, end)
    for _ in range(20):
        cut = _FIRST + timedelta(seconds=rng.randrange(_MINUTES * 60))
        before, after = await spend(_FIRST, cut), await spend(cut, end)
        assert {name: before[name] + after[name] for name in whole} == whole, cut
