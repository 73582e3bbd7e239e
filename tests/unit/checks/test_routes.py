"""The ways a call may go: by the names its event is going to have, the requested model kept."""

from typing import Any

from service.checks.request import CheckRequest, Route, fingerprint_of
from service.checks.routes import NOTHING_SEEN, RecentUse, Way, names_to_look_up, ways_of
from service.identity.aliases import Alias, AliasBook
from service.identity.models import ModelClaims
from service.identity.resolution import resolve_models
from tests.budget_builders import NOON
from tests.check_builders import a_request, routes_to, seen

NO_ALIASES = AliasBook()


def ways(request: CheckRequest, recent: RecentUse = NOTHING_SEEN, aliases: AliasBook = NO_ALIASES) -> list[Way]:
    return ways_of(request, recent, aliases, NOON)


def names(way: Way) -> tuple[Any, ...]:
    models = way.models
    return (models.requested_model, models.deployment, models.served_model, models.provider)


def test_a_call_of_which_nothing_is_known_goes_one_way_under_its_own_name():
    (way,) = ways(a_request(model="openai/small"))
    assert names(way) == ("openai/small", "openai/small", "openai/small", "openai")
    assert way.fallback is None


def test_routes_of_the_gateway_replace_what_the_name_alone_says():
    found = ways(a_request(routes=routes_to("openai/small", "azure/large")))
    assert [names(way) for way in found] == [
        ("smart", "openai/small", "openai/small", "openai"),
        ("smart", "azure/large", "azure/large", "azure"),
    ]
    assert len({way.choice for way in found}) == 2


def test_a_route_may_say_less_than_all_and_the_request_the_rest():
    (by_provider,) = ways(a_request(model="small", routes=(Route(provider="azure"),)))
    assert names(by_provider) == ("small", "azure/small", "azure/small", "azure")
    (by_deployment,) = ways(a_request(routes=(Route(deployment="azure/contoso"),), provider="azure"))
    assert names(by_deployment) == ("smart", "azure/contoso", "azure/contoso", "azure")
    (by_model,) = ways(a_request(routes=(Route(served_model="azure/small"),), deployment="azure/contoso"))
    assert names(by_model) == ("smart", "azure/contoso", "azure/small", "azure")


def test_behind_a_router_each_model_it_may_choose_is_a_way_nobody_can_choose():
    router = {"model": "smart", "provider": "azure_ai", "deployment": "azure_ai/model_router/prod"}
    found = ways(a_request(**router, served_models=("gpt-5.4-mini", "gpt-5.4")))
    assert [(way.models.served_model, way.models.is_router) for way in found] == [
        ("azure_ai/gpt-5.4-mini", True),
        ("azure_ai/gpt-5.4", True),
    ]
    assert {way.choice for way in found} == {0}


def test_what_a_deployment_serves_is_what_is_said_of_it_and_not_its_name():
    found = ways(a_request(deployment="azure/contoso-chat", provider="azure", served_models=("azure/small",)))
    assert [names(way) for way in found] == [("smart", "azure/contoso-chat", "azure/small", "azure")]
    named = ways(a_request(model="openai/small", served_models=("openai/large",)))
    assert [way.models.served_model for way in named] == ["openai/small", "openai/large"]


def test_a_fallback_keeps_the_requested_model_as_its_event_will():
    requested, fallback = ways(a_request(model="small", provider="openai", fallback_models=("azure/large",)))
    assert names(requested) == ("small", "openai/small", "openai/small", "openai")
    assert names(fallback) == ("small", "azure/large", "azure/large", "azure")
    assert fallback.fallback == "azure/large"
    assert fallback.models.requested_canonical == "small"
    claims = ModelClaims(
        model_group="azure/large", model="azure/large", deployment_model="azure/large", provider="azure"
    )
    event = resolve_models(claims, NO_ALIASES, NOON, requested_from_check="small")
    assert names(fallback) == (event.requested_model, event.deployment, event.served_model, event.provider)
    assert fallback.models.requested_canonical == event.requested_canonical


def test_what_is_said_of_the_requested_model_is_not_said_of_its_fallbacks():
    request = a_request(deployment="openai/house", provider="openai", fallback_models=("azure/large",))
    assert [way.models.deployment for way in ways(request)] == ["openai/house", "azure/large"]
    hinted = a_request(routes=routes_to("openai/small"), fallback_models=("azure/large",))
    assert [way.models.deployment for way in ways(hinted)] == ["openai/small", "azure/large"]


def test_ways_the_ledger_saw_are_taken_where_nobody_says_better_and_say_so():
    recent = seen(smart=routes_to("openai/small", "azure/small"), spare=routes_to("openai/large"))
    found = ways(a_request(fallback_models=("spare",)), recent)
    assert [names(way) for way in found] == [
        ("smart", "openai/small", "openai/small", "openai"),
        ("smart", "azure/small", "azure/small", "azure"),
        ("smart", "openai/large", "openai/large", "openai"),
    ]
    assert [way.fallback for way in found] == [None, None, "spare"]
    assert [way.choice for way in found] == [0, 0, 1]
    assert {way.models.provenance["served_model"] for way in found} == {"recent_charges"}
    assert [names(way)[1] for way in ways(a_request(routes=routes_to("other/free")), recent)] == ["other/free"]


def test_of_the_ways_seen_those_of_another_provider_than_the_request_says_are_left_out():
    recent = seen(smart=routes_to("openai/small", "azure/small"))
    assert [names(way)[1] for way in ways(a_request(provider="azure"), recent)] == ["azure/small"]
    (unseen,) = ways(a_request(provider="groq"), recent)
    assert unseen.models.provider == "groq"


def test_a_router_that_told_no_choice_when_it_was_seen_tells_none_now():
    recent = seen(smart=(Route(deployment="azure_ai/prod-llm-router", provider="azure_ai"),))
    (way,) = ways(a_request(), recent)
    assert names(way) == ("smart", "azure_ai/prod-llm-router", None, "azure_ai")
    assert (way.models.price_candidates, way.models.is_router) == ((), True)
    assert "served_model" not in way.models.provenance


def test_an_alias_declared_since_counts_for_what_was_seen():
    aliases = AliasBook([Alias(alias="azure/contoso", model="azure/small")])
    recent = seen(smart=(Route(deployment="azure/contoso", served_model="azure/contoso", provider="azure"),))
    assert [names(way)[2] for way in ways(a_request(), recent, aliases)] == ["azure/small"]


def test_the_same_call_has_the_same_names_as_long_as_nothing_changes():
    recent = seen(smart=routes_to("openai/small"))
    (first,), (second,) = ways(a_request(), recent), ways(a_request(), recent)
    assert first.models is second.models


def test_the_ledger_is_asked_only_where_the_caller_does_not_say():
    assert names_to_look_up(a_request(fallback_models=("b", "b"))) == ["smart", "b"]
    assert names_to_look_up(a_request(deployment="azure/x", fallback_models=("b",))) == ["b"]
    assert names_to_look_up(a_request(routes=routes_to("openai/small"))) == []
    assert names_to_look_up(a_request(served_models=("openai/small",))) == []
    assert names_to_look_up(a_request(model=None)) == []


def test_another_set_of_routes_is_another_request():
    prints = {
        fingerprint_of(a_request(**fields), {})
        for fields in ({}, {"routes": routes_to("openai/small")}, {"routes": routes_to("azure/small")})
    }
    assert len(prints) == 3
