"""Gateways whose counters fall silent: answered by the policy of the budgets, each call holding for itself."""

import asyncio

import pytest

from service.access.tokens import Caller
from service.checks.dialects.answers import Answer, answer_of
from service.checks.dialects.question import Question
from service.checks.dialects.service import DialectService
from service.kit.clock import utc_now
from service.kit.ids import new_id
from tests.api.checks.replica import Replica
from tests.api.checks.world import MODEL, World


async def ask(world: World, replica: Replica, *, reserve: bool = False) -> Answer:
    dialects = DialectService(replica.checks, world.services.config_store)
    roles = frozenset({"check"})
    caller = Caller(tenant_id=world.tenant_id, token_id=new_id(), name="gateway", roles=roles, reserve=reserve)
    # At most 0.1 USD each.
    question = Question(models=(MODEL,), max_output_tokens=62_500, call_id="the-same")
    return answer_of(await dialects.decide(caller, question), utc_now())


@pytest.mark.parametrize(("policy", "status"), [("allow", 200), ("deny", 402), ("ledger", 200)])
async def test_the_policy_of_the_budget_decides(world: World, replica: Replica, policy: str, status: int):
    await world.put_budget(limit_usd="5", on_unavailable=policy)
    replica.line.change("refusing")
    answer = await ask(world, replica)
    assert (answer.status, answer.headers["x-tallygate-degraded"]) == (status, "true")
    if status == 402:
        assert answer.code == "counters_unavailable"


async def test_one_id_for_all_calls_lets_no_more_through_while_the_counters_are_silent(world: World, replica: Replica):
    await world.put_budget(limit_usd="0.55")
    replica.line.change("refusing")
    answers = await asyncio.gather(*[ask(world, replica, reserve=True) for _ in range(20)])
    assert sorted(answer.status for answer in answers) == [200] * 5 + [429] * 15
    names = {answer.headers["x-tallygate-reservation"] for answer in answers if answer.status == 200}
    assert names == {"the-same", *[f"the-same#{number}" for number in range(2, 6)]}
    await world.post_event(litellm_call_id="the-same")
