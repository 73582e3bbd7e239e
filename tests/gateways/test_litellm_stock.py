"""LiteLLM's proxy without the adapter: its generic API logger and guardrail API, as config.stock.yaml has them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.kit.ids import new_id
from tests.faults.waiting import until
from tests.gateways.conftest import Household, running_proxy
from tests.gateways.litellm_proxy import LiteLLMProxy
from tests.gateways.provider import Provider
from tests.gateways.test_litellm import charges_of


@pytest.fixture(scope="module")
async def stock_proxy(
    shared_household: Household, shared_provider: Provider, directory: Path
) -> AsyncIterator[LiteLLMProxy]:
    relay = f"http://127.0.0.1:{shared_household.relay.port}"
    variables = {
        "TALLYGATE_EVENTS_URL": f"{relay}/v1/events",
        "TALLYGATE_AUTHORIZATION": f"Bearer {shared_household.token}",
        "TALLYGATE_GUARDRAIL_URL": f"{relay}/v1/check/guardrail",
        "DEFAULT_FLUSH_INTERVAL_SECONDS": "1",
    }
    async with running_proxy(
        shared_household, shared_provider, directory, recipe="config.stock.yaml", **variables
    ) as proxy:
        yield proxy


@pytest.fixture
def team() -> str:
    return f"team-{new_id().hex}"


@pytest.fixture
def key(team: str) -> str:
    return f"sk-{team}.u1"


async def test_its_own_logger_reports_each_call_without_its_words(
    stock_proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    household.relay.seen.clear()
    for number, model in enumerate(("quick", "router"), start=1):
        answer = await stock_proxy.chat(key, model)
        assert answer.status_code == 200, (answer.text, stock_proxy.log()[-3000:])
        # One after the other: what comes while it posts, that logger forgets.
        charges = await charges_of(household, team, number)
    paid = {charge["requested_model"]: charge["served_model"].rpartition("/")[2] for charge in charges}
    assert paid == {"quick": "gpt-4.1-mini", "router": "gpt-5.4-mini-2026-03-17"}
    for seen in household.relay.asked("/v1/events"):
        assert b"a secret question" not in seen.body
        assert b"an answer nobody" not in seen.body


async def test_the_requested_model_of_a_fallback_is_found_by_the_failed_attempt(
    stock_proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    async def was_found() -> bool:
        posted = len(household.relay.asked("/v1/events"))
        assert (await stock_proxy.chat(key, "unsteady")).status_code == 200
        await until(lambda: len(household.relay.asked("/v1/events")) > posted, "events were posted")
        charges = (await household.admin.call("GET", f"/v1/charges?team={team}"))["charges"]
        return any((each["status"], each["requested_model"]) == ("success", "unsteady") for each in charges)

    # Now and then that logger forgets one of the two events.
    await until(was_found, "a success with the model that was asked for", deadline_seconds=30)


async def test_its_guardrail_denies_by_the_budget_of_the_key(
    stock_proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str
):
    await household.admin.create_budget(f"none-{team}", {"team": team, "requested_model": "router"}, "0")
    answer = await stock_proxy.chat(key, "router")
    assert answer.status_code == 400, answer.text
    assert "Budget has been exceeded!" in answer.text
    assert provider.seen == []
    assert (await stock_proxy.chat(key, "quick")).status_code == 200


async def test_its_guardrail_denies_while_tallygate_is_away(
    stock_proxy: LiteLLMProxy, household: Household, provider: Provider, key: str
):
    await household.relay.away()
    answer = await stock_proxy.chat(key, "quick")
    assert answer.status_code >= 400, answer.text
    assert provider.seen == []
