"""Who works on a repricing, and who goes on with it: nothing is skipped, counted twice or written by two."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from service.checks.publisher import Publisher
from service.config.fence import ConfigFence
from service.config.service import ConfigStore
from service.config.window_matcher import ConfigWindowMatcher
from service.db.pools import Pools
from service.errors import Unavailable
from service.kit.clock import utc_now
from service.kit.ids import new_id
from service.ledger.filters import TimeRange
from service.ledger.service import LedgerRecorder
from service.pricing.registry import PriceBooks
from service.repricing import commands, repository
from service.repricing import repricer as repricer_module
from service.repricing.queries import PAGE_CHARGES
from service.repricing.repository import LostClaim
from service.repricing.repricer import Repricer
from service.repricing.terms import Job, Progress, RepricingTerms
from tests.integration.repricing.calls import an_unpriced_event
from tests.integration.repricing.world import World

_CHARGES = 2 * PAGE_CHARGES + 40

MakeRepricer = Callable[..., Repricer]


@pytest.fixture
async def make_repricer(pools: Pools) -> AsyncIterator[MakeRepricer]:
    """Make repricers as other processes have them."""
    publisher = Publisher(pools.redis, pools.postgres, publish_wait_ms=500)
    publisher.start()
    recorders: list[LedgerRecorder] = []

    def make(**options: Any) -> Repricer:
        configs = ConfigStore(pools.postgres, ConfigFence(pools.redis))
        matcher = ConfigWindowMatcher(configs)
        recorders.append(LedgerRecorder(pools.postgres, matcher, publisher, max_batch_charges=1, batch_wait_ms=0))
        return Repricer(pools.postgres, configs, PriceBooks(pools.postgres), recorders[-1], rest_share=0, **options)

    yield make
    for recorder in recorders:
        await recorder.close()
    await publisher.close()


@pytest.fixture
async def mispriced(world: World) -> World:
    """A tenant with charges on three pages that an alias would price by now."""
    await world.create_budget("everything", {})
    await world.create_budget("each-model", {"served_model": "*"})
    for start in range(0, _CHARGES, 100):
        await world.post(*(an_unpriced_event() for _ in range(min(100, _CHARGES - start))))
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    return world


async def _begin(world: World, *, applies: bool = True) -> Job:
    now = utc_now()
    terms = RepricingTerms(time_range=TimeRange(now - timedelta(days=1), now + timedelta(days=1)))
    async with world.pools.postgres.connection() as connection:
        row = await repository.insert_repricing(
            connection, world.tenant_id, new_id(), terms, applies=applies, created_by="test", runner_id=new_id()
        )
    assert row is not None
    return row.as_job()


async def _claim(world: World, job: Job) -> Job:
    """Claim a repricing as if the time of its runner were over; the workers of others never see it free."""
    expire = "UPDATE repricing SET leased_until = NULL WHERE tenant_id = %s AND repricing_id = %s"
    async with world.pools.postgres.connection() as connection, connection.transaction():
        await connection.execute(expire, (world.tenant_id, job.repricing_id))
        jobs = await repository.claim_repricings(connection, new_id())
    [claimed] = [each for each in jobs if each.repricing_id == job.repricing_id]
    return claimed


async def _assert_all_corrected_once(world: World, repricing_id: UUID) -> None:
    kinds = dict(await world.rows("SELECT kind, count(*) FROM charge WHERE tenant_id = %s GROUP BY 1", world.tenant_id))
    assert kinds == {"usage": _CHARGES, "reversal": _CHARGES, "correction": _CHARGES}
    ended = await world.call("GET", f"/v1/repricings/{repricing_id}")
    assert ended["state"] == "done"
    assert (ended["progress"]["examined"], ended["progress"]["changed"]) == (_CHARGES, _CHARGES)
    states = {shift["price_state"]: shift["charges_after"] for shift in ended["result"]["price_states"]}
    assert states == {"unpriced": 0, "priced": _CHARGES}


async def test_whoever_goes_on_after_a_crash_between_pages_skips_and_repeats_nothing(
    mispriced: World, make_repricer: MakeRepricer
) -> None:
    job = await _begin(mispriced)

    class CrashError(Exception):
        pass

    def crash(_: Progress) -> None:
        raise CrashError

    for _ in range(2):
        with pytest.raises(CrashError):
            await make_repricer().run(job, crash)
        job = await _claim(mispriced, job)
    assert (job.progress.examined, job.progress.changed) == (2 * PAGE_CHARGES, 2 * PAGE_CHARGES)
    await make_repricer().run(job)
    await _assert_all_corrected_once(mispriced, job.repricing_id)


async def test_a_runner_that_lost_its_claim_writes_nothing_more(mispriced: World, make_repricer: MakeRepricer) -> None:
    job = await _begin(mispriced)
    claimed: list[Job] = []
    turns = 0

    @asynccontextmanager
    async def losing_the_second_turn() -> AsyncIterator[None]:
        nonlocal turns
        turns += 1
        if turns == 2:
            claimed.append(await _claim(mispriced, job))
        yield

    class Turn(AbstractAsyncContextManager[None]):
        async def __aenter__(self) -> None:
            self._inner = losing_the_second_turn()
            await self._inner.__aenter__()

        async def __aexit__(self, *details: object) -> None:
            await self._inner.__aexit__(*details)

    with pytest.raises(LostClaim):
        await make_repricer(turn=Turn()).run(job)
    written = "SELECT count(*) FROM charge WHERE tenant_id = %s AND kind = 'correction'"
    assert await mispriced.rows(written, mispriced.tenant_id) == [(PAGE_CHARGES,)]
    [other] = claimed
    await make_repricer().run(other)
    await _assert_all_corrected_once(mispriced, job.repricing_id)
    with pytest.raises(LostClaim):
        await make_repricer().run(job)


async def test_two_that_run_the_same_repricing_at_once_correct_each_charge_once(
    mispriced: World, make_repricer: MakeRepricer
) -> None:
    """Not even the claim is needed for that: a second runner under the same claim stands for one that woke up."""
    job = await _begin(mispriced)
    ends: list[Awaitable[Any]] = [make_repricer().run(job), make_repricer().run(job)]
    outcomes = await asyncio.gather(*ends, return_exceptions=True)
    assert all(isinstance(outcome, LostClaim) for outcome in outcomes if isinstance(outcome, BaseException))
    kinds = dict(
        await mispriced.rows("SELECT kind, count(*) FROM charge WHERE tenant_id = %s GROUP BY 1", mispriced.tenant_id)
    )
    assert kinds == {"usage": _CHARGES, "reversal": _CHARGES, "correction": _CHARGES}


async def test_a_preview_that_is_taken_up_again_begins_again(mispriced: World, make_repricer: MakeRepricer) -> None:
    job = await _begin(mispriced, applies=False)

    class CrashError(Exception):
        pass

    def crash(_: Progress) -> None:
        raise CrashError

    with pytest.raises(CrashError):
        await make_repricer().run(job, crash)
    job = await _claim(mispriced, job)
    result = await make_repricer().run(job)
    assert sum(shift.charges_before for shift in result.price_states) == _CHARGES
    ended = await mispriced.call("GET", f"/v1/repricings/{job.repricing_id}")
    assert (ended["state"], ended["progress"]["examined"]) == ("done", _CHARGES)


async def test_a_server_takes_up_what_nobody_works_on(mispriced: World) -> None:
    job = await _begin(mispriced)
    async with mispriced.pools.postgres.connection() as connection:
        await repository.release(connection, job)
    # Whatever is asked for next wakes the server's worker, which finds this one, too.
    other_days = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
    assert (await mispriced.ask("POST", "/v1/repricings", json=other_days)).status_code in {200, 409}
    state = "running"
    async with asyncio.timeout(30):
        while state == "running":
            await asyncio.sleep(0.05)
            state = (await mispriced.call("GET", f"/v1/repricings/{job.repricing_id}"))["state"]
    await _assert_all_corrected_once(mispriced, job.repricing_id)


async def test_a_crash_while_the_result_is_summed_up_counts_the_last_page_once(
    mispriced: World, make_repricer: MakeRepricer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await _begin(mispriced)

    class CrashError(Exception):
        pass

    async def crash(*_: Any) -> Any:
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(repricer_module, "read_moved", crash)
        with pytest.raises(CrashError):
            await make_repricer().run(job)
    await make_repricer().run(await _claim(mispriced, job))
    await _assert_all_corrected_once(mispriced, job.repricing_id)


async def test_an_operator_is_told_where_a_repricing_goes_on_that_a_server_took_over(
    mispriced: World, make_repricer: MakeRepricer, monkeypatch: pytest.MonkeyPatch
) -> None:
    repricer = make_repricer()
    apply = repricer.apply

    async def lose_claim(job: Job, on_progress: Any) -> Progress:
        await _claim(mispriced, job)
        return await apply(job, on_progress)

    monkeypatch.setattr(repricer, "apply", lose_claim)
    now = utc_now()
    terms = RepricingTerms(time_range=TimeRange(now - timedelta(days=1), now + timedelta(days=1)))
    run = commands.Run(mispriced.pools.postgres, repricer, mispriced.tenant_id, terms)
    with pytest.raises(Unavailable, match="/v1/repricings/"):
        await commands.carry_out(run, applies=True)
    async with mispriced.pools.postgres.connection() as connection:
        running = await repository.find_running(connection, mispriced.tenant_id)
    assert running is not None
    await make_repricer().run(await _claim(mispriced, running.as_job()))
