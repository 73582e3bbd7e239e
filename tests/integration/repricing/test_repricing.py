"""Repricing through HTTP: what recorded charges would cost, and making it so, on real engines."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.kit.clock import utc_now
from service.kit.ids import new_id
from service.repricing import repricer
from service.repricing.revaluation import revalue
from tests.builders import a_litellm_event
from tests.integration.repricing.calls import an_unpriced_event
from tests.integration.repricing.conftest import MakeWorld
from tests.integration.repricing.world import World, a_repricing


async def test_an_alias_prices_what_was_unpriced_and_everything_follows(world: World) -> None:
    await world.create_budget("everything", {})
    await world.create_budget("each-model", {"served_model": "*"})
    [result] = await world.post(an_unpriced_event())
    assert result["price_state"] == "unpriced"
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")

    before = await world.sums()
    preview = await world.reprice(apply=False)
    assert await world.sums() == before
    applied = await world.reprice()
    assert preview["result"] == applied["result"]
    assert preview["progress"] == applied["progress"]
    assert applied["progress"] | {"reached_at": None} == {
        "examined": 1, "changed": 1, "not_repriceable": 0, "refused": 0, "reached_at": None,
    }  # fmt: skip
    [team] = applied["result"]["teams"]
    assert (team["before_usd"], team["after_usd"]) == ("0", applied["result"]["delta_usd"])
    states = {shift["price_state"]: shift for shift in applied["result"]["price_states"]}
    assert (states["unpriced"]["charges_before"], states["unpriced"]["charges_after"]) == (1, 0)
    assert (states["priced"]["charges_before"], states["priced"]["charges_after"]) == (0, 1)

    [present] = await world.present()
    charge = await world.charge(str(present))
    assert (charge["kind"], charge["price_state"]) == ("correction", "priced")
    assert charge["corrects_charge_id"] == result["charge_id"]
    assert (charge["assumed_usd"], charge["unpriced_requests"], charge["requests"]) == ("0", 0, 1)
    assert charge["reason"] == f"repricing {applied['id']}"
    original = await world.charge(result["charge_id"])
    assert original["price_state"] == "unpriced"
    assert sorted(correction["kind"] for correction in original["corrections"]) == ["correction", "reversal"]
    spend = await world.call("GET", "/v1/spend?group_by=served_model,price_state")
    [row] = spend["rows"]
    assert (row["spend_usd"], row["requests"], row["unpriced_requests"]) == (charge["cost_usd"], 1, 0)
    assert spend["totals"]["requests"] == 1


async def test_applying_twice_changes_nothing(world: World) -> None:
    await world.post(*(an_unpriced_event() for _ in range(5)))
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    assert (await world.reprice())["progress"]["changed"] == 5
    written = await world.rows("SELECT count(*) FROM charge WHERE tenant_id = %s", world.tenant_id)
    again = await world.reprice()
    assert (again["progress"]["examined"], again["progress"]["changed"]) == (5, 0)
    assert (again["result"]["delta_usd"], again["result"]["teams"]) == ("0", [])
    assert await world.rows("SELECT count(*) FROM charge WHERE tenant_id = %s", world.tenant_id) == written


async def test_a_charge_repriced_twice_and_back_costs_what_it_cost_at_first(world: World) -> None:
    await world.post(*(an_unpriced_event() for _ in range(3)))
    before = await world.sums()
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    await world.reprice()
    await world.call("DELETE", "/v1/aliases?alias=azure/contoso-chat-01", status=204)
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1")
    await world.reprice()
    await world.call("DELETE", "/v1/aliases?alias=azure/contoso-chat-01", status=204)
    assert (await world.reprice())["progress"]["changed"] == 3
    assert await world.sums() == before
    kinds = dict(await world.rows("SELECT kind, count(*) FROM charge WHERE tenant_id = %s GROUP BY 1", world.tenant_id))
    assert kinds == {"usage": 3, "reversal": 9, "correction": 9}


async def test_only_what_meets_the_filter_is_priced_anew(world: World) -> None:
    await world.post(
        an_unpriced_event(),
        an_unpriced_event(metadata={"user_api_key_team_id": "other"}),
        a_litellm_event(metadata={"user_api_key_team_id": "other"}),
    )
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    counts = {}
    for name, filters in {
        "team": {"team": "other"},
        "two values": {"team": ["other", "none"], "price_state": "unpriced"},
        "excluded": {"team": "!other"},
        "absent": {"team": ""},
        "unpriced": {"price_state": "unpriced"},
        "key": {"price_key": "gpt-4.1-mini"},
        "book": {"price_book_version": "another"},
    }.items():
        progress = (await world.reprice(apply=False, **filters))["progress"]
        counts[name] = (progress["examined"], progress["changed"])
    assert counts == {
        "team": (2, 1),
        "two values": (1, 1),
        "excluded": (1, 1),
        "absent": (0, 0),
        "unpriced": (2, 2),
        "key": (1, 0),
        "book": (0, 0),
    }
    await world.reprice(team="other")
    assert (await world.reprice(apply=False))["progress"]["changed"] == 1


async def test_the_range_is_by_effective_time_inclusive_at_its_start_and_exclusive_at_its_end(world: World) -> None:
    began = utc_now().replace(microsecond=0) - timedelta(minutes=10)
    await world.post(*(an_unpriced_event(began_at=began + timedelta(minutes=minute)) for minute in range(3)))
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    body = {"from": began.isoformat(), "to": (began + timedelta(minutes=2)).isoformat(), "apply": True}
    answer = await world.call("POST", "/v1/repricings", json=body)
    assert answer["progress"]["examined"] == 2


async def test_what_a_check_and_a_failed_attempt_asked_for_stays_the_requested_model(world: World) -> None:
    await world.create_budget("smart", {"requested_model": "smart"})
    await world.create_budget("first-choice", {"requested_model": "first-choice"})
    checked, fallen_back = str(new_id()), str(new_id())
    check = {"request_id": checked, "reserve": True, "model": "smart", "dimensions": {"team": "t"}, "input_tokens": 5}
    await world.call("POST", "/v1/check", json=check)
    failure = an_unpriced_event(litellm_call_id=fallen_back, status="failure", model_group="first-choice")
    failure["response_cost"] = 0
    failure["metadata"]["usage_object"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    after_failure = an_unpriced_event(litellm_call_id=fallen_back)
    after_failure["hidden_params"]["additional_headers"] = {"x-litellm-attempted-fallbacks": 1}
    of_check, _, of_failure = await world.post(an_unpriced_event(litellm_call_id=checked), failure, after_failure)
    assert (of_check["requested_model"], of_failure["requested_model"]) == ("smart", "first-choice")

    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    assert (await world.reprice())["progress"]["changed"] >= 2
    charges = [await world.charge(str(charge_id)) for charge_id in await world.present()]
    requested = {charge["requested_model"]: charge["provenance"]["requested_model"] for charge in charges}
    assert requested["smart"] == "check"
    assert "first-choice" in requested
    by_response = {charge["response_id"]: charge for charge in charges if charge["status"] == "success"}
    assert {charge["requested_model"] for charge in by_response.values()} == {"smart", "first-choice"}
    reservation = await world.call("GET", f"/v1/reservations/{checked}")
    assert reservation["state"] == "settled"


async def test_a_hold_is_settled_by_the_event_alone_and_not_again_by_its_correction(world: World) -> None:
    await world.create_budget("everything", {})
    request_id = str(new_id())
    check = {"request_id": request_id, "reserve": True, "model": "gpt-4.1-mini", "dimensions": {}, "input_tokens": 5}
    await world.call("POST", "/v1/check", json=check)
    event = an_unpriced_event(litellm_call_id=request_id)
    event["tallygate"] = {"reservation_id": request_id, "final": False}
    await world.post(event)
    before = await world.call("GET", f"/v1/reservations/{request_id}")
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    await world.reprice()
    assert await world.call("GET", f"/v1/reservations/{request_id}") == before
    settled = await world.rows("SELECT count(reservation_id) FROM charge WHERE tenant_id = %s", world.tenant_id)
    assert settled == [(1,)]
    await world.call("DELETE", f"/v1/reservations/{request_id}")


async def test_reversals_conflicts_openings_and_charges_without_facts_are_left_alone(world: World) -> None:
    event = an_unpriced_event()
    [first] = await world.post(event)
    await world.post(event | {"custom_llm_provider": "azure_ai"})  # the same id with other content
    [cancelled] = await world.post(an_unpriced_event())
    [forgotten] = await world.post(an_unpriced_event())
    await world.call("POST", f"/v1/charges/{cancelled['charge_id']}/reverse", json={"reason": "test"}, status=201)
    await world.rows(
        "UPDATE charge SET facts = NULL WHERE tenant_id = %s AND charge_id = %s RETURNING 1",
        world.tenant_id,
        forgotten["charge_id"],
    )
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    progress = (await world.reprice())["progress"]
    assert (progress["examined"], progress["changed"], progress["not_repriceable"]) == (2, 1, 1)
    [(corrected,)] = await world.rows(
        "SELECT corrects_charge_id FROM charge WHERE tenant_id = %s AND kind = 'correction'", world.tenant_id
    )
    assert str(corrected) == first["charge_id"]


async def test_a_charge_that_cannot_be_rated_holds_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    results = await world.post(*(an_unpriced_event() for _ in range(3)))
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")

    def rate_but_one(row: dict[str, Any], *rest: Any) -> Any:
        if str(row["charge_id"]) == results[1]["charge_id"]:
            raise ArithmeticError
        return revalue(row, *rest)

    monkeypatch.setattr(repricer, "revalue", rate_but_one)
    progress = (await world.reprice())["progress"]
    assert (progress["examined"], progress["changed"], progress["not_repriceable"]) == (3, 2, 1)


async def test_an_accepted_conflict_is_priced_anew_like_any_charge(world: World) -> None:
    event = an_unpriced_event()
    await world.post(event)
    await world.post(event | {"custom_llm_provider": "azure_ai"})
    [waiting] = (await world.call("GET", "/v1/quarantine"))["elements"]
    await world.call("POST", f"/v1/quarantine/{waiting['id']}/accept", json={"reason": "it is right"}, status=204)
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    assert (await world.reprice())["progress"]["changed"] >= 1


async def test_a_repriced_charge_is_reversed_by_its_correction(world: World) -> None:
    [result] = await world.post(an_unpriced_event())
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    await world.reprice()
    [present] = await world.present()
    refused = await world.call(
        "POST", f"/v1/charges/{result['charge_id']}/reverse", json={"reason": "test"}, status=409
    )
    assert refused["code"] == "already_reversed"
    assert str(present) in refused["detail"]
    await world.call("POST", f"/v1/charges/{present}/reverse", json={"reason": "test"}, status=201)
    assert await world.present() == []
    assert await world.spent() == 0


async def test_an_event_sent_again_after_a_repricing_is_the_duplicate_it_was(world: World) -> None:
    event = an_unpriced_event()
    [first] = await world.post(event)
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    await world.reprice()
    [again] = await world.post(event)
    assert (again["outcome"], again["charge_id"]) == ("duplicate", first["charge_id"])


async def test_repricing_meets_ingest_reversals_and_changes_of_budgets_of_the_same_tenant(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    await world.create_budget("everything", {})
    results = await world.post(*(an_unpriced_event() for _ in range(320)))
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")

    async def ingest() -> None:
        for _ in range(12):
            await world.post(*(a_litellm_event() for _ in range(10)))

    async def reverse() -> int:
        statuses = [
            (await world.ask("POST", f"/v1/charges/{each['charge_id']}/reverse", json={"reason": "test"})).status_code
            for each in results[::20]
        ]
        assert set(statuses) <= {201, 409}
        return statuses.count(201)

    async def change_budgets() -> None:
        for number in range(6):
            await world.create_budget(f"user-{number}", {"user": "*"})
            gone = "everything" if number == 3 else f"user-{number}"
            await world.call("DELETE", f"/v1/budgets/{gone}", status=204)

    answer, _, by_hand, _ = await asyncio.gather(world.reprice(), ingest(), reverse(), change_budgets())
    assert answer["progress"]["changed"] + by_hand == 320
    assert (await world.reprice())["progress"]["changed"] == 0


async def test_one_repricing_of_a_tenant_runs_at_a_time(world: World) -> None:
    await world.post(*(an_unpriced_event() for _ in range(300)))
    answers = await asyncio.gather(
        *(world.ask("POST", "/v1/repricings", json=a_repricing(apply=False)) for _ in range(4))
    )
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200, 409, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["code"] == "repricing_running"
    assert (await world.reprice(apply=False))["state"] == "done"


_DAY = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"from": "2026-11-02T00:00:00Z", "to": "2026-11-01T00:00:00Z"}, 422, "from"),
        ({"from": "2026-11-01T00:00:00Z"}, 400, None),
        ({"from": "2026-11-01T00:00:00", "to": "2026-11-02T00:00:00Z"}, 400, "from"),
        ({"from": "0001-01-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"}, 422, "from"),
        ({"from": "2026-11-01T00:00:00Z", "to": "9999-12-31T23:59:59-14:00"}, 422, "to"),
        (_DAY | {"filter": {"teem": "x"}}, 422, "filter.teem"),
        (
            _DAY | {"filter": {"kind": "usage"}},
            422,
            "filter.kind",
        ),
        (
            _DAY | {"filter": {"price_state": "dear"}},
            422,
            "price_state",
        ),
        (_DAY | {"filter": {"tag": "x", "team": ["core", "\0"]}}, 422, "filter.team"),
    ],
    ids=[
        "backwards",
        "without-end",
        "without-offset",
        "too-early",
        "too-late",
        "unknown-field",
        "kind",
        "unknown-state",
        "nul",
    ],
)
async def test_what_cannot_be_repriced_is_refused_by_field(
    world: World, body: dict[str, Any], status: int, field: str | None
) -> None:
    problem = await world.call("POST", "/v1/repricings", json=body, status=status)
    if field is not None:
        assert problem["field"] == field
    assert (await world.call("GET", "/v1/repricings"))["repricings"] == []


async def test_repricings_are_listed_and_found_by_their_tenant_alone(make_world: MakeWorld) -> None:
    world, stranger = await make_world(), await make_world()
    made = [(await world.reprice(apply=False))["id"] for _ in range(3)]
    page = await world.call("GET", "/v1/repricings?limit=2")
    assert [each["id"] for each in page["repricings"]] == made[:0:-1]
    rest = await world.call("GET", f"/v1/repricings?limit=2&cursor={page['next_cursor']}")
    assert ([each["id"] for each in rest["repricings"]], rest["next_cursor"]) == (made[:1], None)
    assert (await world.call("GET", f"/v1/repricings/{made[0]}"))["state"] == "done"
    await stranger.call("GET", f"/v1/repricings/{made[0]}", status=404)
    assert (await stranger.call("GET", "/v1/repricings"))["repricings"] == []


async def test_an_applied_repricing_is_in_the_audit_trail_and_a_preview_is_not(world: World) -> None:
    await world.post(an_unpriced_event())
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    await world.reprice(apply=False)
    applied = await world.reprice(team="!nobody")
    [(action, subject, after)] = await world.rows(
        "SELECT action, subject_id, after FROM audit_entry WHERE tenant_id = %s AND subject_type = 'repricing'",
        world.tenant_id,
    )
    assert (action, subject) == ("repricing.applied", applied["id"])
    assert (after["changed"], after["delta_usd"]) == (1, applied["result"]["delta_usd"])
    assert after["filter"] == {"team": ["!nobody"]}
    assert Decimal(after["delta_usd"]) > 0
