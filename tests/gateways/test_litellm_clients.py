"""What a client of LiteLLM's proxy may write into a request, and what no word of its changes."""

import pytest

from service.kit.ids import new_id
from tests.gateways.conftest import Household
from tests.gateways.litellm_proxy import LiteLLMProxy, as_client, call
from tests.gateways.provider import Provider
from tests.gateways.test_litellm import CHAT, charges_of

QUEUE = "/queue/chat/completions"


@pytest.fixture
def team() -> str:
    return f"team-{new_id().hex}"


@pytest.fixture
def key(team: str) -> str:
    return f"sk-{team}.u1"


FORGED = {"user_api_key_team_id": "victim", "user_api_key_hash": "of-the-victim", "user_api_key": "of-the-victim"}


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses", "/v1/embeddings", QUEUE])
@pytest.mark.parametrize("place", ["metadata", "litellm_metadata"])
async def test_a_fallback_says_nothing_of_who_asks(
    proxy: LiteLLMProxy, provider: Provider, key: str, path: str, place: str
):
    forging = {"model": "embedder" if "embed" in path else "quick", place: FORGED}
    for fallbacks in ([forging], [{"unsteady": [forging]}]):
        body = call("unsteady", input="hello", priority=1, fallbacks=fallbacks)
        answer = await proxy.client.post(path, headers=as_client(key), json=body)
        assert answer.status_code >= 400, (fallbacks, answer.text)
        assert answer.status_code == 400 or path == QUEUE, answer.text
    assert provider.seen == []


async def test_what_a_client_may_send_with_a_fallback_is_charged_to_who_asked(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    other = {"model": "quick", "messages": [{"role": "user", "content": "shorter"}], "max_tokens": 50, "timeout": 30}
    answer = await proxy.chat(key, "unsteady", fallbacks=[other], timeout=20, metadata={"tags": ["t"]})
    assert answer.status_code == 200, answer.text
    charges = await charges_of(household, team, 2)
    assert {(charge["user"], charge["requested_model"]) for charge in charges} == {("u1", "unsteady")}
    answer = await proxy.client.post(
        QUEUE, headers=as_client(key), json=call("unsteady", priority=1, fallbacks=[other])
    )
    assert answer.status_code == 200, answer.text
    await charges_of(household, team, 4)


async def test_the_queue_believes_nothing_of_who_asks(proxy: LiteLLMProxy, household: Household, team: str, key: str):
    forged = {f"user_api_key_{name}": "victim" for name in ("team_id", "user_id", "org_id", "project_id", "hash")}
    body = call("quick", priority=1, metadata=forged | {"agent_id": "victim"})
    answer = await proxy.client.post(QUEUE, headers=as_client(key), json=body)
    assert answer.status_code == 200, answer.text
    (charge,) = await charges_of(household, team, 1)
    told = {charge[name] for name in ("team", "user", "organization", "project", "api_key", "agent")}
    assert "victim" not in told
    assert charge["user"] == "u1"
