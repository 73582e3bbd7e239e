"""Window boundaries: charges on both sides of a boundary, with calls under way across it, are booked where they began.

Calendars are computed here by hand, from the zone's offset, and not by the code under test. All of it lies ahead: a
budget counts nothing of windows that were over when it was made.
"""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from service.db.pools import Pools
from tests.budget_builders import a_budget_draft
from tests.drafts import a_draft
from tests.integration.budgets.conftest import Replica, rows

TICK = timedelta(microseconds=1)


def _local(offset_hours: float, *date: int) -> datetime:
    return datetime(*date, tzinfo=timezone(timedelta(hours=offset_hours)))  # type: ignore[misc, arg-type]


def _case(name: str, zone: str, unit: str, *boundaries: datetime, start_day: int | None = None) -> object:
    return pytest.param(zone, unit, start_day, boundaries, id=name)


@pytest.mark.parametrize(
    ("zone", "unit", "start_day", "boundaries"),
    [
        _case("midnight", "UTC", "day", _local(0, 2027, 11, 15), _local(0, 2027, 11, 16)),
        _case("quarter to six", "Asia/Kathmandu", "day", _local(5.75, 2027, 11, 15), _local(5.75, 2027, 11, 16)),
        _case("minus eleven", "Pacific/Niue", "month", _local(-11, 2027, 10, 1), _local(-11, 2027, 11, 1)),
        _case("new year", "Pacific/Kiritimati", "year", _local(14, 2028, 1, 1), _local(14, 2029, 1, 1)),
        # 23 hours, 25 hours.
        _case("summer begins", "Europe/Berlin", "day", _local(1, 2027, 3, 28), _local(2, 2027, 3, 29)),
        _case("summer ends", "Europe/Berlin", "day", _local(2, 2027, 10, 31), _local(1, 2027, 11, 1)),
        _case("the hour twice", "Europe/Berlin", "hour", _local(2, 2027, 10, 31, 2), _local(1, 2027, 10, 31, 2)),
        _case("leap day", "America/New_York", "day", _local(-5, 2028, 2, 29), _local(-5, 2028, 3, 1)),
        _case("leap month", "America/New_York", "month", _local(-5, 2028, 2, 1), _local(-5, 2028, 3, 1)),
        _case("the 31st", "UTC", "month", _local(0, 2027, 1, 31), _local(0, 2027, 2, 28), start_day=31),
        _case("the 31st of a leap year", "UTC", "month", _local(0, 2028, 2, 29), _local(0, 2028, 3, 31), start_day=31),
    ],
)
async def test_what_began_before_a_boundary_is_booked_before_it_and_nothing_is_booked_twice(
    replica: Replica,
    pools: Pools,
    budget_tenant: str,
    zone: str,
    unit: str,
    start_day: int | None,
    boundaries: tuple[datetime, datetime],
) -> None:
    period = {"kind": "calendar", "unit": unit, "timezone": zone} | ({"start_day": start_day} if start_day else {})
    budget = await replica.service.create(budget_tenant, a_budget_draft(period=period), wait_seconds=5)
    first, second = (boundary.astimezone(UTC) for boundary in boundaries)
    moments = {
        first - TICK: "1",
        first: "10",
        first + TICK: "100",
        first + (second - first) / 2: "1000",
        second - TICK: "10000",
        second: "100000",
    }

    await replica.recorder.record([a_draft(budget_tenant, cost=cost, effective_at=at) for at, cost in moments.items()])

    booked = await _booked(pools, budget.budget_id)
    before = {bucket: amount for bucket, amount in booked.items() if bucket < first}
    assert list(before.values()) == [Decimal(1)]
    assert {bucket: amount for bucket, amount in booked.items() if bucket >= first} == {
        first: Decimal(11110),
        second: Decimal(100000),
    }


async def _booked(pools: Pools, budget_id: UUID) -> dict[datetime, Decimal]:
    statement = "SELECT bucket, enforced FROM budget_window WHERE budget_id = %s"
    return dict(await rows(pools, statement, budget_id))
