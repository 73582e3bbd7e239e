"""How single limits of LiteLLM become budgets. Rows as its tables have them; what is spent is told elsewhere."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from service.budgets import schemas
from service.budgets.period import CalendarPeriod, LifetimePeriod, RollingPeriod
from service.identity.conditions import match_document
from service.imports import drafting
from service.imports.gateway_config import CachedBudget, Deployment, GatewayConfig
from service.imports.mapping import plan_import
from service.imports.plan import Plan, PlannedBudget, slug_of
from service.imports.source_rows import (
    AgentRow,
    BudgetRow,
    Entities,
    KeyRow,
    LinkedRow,
    MemberRow,
    ModelRow,
    TeamRow,
    UserRow,
)
from tests.litellm_source import token_of

NOW = datetime(2026, 11, 18, 10, tzinfo=UTC)
MONTH = CalendarPeriod("month", "UTC", 1)
FAR = datetime(2199, 12, 31, tzinfo=UTC)


def raw(content: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(content))


def usd(text: str) -> Decimal:
    return Decimal(text)


def plan_of(config: GatewayConfig | None = None, **rows: Any) -> Plan:
    return plan_import(Entities(**rows), config or GatewayConfig(), NOW)


def only_budget(config: GatewayConfig | None = None, **rows: Any) -> PlannedBudget:
    [budget] = plan_of(config, **rows).budgets
    return budget


def described(plan: Plan) -> dict[str, Any]:
    """Return slug -> (match, limit)."""
    return {one.draft.slug: (match_document(one.draft.match), str(one.draft.terms.limit_usd)) for one in plan.budgets}


def told(plan: Plan, topic: str) -> list[str]:
    return [f"{remark.subject}: {remark.detail}" for remark in plan.remarks if remark.topic == topic]


def test_limits_are_bounded_as_the_interface_bounds_them():
    assert drafting.MOST_LIMIT_USD == schemas.MAX_LIMIT_USD


def test_slugs_are_valid_and_those_of_different_entities_differ():
    ids = ["core", "a b", "a-b", "a", "b", "", "*", "ü", "x" * 500, "x" * 501, "/", "\\"]
    slugs = [slug_of("team", one) for one in ids]
    slugs += [slug_of("team", "a", "window", "1d"), slug_of("team", "a:window:1d"), slug_of("team", "a:window", "1d")]
    slugs += [slug_of("end users"), slug_of("end user", "s"), slug_of("member", "a", "b"), slug_of("member", "a:b")]
    assert len(set(slugs)) == len(slugs)
    assert [schemas.checked_slug(slug) for slug in slugs] == slugs


@pytest.mark.parametrize(
    ("limit", "taken"),
    [("0", "0"), ("-1", "0"), ("NaN", None), ("Infinity", None), ("1e300", None), ("9000000001", None), ("1e-50", None),
     ("0.1", "0.1")],
)  # fmt: skip
def test_a_limit_is_taken_exactly_blocks_where_it_blocks_there_or_is_told(limit: str, taken: str | None):
    plan = plan_of(teams=[TeamRow(team_id="core", max_budget=usd(limit))])
    assert [str(one.draft.terms.limit_usd) for one in plan.budgets] == ([] if taken is None else [taken])
    assert bool(plan.remarks) is (taken is None or limit == "-1")


def test_a_default_of_members_of_zero_is_no_limit_but_a_members_own_is_a_block():
    team = TeamRow(team_id="core", team_member_budget_id="default")
    budgets = [BudgetRow(budget_id="default", max_budget=usd("0")), BudgetRow(budget_id="own", max_budget=usd("0"))]
    plan = plan_of(teams=[team], budgets=budgets, members=[MemberRow(user_id="ann", team_id="core", budget_id="own")])
    assert described(plan) == {"litellm-member-core:ann": ({"team": "core", "user": "ann"}, "0")}


def test_zero_of_the_router_is_no_limit_and_of_a_model_a_block():
    cached = CachedBudget(max_budget=usd("0"), budget_duration="1d")
    config = GatewayConfig(
        providers={"openai": cached},
        tags={"t": cached},
        deployments=(Deployment(model_name="m", model="openai/m", budget=cached),),
    )
    assert plan_of(config).budgets == ()
    budget = only_budget(
        teams=[TeamRow(team_id="core", model_max_budget=raw({"m": {"budget_limit": 0, "time_period": "1d"}}))]
    )
    assert (budget.draft.terms.limit_usd, budget.draft.period) == (0, RollingPeriod(86_400))


def test_a_negative_limit_of_a_model_is_no_limit_and_one_without_duration_is_not_enforced():
    rows = {"m": {"max_budget": -1, "budget_duration": "1d"}, "n": {"max_budget": 1}, "o": {"tpm_limit": 5}}
    plan = plan_of(keys=[KeyRow(token=token_of("k"), key_alias="k", model_max_budget=raw(rows))])
    assert plan.budgets == ()
    subjects = [text.partition(":")[0] for text in told(plan, "not_taken")]
    assert subjects == [f"key k model {model}" for model in "mno"]


def test_json_that_is_stored_as_a_text_is_read():
    text = msgspec.json.encode({"m": {"max_budget": 1.25, "budget_duration": "1d"}}).decode()
    budget = only_budget(teams=[TeamRow(team_id="core", model_max_budget=raw(text))])
    assert budget.draft.terms.limit_usd == usd("1.25")


def test_a_model_and_the_aliases_that_lead_to_it_share_one_counter():
    rows = raw({"gpt-4.1": {"max_budget": 1, "budget_duration": "1d"}})
    budget = only_budget(
        GatewayConfig(aliases={"fast": "gpt-4.1"}), users=[UserRow(user_id="u", model_max_budget=rows)]
    )
    assert match_document(budget.draft.match) == {"user": "u", "team": None, "requested_model": ["fast", "gpt-4.1"]}


def test_users_budgets_count_personal_keys_unless_the_proxy_applies_them_to_team_keys():
    user = UserRow(user_id="ann", max_budget=usd("5"), spend=usd("3"))
    personal = only_budget(users=[user])
    assert match_document(personal.draft.match) == {"team": None, "user": "ann"}
    everywhere = only_budget(GatewayConfig(applies_user_budgets_to_team_keys=True), users=[user])
    assert match_document(everywhere.draft.match) == {"user": "ann"}
    assert match_document(personal.accounts[0].match) == match_document(everywhere.accounts[0].match) == {"user": "ann"}


def test_a_soft_budget_is_a_threshold_and_alone_a_budget_that_only_tells():
    both = only_budget(teams=[TeamRow(team_id="t", max_budget=usd("3"), soft_budget=usd("2"))])
    assert both.draft.terms.thresholds == (usd("0.6667"),)
    alone = only_budget(teams=[TeamRow(team_id="t", soft_budget=usd("2"))]).draft.terms
    assert (alone.mode, alone.limit_usd, alone.thresholds) == ("shadow", 2, (1,))
    tiny = plan_of(teams=[TeamRow(team_id="t", max_budget=usd("3"), soft_budget=usd("1e-9"))])
    assert tiny.budgets[0].draft.terms.thresholds == ()
    assert told(tiny, "not_taken")


def test_several_windows_are_several_budgets():
    windows = raw(
        [{"budget_duration": "1d", "max_budget": 5}, {"budget_duration": "30d", "max_budget": 50}, {"max_budget": 1}]
    )
    plan = plan_of(teams=[TeamRow(team_id="core", max_budget=usd("100"), budget_limits=windows)])
    periods = {one.draft.slug: one.draft.period for one in plan.budgets}
    assert periods == {
        "litellm-team-core": LifetimePeriod(),
        "litellm-team-core:window:1d": CalendarPeriod("day", "UTC"),
        "litellm-team-core:window:30d": MONTH,
    }
    assert told(plan, "source")


def test_the_proxy_itself_has_a_budget_only_above_zero():
    assert match_document(only_budget(GatewayConfig(max_budget=usd("9"), budget_duration="30d")).draft.match) == {}
    assert plan_of(GatewayConfig(max_budget=usd("0"))).budgets == ()
    row = UserRow(user_id="litellm-proxy-budget", max_budget=usd("7"), budget_duration="1d", spend=usd("2"))
    assert only_budget(users=[row]).accounts[0].spend_usd == 2


def test_members_of_other_limits_than_the_default_are_excepted_from_it():
    team = TeamRow(team_id="core", team_member_budget_id="default")
    budgets = [
        BudgetRow(budget_id="default", max_budget=usd("10"), budget_duration="30d"),
        BudgetRow(budget_id="more", max_budget=usd("25"), budget_duration="30d"),
        BudgetRow(budget_id="less", max_budget=usd("5"), budget_duration="30d"),
        BudgetRow(budget_id="other", max_budget=usd("2"), budget_duration="1d"),
    ]
    members = [MemberRow(user_id=name, team_id="core", budget_id=name) for name in ("more", "less", "other")]
    plan = plan_of(teams=[team], budgets=budgets, members=members)
    assert described(plan)["litellm-members-core"] == ({"team": "core", "user": "*"}, "10")
    lifts = {one.subject: one.amount_usd for one in plan.increases}
    assert lifts == {'{"user":"more"}': 15, '{"user":"other"}': usd("8999999990")}
    assert {one.until for one in plan.increases} == {FAR}


def test_beyond_a_hundred_exceptions_a_default_becomes_budgets_of_those_who_are_known():
    gold = BudgetRow(budget_id="gold", max_budget=usd("50"))
    rows = [LinkedRow(id=f"c{number}", budget_id="gold") for number in range(101)]
    rows += [LinkedRow(id="plain", spend=usd("1"))]
    plan = plan_of(GatewayConfig(max_end_user_budget=usd("5")), budgets=[gold], end_users=rows)
    assert len(plan.budgets) == 102
    assert ({"end_user": "plain"}, "5") in described(plan).values()
    assert plan.increases == ()
    assert any("who comes later has none" in text for text in told(plan, "decision"))


def test_temporary_increases_are_taken_until_they_end():
    later, past = (NOW + timedelta(days=1)).isoformat(), (NOW - timedelta(days=1)).isoformat()
    keys = [
        KeyRow(token=token_of(name), max_budget=usd("5"), temp_budget_increase=amount, temp_budget_expiry=until)
        for name, amount, until in (("a", "2.5", later), ("b", "2", past), ("c", "NaN", later), ("d", None, later))
    ]
    plan = plan_of(keys=keys)
    assert [(one.slug, one.amount_usd) for one in plan.increases] == [(f"litellm-key-{token_of('a')}", usd("2.5"))]
    assert len(told(plan, "not_taken")) == 1


def test_a_key_gets_what_its_linked_budget_says_where_it_says_nothing():
    linked = BudgetRow(
        budget_id="b", max_budget=usd("8"), soft_budget=usd("4"), budget_duration="30d", rate_limits="tpm_limit"
    )
    plan = plan_of(budgets=[linked], keys=[KeyRow(token=token_of("k"), key_alias="k", budget_id="b")])
    [budget] = plan.budgets
    terms = budget.draft.terms
    assert (terms.limit_usd, terms.thresholds, budget.draft.period) == (8, (usd("0.5"),), MONTH)
    assert any("tpm_limit" in text for text in told(plan, "not_taken"))


def test_sessions_of_the_web_pages_are_left_out():
    plan = plan_of(keys=[KeyRow(token=token_of("ui"), team_id="litellm-dashboard", max_budget=usd("0.25"))])
    assert (plan.keys, plan.budgets) == ((), ())
    assert told(plan, "not_taken")


def test_what_there_is_nothing_for_is_told():
    key = KeyRow(token=token_of("k"), key_alias="k", agent_id="a", expires=(NOW + timedelta(days=9)).isoformat(),
                 throttles="true", budget_fallbacks=raw({"m": ["n"]}), rate_limits="tpm_limit, rpm_limit")  # fmt: skip
    plan = plan_of(
        keys=[key],
        end_users=[LinkedRow(id="c", blocked=True)],
        models=[ModelRow(model_id="d1", model_name="m", max_budget="5")],
        agents=[AgentRow(agent_id="a", rate_limits="session_tpm_limit")],
        access_groups=[LinkedRow(id="g", budget_id="b")],
        organizations=[LinkedRow(id="o", budget_id="b")],
        budgets=[BudgetRow(budget_id="b", temp_budget_increase=usd("1"))],
    )
    texts = " ".join(told(plan, "not_taken"))
    for word in ("expires", "agent a", "throttle", "budget_fallbacks", "rpm_limit", "is blocked", "encrypts",
                 "session_tpm_limit", "access group g", "organization o"):  # fmt: skip
        assert word in texts, word


def test_names_that_mean_every_value_here_are_no_budget_of_every_value():
    rows = [LinkedRow(id="*", budget_id="b"), LinkedRow(id="User-Agent: x", budget_id="b")]
    plan = plan_of(budgets=[BudgetRow(budget_id="b", max_budget=usd("1"))], tags=rows)
    assert plan.budgets == ()
    assert len(told(plan, "not_taken")) == 2
