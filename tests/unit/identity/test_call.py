from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec

from service.identity.aliases import Alias, AliasBook
from service.identity.call import call_names, call_names_of_charge
from service.identity.dimensions import DIMENSION_NAMES, Dimensions
from service.identity.models import ModelClaims, ModelIdentity
from service.identity.resolution import resolve_models

NOW = datetime(2026, 11, 6, tzinfo=UTC)


def a_vertex_call(**changes: str | None) -> ModelIdentity:
    claims = {
        "model_group": "claude-opus-4-6",
        "model": "vertex_ai/claude-opus-4-6@default",
        "provider": "vertex_ai",
        "deployment_id": "Dep-1",
    } | changes
    return resolve_models(ModelClaims(**claims), AliasBook(), NOW)  # type: ignore[arg-type]


def test_every_dimension_is_there_also_when_it_is_absent() -> None:
    names = call_names(Dimensions(), resolve_models(ModelClaims(), AliasBook(), NOW))
    assert set(names.values) == set(names.each) == set(DIMENSION_NAMES)
    assert not any(names.values.values())


def test_people_are_matched_as_they_are_written() -> None:
    names = call_names(Dimensions(team="Core", user="u1"), a_vertex_call())
    assert names.values["team"] == names.each["team"] == ("Core",)
    assert names.values["organization"] == ()


def test_models_are_matched_in_every_spelling_and_counted_in_one() -> None:
    names = call_names(Dimensions(), a_vertex_call(model_group="vertex_ai/Claude-Opus-4-6"))
    assert set(names.values["requested_model"]) == {"vertex_ai/claude-opus-4-6", "claude-opus-4-6"}
    assert names.each["requested_model"] == ("claude-opus-4-6",)
    assert "claude-opus-4-6" in names.values["served_model"]
    assert names.each["served_model"] == ("vertex_ai/claude-opus-4-6@default",)
    assert names.values["provider"] == ("vertex_ai",)


def test_a_deployment_is_matched_by_its_id_too() -> None:
    assert "dep-1" in call_names(Dimensions(), a_vertex_call()).values["deployment"]


def test_a_requested_name_is_matched_before_and_after_its_alias() -> None:
    book = AliasBook([Alias(alias="fast", model="openai/gpt-4.1-nano")])
    models = resolve_models(ModelClaims(model_group="Fast", model="openai/gpt-4.1-nano"), book, NOW)
    names = call_names(Dimensions(), models)
    assert {"fast", "openai/gpt-4.1-nano", "gpt-4.1-nano"} <= set(names.values["requested_model"])
    assert names.each["requested_model"] == ("gpt-4.1-nano",)


def test_tags_of_the_gateway_itself_are_no_tags() -> None:
    names = call_names(Dimensions(tags=("env:prod", "User-Agent: curl", "user-agent: x", "b")), a_vertex_call())
    assert names.values["tag"] == names.each["tag"] == ("env:prod", "b")


def test_a_stored_charge_matches_as_the_call_did() -> None:
    dimensions = Dimensions(organization="o", team="t", end_user="e", session="s", tags=("a", "b"))
    models = a_vertex_call()
    columns = msgspec.structs.asdict(dimensions) | msgspec.structs.asdict(models)
    columns["tags"] = list(dimensions.tags)  # as PostgreSQL gives an array
    assert call_names_of_charge(SimpleNamespace(**columns)) == call_names(dimensions, models)


def test_endless_names_are_bounded_the_same_way_everywhere() -> None:
    names = call_names(Dimensions(), a_vertex_call(model_group="x" * 5000))
    assert all(len(form) <= 256 for form in names.values["requested_model"])
    assert names.each["requested_model"][0] in names.values["requested_model"]
