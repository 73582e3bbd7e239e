"""What a process remembers of recent calls: read once, anew beside answers, never waited for longer than it says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from service.checks import recent_use
from service.checks.recent_use import RecentUseReader
from service.checks.request import Route
from service.checks.routes import NOTHING_SEEN, RecentUse
from service.ledger.served_queries import SeenRoute
from tests.budget_builders import a_budget
from tests.check_builders import a_config, a_request

ROUTED = a_config(a_budget({"provider": "azure"}))
PLAIN = a_config(a_budget({"team": "core"}))
AZURE = Route(deployment="azure/d", served_model="azure/m", provider="azure")


class FakeLedger:
    """Stands where the pool is. Reads wait while it is `closed`, and fail with `error`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads: list[str] = []
        self.now = 0.0
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.error: Exception | None = None
        monkeypatch.setattr(recent_use, "read_routes", self.read_routes)
        monkeypatch.setattr(recent_use, "read_output_tokens", self.read_output_tokens)
        self.reader = RecentUseReader(self, now=lambda: self.now)  # type: ignore[arg-type]

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Any]:  # noqa: ASYNC109 — that of a pool
        del timeout
        yield None

    async def read_routes(self, _: Any, tenant_id: str, model: str) -> tuple[SeenRoute, ...]:
        await self._read(f"routes of {model} in {tenant_id}")
        return (SeenRoute("azure/d", "azure/m", "azure"),)

    async def read_output_tokens(self, _: Any, tenant_id: str, model: str) -> int | None:
        await self._read(f"outputs of {model} in {tenant_id}")
        return None if model == "silent" else 7_000

    async def _read(self, what: str) -> None:
        self.reads.append(what)
        await self.is_open.wait()
        if self.error is not None:
            raise self.error

    async def find(self, config: Any = ROUTED, *, patience_seconds: float = 5.0, **fields: Any) -> RecentUse:
        return await self.reader.find(a_request(**fields), config, patience_seconds=patience_seconds)


@pytest.fixture
async def ledger(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeLedger]:
    opened = FakeLedger(monkeypatch)
    yield opened
    await opened.reader.close()


async def test_nothing_is_read_where_nothing_depends_on_it(ledger: FakeLedger):
    assert await ledger.find(PLAIN) is NOTHING_SEEN
    assert await ledger.find(deployment="azure/d") is NOTHING_SEEN
    assert await ledger.find(PLAIN, max_output_tokens=None, estimated_cost_usd=1) is NOTHING_SEEN
    assert ledger.reads == []


async def test_many_at_once_are_one_read_and_those_of_the_next_minute_none(ledger: FakeLedger):
    found = await asyncio.gather(*[ledger.find() for _ in range(50)])
    ledger.now = 59.0
    found.append(await ledger.find())
    assert ledger.reads == ["routes of smart in t"]
    assert {each.routes["smart"] for each in found} == {(AZURE,)}
    assert all(each.is_known for each in found)


async def test_each_model_and_each_tenant_is_read_for_itself(ledger: FakeLedger):
    await ledger.find(fallback_models=("b",))
    await ledger.find(a_config(a_budget({"served_model": "*"}), tenant_id="other"))
    assert sorted(ledger.reads) == ["routes of b in t", "routes of smart in other", "routes of smart in t"]


async def test_outputs_are_read_where_a_call_does_not_bound_them(ledger: FakeLedger):
    found = await ledger.find(PLAIN, max_output_tokens=None, fallback_models=("silent",))
    assert (found.routes, found.output_tokens) == ({}, {"smart": 7_000})
    assert sorted(ledger.reads) == ["outputs of silent in t", "outputs of smart in t"]


async def test_what_is_older_than_a_minute_is_answered_and_read_anew_beside_it(ledger: FakeLedger):
    await ledger.find()
    ledger.now = 61.0
    ledger.is_open.clear()
    assert (await ledger.find()).routes == {"smart": (AZURE,)}
    assert (await ledger.find()).is_known
    await asyncio.sleep(0)
    assert len(ledger.reads) == 2
    ledger.is_open.set()


async def test_a_silent_ledger_is_not_waited_for_and_what_it_says_late_is_there_for_the_next(ledger: FakeLedger):
    ledger.is_open.clear()
    found = await ledger.find(patience_seconds=0.01, max_output_tokens=None)
    assert (found.is_known, found.routes, found.output_tokens) == (False, {}, {})
    ledger.is_open.set()
    assert (await ledger.find()).routes == {"smart": (AZURE,)}
    assert len(ledger.reads) == 2


async def test_after_a_failure_nobody_asks_for_a_moment(ledger: FakeLedger):
    ledger.error = psycopg.OperationalError("gone")
    assert not (await ledger.find()).is_known
    ledger.error = None
    assert not (await ledger.find(model="other")).is_known
    ledger.now = 1.5
    assert (await ledger.find()).is_known
    assert len(ledger.reads) == 2


async def test_what_was_known_goes_on_being_used_while_the_ledger_fails_but_not_for_ever(ledger: FakeLedger):
    await ledger.find()
    ledger.error = psycopg.OperationalError("gone")
    ledger.now = 800.0
    assert (await ledger.find()).is_known
    ledger.now = 2_000.0
    found = await ledger.find()
    assert (found.routes, found.is_known) == ({}, False)
