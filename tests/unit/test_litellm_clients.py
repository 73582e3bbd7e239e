"""What LiteLLM's adapter makes of what clients write into a request, without LiteLLM."""

from pathlib import Path
from types import SimpleNamespace
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


def test_only_the_proxy_says_that_a_model_is_a_deployment():
    assert adapter.refusal_of({"model": "openai/a", "specific_deployment": True}, "acompletion")
    assert adapter.refusal_of({"model": "openai/a", "specific_deployment": False}, "acompletion") is None


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


# How much is held


TEXT = "word " * 20_000


@pytest.mark.parametrize(
    "sent",
    [
        {"tools": [{"function": {"name": "f", "parameters": {"properties": {TEXT: {"type": "string"}}}}}]},
        {"tools": [{"function": {"parameters": {"properties": {f"{'x' * 40}{n}": {} for n in range(2500)}}}}]},
        {"tools": [{"function": {"parameters": {"enum": [10**30 + n for n in range(3500)]}}}]},
        {"prediction": {"type": "content", "content": TEXT}},
        {"text": {"format": {"type": "json_schema", "schema": {"properties": {TEXT: {}}}}}},
        {"generationConfig": {"responseSchema": {"description": TEXT}}},
        {"extra_body": {"guided_json": {"description": TEXT}}},
        {"extra_body": {"chat_template": TEXT}},
    ],
)
def test_whatever_a_model_may_read_counts(sent: dict[str, Any]):
    assert adapter.estimate_input_tokens(sent) >= len(TEXT) // 2
    attempts = adapter.attempts_of(sent | {"fallbacks": [{"model": "quick", "messages": []}]})
    assert max(map(adapter.estimate_input_tokens, attempts)) >= len(TEXT) // 2


def test_what_a_client_sends_under_another_name_counts_and_what_the_proxy_adds_does_not():
    sent = {"chat_template": TEXT, "model": TEXT, "stop": [TEXT], "metadata": {"a": TEXT}, "litellm_session_id": TEXT}
    data = sent | {"proxy_server_request": {"body": sent}, "secret_fields": {"raw_headers": {"a": TEXT}}}
    assert len(TEXT) // 2 <= adapter.estimate_input_tokens(data) < len(TEXT)


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        ({"prompt": ["x"] * 50, "max_tokens": 100}, 5_000),
        ({"prompt": [[1, 2], [3]], "max_tokens": 100, "n": 2}, 400),
        ({"prompt": [1, 2, 3], "max_tokens": 100}, 100),
        ({"prompt": ["x"], "max_tokens": 100}, 100),
        ({"prompt": ["x"] * 3}, 3_000),
        ({"extra_body": {"prompt": ["x"] * 3}, "max_tokens": 7}, 21),
        ({"prompt": []}, None),
    ],
)
def test_each_prompt_has_an_answer_of_its_own(sent: dict[str, Any], limit: int | None):
    assert adapter.output_limit(sent, "atext_completion", 1_000) == limit


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


@pytest.mark.parametrize("of_deployment", [True, False])
async def test_a_call_no_hook_saw_that_was_stopped_goes_no_further_under_other_metadata(
    tmp_path: Path, of_deployment: bool
):
    proxy = Proxy(tmp_path, ALLOWED)
    sent = {"specific_deployment": True} if of_deployment else {"fallbacks": [{"model": "quick", "metadata": {}}]}
    kwargs = {"metadata": dict(FORGED), "proxy_server_request": {"body": sent}}
    for hop in (kwargs, {"metadata": {}}, {"metadata": dict(FORGED)}):
        with pytest.raises(StoppedError):
            await proxy.handler.async_filter_deployments("dear", [{}], None, hop)
    assert proxy.gate.questions == []


async def test_where_nothing_is_refused_a_fallback_loses_what_would_replace_who_asks(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED, check=False)
    data = await proxy.before(fallbacks=[{"model": "quick", "metadata": FORGED, "timeout": 5}])
    assert data["fallbacks"] == [{"model": "quick", "timeout": 5}]


# Where a call goes


def entry(group: str, model: str, **others: Any) -> dict[str, Any]:
    return {"model_name": group, "litellm_params": {"model": model, **others}, "model_info": {}}


class Patterns:
    """Finds what LiteLLM's class for patterns finds: copies of deployments, with the name put in."""

    def __init__(self, **found: str) -> None:
        self._found = found

    def get_deployments_by_pattern(self, model: str) -> list[dict[str, Any]]:
        return [entry("*", self._found[model])] if model in self._found else []


def router_of(*entries: dict[str, Any], **others: Any) -> Any:
    groups: dict[str, list[int]] = {}
    for place, each in enumerate(entries):
        groups.setdefault(each["model_name"], []).append(place)
    listed = {"model_list": list(entries), "model_names": set(groups), "model_name_to_deployment_indices": groups}
    return SimpleNamespace(**listed, **others)


def use(monkeypatch: pytest.MonkeyPatch, router: object) -> None:
    monkeypatch.setattr(adapter, "_router", lambda: router)


WORDS = {"custom_llm_provider": "azure", "azure": True, "deployment_id": "theirs"}


@pytest.mark.parametrize("model", ["m", "unknown", "openai/a"])
async def test_a_client_does_not_say_whose_price_a_model_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
):
    use(monkeypatch, router_of(entry("m", "openai/a")))
    proxy = Proxy(tmp_path, ALLOWED)
    assert not WORDS.keys() & (await proxy.before(model=model, **WORDS)).keys()
    hop = (await proxy.before(model=model)) | WORDS
    await proxy.handler.async_filter_deployments("m", [{}], None, hop)
    assert not WORDS.keys() & hop.keys()


@pytest.mark.parametrize("call_type", ["pass_through_endpoint", "allm_passthrough_route", "acreate_run"])
async def test_where_no_router_chooses_the_provider_stays_as_it_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_type: str
):
    proxy = Proxy(tmp_path, {"allowed": True, "routes": []})
    assert "custom_llm_provider" in await proxy.before(**WORDS)
    use(monkeypatch, router_of(entry("m", "openai/a")))
    assert "custom_llm_provider" in await proxy.before(call_type, **WORDS)
    assert "custom_llm_provider" in await proxy.before("acreate_batch", model=None, **WORDS)


async def test_a_call_no_hook_saw_has_the_provider_of_its_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    listed = [entry("m", "openai/a"), entry("m", "b", custom_llm_provider="groq")]
    use(monkeypatch, router_of(*listed, model_id_to_deployment_index_map={"id-a": 0, "id-b": 1}))
    proxy = Proxy(tmp_path, ALLOWED)
    for identifier, provider in (("id-a", None), ("id-b", "groq"), ("of-another-version", "azure")):
        kwargs = {"model": "m", "metadata": FORGED | {"model_info": {"id": identifier}}} | WORDS
        await proxy.handler.async_pre_call_deployment_hook(kwargs, "acompletion")
        assert kwargs.get("custom_llm_provider") == provider


async def test_a_new_model_of_a_pattern_is_asked_about_where_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    patterns = Patterns(**{"wild/a": "openai/a", "b": "b"})
    use(monkeypatch, router_of(entry("wild/*", "openai/*"), pattern_router=patterns))
    litellm = SimpleNamespace(get_llm_provider=lambda model, api_base: (model, "openai", None, api_base))
    monkeypatch.setitem(adapter.sys.modules, "litellm", litellm)
    proxy = Proxy(tmp_path, ALLOWED)
    for model, deployment in (("wild/a", "openai/a"), ("b", "openai/b")):
        await proxy.before(model=model, fallbacks=["wild/a"])
        named, asked = proxy.gate.questions[-2:] if model == "b" else (None, proxy.gate.questions[-1])
        assert (asked["model"], asked["deployment"]) == (model, deployment)
        assert named is None or (named["model"], named["deployment"]) == ("wild/a", "openai/a")
    call = adapter.Call()
    call.state.denied_routes = [{"deployment": "openai/b", "allowed": False}]
    call.state.allowed_routes = [{"deployment": "openai/c", "allowed": True}]
    assert not adapter.is_allowed_route("b", entry("*", "b"), call)
    assert adapter.is_allowed_route("b", entry("*", "c"), call)


def test_a_router_of_another_version_says_less_and_breaks_nothing():
    def fail(model: str) -> None:
        raise TypeError(model)

    broken = SimpleNamespace(pattern_router=SimpleNamespace(get_deployments_by_pattern=fail), model_list=[{}, None, 7])
    for router in (None, object(), broken, SimpleNamespace(pattern_router=7, model_list=None)):
        target = adapter.target_of("m", router, "team")
        assert (list(target.groups), list(target.deployments)) == (["m"], [])
    unplaced = SimpleNamespace(model_names={"m"}, model_list=[entry("other", "m")])
    assert adapter.target_of("m", unplaced) == (["m"], [])
    default = SimpleNamespace(default_deployment=entry("*", "openai/*"))
    assert adapter.routes_of(adapter.target_of("openai/a", default).deployments) == [{"deployment": "openai/a"}]


async def test_a_deployment_named_as_it_is_sent_is_asked_about_as_each_of_its_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    of_others = entry("theirs", "openai/a") | {"model_info": {"team_id": "others"}}
    use(monkeypatch, router_of(entry("dear", "openai/a"), entry("either", "openai/a"), of_others))
    proxy = Proxy(tmp_path, ALLOWED)
    data = await proxy.before(model="openai/a")
    asked = [(question["model"], question["deployment"]) for question in proxy.gate.questions]
    assert asked == [("either", "openai/a"), ("dear", "openai/a")]
    assert await proxy.handler.async_filter_deployments("openai/a", [{}], None, data) == [{}]
    assert len(proxy.gate.questions) == 2
    await proxy.before(fallbacks=["openai/a"])
    assert [question["model"] for question in proxy.gate.questions[2:]] == ["dear", "either", "m"]


async def test_a_deployment_denied_to_a_fallback_a_client_names_is_left_out(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    routes = [{"deployment": "openai/a", "allowed": False}, {"deployment": "openai/b", "allowed": True}]

    async def ask(question: dict[str, Any]) -> dict[str, Any]:
        return ALLOWED | {"routes": routes if question["model"] == "f" else []}

    proxy.gate.ask = ask  # type: ignore[method-assign]
    data = await proxy.before(fallbacks=["f"])
    both = [entry("f", "openai/a"), entry("f", "openai/b")]
    assert await proxy.handler.async_filter_deployments("f", both, None, data) == both[1:]


async def test_a_call_without_a_model_is_asked_about_once(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    for model in (None, "", " ", 7.5, ["m"]):
        data = await proxy.before(model=model)
        proxy.gate.questions.clear()
        assert await proxy.handler.async_filter_deployments(model, [{}], None, data) == [{}]
        assert proxy.gate.questions == []
