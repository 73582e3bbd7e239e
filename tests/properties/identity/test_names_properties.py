from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from service.identity.aliases import AliasBook
from service.identity.call import call_names
from service.identity.dimensions import Dimensions
from service.identity.models import ModelClaims
from service.identity.names import match_key, name_forms, take_apart
from service.identity.price_names import price_candidates
from service.identity.providers import PROVIDERS, qualified
from service.identity.resolution import _resolve, resolve_models

NOW = datetime(2026, 11, 6, tzinfo=UTC)

PREFIXES = st.sampled_from(["", "azure/", "azure_ai/", "bedrock/", "groq/openai/", "hosted_vllm/Qwen/", "vertex_ai/"])
ROUTES = st.sampled_from(
    ["", "converse/", "model_router/", "us-east-1/", "eu/", "us.", "us.anthropic.", "amazon.", "ft:"]
)
CORES = st.sampled_from(["gpt-4.1-mini", "Claude-Opus-4-6", "prod-router", "titan-embed-text-v2", "x", "smart-s"])
TAILS = st.sampled_from(
    ["", "-2026-03-17", "-20251001", "-v1:0", "-20250929-v1:0", "@default", "@001", ":acme::C7", ":0"]
)
BUILT = st.builds("{}{}{}{}{}".format, PREFIXES, ROUTES, CORES, TAILS, TAILS)
NAMES = BUILT | st.text(max_size=40) | st.text("abv12./:@-", max_size=24)
MAYBE = st.none() | NAMES.filter(bool)


@given(NAMES)
def test_a_name_taken_apart_can_be_put_together(name: str) -> None:
    assert take_apart(name).text == name


@given(NAMES)
def test_the_key_of_a_key_is_itself(name: str) -> None:
    key = match_key(name)
    assert match_key(key) == key


@given(NAMES)
def test_the_key_is_one_of_the_forms_and_the_shortest(name: str) -> None:
    forms = name_forms(name)
    assert match_key(name) in forms
    assert len(match_key(name)) == min(map(len, forms))
    assert len(set(forms)) == len(forms)


@given(NAMES)
def test_a_name_has_the_forms_and_the_key_of_its_lower_case(name: str) -> None:
    lower = name.lower()
    assert match_key(lower) == match_key(name)
    assert name_forms(lower) == name_forms(name)


@given(NAMES)
def test_all_forms_of_a_name_have_its_key(name: str) -> None:
    assert {match_key(form) for form in name_forms(name)} == {match_key(name)}


@given(NAMES.filter(bool), st.sampled_from(sorted(PROVIDERS)))
def test_a_provider_in_front_changes_neither_key_nor_itself(name: str, provider: str) -> None:
    full = qualified(name, provider)
    assert qualified(full, provider) == full


@given(NAMES.filter(bool))
def test_the_first_price_candidate_is_the_name_itself_and_none_comes_twice(name: str) -> None:
    candidates = price_candidates(name)
    assert (candidates[0].name, candidates[0].rule) == (name, "")
    assert all(candidate.rule for candidate in candidates[1:])
    assert len({candidate.name for candidate in candidates}) == len(candidates)


CLAIMS = st.builds(
    ModelClaims,
    requested_model=MAYBE,
    model_group=MAYBE,
    model=MAYBE,
    deployment_model=MAYBE,
    deployment_id=MAYBE,
    response_model=MAYBE,
    provider=st.none() | st.sampled_from(["openai", "azure_ai", "bedrock", "hosted_vllm", "unheard-of"]),
    gateway_price_key=MAYBE,
    has_router_fee=st.booleans(),
    has_fallen_back=st.none() | st.booleans(),
    is_failure=st.booleans(),
)


@given(CLAIMS, MAYBE)
def test_the_same_claims_give_the_same_identity(claims: ModelClaims, check: str | None) -> None:
    first = resolve_models(claims, AliasBook(), NOW, requested_from_check=check)
    _resolve.cache_clear()
    assert resolve_models(claims, AliasBook(), NOW, requested_from_check=check) == first


@given(CLAIMS)
def test_a_router_is_never_served_by_a_router_or_by_a_name_of_the_caller(claims: ModelClaims) -> None:
    identity = resolve_models(claims, AliasBook(), NOW)
    if identity.is_router and identity.served_model is not None:
        assert identity.served_model.lower() != (claims.model_group or "").lower()
        assert identity.served_model != identity.deployment
    if identity.served_model is None:
        assert identity.price_candidates == ()


@given(CLAIMS)
def test_what_is_counted_can_be_matched(claims: ModelClaims) -> None:
    names = call_names(Dimensions(), resolve_models(claims, AliasBook(), NOW))
    for dimension in ("requested_model", "deployment", "served_model", "provider"):
        assert set(names.each[dimension]) <= set(names.values[dimension])
        assert bool(names.each[dimension]) == bool(names.values[dimension])
