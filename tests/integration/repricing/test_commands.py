"""`tallygate reprice`: shows first, asks, and writes what it has shown."""

import asyncio
import re
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result

from service.db.pools import Pools, open_pools
from service.errors import AlreadyExists, InvalidInput, NotFound
from service.kit.clock import utc_now
from service.kit.ids import new_id
from service.ledger.filters import TimeRange
from service.repricing import repository
from service.repricing.commands import reprice
from service.repricing.terms import RepricingTerms
from service.settings import Settings
from tests.integration.repricing.calls import an_unpriced_event
from tests.integration.repricing.world import World


class _Opener:
    """The engines of this test session, opened for a command."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def pools(self) -> AbstractAsyncContextManager[Pools]:
        return open_pools(self._settings)


async def _run(settings: Settings, tenant_id: str, *options: str, answer: str | None = None) -> Result:
    now = utc_now()
    span = ["--from", f"{now - timedelta(days=2):%Y-%m-%d}", "--to", (now + timedelta(days=1)).isoformat()]
    command = [*span, "--tenant", tenant_id, *options]
    return await asyncio.to_thread(CliRunner().invoke, reprice, command, obj=_Opener(settings), input=answer)


@pytest.fixture
async def mispriced(world: World) -> World:
    """A tenant with three charges that an alias would price by now, and one of another team."""
    await world.create_budget("everything", {})
    events = [an_unpriced_event() for _ in range(3)]
    await world.post(*events, an_unpriced_event(metadata={"user_api_key_team_id": "other"}))
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    return world


async def test_without_apply_it_shows_and_writes_nothing(settings: Settings, mispriced: World) -> None:
    before = await mispriced.sums()
    shown = await _run(settings, mispriced.tenant_id)
    assert shown.exit_code == 0, shown.output
    assert re.search(r"4 charges examined, 4 change", shown.stdout)
    assert "unpriced" in shown.stdout
    assert "openai/gpt-4.1-mini" in shown.stdout
    assert await mispriced.sums() == before


async def test_it_writes_after_the_question_is_answered(settings: Settings, mispriced: World) -> None:
    refused = await _run(settings, mispriced.tenant_id, "--apply", answer="n\n")
    assert refused.exit_code == 0, refused.output
    assert await mispriced.spent() == 0
    agreed = await _run(settings, mispriced.tenant_id, "--apply", answer="y\n")
    assert "4 charges corrected" in agreed.stdout
    assert await mispriced.spent() > 0
    again = await _run(settings, mispriced.tenant_id, "--apply")
    assert "4 charges examined, 0 change" in again.stdout


async def test_filters_narrow_and_yes_does_not_ask(settings: Settings, mispriced: World) -> None:
    options = ("--filter", "team=other", "--filter", "team=none", "--filter", "price_state=unpriced")
    done = await _run(settings, mispriced.tenant_id, *options, "--apply", "--yes")
    assert "1 charges corrected" in done.stdout, done.output
    listed = (await mispriced.call("GET", "/v1/repricings"))["repricings"]
    assert [(each["apply"], each["progress"]["changed"]) for each in listed] == [(True, 1), (False, 1)]
    assert listed[0]["filter"] == {"team": ["other", "none"], "price_state": ["unpriced"]}


@pytest.mark.parametrize(
    ("options", "error"),
    [(("--filter", "teem=x"), InvalidInput), (("--from", "then"), InvalidInput), (("--tenant", "nobody"), NotFound)],
    ids=["field", "time", "tenant"],
)
async def test_what_it_cannot_do_it_says(
    settings: Settings, world: World, options: tuple[str, ...], error: type[Exception]
) -> None:
    refused = await _run(settings, world.tenant_id, *options)
    assert isinstance(refused.exception, error)
    unclear = await _run(settings, world.tenant_id, "--filter", "team")
    assert unclear.exit_code == 2
    assert "FIELD=VALUE" in unclear.output


async def test_it_does_not_run_beside_another_repricing_of_the_tenant(
    settings: Settings, world: World, pools: Pools
) -> None:
    now = utc_now()
    terms = RepricingTerms(time_range=TimeRange(now - timedelta(days=1), now))
    async with pools.postgres.connection() as connection:
        running = await repository.insert_repricing(
            connection, world.tenant_id, new_id(), terms, applies=False, created_by="test", runner_id=new_id()
        )
    assert running is not None
    refused = await _run(settings, world.tenant_id)
    assert isinstance(refused.exception, AlreadyExists)
    async with pools.postgres.connection() as connection:
        await repository.finish(connection, running.as_job(), result=None, failure="test")
    assert (await _run(settings, world.tenant_id)).exit_code == 0
