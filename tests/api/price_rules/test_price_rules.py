"""`/v1/price-overrides`, `/v1/fees`, `/v1/discounts` over HTTP: from the rule to the lines of the charge."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from service.kit.clock import utc_now
from service.kit.ids import new_id
from service.pricing import rule_service
from tests.api.checks.world import MODEL, World

LAST_YEAR = "2025-01-01T00:00:00Z"
# 1000 prompt and 100 completion tokens of gpt-4.1-mini by the shipped list.
LIST_COST = Decimal("0.00056")

Make = dict[str, dict[str, Any]]
KINDS: Make = {
    "price-overrides": {"rates": {"input_cost_per_token": {"usd": "0.000001"}}},
    "fees": {"kind": "usd_per_request", "amount": "0.001"},
    "discounts": {"discount_percent": "10"},
}
LISTS = {"price-overrides": "price_overrides", "fees": "fees", "discounts": "discounts"}

every_kind = pytest.mark.parametrize("kind", sorted(KINDS))


async def declare(world: World, route: str, *, expect: int = 201, **fields: Any) -> Any:
    body = {"name": "a rule", "match": {}, "effective_from": LAST_YEAR} | (fields or KINDS[route])
    answer = await world.call("POST", f"/v1/{route}", json=body, expect=expect)
    answer.pop("repricing_offers", None)  # what it would change is another matter than what it is
    return answer


async def charge_of(world: World, **event: Any) -> Any:
    """Post an event and return the explanation of its charge."""
    recorded = await world.post_event(**event)
    return await world.call("GET", f"/v1/charges/{recorded['charge_id']}")


def line(lines: list[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    [found] = [line for line in lines if all(line[name] == value for name, value in wanted.items())]
    return found


async def test_a_fee_of_a_tag_is_charged_however_many_other_tags_a_call_has(world: World):
    await declare(world, "fees", name="vip", match={"tag": "zz-vip"}, kind="usd_per_request", amount="1")
    charges = [
        await charge_of(world, request_tags=tags) for tags in (["zz-vip"], [*[f"a{n}" for n in range(40)], "zz-vip"])
    ]
    assert [Decimal(charge["cost_usd"]) for charge in charges] == [1 + LIST_COST] * 2


async def test_an_override_prices_events_and_is_named_on_the_line_it_made(world: World):
    await declare(world, "price-overrides", name="contract 7", rates={"input_cost_per_token": {"usd": "0.000001"}})
    charge = await charge_of(world)
    text = line(charge["components"], name="text_input")
    assert (text["rate"], text["amount_usd"], text["note"]) == ("0.000001", "0.001", "override contract 7")
    assert text["price_key"] == charge["price_key"] == MODEL
    assert line(charge["components"], name="text_output")["note"] is None
    assert Decimal(charge["cost_usd"]) == Decimal("0.001") + 100 * Decimal("0.0000016")
    assert charge["list_cost_usd"] == charge["cost_usd"] == charge["billed_cost_usd"]


async def test_a_proportional_override_is_of_the_listed_rate(world: World):
    await declare(world, "price-overrides", rates={"input_cost_per_token": {"factor": "0.5"}})
    charge = await charge_of(world)
    assert line(charge["components"], name="text_input")["rate"] == "0.0000002"


async def test_an_override_prices_a_model_no_list_knows(world: World):
    rates = {"input_cost_per_token": {"usd": "0.000002"}, "output_cost_per_token": {"usd": "0.000003"}}
    await declare(world, "price-overrides", match={"model": "house-*"}, rates=rates, replace=True)
    charge = await charge_of(world, model="house-model", model_group="house", custom_llm_provider="hosted_vllm")
    assert (charge["price_state"], charge["cost_usd"], charge["assumed_usd"]) == ("priced", "0.0023", "0")


async def test_a_factor_for_a_team_leaves_a_model_no_list_knows_its_price(world: World):
    rates = {"input_cost_per_token": {"usd": "0.000001"}, "output_cost_per_token": {"usd": "0.000002"}}
    await declare(world, "price-overrides", match={"model": "hosted_vllm/house-7b"}, rates=rates)
    factors = {key: {"factor": "0.9"} for key in rates}
    await declare(world, "price-overrides", match={"team": "core"}, rates=factors)
    charge = await charge_of(
        world,
        model="hosted_vllm/house-7b",
        model_group="house",
        custom_llm_provider="hosted_vllm",
        metadata={"user_api_key_team_id": "core"},
    )
    assert (charge["price_state"], charge["cost_usd"], charge["assumed_usd"]) == ("priced", "0.0012", "0")


async def test_fees_are_lines_of_their_own_and_sum_up(world: World):
    await declare(world, "fees", name="platform", kind="usd_per_request", amount="0.001")
    await declare(world, "fees", name="tokens", kind="usd_per_million_total_tokens", amount="1")
    await declare(world, "fees", name="share", kind="percent_of_model_cost", amount="10")
    charge = await charge_of(world)
    assert {fee["name"]: fee["amount_usd"] for fee in charge["fees"]} == {
        "platform": "0.001",
        "tokens": "0.0011",
        "share": "0.000056",
    }
    assert (charge["fees_usd"], charge["fees_price_state"]) == ("0.002156", "priced")
    assert Decimal(charge["cost_usd"]) == LIST_COST + Decimal("0.002156")
    spend = await world.call("GET", "/v1/spend", params={"group_by": "served_model"})
    assert spend["totals"]["fees_usd"] == "0.002156"


async def test_a_fee_per_second_is_of_the_duration_of_the_call(world: World):
    await declare(world, "fees", name="time", kind="usd_per_second", amount="0.5")
    now = utc_now().timestamp()
    charge = await charge_of(world, startTime=now - 3, endTime=now - 1)
    assert Decimal(line(charge["fees"], name="time")["quantity"]) == pytest.approx(Decimal(2), abs=Decimal("0.001"))


async def test_a_fee_on_a_model_without_a_price_is_its_own_state(world: World):
    await declare(world, "fees", name="platform", kind="usd_per_request", amount="0.001")
    unknown = {"model": "house-model", "model_group": "house", "custom_llm_provider": "custom"}
    charge = await charge_of(world, **unknown)
    assert (charge["price_state"], charge["fees_price_state"]) == ("unpriced", "priced")
    assert (charge["model_cost_usd"], charge["fees_usd"], charge["cost_usd"]) == ("0", "0.001", "0.001")
    await declare(world, "fees", name="share", kind="percent_of_model_cost", amount="10")
    charge = await charge_of(world, **unknown)
    assert (charge["price_state"], charge["fees_price_state"], charge["fees_usd"]) == ("unpriced", "unpriced", "0.001")


async def test_a_tenants_fee_is_no_part_of_the_gateways_figure(world: World):
    await declare(world, "fees", kind="usd_per_request", amount="0.001")
    charge = await charge_of(world, cost="0.25")
    assert (charge["price_state"], charge["model_cost_usd"], charge["cost_usd"]) == ("reported", "0.25", "0.251")


async def test_discounts_and_markups_are_lines_and_both_costs_are_kept(world: World):
    await declare(world, "discounts", name="volume", discount_percent="25")
    await declare(world, "discounts", name="handling", markup_usd="0.00001")
    charge = await charge_of(world)
    volume = line(charge["components"], name="discount")
    assert (volume["unit"], volume["note"], volume["rate"]) == ("adjustment", "volume", "-0.25")
    assert Decimal(volume["amount_usd"]) == -LIST_COST / 4
    assert line(charge["components"], name="markup")["amount_usd"] == "0.00001"
    assert Decimal(charge["list_cost_usd"]) == LIST_COST
    assert Decimal(charge["model_cost_usd"]) == LIST_COST * 3 / 4 + Decimal("0.00001")
    assert sum(Decimal(each["amount_usd"]) for each in charge["components"]) == Decimal(charge["model_cost_usd"])


async def test_a_percentage_fee_is_of_what_is_billed(world: World):
    await declare(world, "discounts", discount_percent="50")
    await declare(world, "fees", name="share", kind="percent_of_model_cost", amount="10")
    charge = await charge_of(world)
    assert Decimal(charge["fees_usd"]) == LIST_COST / 20
    assert Decimal(charge["list_cost_usd"]) == LIST_COST + LIST_COST / 20


async def test_discounts_hold_for_every_mode(world: World):
    await declare(world, "discounts", match={"mode": "embedding"}, discount_percent="50")
    embedding = {"model": "text-embedding-3-small", "call_type": "aembedding", "completion_tokens": 0}
    charge = await charge_of(world, **embedding, total_tokens=1000)
    assert (charge["list_cost_usd"], charge["cost_usd"]) == ("0.00002", "0.00001")
    assert Decimal((await charge_of(world))["cost_usd"]) == LIST_COST


async def test_a_rule_applies_to_whom_it_names(world: World):
    await declare(world, "fees", name="core only", match={"team": ["core", "x"]}, kind="usd_per_request", amount="1")
    metadata = {"user_api_key_team_id": "core"}
    assert (await charge_of(world, metadata=metadata))["fees_usd"] == "1"
    assert (await charge_of(world, metadata={"user_api_key_team_id": "other"}))["fees_usd"] == "0"
    assert (await charge_of(world))["fees_usd"] == "0"


async def test_a_rule_holds_from_its_beginning_until_before_its_end(world: World):
    start = datetime(2026, 11, 2, 12, tzinfo=UTC)
    end = start + timedelta(hours=1)
    dates = {"effective_from": start.isoformat(), "effective_to": end.isoformat()}
    await declare(world, "fees", kind="usd_per_request", amount="1", **dates)
    millisecond = timedelta(milliseconds=1)
    fees = []
    for began in (start - millisecond, start, end - millisecond, end):
        charge = await charge_of(world, startTime=began.timestamp(), endTime=began.timestamp() + 1)
        fees.append(charge["fees_usd"])
    assert fees == ["0", "1", "1", "0"]


async def test_a_rule_without_dates_holds_from_now_on(world: World):
    before = utc_now() - timedelta(seconds=5)
    rule = await world.call(
        "POST", "/v1/fees", json={"name": "n", "match": {}, "kind": "usd_per_request", "amount": "1"}, expect=201
    )
    assert before < datetime.fromisoformat(rule["effective_from"]) < utc_now() + timedelta(seconds=5)
    assert rule["effective_to"] is None
    assert rule["created_at"] == rule["effective_from"]
    assert (await charge_of(world, startTime=before.timestamp()))["fees_usd"] == "0"
    later = utc_now().timestamp() + 10
    assert (await charge_of(world, startTime=later, endTime=later + 1))["fees_usd"] == "1"


@every_kind
async def test_a_declared_rule_is_listed_until_it_is_deleted(world: World, kind: str):
    made = await declare(world, kind, **KINDS[kind], reason="as agreed", match={"team": "core"})
    assert made["match"] == {"team": "core"}
    assert made["reason"] == "as agreed"
    assert made["created_by"].startswith("test (")
    listed = await world.call("GET", f"/v1/{kind}")
    assert listed == {LISTS[kind]: [made], "next_cursor": None}
    await world.call("DELETE", f"/v1/{kind}/{made['id']}", expect=204)
    assert (await world.call("GET", f"/v1/{kind}"))[LISTS[kind]] == []
    await world.call("DELETE", f"/v1/{kind}/{made['id']}", expect=404)


@every_kind
async def test_a_deleted_rule_holds_no_more_and_recorded_charges_stay(world: World, kind: str):
    made = await declare(world, kind)
    first = await charge_of(world)
    await world.call("DELETE", f"/v1/{kind}/{made['id']}", expect=204)
    assert Decimal((await charge_of(world))["cost_usd"]) == LIST_COST != Decimal(first["cost_usd"])
    assert await world.call("GET", f"/v1/charges/{first['charge_id']}") == first


@every_kind
async def test_lists_are_paged_and_narrowed_to_an_instant(world: World, kind: str):
    made = []
    for number in range(3):
        dates = {"effective_from": f"202{number}-01-01T00:00:00Z", "effective_to": f"202{number + 1}-01-01T00:00:00Z"}
        made.append(await declare(world, kind, **KINDS[kind], **dates))
    page = await world.call("GET", f"/v1/{kind}", params={"limit": "2"})
    rest = await world.call("GET", f"/v1/{kind}", params={"limit": "2", "cursor": page["next_cursor"]})
    assert page[LISTS[kind]] + rest[LISTS[kind]] == made
    assert rest["next_cursor"] is None
    for at, shown in (("2021-01-01", [made[1]]), ("2020-12-31T23:59:59Z", [made[0]]), ("2023-01-01", [])):
        assert (await world.call("GET", f"/v1/{kind}", params={"active_at": at}))[LISTS[kind]] == shown


@every_kind
async def test_rules_are_read_by_readers_and_changed_by_admins(world: World, kind: str):
    made = await declare(world, kind)
    reader = await world.make_token(roles=("read",))
    assert (await world.call("GET", f"/v1/{kind}", headers=reader))[LISTS[kind]] == [made]
    await world.call("POST", f"/v1/{kind}", headers=reader, json=KINDS[kind], expect=403)
    await world.call("DELETE", f"/v1/{kind}/{made['id']}", headers=reader, expect=403)
    narrowed = await world.make_token(roles=("read",), scope={"team": ["core"]})
    await world.call("GET", f"/v1/{kind}", headers=narrowed, expect=403)
    ingester = await world.make_token(roles=("ingest",))
    await world.call("GET", f"/v1/{kind}", headers=ingester, expect=403)


@every_kind
async def test_a_rule_of_one_tenant_is_nothing_to_another(world: World, other_world: World, kind: str):
    made = await declare(world, kind)
    assert (await other_world.call("GET", f"/v1/{kind}"))[LISTS[kind]] == []
    await other_world.call("DELETE", f"/v1/{kind}/{made['id']}", expect=404)
    assert Decimal((await charge_of(other_world))["cost_usd"]) == LIST_COST


@every_kind
async def test_a_rule_is_deleted_under_its_own_kind_only(world: World, kind: str):
    made = await declare(world, kind)
    for other in KINDS.keys() - {kind}:
        await world.call("DELETE", f"/v1/{other}/{made['id']}", expect=404)


@every_kind
async def test_a_rule_sent_again_is_refused_and_charged_once(world: World, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rule_service, "MAX_RULES", 1)
    made = await declare(world, kind)
    once = await charge_of(world)
    refused = await declare(world, kind, expect=409)
    assert (refused["code"], made["id"] in refused["detail"]) == ("rule_overlaps", True)
    assert len((await world.call("GET", f"/v1/{kind}"))[LISTS[kind]]) == 1
    assert (await charge_of(world))["cost_usd"] == once["cost_usd"]
    await world.call("DELETE", f"/v1/{kind}/{made['id']}", expect=204)
    await declare(world, kind)


@every_kind
async def test_a_rule_without_dates_sent_again_is_refused(world: World, kind: str):
    made = await declare(world, kind, **KINDS[kind], effective_from=None)
    assert made["id"] in (await declare(world, kind, **KINDS[kind], effective_from=None, expect=409))["detail"]


@every_kind
async def test_what_differs_or_follows_is_another_rule(world: World, kind: str, other_world: World):
    await declare(world, kind, **KINDS[kind], effective_to="2025-06-01T00:00:00Z")
    await declare(world, kind, **KINDS[kind], effective_from="2025-06-01T00:00:00Z")
    await declare(world, kind, **KINDS[kind], name="another")
    await declare(world, kind, **KINDS[kind], match={"team": "core"})
    terms = {"rates": {"input_cost_per_token": {"usd": "0.5"}}, "amount": "0.5", "discount_percent": "0.5"}
    await declare(world, kind, **(KINDS[kind] | {name: terms[name] for name in KINDS[kind] if name in terms}))
    await declare(other_world, kind)


@every_kind
async def test_there_is_a_bound_to_the_number_of_rules(world: World, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rule_service, "MAX_RULES", 1)
    await declare(world, kind)
    refused = await declare(world, kind, **KINDS[kind], name="another", expect=409)
    assert refused["code"] == "too_many_rules"
    for other in KINDS.keys() - {kind}:
        await declare(world, other)


@every_kind
async def test_there_is_a_bound_to_the_number_of_patterns(world: World, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rule_service, "MAX_STARS", 3)
    for name in ("one", "two"):
        await declare(world, kind, **KINDS[kind], name=name, match={"model": ["*a*", "b"]})
    refused = await declare(world, kind, **KINDS[kind], expect=409)
    assert refused["code"] == "too_many_patterns"


@every_kind
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"reason": " "}, "reason"),
        ({"match": {"teams": "x"}}, "match.teams"),
        ({"match": {"api_key": "sk-secret"}}, "match.api_key"),
        ({"match": {"team": ""}}, "match.team"),
        ({"effective_from": "2026-01-02T00:00:00Z", "effective_to": "2026-01-02T00:00:00Z"}, "effective_to"),
        ({"effective_to": "2020-01-01T00:00:00Z"}, "effective_to"),
        ({"match": {"team": "!core"}}, "match.team"),
        ({"match": {"team": ["core", "a*"]}}, "match.team[1]"),
        ({"effective_from": "0001-01-01T00:00:00+14:00"}, "effective_from"),
        ({"effective_to": "9999-12-31T23:59:59-14:00"}, "effective_to"),
    ],
)
async def test_what_cannot_be_taken_is_refused_with_its_field(world: World, kind: str, fields: Any, field: str):
    refused = await declare(world, kind, **KINDS[kind], **fields, expect=422)
    assert refused["field"] == field
    assert (await world.call("GET", f"/v1/{kind}"))[LISTS[kind]] == []


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        ("price-overrides", {"rates": {}}, "rates"),
        ("price-overrides", {"rates": {"tiered_pricing": {"usd": "1"}}}, "rates.tiered_pricing"),
        ("price-overrides", {"rates": {"input_cost_per_token": {"usd": "-1"}}}, "rates.input_cost_per_token.usd"),
        ("price-overrides", {"rates": {"input_cost_per_token": {"usd": "NaN"}}}, "rates.input_cost_per_token.usd"),
        ("price-overrides", {"rates": {"input_cost_per_token": {"usd": "1e99999"}}}, "rates.input_cost_per_token.usd"),
        (
            "price-overrides",
            {"rates": {"input_cost_per_token": {"factor": "1"}}, "replace": True},
            "rates.input_cost_per_token.factor",
        ),
        ("fees", {"kind": "usd_per_request", "amount": "0"}, "amount"),
        ("fees", {"kind": "usd_per_request", "amount": "Infinity"}, "amount"),
        ("discounts", {"discount_percent": "100.1"}, "discount_percent"),
        ("discounts", {"discount_percent": "1", "markup_percent": "1"}, "discount_percent"),
        ("discounts", {"name": "n"}, "discount_percent"),
        ("discounts", {"markup_usd": "-1"}, "markup_usd"),
    ],
)
async def test_terms_that_cannot_be_taken_are_refused_with_their_field(
    world: World, kind: str, fields: dict[str, Any], field: str
):
    assert (await declare(world, kind, **fields, expect=422))["field"] == field


@every_kind
async def test_a_body_of_another_shape_is_refused(world: World, kind: str):
    for body in ({}, {"name": "n"}, {"name": "n", "match": {}, **KINDS[kind], "colour": "red"}, [], "x"):
        await world.call("POST", f"/v1/{kind}", json=body, expect=400)
    await world.call("GET", f"/v1/{kind}", params={"cursor": "x"}, expect=422)
    await world.call("GET", f"/v1/{kind}", params={"active_at": "yesterday"}, expect=422)
    unknown = await world.call("GET", f"/v1/{kind}", params={"active": "2026-01-01"}, expect=422)
    assert (unknown["code"], unknown["field"]) == ("unknown_parameter", "active")
    await world.call("DELETE", f"/v1/{kind}/not-an-id", expect=404)


async def test_an_amount_may_be_written_as_a_number(world: World):
    made = await declare(world, "fees", kind="usd_per_request", amount=0.1)
    assert made["amount"] == "0.1"


# In force everywhere.


async def test_a_check_holds_what_the_rules_say(world: World):
    before = await world.check(reserve=False)
    await declare(world, "fees", kind="usd_per_request", amount="0.5", effective_from=LAST_YEAR)
    after = await world.check(reserve=False)
    assert Decimal(after["estimate"]["amount_usd"]) == Decimal(before["estimate"]["amount_usd"]) + Decimal("0.5")


@every_kind
async def test_a_change_is_in_force_for_the_next_event_of_a_process_that_has_not_heard_of_it(
    world: World, deaf_process: httpx.AsyncClient, kind: str
):
    here, there = world, World(world.services, deaf_process, world.tenant_id)
    there.headers = here.headers
    await charge_of(there)
    for _ in range(5):
        made = await declare(here, kind)
        assert Decimal((await charge_of(there))["cost_usd"]) != LIST_COST
        await here.call("DELETE", f"/v1/{kind}/{made['id']}", expect=204)
        assert Decimal((await charge_of(there))["cost_usd"]) == LIST_COST


async def test_a_change_is_in_force_for_the_next_check_of_a_process_that_has_not_heard_of_it(
    world: World, deaf_process: httpx.AsyncClient
):
    await world.put_budget(limit_usd="100")
    there = World(world.services, deaf_process, world.tenant_id)
    there.headers = world.headers
    amount: Callable[[Any], Decimal] = lambda answer: Decimal(answer["estimate"]["amount_usd"])  # noqa: E731
    base = amount(await there.check(request_id=str(new_id()), reserve=True))
    for _ in range(5):
        made = await declare(world, "fees", kind="usd_per_request", amount="0.5", effective_from=LAST_YEAR)
        assert amount(await there.check(request_id=str(new_id()), reserve=True)) == base + Decimal("0.5")
        await world.call("DELETE", f"/v1/fees/{made['id']}", expect=204)
        assert amount(await there.check(request_id=str(new_id()), reserve=True)) == base


# The audit trail.


@every_kind
async def test_rules_are_in_the_audit_trail_from_beginning_to_end(world: World, kind: str):
    made = await declare(world, kind, **KINDS[kind], reason="as agreed")
    await world.call("DELETE", f"/v1/{kind}/{made['id']}", expect=204)
    trail = (await world.call("GET", "/v1/audit", params={"subject_id": made["id"]}))["entries"]
    subject = kind.removesuffix("s").replace("-", "_")
    assert [(entry["action"], entry["subject_type"]) for entry in trail] == [
        (f"{subject}.deleted", subject),
        (f"{subject}.created", subject),
    ]
    assert trail[0]["before"] == trail[1]["after"]
    assert (trail[0]["after"], trail[1]["before"]) == (None, None)
    shown = {name: value for name, value in made.items() if name in trail[1]["after"]}
    assert trail[1]["after"] == {**trail[1]["after"], **shown}
    assert trail[1]["after"]["reason"] == "as agreed"
    assert trail[0]["changed_by"] == made["created_by"]


@every_kind
async def test_what_was_refused_leaves_no_entry(world: World, kind: str):
    await declare(world, kind, **KINDS[kind], effective_to="2020-01-01T00:00:00Z", expect=422)
    await world.call("DELETE", f"/v1/{kind}/{new_id()}", expect=404)
    subject = kind.removesuffix("s").replace("-", "_")
    assert (await world.call("GET", "/v1/audit", params={"subject_type": subject}))["entries"] == []


@every_kind
async def test_without_its_entry_no_change_happens(world: World, kind: str, monkeypatch: pytest.MonkeyPatch):
    made = await declare(world, kind)

    async def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(rule_service, "record", fails)
    await declare(world, kind, **KINDS[kind], name="another", expect=500)
    await world.call("DELETE", f"/v1/{kind}/{made['id']}", expect=500)
    assert (await world.call("GET", f"/v1/{kind}"))[LISTS[kind]] == [made]


async def test_what_rules_remember_outlives_changes_of_anything_else(world: World):
    made = await declare(world, "fees")
    configs = world.services.config_store
    rules = (await configs.get(world.tenant_id)).pricing_rules
    await world.call("POST", "/v1/aliases", json={"alias": "a", "model": MODEL}, expect=201)
    assert (await configs.get(world.tenant_id)).pricing_rules is rules
    await declare(world, "fees", **KINDS["fees"], name="another")
    changed = (await configs.get(world.tenant_id)).pricing_rules
    assert len(changed.rule_ids) == 2
    await world.call("DELETE", f"/v1/fees/{made['id']}", expect=204)
    assert len((await configs.get(world.tenant_id)).pricing_rules.rule_ids) == 1


async def test_a_change_of_settings_is_in_force_for_an_event_of_a_process_that_has_not_heard_of_it(
    world: World, deaf_process: httpx.AsyncClient
):
    there = World(world.services, deaf_process, world.tenant_id)
    there.headers = world.headers
    unknown = {"model": "house-model", "model_group": "house", "custom_llm_provider": "hosted_vllm"}
    assert (await charge_of(there, **unknown))["assumed_usd"] == "0.0075"
    await world.call("PATCH", "/v1/settings", json={"fallback_input_usd_per_million": "50"})
    assert (await charge_of(there, **unknown))["assumed_usd"] == "0.0525"


async def test_a_rule_for_the_past_changes_recorded_charges_by_a_repricing_only(world: World):
    before = await charge_of(world)
    await declare(world, "discounts", name="late contract", discount_percent="50")
    path = f"/v1/charges/{before['charge_id']}"
    assert await world.call("GET", path) == before
    span = {"from": before["effective_at"], "to": (utc_now() + timedelta(minutes=1)).isoformat()}
    done = await world.call("POST", "/v1/repricings", json={**span, "apply": True})
    assert done["state"] == "done"
    kinds = {each["kind"] for each in (await world.call("GET", path))["corrections"]}
    assert "correction" in kinds
    spend = await world.call("GET", "/v1/spend", params={"group_by": "served_model"})
    assert Decimal(spend["totals"]["spend_usd"]) == LIST_COST / 2
