import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.identity.aliases import Alias, AliasBook
from service.identity.models import ModelClaims, ModelIdentity
from service.identity.names import match_key
from service.identity.resolution import resolve_models, resolve_requested

NOW = datetime(2026, 11, 6, 12, tzinfo=UTC)
CAPTURED = json.loads((Path(__file__).parent / "captured_claims.json").read_text("utf-8"))

# The event does not know what the provider answered, and the identity does not claim to.
UNKNOWABLE = {"plain_chat_mistral", "router_gpt41nano_stream", "router_hidden_name", "azure_no_base_model"}


def resolve(*aliases: Alias, check: str | None = None, **claims: Any) -> ModelIdentity:
    return resolve_models(ModelClaims(**claims), AliasBook(aliases), NOW, requested_from_check=check)


def a_router_event(**changes: Any) -> dict[str, Any]:
    return {
        "model_group": "smart",
        "model": "azure_ai/gpt-5.4-mini-2026-03-17",
        "deployment_model": "azure_ai/model_router/dep1",
        "provider": "azure_ai",
        "gateway_price_key": "azure_ai/model_router/dep1",
    } | changes


def prices_of(identity: ModelIdentity) -> list[str]:
    return [candidate.name for candidate in identity.price_candidates]


def rules_of(identity: ModelIdentity) -> dict[str, str]:
    return {candidate.name: candidate.rule for candidate in identity.price_candidates}


@pytest.mark.parametrize("row", CAPTURED, ids=[row["event"] for row in CAPTURED])
def test_a_captured_event_gets_its_names(row: dict[str, Any]) -> None:
    identity = resolve_models(ModelClaims(**row["claims"]), AliasBook(), NOW)
    expected = dict(row["expected"])
    assert identity.provenance.get("served_model") == expected.pop("served_from")
    assert {name: getattr(identity, name) for name in expected} == expected


@pytest.mark.parametrize(
    "row", [row for row in CAPTURED if row["answered"]], ids=[row["event"] for row in CAPTURED if row["answered"]]
)
def test_the_served_model_is_the_one_that_answered(row: dict[str, Any]) -> None:
    served = resolve_models(ModelClaims(**row["claims"]), AliasBook(), NOW).served_model
    if row["event"] in UNKNOWABLE:
        assert served is None or match_key(served) == match_key(row["claims"]["model"])
    else:
        assert served is not None
        assert match_key(served) == match_key(row["answered"])


# Azure Model Router


def test_a_router_stays_visible_as_deployment_and_is_never_the_served_model() -> None:
    identity = resolve(**a_router_event())
    assert identity.served_model == "azure_ai/gpt-5.4-mini-2026-03-17"
    assert identity.deployment == "azure_ai/model_router/dep1"
    assert identity.is_router
    assert prices_of(identity)[0] == "azure_ai/gpt-5.4-mini-2026-03-17"


def test_a_router_configured_as_base_model_does_not_hide_the_served_model() -> None:
    identity = resolve(**a_router_event(gateway_price_key="azure_ai/model_router"))
    assert identity.served_model == "azure_ai/gpt-5.4-mini-2026-03-17"
    assert not any("router" in name for name in prices_of(identity))


def test_a_router_that_names_only_itself_has_no_served_model_and_no_price() -> None:
    identity = resolve(**a_router_event(model="azure_ai/model_router/dep1", response_model="smart"))
    assert identity.served_model is None
    assert "served_model" not in identity.provenance
    assert identity.price_candidates == ()
    assert identity.is_router


def test_the_answer_names_the_model_where_the_gateway_logged_the_router() -> None:
    identity = resolve(
        **a_router_event(model="azure_ai/model_router/dep1", response_model="azure_ai/gpt-5.4-mini-2026-03-17")
    )
    assert identity.served_model == "azure_ai/gpt-5.4-mini-2026-03-17"
    assert identity.provenance["served_model"] == "response_model"


def test_a_stream_under_a_public_name_does_not_claim_that_name_as_served() -> None:
    identity = resolve(
        model_group="smart-s", model="smart-s", response_model="smart-s", provider="azure_ai",
        gateway_price_key="azure_ai/model_router/prod-router", has_router_fee=True,
    )  # fmt: skip
    assert identity.served_model is None
    assert identity.deployment == "azure_ai/model_router/prod-router"


def test_a_stream_whose_answer_is_a_name_of_the_callers_key_does_not_claim_it_as_served() -> None:
    stream = a_router_event(model="smart", deployment_model=None, response_model="gpt-4")
    assert resolve(**stream).served_model is None
    assert resolve(**stream | {"response_model": "gpt-4.1-2025-04-14"}).served_model == "azure_ai/gpt-4.1-2025-04-14"


def test_a_router_known_by_its_fee_alone_is_a_router() -> None:
    identity = resolve(model_group="x", model="azure_ai/gpt-5.4-mini", provider="azure_ai", has_router_fee=True)
    assert identity.is_router
    assert identity.served_model == "azure_ai/gpt-5.4-mini"


def test_a_router_known_by_its_base_model_alone_is_not_its_own_served_model() -> None:
    claims = {
        "model": "azure_ai/prod-llm-router",
        "deployment_model": "azure_ai/prod-llm-router",
        "gateway_price_key": "azure_ai/model_router",
        "provider": "azure_ai",
    }
    assert resolve(model_group="prod-llm", **claims).served_model is None
    failure = resolve(model_group="prod-llm", is_failure=True, **claims | {"deployment_model": None})
    assert (failure.served_model, failure.deployment) == (None, "azure_ai/prod-llm-router")


def test_an_alias_declares_a_deployment_to_be_a_router() -> None:
    alias = Alias(alias="azure_ai/prod-llm", model="azure_ai/model_router")
    claims = {"model_group": "a", "model": "azure_ai/prod-llm", "deployment_model": "azure_ai/prod-llm"}
    assert not resolve(**claims).is_router
    identity = resolve(alias, **claims)
    assert (identity.is_router, identity.served_model, identity.deployment) == (True, None, "azure_ai/prod-llm")


def test_a_model_named_like_a_router_elsewhere_is_none() -> None:
    identity = resolve(model_group="x", model="hosted_vllm/acme/model-router", provider="hosted_vllm")
    assert not identity.is_router
    assert identity.served_model == "hosted_vllm/acme/model-router"


# Requested model


def test_the_adapter_knows_the_requested_model_better_than_the_check_and_the_check_better_than_the_group() -> None:
    def requested(**claims: Any) -> tuple[str | None, str]:
        identity = resolve(model_group="backup", model="openai/gpt-4.1", provider="openai", **claims)
        return identity.requested_model, identity.provenance["requested_model"]

    assert requested(requested_model="primary", check="other") == ("primary", "adapter")
    assert requested(check="primary") == ("primary", "check")
    assert requested() == ("backup", "model_group")
    assert requested(has_fallen_back=True) == ("backup", "group_after_fallback")


def test_the_served_name_stands_in_for_a_missing_requested_one() -> None:
    identity = resolve(model="openai/GPT-4.1-mini", provider="openai")
    assert (identity.requested_model, identity.requested_canonical) == (None, "openai/gpt-4.1-mini")
    assert identity.provenance["requested_canonical"] == "served_model"


@pytest.mark.parametrize("name", ["claude-opus-4-6", "vertex_ai/claude-opus-4-6", "Vertex_AI/claude-opus-4-6@default"])
def test_an_alias_gathers_all_spellings_of_its_name(name: str) -> None:
    alias = Alias(alias="claude-opus-4-6", model="vertex_ai/claude-opus-4-6@default")
    identity = resolve(alias, model_group=name, model="vertex_ai/claude-opus-4-6@default", provider="vertex_ai")
    assert identity.requested_model == name
    assert identity.requested_canonical == "vertex_ai/claude-opus-4-6@default"


def test_an_alias_of_a_public_name_says_nothing_of_that_name_at_a_provider() -> None:
    alias = Alias(alias="gpt-4", model="openai/gpt-4.1-mini")
    identity = resolve(alias, model_group="openai/gpt-4", model="openai/gpt-4", provider="openai")
    assert identity.requested_canonical == "openai/gpt-4"
    assert identity.served_model == "openai/gpt-4"


def test_aliases_hold_at_the_time_of_the_call() -> None:
    alias = Alias(alias="fast", model="gpt-4.1-nano", effective_from=NOW, effective_to=NOW + timedelta(hours=1))
    book = AliasBook([alias])

    def canonical(at: datetime) -> str | None:
        return resolve_requested("fast", None, None, book, at).requested_canonical

    assert canonical(NOW - timedelta(microseconds=1)) == "fast"
    assert canonical(NOW) == "gpt-4.1-nano"
    assert canonical(NOW + timedelta(hours=1)) == "fast"


# Served model


def test_a_model_without_provider_prefix_gets_the_provider_of_the_event() -> None:
    identity = resolve(model_group="FREE", model="Qwen3-4B", deployment_model="Qwen3-4B", provider="hosted_vllm")
    assert identity.served_model == "hosted_vllm/Qwen3-4B"
    assert identity.deployment == "hosted_vllm/Qwen3-4B"
    assert identity.provenance["served_model"] == "model+provider_added"


def test_the_name_a_gateway_wrote_over_the_answer_is_no_evidence() -> None:
    # The client called "gpt-4", which its key maps to the group gpt-4.1-mini.
    identity = resolve(
        model_group="gpt-4.1-mini", model="openai/gpt-4.1-mini", deployment_model="openai/gpt-4.1-mini",
        response_model="gpt-4", provider="openai", has_fallen_back=False,
    )  # fmt: skip
    assert identity.served_model == "openai/gpt-4.1-mini"


def test_an_answer_that_names_the_same_model_more_exactly_is_taken() -> None:
    claims = {"model": "anthropic/claude-sonnet-4-5", "provider": "anthropic"}
    answered = {"response_model": "claude-sonnet-4-5-20250929"}
    assert resolve(model_group="cc", **claims, **answered).served_model == "anthropic/claude-sonnet-4-5-20250929"
    requested = resolve(model_group="claude-sonnet-4-5-20250929", **claims, **answered)
    assert requested.served_model == "anthropic/claude-sonnet-4-5"


def test_an_answer_does_not_take_away_what_a_bedrock_name_says() -> None:
    identity = resolve(
        model_group="s", model="bedrock/us.anthropic.claude-sonnet-4-5", provider="bedrock",
        response_model="claude-sonnet-4-5-20250929",
    )  # fmt: skip
    assert identity.served_model == "bedrock/us.anthropic.claude-sonnet-4-5"


def test_the_base_model_of_an_azure_deployment_is_its_served_model() -> None:
    identity = resolve(
        model_group="gpt-4.1", model="azure/prod-gpt41-eastus", deployment_model="azure/prod-gpt41-eastus",
        provider="azure", gateway_price_key="azure/gpt-4.1-2025-04-14",
    )  # fmt: skip
    assert identity.served_model == "azure/gpt-4.1-2025-04-14"
    assert identity.deployment == "azure/prod-gpt41-eastus"
    assert identity.provenance["served_model"] == "base_model"


def test_the_base_model_of_a_fine_tune_prices_it_but_is_not_it() -> None:
    tuned = "openai/ft:gpt-4.1-mini-2025-04-14:acme::C7abcd12"
    identity = resolve(model_group="ft", model=tuned, provider="openai", gateway_price_key="openai/gpt-4.1-mini")
    assert identity.served_model == tuned
    assert rules_of(identity)["gpt-4.1-mini"] == "base_model, provider_prefix"
    assert prices_of(identity).index("ft:gpt-4.1-mini-2025-04-14") < prices_of(identity).index("gpt-4.1-mini")


def test_a_price_key_that_is_the_deployments_id_is_no_base_model() -> None:
    identity = resolve(
        model_group="a", model="openai/acme-7b", provider="openai", deployment_id="d1", gateway_price_key="d1"
    )
    assert identity.served_model == "openai/acme-7b"
    assert "d1" not in " ".join(prices_of(identity))


def test_a_deployment_named_by_its_owner_keeps_its_name_until_an_alias_tells_the_model() -> None:
    claims = {
        "model_group": "azure-mystery",
        "model": "azure/contoso-chat-01",
        "deployment_model": "azure/contoso-chat-01",
        "provider": "azure",
        "gateway_price_key": "azure/contoso-chat-01",
    }
    assert resolve(**claims).served_model == "azure/contoso-chat-01"
    for name in ("azure/contoso-chat-01", "Contoso-Chat-01"):
        identity = resolve(Alias(alias=name, model="gpt-4o-mini"), **claims)
        assert identity.served_model == "azure/gpt-4o-mini"
        assert identity.provenance["served_model"] == "alias+provider_added"
        assert identity.deployment == "azure/contoso-chat-01"
        assert identity.price_candidates[0].rule == "alias"


def test_after_a_fallback_the_answer_of_an_owner_named_deployment_tells_the_model() -> None:
    claims = {"model_group": "b", "model": "azure/west-1", "provider": "azure", "response_model": "gpt-4o-2024-08-06"}
    assert resolve(has_fallen_back=True, **claims).served_model == "azure/gpt-4o-2024-08-06"
    assert resolve(has_fallen_back=False, **claims).served_model == "azure/west-1"


def test_the_callers_name_is_not_the_served_model_when_the_deployment_is_known() -> None:
    identity = resolve(model_group="gpt-4", model="gpt-4", deployment_model="azure/gpt-4.1", provider="azure")
    assert identity.served_model == "azure/gpt-4.1"


def test_an_event_with_nothing_but_a_model_is_served_by_it() -> None:
    identity = resolve(model_group="gpt-4o-mini", model="gpt-4o-mini")
    assert identity.served_model == "gpt-4o-mini"
    assert identity.provenance["served_model"] == "requested_model"
    assert identity.deployment is None


def test_a_call_that_reached_no_model_was_served_by_none() -> None:
    identity = resolve(model_group="no-such-model", model="no-such-model", is_failure=True)
    assert (identity.served_model, identity.deployment, identity.provider) == (None, None, None)
    assert identity.requested_model == "no-such-model"


def test_an_event_without_any_name_has_none() -> None:
    identity = resolve()
    assert identity == ModelIdentity(
        requested_model=None, requested_canonical=None, deployment=None, deployment_id=None, served_model=None,
        provider=None, is_router=False, price_candidates=(), provenance={},
    )  # fmt: skip


# Price candidates


def test_a_served_model_of_azure_foundry_is_looked_up_at_azure_too_and_undated_last() -> None:
    identity = resolve(model_group="a", model="azure_ai/gpt-4.1-nano-2025-04-14", provider="azure_ai")
    assert [(candidate.name, candidate.rule) for candidate in identity.price_candidates] == [
        ("azure_ai/gpt-4.1-nano-2025-04-14", ""),
        ("azure/gpt-4.1-nano-2025-04-14", "provider_variant"),
        ("gpt-4.1-nano-2025-04-14", "provider_prefix"),
        ("azure_ai/gpt-4.1-nano", "snapshot_date"),
        ("azure/gpt-4.1-nano", "provider_variant, snapshot_date"),
        ("gpt-4.1-nano", "provider_prefix, snapshot_date"),
    ]


def test_a_bedrock_model_is_looked_up_with_its_region_first() -> None:
    identity = resolve(model_group="a", model="bedrock/converse/us.amazon.nova-pro-v1:0", provider="bedrock")
    names = prices_of(identity)
    assert names.index("us.amazon.nova-pro-v1:0") < names.index("amazon.nova-pro-v1:0")
    assert rules_of(identity)["amazon.nova-pro-v1:0"] == "provider_prefix, route_prefix, region_prefix"


def test_a_vendors_model_at_bedrock_is_never_priced_as_the_vendors_own() -> None:
    identity = resolve(model_group="a", model="bedrock/anthropic.claude-opus-4-6-v1", provider="bedrock")
    assert not any(name.startswith("claude") for name in prices_of(identity))


def test_a_fine_tune_is_not_priced_as_its_base() -> None:
    identity = resolve(model_group="a", model="openai/ft:gpt-4.1-mini-2025-04-14:acme::C7abcd12", provider="openai")
    assert "ft:gpt-4.1-mini-2025-04-14" in prices_of(identity)
    assert all("ft:" in name for name in prices_of(identity))


def test_another_makers_model_is_not_priced_as_the_makers_own() -> None:
    identity = resolve(model_group="a", model="groq/openai/gpt-oss-120b", provider="groq")
    assert prices_of(identity) == ["groq/openai/gpt-oss-120b", "openai/gpt-oss-120b"]


# The check path


def test_a_check_and_its_event_compare_by_the_same_names() -> None:
    book = AliasBook([Alias(alias="opus", model="vertex_ai/claude-opus-4-6@default")])
    event = resolve_models(
        ModelClaims(
            model_group="opus", model="vertex_ai/claude-opus-4-6@default", provider="vertex_ai",
            deployment_model="vertex_ai/claude-opus-4-6@default",
        ),
        book, NOW,
    )  # fmt: skip
    for check in (
        resolve_requested("opus", None, None, book, NOW),
        resolve_requested("opus", None, "vertex_ai/claude-opus-4-6@default", book, NOW),
        resolve_requested("opus", "vertex_ai", "vertex_ai/claude-opus-4-6@default", book, NOW),
    ):
        assert check.requested_model == event.requested_model
        assert check.requested_canonical == event.requested_canonical
        assert check.served_model == event.served_model
        assert check.provider == event.provider


def test_a_check_for_a_router_knows_that_it_is_one() -> None:
    for model, provider, deployment in (
        ("model-router", None, None),
        ("smart", None, "azure_ai/model_router/dep1"),
        ("azure_ai/model_router/dep1", None, None),
    ):
        identity = resolve_requested(model, provider, deployment, AliasBook(), NOW)
        assert identity.is_router
        assert identity.served_model is None


def test_a_check_for_a_priced_name_has_its_price() -> None:
    identity = resolve_requested("gpt-4.1-mini", None, None, AliasBook(), NOW)
    assert prices_of(identity) == ["gpt-4.1-mini"]


def test_names_and_providers_with_blanks_around_them_are_the_same_names():
    at = datetime(2026, 11, 1, tzinfo=UTC)
    plain = resolve_requested("claude-opus-4-6", "anthropic", None, AliasBook(), at)
    assert resolve_requested(" claude-opus-4-6@", " Anthropic ", " ", AliasBook(), at) == plain
