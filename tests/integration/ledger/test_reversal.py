"""Reversals against a real database: wholly, in the original's hour, and at most once."""

import asyncio
from collections import Counter
from decimal import Decimal

import pytest

from service.db.pools import Pools
from service.errors import NotFound, StateConflict
from service.kit.ids import new_id
from service.ledger.charge import Recorded
from service.ledger.queries import ChargeQueries
from service.ledger.reversal import ReversalService, Reversed
from service.ledger.service import LedgerRecorder
from tests.drafts import a_draft
from tests.integration.ledger.conftest import TwoBudgets


@pytest.fixture
def reversals(pools: Pools, recorder: LedgerRecorder) -> ReversalService:
    return ReversalService(ChargeQueries(pools.postgres), recorder)


async def test_charges_reversed_twice_concurrently_are_reversed_once_and_net_to_nothing(
    pools: Pools, recorder: LedgerRecorder, reversals: ReversalService, two_budgets: TwoBudgets, ledger_tenant: str
) -> None:
    outcomes = await recorder.record([a_draft(ledger_tenant, cost="0.37", tags=("x",)) for _ in range(25)])
    ids = [outcome.summary.charge_id for outcome in outcomes if isinstance(outcome, Recorded)]

    async def reverse(charge_id: object) -> str:
        try:
            await reversals.reverse(ledger_tenant, charge_id, "test")  # type: ignore[arg-type]
        except StateConflict as error:
            return error.code
        return "reversed"

    answers = Counter(await asyncio.gather(*(reverse(charge_id) for charge_id in ids * 2)))
    assert answers == {"reversed": 25, "already_reversed": 25}
    async with pools.postgres.connection() as connection:
        sums = await (
            await connection.execute(
                "SELECT sum(cost_usd), sum(requests), sum(input_tokens), sum(enforced_usd) FROM spend_total"
                " WHERE tenant_id = %s",
                (ledger_tenant,),
            )
        ).fetchone()
        windows = await (
            await connection.execute(
                "SELECT DISTINCT enforced FROM budget_window WHERE tenant_id = %s", (ledger_tenant,)
            )
        ).fetchall()
    assert sums == (0, 0, 0, 0)
    assert windows == [(Decimal(0),)]


async def test_a_reversal_names_its_original_and_cannot_be_reversed_itself(
    recorder: LedgerRecorder, reversals: ReversalService, ledger_tenant: str
) -> None:
    [outcome] = await recorder.record([a_draft(ledger_tenant)])
    assert isinstance(outcome, Recorded)
    reversed_ = await reversals.reverse(ledger_tenant, outcome.summary.charge_id, "booked to the wrong team")
    assert isinstance(reversed_, Reversed)
    assert reversed_.corrects_charge_id == outcome.summary.charge_id
    with pytest.raises(StateConflict, match="reversal"):
        await reversals.reverse(ledger_tenant, reversed_.charge_id, "undo")


async def test_a_charge_of_another_tenant_is_not_found(
    recorder: LedgerRecorder, reversals: ReversalService, ledger_tenant: str
) -> None:
    [outcome] = await recorder.record([a_draft(ledger_tenant)])
    assert isinstance(outcome, Recorded)
    with pytest.raises(NotFound):
        await reversals.reverse("someone-else", outcome.summary.charge_id, "theft")
    with pytest.raises(NotFound):
        await reversals.reverse(ledger_tenant, new_id(), "unknown")


async def test_an_amount_of_forty_digits_is_cancelled_exactly(
    pools: Pools, recorder: LedgerRecorder, reversals: ReversalService, ledger_tenant: str
) -> None:
    [outcome] = await recorder.record([a_draft(ledger_tenant, cost="123456789.0123456789012345678901234567891")])
    assert isinstance(outcome, Recorded)
    await reversals.reverse(ledger_tenant, outcome.summary.charge_id, "test")
    async with pools.postgres.connection() as connection:
        cursor = await connection.execute("SELECT sum(cost_usd) FROM charge WHERE tenant_id = %s", (ledger_tenant,))
        assert await cursor.fetchone() == (0,)
