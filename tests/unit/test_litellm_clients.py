"""What LiteLLM's adapter makes of what clients write into a request, without LiteLLM."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.litellm_adapter import adapter
from tests.unit.test_litellm_callback import ALLOWED, AUTH, Proxy, StoppedError

FORGED = {"user_api_key_team_id": "victim", "user_api_key_hash": "b" * 64}


@pytest.fixture(autouse=True)
def _own_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_stopped", StoppedError)


# Fallbacks


@pytest.mark.parametrize("name", ["fallbacks", "context_window_fallbacks", "content_policy_fallbacks"])
@pytest.mark.parametrize(
    "rule",
    [
        [{"model": "quick", "metadata": FORGED}],
        [{"m": [{"model": "quick", "litellm_metadata": FORGED}]}],
        ["quick", {"model": "quick", "custom_llm_provider": "azure"}],
        [{"model": "quick", "timeout": 5, "user": "victim"}],
        [{"timeout": 5, "metadata": FORGED}],
        [{"timeout": 5, "metadata": [["user_api_key_team_id", "victim"]]}],
        [{"model": "quick"}, {"metadata": ["ab"]}],
        [{"model": ["quick"]}],
        [{"m": {"model": "quick"}}],
        [{"m": "quick"}],
        [["quick"]],
        [7],
        {"m": ["quick"]},
        "quick",
    ],
)
def test_a_fallback_that_is_more_than_a_name_and_a_prompt_is_refused(name: str, rule: Any):
    assert adapter.refusal_of({"model": "m", name: rule}, "acompletion")
    assert adapter.refusal_of({"model": "m", "router_settings_override": {name: rule}}, "aresponses")


@pytest.mark.parametrize(
    "rule",
    [
        ["quick", "dear"],
        [{"model": "quick", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5, "timeout": 9}],
        [{"m": ["quick", {"model": "dear"}]}, {"*": ["quick"]}],
        [{"m": ["quick"]}, "dear"],
        [],
        None,
    ],
)
def test_fallbacks_as_litellm_documents_them_are_let_through(rule: Any):
    assert adapter.refusal_of({"model": "m", "fallbacks": rule, "timeout": 3}, "acompletion") is None


def test_every_fallback_a_client_names_is_asked_about_whichever_name_of_a_model_it_is_for():
    rules = {"fallbacks": [{"openai/m": ["a"]}, {"m": [{"model": "b"}]}], "context_window_fallbacks": ["c", "m"]}
    assert adapter.fallbacks_named({"model": "m"} | rules) == ["a", "b", "c"]
    assert adapter.fallbacks_named({"model": "m", "router_settings_override": rules}) == ["a", "b", "c"]
    assert adapter.fallbacks_named({"model": "m", "disable_fallbacks": True} | rules) == []


async def test_the_prompt_and_the_limit_of_a_fallback_are_held_for(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    longer = {"model": "quick", "messages": [{"role": "user", "content": "x" * 4000}], "max_tokens": 900}
    await proxy.before(messages=[{"role": "user", "content": "x"}], max_tokens=5, fallbacks=[{"m": [longer]}])
    assert proxy.gate.questions[-1]["input_tokens"] >= 2000
    assert proxy.gate.questions[-1]["max_output_tokens"] == 900
    await proxy.before(max_tokens=5, fallbacks=[{"model": "quick", "max_tokens": None}])
    assert proxy.gate.questions[-1]["max_output_tokens"] is None


# Who asks


async def test_an_event_says_who_asked_whatever_became_of_its_metadata(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    data = await proxy.before(metadata={"user_api_key_auth": AUTH, "user_api_key_team_id": "core"})
    forged = FORGED | {"user_api_key_org_id": "victim", "user_api_key_project_id": "victim", "usage_object": {"a": 1}}
    kwargs = {"litellm_params": data, "standard_logging_object": {"status": "success", "metadata": forged}}
    await proxy.handler.async_log_success_event(kwargs, None, None, None)
    told = {"user_api_key_team_id": "core", "user_api_key_hash": "a" * 64, "usage_object": {"a": 1}}
    assert proxy.events()[0]["metadata"] == told


async def test_what_is_looked_up_is_told_under_who_asked_too(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    data = await proxy.before("aget_responses")
    kwargs = {"litellm_params": data, "standard_logging_object": {"status": "success", "metadata": FORGED}}
    await proxy.handler.async_log_success_event(kwargs, None, None, None)
    assert proxy.events()[0]["metadata"] == {"user_api_key_team_id": "core", "user_api_key_hash": "a" * 64}


async def test_a_call_no_hook_saw_is_asked_about_with_what_litellm_writes_itself_alone(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    metadata = FORGED | {"user_api_key_org_id": "forged", "agent_id": "forged"}
    await proxy.handler.async_filter_deployments("dear", [{}], None, {"metadata": metadata})
    assert proxy.gate.questions[0]["dimensions"] == {"api_key": "b" * 64, "team": "victim"}


async def test_a_call_no_hook_saw_that_was_stopped_goes_no_further_under_other_metadata(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    sent = {"fallbacks": [{"model": "quick", "metadata": {}}]}
    kwargs = {"metadata": dict(FORGED), "proxy_server_request": {"body": sent}}
    for hop in (kwargs, {"metadata": {}}, {"metadata": dict(FORGED)}):
        with pytest.raises(StoppedError):
            await proxy.handler.async_filter_deployments("dear", [{}], None, hop)
    assert proxy.gate.questions == []


async def test_where_nothing_is_refused_a_fallback_loses_what_would_replace_who_asks(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED, check=False)
    data = await proxy.before(fallbacks=[{"model": "quick", "metadata": FORGED, "timeout": 5}])
    assert data["fallbacks"] == [{"model": "quick", "timeout": 5}]
