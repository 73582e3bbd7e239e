"""Fault 4: overlapping batches in opposite order, beside budgets being made and charges being reversed.

TALLYGATE_TEST_DEADLOCK_SECONDS lets it go on for longer than the few seconds of an ordinary run.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from random import Random
from time import monotonic
from typing import Any

import pytest

from service.db.pools import Pools
from tests.faults.chat_events import Event, chat_event
from tests.faults.conftest import Tenant
from tests.faults.replica import Caller, together
from tests.oracle import read_charges

SECONDS = float(os.environ.get("TALLYGATE_TEST_DEADLOCK_SECONDS", "6"))
WORKERS = 8
EVENTS_PER_BATCH = 30
USERS = 20
TAGS = [f"tag-{number}" for number in range(12)]
BUDGETS: dict[str, dict[str, Any]] = {
    "all": {},
    "each-user": {"user": "*"},
    "each-tag": {"tag": "*"},
    "each-user-of-teams": {"team": {"prefix": "team-"}, "user": "*"},
    "model": {"requested_model": "gpt-4.1-mini"},
}


_SLOW_ROWS = """
CREATE FUNCTION slow_row() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN PERFORM pg_sleep(TG_ARGV[0]::float8); RETURN NEW; END$$
"""
_SECONDS_PER_ROW = {"event_key": 0.002, "spend_total": 0.002, "spend_label_total": 0.0005, "budget_window": 0.0005}


@pytest.fixture
async def slow_rows(ledger: Pools) -> AsyncIterator[None]:
    """Every row takes a moment to write: batches hold what they have locked while they wait for the next row."""
    async with ledger.postgres.connection() as connection:
        await connection.execute(_SLOW_ROWS)
        for table, seconds in _SECONDS_PER_ROW.items():
            trigger = f"CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION slow_row({seconds})"
            await connection.execute(trigger)  # type: ignore[arg-type]
        yield
        await connection.execute("DROP FUNCTION slow_row CASCADE")


@pytest.mark.usefixtures("slow_rows")
async def test_overlapping_batches_in_opposite_order_never_deadlock(
    callers: list[Caller], ledger: Pools, tenant: Tenant, random: Random
):
    for slug, match in BUDGETS.items():
        await callers[0].create_budget(slug, match, "1000000")
    deadlocks_before = await _deadlocks(ledger)
    load = _Load(callers, random)

    await asyncio.gather(
        *(load.post_overlapping(worker) for worker in range(WORKERS)), load.reverse_charges(), load.make_budgets()
    )

    assert set(load.reversals) <= {201, 409}
    assert 201 in load.reversals
    assert await _deadlocks(ledger) == deadlocks_before
    assert set(load.recorded) <= (await read_charges(ledger.postgres, tenant.id)).keys()


class _Load:
    """Writers of every kind that meet at the same rows. A deadlock would be answered with 503, which is refused here.

    Rows are locked in the order event keys, totals, label totals, counters: batches that wait for each other at one
    kind never meet at the next. So there are batches that have nothing in common but one kind.
    """

    def __init__(self, callers: list[Caller], random: Random) -> None:
        self._callers = callers
        self._random = random
        self._stop_at = monotonic() + SECONDS
        self.recorded: list[str] = []
        self.reversals: list[int] = []

    @property
    def _goes_on(self) -> bool:
        return monotonic() < self._stop_at

    async def post_overlapping(self, worker: int) -> None:
        events_in_common = {
            "keys": self._post_the_same,
            "totals": lambda: self._post([self._event("team", []) for _ in range(EVENTS_PER_BATCH)]),
            "labels": lambda: self._post([self._event(f"team-{worker}", TAGS) for _ in range(EVENTS_PER_BATCH)]),
            "counters": lambda: self._post([self._event(f"team-{worker}", []) for _ in range(EVENTS_PER_BATCH)]),
        }
        while self._goes_on:
            await self._random.choice(list(events_in_common.values()))()

    async def reverse_charges(self) -> None:
        while self._goes_on:
            if self.recorded:
                path = f"/v1/charges/{self._random.choice(self.recorded)}/reverse"
                response = await self._callers[1].request("POST", path, json={"reason": "a test"})
                self.reversals.append(response.status_code)
            await asyncio.sleep(0)

    async def make_budgets(self) -> None:
        number = 0
        while self._goes_on:
            await self._callers[2].create_budget(f"later-{number}", {"user": "*", "tag": "*"}, "1000000")
            number += 1

    async def _post_the_same(self) -> None:
        """Post the same events to two replicas, in opposite orders."""
        events = [self._event("team", TAGS) for _ in range(EVENTS_PER_BATCH)]
        one, other = self._random.sample(self._callers, 2)
        answers = await together((one.post(*events), other.post(*reversed(events))))
        assert sum(answer["recorded"] for answer in answers) == EVENTS_PER_BATCH
        assert sum(answer["duplicates"] for answer in answers) == EVENTS_PER_BATCH

    async def _post(self, events: list[Event]) -> None:
        answer = await self._random.choice(self._callers).post(*events)
        assert answer["recorded"] == EVENTS_PER_BATCH
        self.recorded += [result["charge_id"] for result in answer["results"]]

    def _event(self, team: str, tags: list[str]) -> Event:
        chosen = self._random.sample(tags, 4) if tags else []
        return chat_event(team=team, user=f"u{self._random.randrange(USERS)}", request_tags=chosen)


async def _deadlocks(ledger: Pools) -> int:
    """Return how many deadlocks the database has seen; nobody but this folder's servers uses it."""
    async with ledger.postgres.connection() as connection:
        statement = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        row = await (await connection.execute(statement)).fetchone()
    assert row is not None
    return int(row[0])
