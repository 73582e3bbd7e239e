"""Corrections against a real database: a reversal and what comes in its place, both or neither, once per charge."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from service.db.pools import Pools, PostgresConnection
from service.errors import StateConflict
from service.kit.sources import LEDGER_SOURCE
from service.ledger.charge import ChargeDraft, Recorded, Unstorable
from service.ledger.corrections import (
    AlreadyReversed,
    Corrected,
    Correction,
    CorrectionOutcome,
    correction_event_id,
)
from service.ledger.queries import ChargeQueries
from service.ledger.reversal import ReversalService, reversal_of
from service.ledger.service import LedgerRecorder
from tests.drafts import a_draft
from tests.integration.ledger.conftest import NotingPublisher, TwoBudgets, a_recorder

_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


async def _rows(pools: Pools, statement: str, *parameters: Any) -> list[Any]:
    async with pools.postgres.connection() as connection:
        return await (await connection.execute(statement, parameters)).fetchall()  # type: ignore[arg-type]


async def _recorded(recorder: LedgerRecorder, *drafts: ChargeDraft) -> list[UUID]:
    outcomes = await recorder.record(drafts)
    assert all(isinstance(outcome, Recorded) for outcome in outcomes)
    return [draft.charge_id for draft in drafts]


async def _correction(pools: Pools, tenant_id: str, charge_id: UUID, cost: str, **fields: Any) -> Correction:
    """Return what replaces a charge by one that costs something else."""
    row = await ChargeQueries(pools.postgres).get_row(tenant_id, charge_id)
    replacement = msgspec.structs.replace(
        a_draft(tenant_id, correction_event_id(charge_id), cost=cost, effective_at=row["effective_at"], **fields),
        kind="correction",
        source=LEDGER_SOURCE,
        corrects_charge_id=charge_id,
    )
    return Correction(reversal=reversal_of(row, "repriced"), replacement=replacement)


async def _windows(pools: Pools, tenant_id: str) -> dict[str, Decimal]:
    rows = await _rows(pools, "SELECT subject, enforced FROM budget_window WHERE tenant_id = %s", tenant_id)
    return dict(rows)


async def test_a_correction_moves_the_amount_and_counts_the_request_once(
    pools: Pools, recorder: LedgerRecorder, publisher: NotingPublisher, ledger_tenant: str
) -> None:
    [charge_id] = await _recorded(recorder, a_draft(ledger_tenant, cost="1", user="u1"))
    publisher.posts.clear()
    [outcome] = await recorder.correct(
        ledger_tenant, [await _correction(pools, ledger_tenant, charge_id, "0.25", user="u2")]
    )
    await recorder.delete_published()
    assert isinstance(outcome, Corrected)
    assert await _windows(pools, ledger_tenant) == {
        "{}": Decimal("0.25"),
        '{"user":"u1"}': Decimal(0),
        '{"user":"u2"}': Decimal("0.25"),
    }
    sums = await _rows(
        pools, "SELECT sum(requests), sum(cost_usd) FROM spend_total WHERE tenant_id = %s", ledger_tenant
    )
    assert sums == [(1, Decimal("0.25"))]
    [posts] = publisher.posts
    published = {state.subject: state.enforced for state in posts.counters}
    assert published == await _windows(pools, ledger_tenant)
    assert posts.settlements == ()


async def test_a_charge_is_corrected_or_reversed_once_whoever_tries(
    pools: Pools, two_budgets: TwoBudgets, publisher: NotingPublisher, ledger_tenant: str
) -> None:
    replicas = [a_recorder(pools, two_budgets, publisher) for _ in range(3)]
    ids = await _recorded(replicas[0], *(a_draft(ledger_tenant, cost="1") for _ in range(12)))
    made = {charge_id: await _correction(pools, ledger_tenant, charge_id, "3") for charge_id in ids}

    async def correct(replica: LedgerRecorder, wanted: Sequence[UUID]) -> list[CorrectionOutcome]:
        fresh = [
            Correction(
                reversal=msgspec.structs.replace(made[one].reversal, charge_id=UUID(int=random.getrandbits(128))),
                replacement=msgspec.structs.replace(
                    made[one].replacement,  # type: ignore[type-var]
                    charge_id=UUID(int=random.getrandbits(128)),
                ),
            )
            for one in wanted
        ]
        return await replica.correct(ledger_tenant, fresh)

    async def reverse(replica: LedgerRecorder, charge_id: UUID) -> bool:
        with suppress(StateConflict):
            await ReversalService(ChargeQueries(pools.postgres), replica).reverse(ledger_tenant, charge_id, "by hand")
            return True
        return False

    corrected, corrected_backwards, corrected_again, *reversed_ = await asyncio.gather(
        correct(replicas[0], ids),
        correct(replicas[1], ids[::-1]),
        correct(replicas[2], ids[3:9]),
        *(reverse(replicas[n % 3], charge_id) for n, charge_id in enumerate(ids)),
    )
    for replica in replicas:
        await replica.close()
    outcomes = [*corrected, *corrected_backwards, *corrected_again]
    assert {type(outcome) for outcome in outcomes} <= {Corrected, AlreadyReversed}
    replaced = sum(isinstance(outcome, Corrected) for outcome in outcomes)
    assert replaced + sum(reversed_) == len(ids)
    kinds = await _rows(pools, "SELECT kind, count(*) FROM charge WHERE tenant_id = %s GROUP BY kind", ledger_tenant)
    assert Counter(dict(kinds)) == Counter(usage=len(ids), reversal=len(ids), correction=replaced)
    assert (await _windows(pools, ledger_tenant))["{}"] == 3 * replaced


async def test_corrections_and_batches_of_one_tenant_never_deadlock(
    pools: Pools, two_budgets: TwoBudgets, publisher: NotingPublisher, ledger_tenant: str
) -> None:
    [(before,)] = await _rows(pools, _DEADLOCKS)
    recorders = [a_recorder(pools, two_budgets, publisher) for _ in range(5)]

    def drafts(name: str, numbers: Sequence[int]) -> list[ChargeDraft]:
        return [
            a_draft(ledger_tenant, f"{name}-{n}", user=f"u{n % 30}", team=f"t{n % 7}", tags=(f"x{n % 5}", f"y{n % 3}"))
            for n in numbers
        ]

    ids = await _recorded(recorders[0], *drafts("old", range(150)))
    corrections = [
        await _correction(pools, ledger_tenant, one, "2", user=f"u{n % 11}", tags=(f"x{n % 5}",))
        for n, one in enumerate(ids)
    ]

    async def ingest(recorder: LedgerRecorder, number: int) -> None:
        for turn in range(8):
            numbers = random.sample(range(200), 40)
            await recorder.record(drafts(f"new-{number}-{turn}", numbers))

    async def correct(recorder: LedgerRecorder, part: list[Correction]) -> int:
        found = 0
        for start in range(0, len(part), 25):
            outcomes = await recorder.correct(ledger_tenant, part[start : start + 25])
            found += sum(isinstance(outcome, Corrected) for outcome in outcomes)
        return found

    *_, forward, backward = await asyncio.gather(
        *(ingest(recorder, number) for number, recorder in enumerate(recorders[:3])),
        correct(recorders[3], corrections),
        correct(recorders[4], corrections[::-1]),
    )
    for recorder in recorders:
        await recorder.close()
    assert forward + backward == len(ids)
    await _rows(pools, "SELECT pg_stat_clear_snapshot()")
    assert await _rows(pools, _DEADLOCKS) == [(before,)]
    assert (await _windows(pools, ledger_tenant))["{}"] == 300 + 3 * 8 * 40 * Decimal("0.001")


async def test_a_correction_matched_against_an_outdated_configuration_is_matched_again(
    pools: Pools, recorder: LedgerRecorder, two_budgets: TwoBudgets, ledger_tenant: str
) -> None:
    [charge_id] = await _recorded(recorder, a_draft(ledger_tenant))
    await _rows(
        pools,
        "UPDATE tenant SET config_version = config_version + 1 WHERE tenant_id = %s RETURNING 1",
        ledger_tenant,
    )
    correction = await _correction(pools, ledger_tenant, charge_id, "2")
    [outcome] = await recorder.correct(ledger_tenant, [correction])
    assert isinstance(outcome, Corrected)
    assert two_budgets.reloads == 1
    versions = "SELECT DISTINCT config_version FROM charge WHERE tenant_id = %s AND kind <> 'usage'"
    assert await _rows(pools, versions, ledger_tenant) == [(2,)]


async def test_a_correction_the_database_refuses_fails_alone_and_leaves_its_charge_as_it_was(
    pools: Pools, recorder: LedgerRecorder, ledger_tenant: str
) -> None:
    ids = await _recorded(recorder, *(a_draft(ledger_tenant, cost="1") for _ in range(7)))
    corrections = [await _correction(pools, ledger_tenant, one, "2") for one in ids]
    assert corrections[4].replacement is not None
    wrong = msgspec.structs.replace(corrections[4].replacement, model_cost_usd=Decimal(1))
    corrections[4] = msgspec.structs.replace(corrections[4], replacement=wrong)
    outcomes = await recorder.correct(ledger_tenant, corrections)
    assert outcomes[4] == Unstorable("charge_cost_is_model_plus_fees")
    assert sum(isinstance(outcome, Corrected) for outcome in outcomes) == 6
    assert await ChargeQueries(pools.postgres).find_present(ledger_tenant, ids[4]) == ids[4]
    assert (await _windows(pools, ledger_tenant))["{}"] == 13


async def test_what_is_committed_alongside_and_the_corrections_are_one(
    pools: Pools, recorder: LedgerRecorder, ledger_tenant: str
) -> None:
    [charge_id] = await _recorded(recorder, a_draft(ledger_tenant, cost="1"))
    correction = await _correction(pools, ledger_tenant, charge_id, "2")

    class LostError(Exception):
        pass

    async def fail(connection: PostgresConnection, outcomes: Sequence[CorrectionOutcome]) -> None:
        assert [type(outcome) for outcome in outcomes] == [Corrected]
        raise LostError

    with pytest.raises(LostError):
        await recorder.correct(ledger_tenant, [correction], alongside=fail)
    assert (await _windows(pools, ledger_tenant))["{}"] == 1
    assert isinstance((await recorder.correct(ledger_tenant, [correction]))[0], Corrected)


async def test_what_is_committed_alongside_holds_up_no_batch_of_the_same_counters(
    pools: Pools,
    recorder: LedgerRecorder,
    two_budgets: TwoBudgets,
    publisher: NotingPublisher,
    ledger_tenant: str,
) -> None:
    """Counters are locked by the statement that is sent with the commit, not while anything else is being done."""
    [charge_id] = await _recorded(recorder, a_draft(ledger_tenant, cost="1"))
    correction = await _correction(pools, ledger_tenant, charge_id, "2")
    ingest = a_recorder(pools, two_budgets, publisher)

    async def record_meanwhile(_: PostgresConnection, __: Sequence[CorrectionOutcome]) -> None:
        async with asyncio.timeout(10):
            await _recorded(ingest, a_draft(ledger_tenant, cost="4"))

    [outcome] = await recorder.correct(ledger_tenant, [correction], alongside=record_meanwhile)
    await ingest.close()
    assert isinstance(outcome, Corrected)
    assert (await _windows(pools, ledger_tenant))["{}"] == 6


async def test_a_charge_that_was_corrected_twice_names_what_stands_in_its_place(
    pools: Pools, recorder: LedgerRecorder, ledger_tenant: str
) -> None:
    queries = ChargeQueries(pools.postgres)
    reversals = ReversalService(queries, recorder)
    [first] = await _recorded(recorder, a_draft(ledger_tenant))
    present = first
    for cost in ("2", "3"):
        [outcome] = await recorder.correct(ledger_tenant, [await _correction(pools, ledger_tenant, present, cost)])
        assert isinstance(outcome, Corrected)
        assert outcome.replacement_id is not None
        present = outcome.replacement_id
    with pytest.raises(StateConflict, match=str(present)) as refused:
        await reversals.reverse(ledger_tenant, first, "by hand")
    assert refused.value.code == "already_reversed"
    await reversals.reverse(ledger_tenant, present, "by hand")
    assert await queries.find_present(ledger_tenant, first) is None
    with pytest.raises(StateConflict, match="reversed before"):
        await reversals.reverse(ledger_tenant, first, "by hand")
    assert (await _windows(pools, ledger_tenant))["{}"] == 0


async def test_a_charge_is_not_reversed_when_the_key_of_what_would_replace_it_is_taken(
    pools: Pools, recorder: LedgerRecorder, ledger_tenant: str
) -> None:
    [charge_id, other_id] = await _recorded(
        recorder, a_draft(ledger_tenant, "e1", cost="1"), a_draft(ledger_tenant, "e2", cost="1")
    )
    correction = await _correction(pools, ledger_tenant, charge_id, "0.25")
    assert correction.replacement is not None
    squatter = msgspec.structs.replace(a_draft(ledger_tenant, cost="3"), event_id="e1#accepted-1", source="gateway")
    await _recorded(recorder, squatter)
    blocked = msgspec.structs.replace(
        correction,
        replacement=msgspec.structs.replace(correction.replacement, event_id="e1#accepted-1", source="gateway"),
    )
    free = await _correction(pools, ledger_tenant, other_id, "0.5")
    outcomes = await recorder.correct(ledger_tenant, [blocked, free])
    assert outcomes[0] == Unstorable("event_recorded_once")
    assert isinstance(outcomes[1], Corrected)
    assert isinstance((await recorder.correct(ledger_tenant, [correction]))[0], Corrected)
