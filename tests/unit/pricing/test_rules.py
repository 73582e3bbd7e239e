"""Which rules apply to a call: all conditions hold, the dates too, whatever else there is."""

from datetime import timedelta
from typing import Any

import pytest

from service.errors import InvalidInput
from service.pricing import rules as rules_module
from service.pricing.rule_match import RULE_DIMENSIONS, declared_rule_match, parse_rule_match
from service.pricing.rules import NO_RULES, PriceRule, PricingRules, RatedCall
from tests.unit.pricing.rule_builders import NOON, a_call, a_fee, an_adjustment, an_override, rules_of

SECOND = timedelta(seconds=1)


def fee(match: dict[str, Any], **rest: Any) -> PriceRule:
    return a_fee("usd_per_request", "1", match, **rest)


def applies(match: dict[str, Any], call: RatedCall) -> bool:
    return len(rules_of(fee(match)).fees.in_force(call)) == 1


CALL = a_call(
    "azure/gpt-4o-mini-2024-07-18",
    provider="azure",
    call_type="acompletion",
    price_key="azure/gpt-4o-mini",
    mode="chat",
    requested_model="Fast",
    deployment="azure/prod-west",
    deployment_id="d-1",
    team="core",
    organization="acme",
    tags=("blue", "User-Agent: curl"),
)


@pytest.mark.parametrize(
    "match",
    [
        {},
        {"provider": "Azure"},
        {"provider": "az*"},
        {"deployment": "azure/prod-*"},
        {"deployment": "*-west"},
        {"deployment": "d-1"},
        {"deployment": ["x", "prod-west"]},
        {"requested_model": "fast"},
        {"requested_model": "F*"},
        {"served_model": "gpt-4o-mini"},
        {"served_model": "*gpt-4o*2024*"},
        {"model": "gpt-4o-mini-2024-07-18"},
        {"model": "azure/gpt-4o-mini"},
        {"model": "gpt-4o-*"},
        {"price_key": "azure/GPT-4o-mini"},
        {"price_key": "azure/*"},
        {"mode": "chat"},
        {"mode": ["embedding", "Chat"]},
        {"call_type": "acompletion"},
        {"call_type": "completion"},
        {"team": "core"},
        {"team": ["a", "core"]},
        {"team": "*"},
        {"team": {"prefix": "co"}},
        {"user": None},
        {"tag": "blue"},
        {"team": "core", "organization": "acme", "provider": "azure", "mode": "chat", "user": None},
        {"model": "gpt-4*", "user": None, "organization": "*"},
        {"requested_model": "fast", "served_model": "gpt-4o-mini", "tag": {"prefix": "bl"}},
    ],
)
def test_a_rule_applies_when_all_its_conditions_hold(match: dict[str, Any]):
    assert applies(match, CALL)


@pytest.mark.parametrize(
    "match",
    [
        {"provider": "openai"},
        {"deployment": "prod-*-east"},
        {"deployment": "azure/"},
        {"requested_model": "gpt-4o-mini"},
        {"served_model": "azure/gpt-4o"},
        {"served_model": "openai/*"},
        {"model": "*-mini-2025*"},
        {"price_key": "gpt-4o-mini"},
        {"mode": "embedding"},
        {"call_type": "embedding"},
        {"call_type": "acompletio"},
        {"team": "Core"},
        {"team": None},
        {"user": "*"},
        {"tag": "green"},
        {"team": "core", "organization": "other"},
        {"model": "gpt-4*", "user": "*"},
        {"model": "gpt-4*", "organization": None},
        {"requested_model": "fast", "served_model": "gpt-4o"},
        {"team": {"prefix": "co"}, "mode": "embedding"},
    ],
)
def test_a_rule_does_not_apply_when_a_condition_fails(match: dict[str, Any]):
    assert not applies(match, CALL)


def test_a_call_without_price_or_call_type_has_none_to_match():
    bare = a_call(None, provider=None, call_type="")
    assert not applies({"price_key": "*"}, bare)
    assert not applies({"mode": "*"}, bare)
    assert not applies({"model": "*"}, bare)
    assert not applies({"call_type": "*"}, bare)
    assert applies({"mode": None, "model": None, "call_type": None, "price_key": None}, bare)


def test_the_price_key_is_a_name_of_the_model_where_no_model_is_known():
    assert applies({"model": "book/key"}, a_call(None, price_key="Book/Key"))


@pytest.mark.parametrize(
    ("start", "end", "holds"),
    [
        (NOON, None, True),
        (NOON + SECOND, None, False),
        (NOON - SECOND, NOON, False),
        (NOON - SECOND, NOON + SECOND, True),
    ],
)
def test_a_rule_holds_from_its_beginning_until_before_its_end(start: Any, end: Any, holds: bool):
    assert bool(rules_of(fee({}, start=start, end=end)).fees.in_force(a_call(occurred_at=NOON))) is holds


def test_at_no_known_time_no_rule_holds():
    assert rules_of(fee({})).fees.in_force(a_call(occurred_at=None)) == ()


def test_the_dates_are_looked_at_for_every_call_anew():
    rules = rules_of(fee({"team": "core"}, start=NOON, end=NOON + SECOND))
    times = [NOON - SECOND, NOON, NOON + SECOND]
    assert [len(rules.fees.in_force(a_call(team="core", occurred_at=at))) for at in times] == [0, 1, 0]


@pytest.mark.parametrize(
    ("match", "other"),
    [
        ({"team": "a"}, {"team": "b"}),
        ({"team": None}, {"team": "b"}),
        ({"tag": "a"}, {"tags": ("b",)}),
        ({"provider": "openai"}, {"provider": "azure"}),
        ({"mode": "chat"}, {"mode": "embedding"}),
        ({"call_type": "completion"}, {"call_type": "embedding"}),
        ({"price_key": "a"}, {"price_key": "b"}),
        ({"model": "a"}, {"price_key": "b"}),
        ({"deployment": "d"}, {"deployment_id": "e"}),
        ({"requested_model": "a"}, {"requested_model": "b"}),
    ],
)
def test_what_is_remembered_of_a_call_is_not_taken_for_another(match: dict[str, Any], other: dict[str, Any]):
    fields = {"team": "a", "tags": ("a",), "provider": "openai", "mode": "chat", "price_key": "a", "deployment_id": "d"}
    fields["requested_model"] = "a"
    if match == {"team": None}:
        fields["team"] = None
    rules = rules_of(fee(match))
    assert [len(rules.fees.in_force(a_call(**(fields | extra)))) for extra in ({}, other, {})] == [1, 0, 1]


def test_the_memory_of_calls_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rules_module, "_MAX_REMEMBERED", 3)
    rules = rules_of(fee({"user": "u1"}))
    for number in range(10):
        assert len(rules.fees.in_force(a_call(user=f"u{number}"))) == (number == 1)
        assert len(rules.fees._remembered) <= 3


def test_the_memory_of_patterns_is_bounded_and_tells_names_apart(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rules_module, "_MAX_REMEMBERED", 3)
    rules = rules_of(fee({"model": "m-1*", "user": "*"}), fee({"deployment": "d-*", "model": "m-2*"}))
    for number in (*range(10), 1, 2, 1):
        deployment = "d-x" if number % 2 == 0 else "m-2"
        call = a_call(f"m-{number}", user=f"u{number}", deployment=deployment)
        assert len(rules.fees.in_force(call)) == (number in (1, 2))
        assert len(rules.fees._patterned) <= 3


def test_rules_without_conditions_remember_one_thing():
    rules = rules_of(fee({}))
    for number in range(3):
        rules.fees.in_force(a_call(user=f"u{number}"))
    assert len(rules.fees._remembered) == 1


def test_more_specific_rules_come_later():
    rules = [
        fee({"team": "core", "provider": "openai"}, number=1),
        fee({"team": "core"}, number=3),
        fee({"model": "gpt-*"}, number=2),
        fee({"provider": "openai"}, number=4),
        fee({}, number=9),
    ]
    found = rules_of(*rules).fees.in_force(a_call(team="core"))
    assert [matched.rule.rule_id.int for matched in found] == [9, 2, 3, 4, 1]


def test_rules_of_each_kind_are_kept_apart():
    override, own_fee, discount = an_override({"input_cost_per_token": "1"}), fee({}), an_adjustment(discount_usd="1")
    rules = rules_of(override, own_fee, discount)
    assert (len(rules.overrides), len(rules.fees), len(rules.adjustments)) == (1, 1, 1)
    assert rules.rule_ids == {override.rule_id, own_fee.rule_id, discount.rule_id}
    assert rules
    assert not NO_RULES
    assert not PricingRules()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"tags": "x"}, "match.tags"),
        ({"key": "x"}, "match.key"),
        ({"end_users": "x"}, "match.end_users"),
        ({"mode": 1}, "match.mode"),
        ({"provider": "x*" + "y" * 300}, "match.provider"),
        (dict.fromkeys(RULE_DIMENSIONS[:9], "x"), "match"),
        (None, "match"),
    ],
)
def test_a_wrong_match_is_refused_with_the_path_of_the_field(document: Any, field: str):
    with pytest.raises(InvalidInput) as refused:
        parse_rule_match(document)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"team": "!core"}, "match.team"),
        ({"model": "!gpt-4o"}, "match.model"),
        ({"team": ["a", " !core"]}, "match.team[1]"),
        ({"team": "a*"}, "match.team"),
        ({"tag": ["a", "b", "c*d"]}, "match.tag[2]"),
        ({"mode": "*chat"}, "match.mode"),
    ],
)
def test_a_rule_in_another_language_that_would_never_apply_is_not_declared(document: Any, field: str):
    with pytest.raises(InvalidInput, match="prefix") as refused:
        declared_rule_match(document)
    assert refused.value.field == field
    # One that was stored is read all the same.
    assert parse_rule_match(document)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"team": "*", "user": None, "tag": {"each": True}},
        {"team": {"prefix": "!"}, "user": {"prefix": "a*"}},
        {"model": ["gpt-*", "*mini"], "provider": "az*", "deployment": "a*", "price_key": "x*"},
        {"team": "core!", "user": ["a!b"]},
    ],
)
def test_what_can_apply_is_declared_as_it_is_stored(document: Any):
    assert declared_rule_match(document) == parse_rule_match(document)


def test_eight_conditions_are_taken():
    names = [name for name in RULE_DIMENSIONS if name != "api_key"][:8]
    assert len(parse_rule_match(dict.fromkeys(names, "x"))) == 8


def test_people_have_no_patterns():
    assert not applies({"team": "c*"}, CALL)
