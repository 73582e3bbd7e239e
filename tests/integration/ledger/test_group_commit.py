"""The group commit against a real database: exactly once, whole or not at all, in one lock order."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest

from service.db.pools import Pools, PostgresConnection
from service.db.tenant_lock import lock_tenant_exclusively
from service.errors import Unavailable
from service.ledger import maintenance
from service.ledger.charge import ChargeDraft, Conflict, Duplicate, MatchedBatch, Recorded, Unstorable
from service.ledger.service import LedgerRecorder
from tests.drafts import a_draft
from tests.integration.ledger.conftest import NotingPublisher, TwoBudgets, a_recorder


async def _scalar(pools: Pools, statement: str, *parameters: Any) -> Any:
    async with pools.postgres.connection() as connection:
        row = await (await connection.execute(statement, parameters)).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]


async def _enforced(pools: Pools, tenant_id: str, budgets: TwoBudgets) -> Decimal:
    return await _scalar(
        pools,
        "SELECT COALESCE(sum(enforced), 0) FROM budget_window WHERE tenant_id = %s AND budget_id = %s",
        tenant_id,
        budgets.everything,
    )


async def test_an_event_sent_fifty_times_to_three_replicas_is_recorded_once(
    pools: Pools, two_budgets: TwoBudgets, publisher: NotingPublisher, ledger_tenant: str
) -> None:
    replicas = [a_recorder(pools, two_budgets, publisher) for _ in range(3)]
    outcomes = await asyncio.gather(
        *(replicas[n % 3].record([a_draft(ledger_tenant, "same", cost="0.5")]) for n in range(50))
    )
    for replica in replicas:
        await replica.close()
    flat = [outcome for [outcome] in outcomes]
    assert Counter(type(outcome) for outcome in flat) == {Recorded: 1, Duplicate: 49}
    assert len({outcome.summary for outcome in flat if isinstance(outcome, Recorded | Duplicate)}) == 1
    assert await _enforced(pools, ledger_tenant, two_budgets) == Decimal("0.5")


async def test_other_content_under_a_known_id_is_a_conflict_that_is_enforced_and_costs_nothing(
    pools: Pools, recorder: LedgerRecorder, two_budgets: TwoBudgets, ledger_tenant: str
) -> None:
    [first] = await recorder.record([a_draft(ledger_tenant, "e", cost="1")])
    [conflict] = await recorder.record([a_draft(ledger_tenant, "e", cost="7", content="other")])
    [again] = await recorder.record([a_draft(ledger_tenant, "e", cost="7", content="other")])
    assert isinstance(first, Recorded)
    assert isinstance(conflict, Conflict)
    assert conflict.original == first.summary
    assert conflict == again
    assert await _enforced(pools, ledger_tenant, two_budgets) == Decimal(8)
    assert await _scalar(pools, "SELECT sum(cost_usd) FROM charge WHERE tenant_id = %s", ledger_tenant) == Decimal(1)
    assert await _scalar(pools, "SELECT sum(requests) FROM spend_total WHERE tenant_id = %s", ledger_tenant) == 1


async def test_one_batch_may_hold_an_event_its_copy_and_its_contradiction(
    recorder: LedgerRecorder, ledger_tenant: str
) -> None:
    outcomes = await recorder.record(
        [
            a_draft(ledger_tenant, "e"),
            a_draft(ledger_tenant, "e"),
            a_draft(ledger_tenant, "e", content="other"),
            a_draft(ledger_tenant, "e", content="other"),
            a_draft(ledger_tenant, "f"),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [Recorded, Duplicate, Conflict, Conflict, Recorded]
    assert outcomes[2] == outcomes[3]


async def test_a_row_the_database_refuses_fails_alone(recorder: LedgerRecorder, ledger_tenant: str) -> None:
    bad = a_draft(ledger_tenant, cost="1", model_cost_usd=Decimal(2))
    drafts = [a_draft(ledger_tenant) for _ in range(20)]
    outcomes = await recorder.record([*drafts[:7], bad, *drafts[7:]])
    assert outcomes[7] == Unstorable("charge_cost_is_model_plus_fees")
    assert Counter(type(outcome) for outcome in outcomes) == {Recorded: 20, Unstorable: 1}


async def test_a_row_too_large_for_an_index_fails_alone_and_for_good(
    recorder: LedgerRecorder, ledger_tenant: str
) -> None:
    """The driver calls this an operational error, and trying again would end the same way."""
    unfiled = a_draft(ledger_tenant, user=random.Random(7).randbytes(3_000).hex())  # does not compress
    outcomes = await recorder.record([a_draft(ledger_tenant), unfiled, *[a_draft(ledger_tenant) for _ in range(5)]])
    assert outcomes.pop(1) == Unstorable("budget_window_pkey")
    assert {type(outcome) for outcome in outcomes} == {Recorded}
    assert await recorder.record([unfiled]) == [Unstorable("budget_window_pkey")]


async def test_a_batch_matched_against_an_outdated_configuration_is_matched_again(
    pools: Pools, recorder: LedgerRecorder, two_budgets: TwoBudgets, ledger_tenant: str
) -> None:
    await recorder.record([a_draft(ledger_tenant)])
    await _scalar(
        pools,
        "UPDATE tenant SET config_version = config_version + 1 WHERE tenant_id = %s RETURNING config_version",
        ledger_tenant,
    )
    [outcome] = await recorder.record([a_draft(ledger_tenant, "after")])
    assert isinstance(outcome, Recorded)
    assert two_budgets.reloads == 1
    counted_under = "SELECT config_version FROM charge WHERE tenant_id = %s AND event_id = 'after'"
    assert await _scalar(pools, counted_under, ledger_tenant) == 2


@pytest.mark.usefixtures("restored_epoch")
async def test_a_restored_ledger_is_not_written_by_what_was_known_before(
    pools: Pools, recorder: LedgerRecorder, two_budgets: TwoBudgets, ledger_tenant: str
) -> None:
    await recorder.record([a_draft(ledger_tenant)])
    epoch = await maintenance.raise_epoch_after_restore(pools.postgres)
    match = two_budgets.match

    async def match_as_before(
        drafts: Sequence[ChargeDraft], *, connection: PostgresConnection | None = None
    ) -> MatchedBatch:
        matched = await match(drafts, connection=connection)
        return matched if connection is not None else msgspec.structs.replace(matched, epoch=epoch - 1)

    two_budgets.match = match_as_before  # type: ignore[method-assign]
    [outcome] = await recorder.record([a_draft(ledger_tenant)])
    assert isinstance(outcome, Recorded)
    assert two_budgets.reloads == 1


async def test_outcomes_tell_of_charges_as_they_were_written(
    pools: Pools, recorder: LedgerRecorder, two_budgets: TwoBudgets, ledger_tenant: str
) -> None:
    """Whoever matches may price anew: also what contradicts, also in a batch that one refused row takes apart."""
    match = two_budgets.match

    async def match_dearer(
        drafts: Sequence[ChargeDraft], *, connection: PostgresConnection | None = None
    ) -> MatchedBatch:
        matched = await match(drafts, connection=connection)
        price = {"cost_usd": Decimal(7), "model_cost_usd": Decimal(7), "enforced_usd": Decimal(7)}
        dearer = [
            msgspec.structs.replace(each, **price) if each.kind == "usage" and each.event_id != "bad" else each
            for each in matched.charges
        ]
        return msgspec.structs.replace(matched, charges=dearer)

    two_budgets.match = match_dearer  # type: ignore[method-assign]
    drafts = [
        a_draft(ledger_tenant, "one"),
        a_draft(ledger_tenant, "one", content="other"),
        a_draft(ledger_tenant, "bad", cost="1", model_cost_usd=Decimal(2)),
        a_draft(ledger_tenant, "two"),
    ]
    first, contradiction, refused, second = await recorder.record(drafts)
    assert isinstance(first, Recorded)
    assert isinstance(second, Recorded)
    assert [each.summary.cost_usd for each in (first, second)] == [7, 7]
    assert [each.charge.cost_usd for each in (first, second)] == [7, 7]
    assert isinstance(refused, Unstorable)
    assert isinstance(contradiction, Conflict)
    assert contradiction.original == first.summary
    assert await _enforced(pools, ledger_tenant, two_budgets) == 21


async def test_a_configuration_that_never_rests_holds_up_no_batch(
    pools: Pools, recorder: LedgerRecorder, two_budgets: TwoBudgets, ledger_tenant: str
) -> None:
    """Whatever version the matcher is told outside the lock is outdated by the time the batch is written."""
    raised = 0

    async def change_once_more() -> None:
        nonlocal raised
        async with pools.postgres.connection() as connection, connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '200ms'")
            await lock_tenant_exclusively(connection, ledger_tenant)
            await connection.execute(
                "UPDATE tenant SET config_version = config_version + 1 WHERE tenant_id = %s", (ledger_tenant,)
            )
            raised += 1

    match = two_budgets.match

    async def match_and_change(
        drafts: Sequence[ChargeDraft], *, connection: PostgresConnection | None = None
    ) -> MatchedBatch:
        matched = await match(drafts, connection=connection)
        with suppress(psycopg.errors.LockNotAvailable):
            await change_once_more()
        return matched

    two_budgets.match = match_and_change  # type: ignore[method-assign]
    [outcome] = await recorder.record([a_draft(ledger_tenant)])
    assert isinstance(outcome, Recorded)
    assert raised == 1


async def test_overlapping_batches_in_opposite_order_never_deadlock(
    pools: Pools, two_budgets: TwoBudgets, publisher: NotingPublisher, ledger_tenant: str
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201 - to repeat a failure
    chance = random.Random(seed)
    deadlocks_before = await _scalar(pools, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    recorders = [a_recorder(pools, two_budgets, publisher) for _ in range(8)]

    async def work(recorder: LedgerRecorder) -> list[Any]:
        outcomes: list[Any] = []
        for _ in range(12):
            numbers = chance.sample(range(400), 60)
            drafts = [
                a_draft(ledger_tenant, f"e{n}", user=f"u{n % 40}", team=f"t{n % 7}", tags=(f"x{n % 5}", f"y{n % 3}"))
                for n in numbers
            ]
            outcomes += await recorder.record(drafts)
        return outcomes

    outcomes = [outcome for part in await asyncio.gather(*map(work, recorders)) for outcome in part]
    for recorder in recorders:
        await recorder.close()
    assert {type(outcome) for outcome in outcomes} <= {Recorded, Duplicate}
    recorded = sum(isinstance(outcome, Recorded) for outcome in outcomes)
    assert await _enforced(pools, ledger_tenant, two_budgets) == recorded * Decimal("0.001")
    await _scalar(pools, "SELECT pg_stat_clear_snapshot()")
    deadlocks = await _scalar(pools, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert deadlocks == deadlocks_before


async def test_rows_are_locked_in_the_one_global_order_hottest_last(
    pools: Pools, recorder: LedgerRecorder, ledger_tenant: str
) -> None:
    """Data-modifying CTEs run in an order of PostgreSQL's choosing unless one reads the other: triggers tell."""
    tables = ("event_key", "charge", "spend_total", "spend_label_total", "budget_window")
    async with pools.postgres.connection() as connection:
        await connection.execute("CREATE SEQUENCE write_order")
        await connection.execute("CREATE TABLE write_log (at bigint, tenant text, place text, detail text)")
        await connection.execute("""
            CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO write_log VALUES (nextval('write_order'), NEW.tenant_id, TG_ARGV[0],
                    CASE TG_ARGV[0] WHEN 'budget_window' THEN to_jsonb(NEW) ->> 'subject' END);
                RETURN NULL;
            END $$""")
        for table in tables:
            await connection.execute(
                f"CREATE TRIGGER log_write AFTER INSERT OR UPDATE ON {table}"
                f" FOR EACH ROW EXECUTE FUNCTION log_write('{table}')"
            )
        try:
            drafts = [a_draft(ledger_tenant, user=f"u{n}", tags=("x",)) for n in range(5)]
            await recorder.record(drafts)
            cursor = await connection.execute(
                "SELECT place, detail FROM write_log WHERE tenant = %s ORDER BY at", (ledger_tenant,)
            )
            rows = await cursor.fetchall()
        finally:
            await connection.execute("DROP FUNCTION log_write CASCADE")
            await connection.execute("DROP TABLE write_log")
            await connection.execute("DROP SEQUENCE write_order")
    places = [place for place, _ in rows]
    assert [place for n, place in enumerate(places) if n == 0 or places[n - 1] != place] == list(tables)
    assert [detail for place, detail in rows if place == "budget_window"][-1] == "{}"


async def test_a_connection_killed_in_the_middle_acknowledges_nothing_and_loses_nothing(
    pools: Pools, recorder: LedgerRecorder, ledger_tenant: str
) -> None:
    drafts = [a_draft(ledger_tenant, f"e{n}") for n in range(30)]
    async with pools.postgres.connection() as blocker, blocker.transaction():
        # Whoever inserts these keys has to wait for this transaction: the batch is inside its own.
        await blocker.execute(
            "INSERT INTO event_key (tenant_id, source, event_id, fingerprint, fingerprint_version, charge_id,"
            " recorded_at) VALUES (%s, 'litellm', 'e7', '', 1, gen_random_uuid(), now())",
            (ledger_tenant,),
        )
        recording = asyncio.create_task(recorder.record(drafts))
        await _kill_the_waiting_backend(pools)
        with pytest.raises(Unavailable):
            await recording
        raise psycopg.Rollback
    assert await _scalar(pools, "SELECT count(*) FROM charge WHERE tenant_id = %s", ledger_tenant) == 0
    outcomes = await recorder.record(drafts)
    assert {type(outcome) for outcome in outcomes} == {Recorded}


async def _kill_the_waiting_backend(pools: Pools) -> None:
    async with asyncio.timeout(10):
        killed = 0
        while not killed:
            await asyncio.sleep(0.01)
            killed = await _scalar(
                pools,
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock' AND query LIKE '%%Record one batch%%'",
            )


async def test_published_outbox_rows_are_deleted_with_the_next_commit(
    pools: Pools, recorder: LedgerRecorder, ledger_tenant: str
) -> None:
    waiting = "SELECT count(*) FROM outbox WHERE tenant_id = %s"
    await recorder.record([a_draft(ledger_tenant)])
    assert await _scalar(pools, waiting, ledger_tenant) == 1
    await recorder.record([a_draft(ledger_tenant)])
    assert await _scalar(pools, waiting, ledger_tenant) == 1
    await recorder.delete_published()
    assert await _scalar(pools, waiting, ledger_tenant) == 0
